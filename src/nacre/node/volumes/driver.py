"""The volume driver of a real host: records, references and one lock per volume, over a back end or a plugin.

A record is written before anything is made and goes last, so a kill -9 at any point costs a repetition. Guests wait for their volumes
here; a volume that must go waits for its users, a while at a time.
"""

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from nacre.node.config import NodeConfig
from nacre.node.drivers import VISIT, Attached
from nacre.node.runtimes.containers import kernel
from nacre.node.runtimes.containers.slots import write_whole
from nacre.node.volumes.backends import Backend, Directories, Pool, is_mounted, loops_of, run_tool
from nacre.node.volumes.plugins import Plugins
from nacre.node.volumes.references import References
from nacre.protocol.messages import Holding, Observation
from nacre.protocol.volumes import Volume, VolumeState

SOURCE_WAIT_S = 20.0
"""How long a copy waits for the volume that it is a copy of."""
USERS_WAIT_S = 5.0
"""How long a removal waits for guests that are being removed themselves, before it says who still uses the volume."""
POLL_S = 0.05

log = logging.getLogger("nacre.node")


class Record(Struct):
    """What is on disk of one volume. `made` is True once the back end, or the plugin, has it whole."""

    volume: Volume
    backend: str
    made: bool = False


class HostVolumes:
    """Implements nacre.node.drivers.VolumeDriver. Belongs to one event loop; what blocks runs in threads."""

    def __init__(self, config: NodeConfig, plugins: Plugins | None = None, pool_bytes: int | None = None) -> None:
        self.folder = config.state / "volumes"
        self._records_folder = self.folder / "records"
        self._plugins = plugins or Plugins()
        self._pool_bytes = pool_bytes
        self._references = References(self.folder / "references")
        self._records: dict[str, Record] = {}
        self._faults: dict[str, str] = {}
        """Of volumes that could not be made, until the next try."""
        self._locks: dict[str, asyncio.Lock] = {}
        self._changed = asyncio.Condition()
        self._ending: asyncio.Task[None] | None = None
        self._backends: dict[str, Backend] = {}
        self._preferred = ""
        self._why_no_pool = ""

    async def start(self) -> None:
        await asyncio.to_thread(self._start)
        visits = await asyncio.to_thread(self._old_visits)
        if visits:
            self._ending = asyncio.create_task(self._end(visits))

    def _old_visits(self) -> list[tuple[str, str]]:
        """(volume, user) of those who looked into volumes when the node before this one ended."""
        return [(volume_id, user) for volume_id in self._records for user in self._references.users(volume_id) if VISIT in user]

    async def _end(self, visits: list[tuple[str, str]]) -> None:
        for volume_id, user in visits:
            await self.detach(volume_id, user)

    def _start(self) -> None:
        self._records_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self._backends = {Directories.name: Directories(self.folder / Directories.name)}
        try:
            self._backends[Pool.name] = Pool(self.folder, self._pool_bytes)
        except OSError as error:
            self._why_no_pool = str(error)
            log.warning("volumes are plain directories, without sizes and quick snapshots: %s", error)
        self._preferred = Pool.name if Pool.name in self._backends else Directories.name
        for path in self._records_folder.glob("*.json.new"):
            path.unlink()  # A kill came before it had its name: nothing was done by it.
        for path in self._records_folder.glob("*.json"):
            record = msgspec.json.decode(path.read_bytes(), type=Record)
            self._records[record.volume.id] = record

    async def apply(self, volume: Volume) -> Observation:
        async with self._lock(volume.id):
            began = time.monotonic()
            try:
                state = await self._make(volume)
            except (OSError, LookupError, ValueError) as error:
                fault = str(error)
                log.warning("volume %s: %s", volume.id, fault)
                self._faults[volume.id] = fault
                await self._tell()
                return Observation("volume", volume.id, "error", fault=fault)
            self._faults.pop(volume.id, None)
            await self._tell()
            timings_ms = {"make": (time.monotonic() - began) * 1000}
            return Observation("volume", volume.id, "active", timings_ms=timings_ms, volume=state)

    async def _make(self, volume: Volume) -> VolumeState:
        record = self._records.get(volume.id)
        if record is None:
            record = Record(volume, "plugin" if volume.driver != "local" else await self._backend_for(volume))
            await self._save(record)
            self._records[volume.id] = record
        if record.backend == "plugin":
            if not record.made:
                await self._plugins.create(volume.driver, volume.name, volume.options)
        else:
            await self._make_own(record, volume)
        await asyncio.to_thread(self._references.open, volume.id)
        if not record.made or record.volume != volume:
            record.made, record.volume = True, volume
            await self._save(record)
        if record.backend == "plugin":
            return VolumeState("plugin")
        backend = self._backend(record)
        rates = (volume.read_iops, volume.write_iops, volume.read_bytes_s, volume.write_bytes_s)
        throttled = any(rate is not None for rate in rates) and bool(await asyncio.to_thread(backend.device))
        return VolumeState(backend.name, backend.limits_size, throttled)

    async def _backend_for(self, volume: Volume) -> str:
        """A copy lies where its source lies."""
        if not volume.source_id:
            return self._preferred
        return (await self._wait_for(volume.source_id, SOURCE_WAIT_S)).backend

    async def _make_own(self, record: Record, volume: Volume) -> None:
        backend = self._backend(record)
        there = await asyncio.to_thread((backend.root / volume.id).is_dir)
        if there:
            if not record.made or record.volume.size_bytes != volume.size_bytes:
                await asyncio.to_thread(backend.limit, volume.id, volume.size_bytes)
        elif record.made:
            raise OSError(f"the volume's data is gone from {backend.root}")
        elif volume.source_id:
            source = await self._wait_for(volume.source_id, SOURCE_WAIT_S)
            if source.backend != backend.name:
                raise OSError(f"volume {volume.source_id} is kept as {source.backend}: there are no snapshots of it")
            await asyncio.to_thread(backend.copy, volume.source_id, volume.id, volume.size_bytes)
        else:
            await asyncio.to_thread(backend.make, volume.id, volume.size_bytes)

    def _backend(self, record: Record) -> Backend:
        backend = self._backends.get(record.backend)
        if backend is None:
            raise OSError(f"the volumes of this host cannot be mounted: {self._why_no_pool}")
        return backend

    async def remove(self, volume_id: str) -> Observation:
        async with self._lock(volume_id):
            try:
                await self._unmake(volume_id)
            except OSError as error:
                log.warning("volume %s is not removed yet: %s", volume_id, error)
                return Observation("volume", volume_id, "error", fault=str(error))
        self._locks.pop(volume_id, None)
        return Observation("volume", volume_id, "gone")

    async def _unmake(self, volume_id: str) -> None:
        deadline = time.monotonic() + USERS_WAIT_S
        while not await asyncio.to_thread(self._references.close, volume_id):
            if time.monotonic() > deadline:
                users = await asyncio.to_thread(self._references.users, volume_id)
                raise OSError(f"it is still used by {', '.join(users)}")
            await asyncio.sleep(POLL_S)
        record = self._records.get(volume_id)
        if record is None:
            return
        was_made, record.made = record.made, False
        await self._save(record)
        if record.backend != "plugin":
            await asyncio.to_thread(self._backend(record).remove, volume_id)
        elif was_made or await self._plugins.knows(record.volume.driver, record.volume.name):
            await self._plugins.remove(record.volume.driver, record.volume.name)
        self._path_of(volume_id).unlink(missing_ok=True)
        self._records.pop(volume_id, None)
        self._faults.pop(volume_id, None)
        await self._tell()

    async def attach(self, volume_id: str, guest_id: str, timeout_s: float) -> Attached:
        record = await self._wait_for(volume_id, timeout_s)
        volume = record.volume
        try:
            await asyncio.to_thread(self._references.add, volume_id, guest_id)
        except FileNotFoundError:
            raise LookupError(f"volume {volume_id} is being removed") from None
        if record.backend == "plugin":
            return Attached(volume, await self._plugins.mount(volume.driver, volume.name, guest_id))
        backend = self._backend(record)
        return Attached(volume, backend.root / volume_id, await asyncio.to_thread(backend.device))

    async def detach(self, volume_id: str, guest_id: str) -> None:
        record = self._records.get(volume_id)
        if record is not None and record.backend == "plugin" and guest_id in self._references.users(volume_id):
            try:
                await self._plugins.unmount(record.volume.driver, record.volume.name, guest_id)
            except OSError as error:
                # As Docker does: a guest is not kept from its end by a plugin that cannot let go.
                log.warning("volume %s: %s", volume_id, error)
        await asyncio.to_thread(self._references.drop, volume_id, guest_id)

    async def usage(self, volume_id: str) -> int:
        record = self._records.get(volume_id)
        if record is None or not record.made:
            raise LookupError(f"volume {volume_id} is not on this host")
        if record.backend == "plugin":
            raise OSError(f"volume plugin {record.volume.driver} does not say what a volume takes")
        return await asyncio.to_thread(self._backend(record).usage, volume_id)

    def facts(self) -> dict[str, Any]:
        return {"volume_drivers": ["local", *self._plugins.names()]}

    async def survey(self) -> list[Holding]:
        return await asyncio.to_thread(self._survey)

    def _survey(self) -> list[Holding]:
        """What is just being written or made bears the volume's id as well, with another ending."""
        folders = (self._records_folder, self._references.root, *(backend.root for backend in self._backends.values()))
        return [
            Holding("volume", path.name.partition(".")[0], "file", str(path))
            for folder in folders
            for path in (folder.iterdir() if folder.is_dir() else ())
        ]

    async def close(self) -> None:
        """Mounts and references stay."""
        if self._ending is not None:
            self._ending.cancel()
            await asyncio.gather(self._ending, return_exceptions=True)

    async def _wait_for(self, volume_id: str, timeout_s: float) -> Record:
        """The volume's record once it is made. Raises LookupError after the timeout, OSError when it could not be made."""

        def settled() -> bool:
            record = self._records.get(volume_id)
            return volume_id in self._faults or (record is not None and record.made)

        async with self._changed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait_for(settled)
        record = self._records.get(volume_id)
        if record is not None and record.made:
            return record
        if volume_id in self._faults:
            raise OSError(f"volume {volume_id}: {self._faults[volume_id]}")
        raise LookupError(f"volume {volume_id} did not come to this host within {timeout_s:.0f} s")

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    @contextlib.asynccontextmanager
    async def _lock(self, volume_id: str) -> AsyncIterator[None]:
        async with self._locks.setdefault(volume_id, asyncio.Lock()):
            yield

    def _path_of(self, volume_id: str) -> Path:
        return self._records_folder / f"{volume_id}.json"

    async def _save(self, record: Record) -> None:
        if not _is_plain(record.volume.id):
            raise ValueError("a volume's id has letters, digits and dashes only")
        await asyncio.to_thread(write_whole, self._path_of(record.volume.id), msgspec.json.encode(record))


