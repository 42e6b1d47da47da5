"""Whether this host can checkpoint a guest and restore it: one is made, written down and brought back, by the very steps that a server takes.

A version of CRIU proves nothing: bookworm's 3.17 fails on a kernel of today, on the vDSO.
"""

import asyncio
import contextlib
import logging
import os
import platform
import shutil
from pathlib import Path

from nacre.node.images import ImageConfig, UnpackedImage
from nacre.node.runtimes.containers import console
from nacre.node.runtimes.containers.checkpoints import Checkpoints
from nacre.node.runtimes.containers.container import Bound, Containers
from nacre.node.runtimes.containers.layout import SCRATCH_ID
from nacre.node.runtimes.containers.power import TROUBLES
from nacre.node.runtimes.containers.records import Record
from nacre.node.runtimes.containers.seeing import words
from nacre.protocol.guests import Guest, ImageRef, InstanceData, Limits

TRIAL_WAIT_S = 60.0
LOOK_S = 0.05
MEMORY_MB = 32
_COUNTS = "/bin/busybox nc -l -p 4242 &\ni=0; while :; do i=$((i+1)); echo tick $i; /bin/busybox sleep 0.05; done"
"""A listener too: criu 4.1 cannot checkpoint any socket of the Internet on Linux 6.16 and later (SO_PASSCRED)."""

log = logging.getLogger(__name__)


async def means(criu: str) -> str:
    """What must be the same on both hosts of a live migration. Raises OSError."""
    process = await asyncio.create_subprocess_exec(criu, "--version", stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    version = said.decode(errors="replace").partition("Version:")[2].split()
    if process.returncode or not version:
        raise OSError(f"{criu} does not tell its version")
    cgroups = "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1"
    return f"criu {version[0]}, cgroups {cgroups}, {platform.machine()}"


class Trial:
    """One try, on a scratch guest that nobody else sees."""

    def __init__(self, parts: Containers, criu: str) -> None:
        self._parts, self._checkpoints = parts, Checkpoints(parts, criu)
        self._paths = parts.layout.guest(SCRATCH_ID)
        command = ImageConfig(cmd=["/bin/busybox", "sh", "-c", _COUNTS])
        self._image = UnpackedImage("", (self._paths.root / "image",), command)
        ref = ImageRef(SCRATCH_ID, "", 0, "raw", "docker")
        instance = InstanceData("scratch", "scratch", "", "")
        self._guest = Guest(SCRATCH_ID, "container", 1, "running", 1, ref, Limits(1, MEMORY_MB, 1), instance)

    async def run(self) -> None:
        """Raises what TROUBLES are, and TimeoutError."""
        await asyncio.to_thread(self._clear)
        slot = await asyncio.to_thread(self._parts.slots.take)
        record = Record(self._guest, slot)
        try:
            async with asyncio.timeout(TRIAL_WAIT_S):
                await self._try(record)
        finally:
            await asyncio.to_thread(self._clear)
            await asyncio.to_thread(self._parts.slots.destroy, slot)

    async def _try(self, record: Record) -> None:
        parts = self._parts
        await asyncio.to_thread(self._make, record)
        await self._in_launcher(parts.create, self._guest, {})
        await self._in_launcher(parts.run, SCRATCH_ID, {})
        before = await self._counted(0)
        await self._in_launcher(self._checkpoints.dump, SCRATCH_ID)
        await asyncio.to_thread(parts.clear, SCRATCH_ID)
        place = parts.layout.gate(SCRATCH_ID)
        place.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._pass, place)
        try:
            await self._in_launcher(self._checkpoints.restore, self._guest, parts.slots.base_id(record.slot))
        finally:
            server.close()
            place.unlink(missing_ok=True)
        await self._counted(before)

    def _make(self, record: Record) -> None:
        for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "root"):
            (self._image.lowers[0] / name).mkdir(parents=True, mode=0o755)
        shutil.copy2(self._parts.layout.busybox, self._image.lowers[0] / "bin" / "busybox")
        self._parts.build_disk(SCRATCH_ID, record.seat, self._image)
        self._parts.write_bundle(self._guest, record.seat, self._image, (), Bound())
        self._slot = record.slot

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):
            await asyncio.to_thread(self._parts.slots.adopt, self._slot, int(await reader.readline()))
            writer.write(b"go\n")
            await writer.drain()
        writer.close()

    async def _counted(self, beyond: int) -> int:
        """Wait until the guest has counted further than that. Raises LookupError when it begins anew or has ended."""
        while True:
            if await asyncio.to_thread(self._parts.first_pid, SCRATCH_ID) is None:
                raise LookupError("the restored guest has ended" if beyond else "the scratch guest has ended")
            lines = (await asyncio.to_thread(console.read, self._paths)).decode(errors="replace").split("\r\n")[:-1]
            counts = [int(line.split()[1]) for line in lines if line.startswith("tick ")]
            if counts and counts[-1] > beyond:
                return counts[-1]
            await asyncio.sleep(LOOK_S)

    def _clear(self) -> None:
        parts = self._parts
        parts.kill_launchers({SCRATCH_ID})
        parts.clear(SCRATCH_ID)
        parts.unmount(SCRATCH_ID)
        if self._paths.root.is_dir():
            shutil.rmtree(self._paths.root)

    async def _in_launcher(self, function: object, *arguments: object) -> object:
        return await asyncio.get_running_loop().run_in_executor(self._parts.launcher.threads, function, *arguments)  # type: ignore[arg-type]


async def outcome(parts: Containers, criu: str) -> tuple[str, str]:
    """(means, why not): the second is empty where it works."""
    if not criu:
        return "", "no CRIU was named for this host (NACRE_CRIU)"
    if not os.access(criu, os.X_OK):
        return "", f"{criu} cannot be executed"
    try:
        known = await means(criu)
    except OSError as error:
        return "", words(error)
    try:
        await Trial(parts, criu).run()
    except TimeoutError:
        return known, f"a checkpoint and restore did not end within {TRIAL_WAIT_S:.0f} s"
    except TROUBLES as error:
        log.warning("this host cannot checkpoint and restore guests (%s): %s", known, words(error))
        return known, f"{known}: {words(error)}"
    return known, ""
