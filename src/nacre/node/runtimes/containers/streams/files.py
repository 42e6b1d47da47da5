"""Files of guests, in and out: commit, changes, sizes, export and archives. The work is done by helper processes.

A helper is a Python of its own without the node's memory: the loop is not held up by a large tree, and what a hostile tree makes of it
ends with it. Its request comes by a descriptor, its words by stdout, its trouble by stderr as JSON {kind, message}.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from nacre.node.drivers import Talk
from nacre.node.runtimes.containers import arrivals
from nacre.node.runtimes.containers.bundle import ETC_FILES, SEED
from nacre.node.runtimes.containers.layout import Disk
from nacre.node.runtimes.containers.streams.guests import Conflict, Guests, bundle_of
from nacre.protocol.streams import CHUNK_BYTES, Channel, Exit, Started

TROUBLE_BYTES_MAX = 64 << 10
ANSWER_BYTES_MAX = 64 << 20
"""A list of changes, at most."""
FREEZE_WAIT_S = 10.0
"""How long the kernel may take to stop a guest's processes for a commit."""
FREEZE_LOOK_S = 0.005
_ALWAYS_OVER = ("/dev", "/proc", "/sys", SEED, *(f"/etc/{name}" for name in ETC_FILES))
_FOLDER = str(Path(__file__).parent)
_KINDS: dict[str, type[Exception]] = {"not_found": LookupError, "invalid": ValueError, "conflict": Conflict}