def locate(folder: Path, volume_id: str) -> Path:
    """Where a volume of the node's own lies, for another process of root on this host. Raises FileNotFoundError."""
    for root in ("pool", Directories.name):
        path = folder / root / volume_id
        if path.is_dir():
            return path
    raise FileNotFoundError(f"volume {volume_id} is not on this host")


def _is_plain(ident: str) -> bool:
    return bool(ident) and all(sign.isalnum() or sign == "-" for sign in ident)


async def purge(config: NodeConfig) -> None:
    """Leave nothing of this cloud's volumes: what plugins keep is removed there, the pool unmounted, all files deleted. Raises OSError."""
    folder = config.state / "volumes"
    if not folder.is_dir():
        return
    plugins = Plugins(retry_for_s=0)
    for path in (folder / "records").glob("*.json"):
        record = msgspec.json.decode(path.read_bytes(), type=Record)
        if record.backend == "plugin":
            with contextlib.suppress(OSError):  # A plugin that is not there any more keeps nothing of ours.
                await plugins.remove(record.volume.driver, record.volume.name)
    await asyncio.to_thread(_purge, folder)


def cut_power(config: NodeConfig) -> None:
    """Leave nothing of this cloud's volumes in the kernel; their bytes stay. Blocks; the node must be down. Raises OSError."""
    _close(config.state / "volumes")


def _purge(folder: Path) -> None:
    _close(folder)
    shutil.rmtree(folder)


def _close(folder: Path) -> None:
    for entry in reversed(kernel.mounts()):
        if Path(entry.target).is_relative_to(folder):
            kernel.unmount_all(Path(entry.target))
    if is_mounted(folder / "pool"):
        raise OSError(f"{folder / 'pool'} is still mounted")
    for loop in loops_of(folder / "pool.btrfs"):
        run_tool("losetup", "--detach", loop)
