"""A guest that comes from another host: its disk, its log and what that node knew of it (see `streams.disks` for the form)."""

import contextlib
import shutil
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from msgspec import Struct

from nacre.node.drivers import DiskRefused
from nacre.node.runtimes.containers import checkpoints
from nacre.node.runtimes.containers.layout import GuestPaths
from nacre.node.runtimes.containers.records import Record
from nacre.protocol.guests import Guest


class Carried(Struct, omit_defaults=True):
    """What goes along of a record, under the record's own names."""

    boots: int = 0
    ended: bool = False
    failed: bool = False
    halted: bool = False
    exit_code: int | None = None
    last_exit_code: int | None = None
    started_at: float | None = None
    finished_at: float | None = None
    oom_killed: bool = False
    restart_count: int = 0
    password_hash: str = ""
    injected: bool = False


def carried(record: Record) -> Carried:
    return Carried(**{name: getattr(record, name) for name in Carried.__struct_fields__})


def is_due(record: Record, guest: Guest) -> bool:
    """Whether its disk is still to come."""
    return guest.origin is not None and record.fetched != guest.origin.migration


async def take(paths: GuestPaths, record: Record, base_id: int, disk: AsyncIterator[bytes]) -> None:
    """Read the disk into the guest's folder, where nothing of an earlier try is left. Raises OSError."""
    from nacre.node.runtimes.containers.streams.files import check, helper

    upper = paths.disk / "upper"
    for folder in (upper, paths.logs):
        if folder.is_dir():
            shutil.rmtree(folder)
        folder.mkdir(mode=0o711, parents=True)
    checkpoints.make_folder(paths)
    folders = {"upper": str(upper), "logs": str(paths.logs), "checkpoint": str(paths.checkpoint)}
    request = {"work": "unpack", **folders, "base": base_id}
    async with helper("disks", request, stdin=PIPE) as process:
        with contextlib.suppress(ConnectionError):  # It ended: it says why.
            async for chunk in disk:
                process.stdin.write(chunk)
                await process.stdin.drain()
        process.stdin.close()
        said = await process.stdout.read()
        try:
            await check(process)
        except (OSError, ValueError, LookupError) as error:
            raise DiskRefused(f"the guest's disk cannot be kept: {error}") from error
    _learn(record, said)


def _learn(record: Record, said: bytes) -> None:
    try:
        known: Any = msgspec.json.decode(said, type=Carried)
    except msgspec.DecodeError as error:
        raise DiskRefused(f"the guest's disk came without its record: {error}") from error
    for name in Carried.__struct_fields__:
        setattr(record, name, getattr(known, name))
