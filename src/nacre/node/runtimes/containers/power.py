"""A guest's power: made, started, stopped, created ahead of its start. Each step goes on from what the record says is there.

The callers hold the guest's lock. What a step took or began is in the record before it begins.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from nacre.node import arriving
from nacre.node.drivers import DiskSource
from nacre.node.images import ImageCache, ImageError, UnpackedImage
from nacre.node.runtimes.containers import arrivals, checkpoints, etc, passwords
from nacre.node.runtimes.containers.bindings import Bindings
from nacre.node.runtimes.containers.container import Containers
from nacre.node.runtimes.containers.launcher import LaunchError
from nacre.node.runtimes.containers.pidfds import ended
from nacre.node.runtimes.containers.records import Record
from nacre.node.runtimes.containers.seeing import start_failure, words
from nacre.protocol.guests import Guest

CREATING_MAX = 6
"""How many guests are made or started at once."""
TROUBLES = (OSError, LaunchError, ImageError, LookupError, ValueError)
"""What a step of a guest's life may raise."""

log = logging.getLogger(__name__)


class Power:
    """Belongs to the driver's event loop; what blocks runs in threads."""

    def __init__(
        self,
        parts: Containers,
        images: ImageCache,
        bindings: Bindings,
        save: Callable[[Record], None],
        boot_id: str,
        disks: DiskSource | None = None,
    ) -> None:
        self.parts, self._images, self._bindings, self._save, self._disks = parts, images, bindings, save, disks
        self._bound = asyncio.Semaphore(CREATING_MAX)
        self._boot_id = boot_id

    async def stop(self, record: Record, guest: Guest, timings_ms: dict[str, float]) -> None:
        """Stopped, with root file system, namespaces and ports kept. A guest that never ran is made all the same."""
        if record.phase == "building":
            with self.parts.cgroups.hot() if guest.container is not None else contextlib.nullcontext():
                image = await self._build_disk(record, guest, timings_ms)
                record.phase = "stopped"
                if guest.container is not None:
                    await self._create_early(record, guest, image, timings_ms)
        elif record.phase != "created" or not _same(record.guest, guest):
            await self.halt(record, guest, soft=True)
            await self.sync_ports(record, guest, timings_ms)
            await self._bindings.let_go(record)
        else:
            await self.sync_ports(record, guest, timings_ms)
        record.ended, record.failed, record.fault = False, False, ""

    async def _create_early(self, record: Record, guest: Guest, image: UnpackedImage, timings_ms: dict[str, float]) -> None:
        """Have the container wait for its start. What keeps it from that is said when it is started."""
        record.phase, record.guest = "created", guest
        self._save(record)
        try:
            await self._write_bundle(record, guest, image)
            await self._create(guest, timings_ms)
        except TROUBLES as error:
            log.info("guest %s is not created ahead of its start: %s", guest.id, words(error))
            await asyncio.to_thread(self.parts.clear, guest.id)
            record.phase = "stopped"

    async def start(self, record: Record, guest: Guest, timings_ms: dict[str, float]) -> None:
        """Start the guest, or start it again: a boot."""
        waits = record.phase == "created" and _same(record.guest, guest)
        if not waits:
            await self.halt(record, guest, soft=guest.reboot == "soft")
        async with self._bound:
            await self._start(record, guest, waits, timings_ms)
        # Saved by the caller. A kill until then finds it `starting` and starts it anew: nobody was told that it runs.
        record.phase, record.boots, record.restarting, record.restored = "running", guest.boots, False, False
        record.last_exit_code = record.exit_code
        record.started_at, record.oom_killed, record.exit_code, record.health = time.time(), False, None, ""

    async def _start(self, record: Record, guest: Guest, waits: bool, timings_ms: dict[str, float]) -> None:
        with contextlib.nullcontext() if waits else self.parts.cgroups.hot():
            if waits:
                await self.sync_ports(record, guest, timings_ms)
            else:
                image = await self._build_disk(record, guest, timings_ms)
                if guest.container is None:
                    await asyncio.to_thread(self.parts.inject, guest, record.seat, record)
                await self._write_bundle(record, guest, image)
            record.phase, record.boot_id, record.guest = "starting", self._boot_id, guest
            record.ended, record.failed, record.halted, record.fault = False, False, False, ""
            self._save(record)
            await self._launch(record, guest, waits, timings_ms)

    async def _launch(self, record: Record, guest: Guest, waits: bool, timings_ms: dict[str, float]) -> None:
        try:
            if not waits:
                await self._create(guest, timings_ms)
            await self.in_launcher(self.parts.run, guest.id, timings_ms)
        except LaunchError as error:
            if guest.container is None:
                raise
            raise start_failure(guest.container, str(error)) from error

    async def _create(self, guest: Guest, timings_ms: dict[str, float]) -> None:
        try:
            await self.in_launcher(self.parts.create, guest, timings_ms)
        finally:
            if guest.container is not None and (guest.container.mounts or guest.container.ipc_of):
                await asyncio.to_thread(self.parts.release, guest.id)

    async def halt(self, record: Record, guest: Guest, *, soft: bool) -> None:
        """End the guest: by its stop signal and, when that does not help in time, by SIGKILL. Nothing of the runtime is left."""
        if record.phase == "checkpointed":
            # It is not to go on from there any more.
            record.phase = "stopped"
            self._save(record)
            await asyncio.to_thread(checkpoints.discard, self.parts.layout.guest(guest.id))
        if record.phase not in ("running", "created", "starting", "stopping"):
            return
        ran = record.phase == "running"
        record.phase = "stopping"
        self._save(record)
        waiting = await asyncio.to_thread(self.parts.ask_to_end, guest) if ran and soft else None
        if waiting is not None:
            try:
                await ended(*waiting)
            finally:
                os.close(waiting[0])
        record.oom_killed = ran and self.parts.cgroups.oom_kills(guest.id) > 0
        await asyncio.to_thread(self.parts.clear, guest.id)
        if ran:
            record.exit_code = await asyncio.to_thread(self.parts.exit_code, guest.id)
            record.finished_at = time.time()
        record.phase = "stopped"
        self._save(record)

    async def settle(self, guest_id: str) -> None:
        try:
            await asyncio.to_thread(self.parts.settle, guest_id)
        except OSError as error:
            log.warning("guest %s: its conmon stays in the node's cgroup: %s", guest_id, error)

    async def uncreate(self, record: Record) -> None:
        """Raises OSError."""
        await asyncio.to_thread(self.parts.clear, record.guest.id)
        record.phase = "stopped"
        await self._bindings.let_go(record)
        self._save(record)

    async def rebuild(self, record: Record, guest: Guest) -> None:
        await self.halt(record, guest, soft=False)
        await asyncio.to_thread(self.parts.wipe_disk, guest.id)
        record.guest, record.ended, record.phase = guest, False, "building"
        record.password_hash, record.injected = "", False
        self._save(record)

    async def arrive(self, record: Record, guest: Guest) -> None:
        """One that comes from another host gets its disk. What is left of it from an earlier stay goes."""
        assert guest.origin is not None
        record.restarting = False
        if record.phase != "building":
            await self.rebuild(record, guest)
        await asyncio.to_thread(self.parts.wipe_disk, guest.id)
        paths, base = self.parts.layout.guest(guest.id), self.parts.slots.base_id(record.seat.home)
        await arriving.fetch(self._disks, guest.origin.migration, partial(arrivals.take, paths, record, base))
        record.fetched = guest.origin.migration
        if checkpoints.is_whole(paths):
            record.phase = "checkpointed"
        self._save(record)

    async def adjust(self, record: Record, guest: Guest, timings_ms: dict[str, float]) -> None:
        """Change a running guest in place: its ports and its limits."""
        if guest.limits != record.guest.limits:
            await self.in_launcher(self.parts.update, guest)
        await self.sync_ports(record, guest, timings_ms)

    async def change_password(self, record: Record, guest: Guest) -> None:
        """In the running guest, where it is not the one that it has. One that is rescued gets it as it boots its own system again."""
        if guest.rescue is None and guest.password_hash and guest.password_hash != record.password_hash:
            await passwords.change(self.parts, guest.id, guest.password_hash)
            record.password_hash = guest.password_hash

    async def _build_disk(self, record: Record, guest: Guest, timings_ms: dict[str, float]) -> UnpackedImage:
        """Ports, and image with folders and mounts, at the same time. Returns the image that it boots from: its own, or the rescue system's."""
        if not self.parts.slots.is_whole(record.slot):
            await asyncio.to_thread(self.parts.slots.ensure, record.slot)
        mounting = asyncio.ensure_future(self._mount_disk(record, guest, timings_ms))
        try:
            await self.sync_ports(record, guest, timings_ms)
        finally:
            # Wait for both in any case: whoever retries must not meet the first try's leftovers at work.
            image = (await asyncio.gather(mounting, return_exceptions=True))[0]
        if isinstance(image, BaseException):
            raise image
        return image

    async def _mount_disk(self, record: Record, guest: Guest, timings_ms: dict[str, float]) -> UnpackedImage:
        begun = time.monotonic()
        own, rescue = await self._ensure_images(guest)
        timings_ms["image"] = (time.monotonic() - begun) * 1000
        await asyncio.to_thread(self.parts.build_disk, guest.id, record.seat, own, rescue)
        return rescue or own

    async def _ensure_images(self, guest: Guest) -> tuple[UnpackedImage, UnpackedImage | None]:
        own = await self._images.ensure(guest.image)
        return own, None if guest.rescue is None else await self._images.ensure(guest.rescue.image)

    async def make_ready(self, record: Record, guest: Guest, timings_ms: dict[str, float]) -> None:
        """Folders, mounts and bundle of a guest that will be restored; without ports, which its restorer asks for."""
        if not self.parts.slots.is_whole(record.slot):
            await asyncio.to_thread(self.parts.slots.ensure, record.slot)
        await self.sync_ports(record, msgspec.structs.replace(guest, ports=()), timings_ms)
        await self._write_bundle(record, guest, await self._mount_disk(record, guest, timings_ms))

    async def _write_bundle(self, record: Record, guest: Guest, image: UnpackedImage) -> None:
        bound = await self._bindings.bound(record, guest)
        await asyncio.to_thread(self.parts.write_bundle, guest, record.seat, image, record.plugged, bound)

    async def sync_ports(self, record: Record, guest: Guest, timings_ms: dict[str, float]) -> None:
        record.boot_id = self._boot_id
        netns = self.parts.slots.network_namespace(record.slot)
        if await self._bindings.sync_ports(record, guest, netns, timings_ms):
            paths, base = self.parts.layout.guest(guest.id), self.parts.slots.base_id(record.seat.home)
            if paths.etc.is_dir():
                await asyncio.to_thread(etc.write, paths, guest, record.plugged, base)

    async def in_launcher(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.parts.launcher.threads, function, *arguments)


def _same(one: Guest, other: Guest) -> bool:
    """Whether what was created for the one serves the other: ports come and go at any time."""
    return _bare(one) == _bare(other)


def _bare(guest: Guest) -> Guest:
    return msgspec.structs.replace(guest, generation=0, boots=0, power="running", ports=(), reboot="soft", request_id="")
