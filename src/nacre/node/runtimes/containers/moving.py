"""A guest's way into a checkpoint and out of it: the one half of a live migration on each host (see `checkpoints` for CRIU's part).

freezing      CRIU writes the guest down, which then does not run any more; or it could not, and nothing has changed
checkpointed  its ports may be taken away; its files and images go to the other host, or stay
thawing       the restorer makes its namespaces, this node brings the ports into them, the guest goes on

The helper that works on a guest outlives the node. Whoever comes after it waits for its end and looks at what has become of the guest: so a
guest that goes on already is never begun a second time from images that are older than its disk.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from nacre.node.runtimes.containers import checkpoints, trial
from nacre.node.runtimes.containers.checkpoints import Checkpoints
from nacre.node.runtimes.containers.launcher import LaunchError
from nacre.node.runtimes.containers.power import TROUBLES, Power
from nacre.node.runtimes.containers.records import Record
from nacre.node.runtimes.containers.seeing import words
from nacre.protocol.guests import Guest

STILL_TRYING = "it is still being tried"

log = logging.getLogger(__name__)


class NotCheckpointed(Exception):
    """The guest could not be written down, and runs on."""


class Moving:
    """Belongs to the driver's event loop; its callers hold the guest's lock. `criu` is "" where this host has none."""

    def __init__(self, power: Power, save: Callable[[Record], None], criu: str) -> None:
        self._power, self._save, self.parts = power, save, power.parts
        self._checkpoints = Checkpoints(power.parts, criu)
        self._criu = criu
        self.means, self.why_not = "", STILL_TRYING
        """What it is done by, and what is against it: nothing once it was tried, and worked."""

    async def try_it(self) -> None:
        self.means, self.why_not = await trial.outcome(self.parts, self._criu)

    def facts(self) -> dict[str, Any]:
        """The fact `live_migration`: {possible, means, reason}; guests move live between hosts of the same `means`."""
        return {"live_migration": {"possible": not self.why_not, "means": self.means, "reason": self.why_not}}

    async def freeze(self, record: Record, guest: Guest, timings_ms: dict[str, float]) -> None:
        """Raises NotCheckpointed."""
        if self.why_not:
            raise NotCheckpointed(self.why_not)
        if record.phase != "running" or guest.container is not None or guest.rescue is not None:
            raise NotCheckpointed("only a server that runs its own system can be checkpointed")
        if record.restored:
            # Its terminal is in nobody's session any more, and CRIU could write it down, but not bring it back ("No task found with sid 0").
            raise NotCheckpointed("it has been moved while it runs before, and can be again once it was rebooted")
        record.phase = "freezing"
        self._save(record)
        begun = time.monotonic()
        try:
            await self._power.in_launcher(self._checkpoints.dump, guest.id)
        except TROUBLES as error:
            record.phase = "running"
            self._save(record)
            raise NotCheckpointed(f"CRIU could not checkpoint it: {words(error)}") from error
        timings_ms["checkpoint"] = (time.monotonic() - begun) * 1000
        await self._end(record)

    async def _end(self, record: Record) -> None:
        """CRIU has ended its processes: conmon and the cgroups go."""
        await asyncio.to_thread(self.parts.clear, record.guest.id)
        record.phase = "checkpointed"
        self._save(record)

    async def thaw(self, record: Record, guest: Guest, timings_ms: dict[str, float]) -> None:
        """Raises what TROUBLES are; then nothing of the guest runs, and it is `checkpointed` still."""
        begun = time.monotonic()
        await self._power.make_ready(record, guest, timings_ms)
        record.phase, record.guest = "thawing", guest
        self._save(record)
        base_id = self.parts.slots.base_id(record.seat.home)
        try:
            async with self._gate(record, guest, timings_ms):
                await self._power.in_launcher(self._checkpoints.restore, guest, base_id)
            await asyncio.to_thread(self.parts.slots.unmute, record.slot)
        except TROUBLES:
            await self._undo(record)
            raise
        timings_ms["restore"] = (time.monotonic() - begun) * 1000
        self._goes_on(record, guest)

    def _goes_on(self, record: Record, guest: Guest) -> None:
        checkpoints.discard(self.parts.layout.guest(guest.id))
        record.phase, record.boots, record.restored = "running", max(record.boots, guest.boots), True
        record.ended, record.failed, record.halted, record.fault, record.exit_code = False, False, False, "", None
        self._save(record)

    async def _undo(self, record: Record) -> None:
        await asyncio.to_thread(self.parts.clear, record.guest.id)
        record.phase = "checkpointed"
        self._save(record)

    @contextlib.asynccontextmanager
    async def _gate(self, record: Record, guest: Guest, timings_ms: dict[str, float]) -> AsyncIterator[None]:
        """Where the restorer comes with its namespaces."""

        async def pass_through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                pid = int(await reader.readline())
                await asyncio.to_thread(self.parts.slots.adopt, record.slot, pid)
                await self._power.sync_ports(record, guest, timings_ms)
                writer.write(b"go\n")
            except TROUBLES as error:
                writer.write(f"{words(error)}\n".encode())
            with contextlib.suppress(OSError):
                await writer.drain()
            writer.close()

        place = self.parts.layout.gate(guest.id)
        place.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(pass_through, place)
        os.chmod(place, 0o600)
        try:
            yield
        finally:
            server.close()
            place.unlink(missing_ok=True)

    async def adopt(self, record: Record) -> None:
        """Finish what an earlier node was at: the guest runs, or is `checkpointed`, or (it had ended meanwhile) is found to have ended."""
        guest_id, before = record.guest.id, record.phase
        try:
            await asyncio.to_thread(self._checkpoints.await_helper, guest_id)
        except LaunchError as error:
            log.warning("guest %s: %s", guest_id, error)
            await asyncio.to_thread(self.parts.kill_launchers, {guest_id})
        alive = await asyncio.to_thread(self.parts.first_pid, guest_id) is not None
        if before == "freezing" and not alive and checkpoints.is_whole(self.parts.layout.guest(guest_id)):
            await self._end(record)
        elif before == "freezing":
            record.phase = "running"
        elif alive and await asyncio.to_thread(self.parts.monitor_pid, guest_id) is not None:
            await asyncio.to_thread(self.parts.slots.unmute, record.slot)
            self._goes_on(record, record.guest)
        else:
            await self._undo(record)
        self._save(record)