class Disks(Guests, Protocol):
    """What the driver knows of disks."""

    async def disk(self, guest_id: str) -> Disk:
        """Mounted, also for a guest that does not run. Raises LookupError, OSError."""

    def mounts(self, guest_id: str) -> contextlib.AbstractAsyncContextManager[list[tuple[str, int]]]:
        """(target, mount) of what lies over the disk of a guest that does not run. Raises LookupError, OSError."""

    async def write(self, guest_id: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do this while the guest is neither started nor removed. Raises FileExistsError when it is, and the work was given up."""


class _Mount(Struct):
    destination: str


class _Bundle(Struct):
    mounts: list[_Mount] = []


class Files:
    """Belongs to the driver's event loop."""

    def __init__(self, disks: Disks) -> None:
        self._disks = disks
        self._pauses: dict[str, int] = {}
        """How many commits hold a guest still."""

    async def commit(self, guest_id: str, params: dict[str, Any], talk: Talk) -> None:
        request = await self._request("commit", guest_id)
        async with self._still(guest_id) if params.get("pause") else contextlib.nullcontext():
            await self._send("changed", request, talk)

    async def changes(self, guest_id: str) -> bytes:
        return await _answer("changed", await self._request("changes", guest_id))

    async def size(self, guest_id: str) -> bytes:
        """JSON {SizeRw, SizeRootFs}: the bytes of the files that the guest wrote, and these with its image's."""
        written = int(await _answer("changed", await self._request("size", guest_id)))
        image = self._disks.record(guest_id).guest.image
        return msgspec.json.encode({"SizeRw": written, "SizeRootFs": written + image.size_bytes})

    async def export(self, guest_id: str, talk: Talk) -> None:
        disk = await self._disks.disk(guest_id)
        request = {"work": "export", "rootfs": str(disk.rootfs), "base": disk.base_id}
        await self._send("archives", request, talk)

    async def disk(self, guest_id: str, talk: Talk) -> None:
        """Raises FileExistsError when the guest runs, or is started meanwhile."""
        record, paths = self._disks.record(guest_id), self._disks.parts.layout.guest(guest_id)
        if record.phase not in ("stopped", "checkpointed"):
            raise FileExistsError(f"guest {guest_id} does not lie still: it is {record.phase}")
        request = {
            "work": "pack",
            "upper": str(paths.disk / "upper"),
            "logs": str(paths.logs),
            **({"checkpoint": str(paths.checkpoint)} if record.phase == "checkpointed" else {}),
            "base": self._disks.parts.slots.base_id(record.seat.home),
            "record": msgspec.to_builtins(arrivals.carried(record)),
        }
        await self._disks.write(guest_id, lambda: self._send("disks", request, talk))

    async def archive_get(self, guest_id: str, params: dict[str, Any], talk: Talk) -> None:
        async with self._archive("archive_get", guest_id, params) as (request, trees):
            await self._send("archives", request, talk, trees)

    async def archive_stat(self, guest_id: str, params: dict[str, Any]) -> bytes:
        async with self._archive("archive_stat", guest_id, params) as (request, trees):
            return await _answer("archives", request, trees)

    async def archive_put(self, guest_id: str, params: dict[str, Any], talk: Talk) -> None:
        """What the client sends goes to the helper until the client says that it is all. Raises FileExistsError when the guest is started
        meanwhile."""
        await self._disks.write(guest_id, lambda: self._put(guest_id, params, talk))

    async def _put(self, guest_id: str, params: dict[str, Any], talk: Talk) -> None:
        async with (
            self._archive("archive_put", guest_id, params) as (request, trees),
            helper("archives", request, trees, stdin=asyncio.subprocess.PIPE) as process,
        ):
            if not await process.stdout.read(CHUNK_BYTES):
                await check(process)
            await talk.control(Started())
            feeding = asyncio.create_task(_feed(talk, process.stdin))
            try:
                while await process.stdout.read(CHUNK_BYTES):
                    pass
                await check(process)
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
        await talk.control(Exit(0))

    @contextlib.asynccontextmanager
    async def _archive(self, work: str, guest_id: str, params: dict[str, Any]) -> AsyncIterator[tuple[dict[str, Any], list[int]]]:
        """The helper's request, and the mounts that go with it."""
        parts, record = self._disks.parts, self._disks.record(guest_id)
        container = record.guest.container
        mounts = container.mounts if container is not None else ()
        request: dict[str, Any] = {
            "work": work,
            "path": str(params["path"]),
            "name": str(params.get("name") or guest_id),
            "pid": parts.first_pid(guest_id) if record.phase in ("running", "created") else None,
            "no_overwrite_dir_non_dir": bool(params.get("no_overwrite_dir_non_dir")),
            "owner": None,
            "volumes": {mount.target: mount.read_only for mount in mounts},
            "away": [],
            "read_only": bool(container is not None and container.read_only),
        }
        if params.get("copy_uidgid"):
            user = bundle_of(self._disks, guest_id).process.user
            request["owner"] = [int(user.get("uid", 0)), int(user.get("gid", 0))]
        if request["pid"]:
            yield request, []
            return
        disk = await self._disks.disk(guest_id)
        request["away"] = [mount.target for mount in mounts if mount.kind == "tmpfs"]
        request |= {"rootfs": str(disk.rootfs), "base": disk.base_id}
        request["user_namespace"] = str(parts.slots.user_namespace(record.seat.home))
        async with self._disks.mounts(guest_id) as trees:
            yield {**request, "trees": trees}, [tree for _, tree in trees]

    async def _request(self, work: str, guest_id: str) -> dict[str, Any]:
        disk = await self._disks.disk(guest_id)
        return {
            "work": work,
            "upper": str(disk.upper),
            "lowers": [str(lower) for lower in disk.lowers],
            "place": str(disk.place),
            "base": disk.base_id,
            "left_out": sorted({*_ALWAYS_OVER, *(path.rstrip("/") for path in mount_points(self._disks, guest_id))}),
        }

    async def _send(self, module: str, request: dict[str, Any], talk: Talk, trees: Sequence[int] = ()) -> None:
        """What the helper says goes to the client, its first word after `Started`."""
        async with helper(module, request, trees) as process:
            assert process.stdout is not None
            data = await process.stdout.read(CHUNK_BYTES)
            if not data:
                await check(process)
            await talk.control(Started())
            while data:
                await talk.send(Channel.STDOUT, data)
                data = await process.stdout.read(CHUNK_BYTES)
            await check(process)
        await talk.control(Exit(0))

    @contextlib.asynccontextmanager
    async def _still(self, guest_id: str) -> AsyncIterator[None]:
        """No process of the guest runs meanwhile. One that does not run, or is paused already, is left as it is."""
        cgroups = self._disks.parts.cgroups
        record = self._disks.record(guest_id)
        if record.phase != "running" or (cgroups.is_frozen(guest_id) and guest_id not in self._pauses):
            yield
            return
        self._pauses[guest_id] = self._pauses.get(guest_id, 0) + 1
        try:
            await asyncio.to_thread(cgroups.freeze, guest_id, True)
            for _ in range(int(FREEZE_WAIT_S / FREEZE_LOOK_S)):
                if await asyncio.to_thread(cgroups.is_still, guest_id):
                    break
                await asyncio.sleep(FREEZE_LOOK_S)
            yield
        finally:
            self._pauses[guest_id] -= 1
            if not self._pauses[guest_id]:
                del self._pauses[guest_id]
                if self._disks.record(guest_id).guest.power != "paused":
                    with contextlib.suppress(OSError):  # It ended meanwhile.
                        cgroups.freeze(guest_id, False)


def mount_points(guests: Guests, guest_id: str) -> list[str]:
    """Where the runtime mounts something over the guest's root file system."""
    file = guests.parts.layout.guest(guest_id).bundle / "config.json"
    try:
        return [mount.destination for mount in msgspec.json.decode(file.read_bytes(), type=_Bundle).mounts]
    except FileNotFoundError:
        return []  # It was never made ready to run: nothing was mounted yet.


async def _feed(talk: Talk, stdin: asyncio.StreamWriter) -> None:
    """Until the end of what the client sends; a client that goes in the middle is one that breaks off: the helper finds half a tar."""
    try:
        while True:
            message = await talk.receive()
            if not isinstance(message, bytes):
                break
            stdin.write(message)
            await stdin.drain()
    except ConnectionError:
        return
    finally:
        stdin.close()


@contextlib.asynccontextmanager
async def helper(
    module: str, request: dict[str, Any], descriptors: Sequence[int] = (), *, stdin: int = asyncio.subprocess.DEVNULL
) -> AsyncIterator[Any]:
    """The helper process, which is gone afterwards. It has the descriptors under the same numbers."""
    fd = os.memfd_create("request")
    try:
        os.write(fd, json.dumps(request).encode())
        code = f"import sys; sys.path.insert(0, {_FOLDER!r}); import helping; helping.run({module!r}, {fd})"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", code),
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(fd, *descriptors),
            limit=CHUNK_BYTES,
            cwd="/",
        )
    finally:
        os.close(fd)
    trouble = asyncio.create_task(_read(process.stderr, TROUBLE_BYTES_MAX))
    process.trouble = trouble  # type: ignore[attr-defined]
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()
        trouble.cancel()


async def _read(reader: asyncio.StreamReader | None, bytes_max: int) -> bytes:
    """All of it, of which the last `bytes_max` bytes are kept."""
    assert reader is not None
    kept = b""
    while data := await reader.read(CHUNK_BYTES):
        kept = (kept + data)[-bytes_max:]
    return kept


async def check(process: Any) -> None:
    """Raises what the helper says that went wrong."""
    said = await process.trouble
    if await process.wait() == 0:
        return
    try:
        word = json.loads(said.splitlines()[-1])
        kind, message = _KINDS.get(word["kind"], OSError), word["message"]
    except (IndexError, ValueError, KeyError, TypeError):
        raise OSError(f"the helper ended: {said[-1000:].decode(errors='replace')}") from None
    raise kind(message)


async def _answer(module: str, request: dict[str, Any], trees: Sequence[int] = ()) -> bytes:
    """What the helper says, as a whole."""
    async with helper(module, request, trees) as process:
        data = await _read(process.stdout, ANSWER_BYTES_MAX)
        await check(process)
        return data
