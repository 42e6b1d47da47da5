"""The guest driver for real containers: one lock per guest, difference between intent and kernel, the next step.

A create goes: slot and record on disk; image and ports, at once; folders, mounts and bundle; conmon and crun; watch. Every
step looks at what is there, so a kill -9 at any point costs a repetition. A running guest is never touched by a restart.
A container that is made stopped (docker create) is created all the same and waits a while: its start is one byte then.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from nacre.node.config import NodeConfig
from nacre.node.drivers import DiskSource, NetworkDriver, Observe, VolumeDriver
from nacre.node.images import ImageCache, ImageError
from nacre.node.runtimes.containers import arrivals, console, kernel, probe, records, restarts, rotating, survey
from nacre.node.runtimes.containers.bindings import Bindings
from nacre.node.runtimes.containers.container import Containers, signal_number
from nacre.node.runtimes.containers.health import Health, kill_check
from nacre.node.runtimes.containers.layout import Disk, is_guest_id
from nacre.node.runtimes.containers.moving import Moving, NotCheckpointed
from nacre.node.runtimes.containers.power import TROUBLES, Power
from nacre.node.runtimes.containers.records import Record
from nacre.node.runtimes.containers.seeing import StartFailed, cause_of_end, fault, observation, words
from nacre.node.runtimes.containers.watch import Watch
from nacre.node.runtimes.containers.writers import Writers
from nacre.protocol.guests import Guest, ImageRef
from nacre.protocol.messages import Holding, Observation

CREATED_WAIT_S = 30.0
"""How long a created container keeps its waiting process before it gives the memory back."""
SIGKILL = 9

log = logging.getLogger(__name__)


class ContainerDriver:
    """Implements nacre.node.drivers.GuestDriver. Belongs to one event loop; what blocks runs in threads."""

    def __init__(
        self,
        config: NodeConfig,
        network: NetworkDriver,
        images: ImageCache,
        volume_driver: VolumeDriver | None = None,
        disks: DiskSource | None = None,
    ) -> None:
        self._images, self._config, self._disks = images, config, disks
        self._bindings = Bindings(network, volume_driver, lambda: self._records, self._save)
        self._records: dict[str, Record] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._observe: Observe = lambda observation: None
        self._watch = Watch(self._ended, self._monitor_ended)
        self._tasks: set[asyncio.Task[None]] = set()
        self._restarts: dict[str, asyncio.Task[None]] = {}
        self._boot_id = kernel.boot_id() + config.boot_id
        self._parts: Containers | None = None
        self._health: Health | None = None
        self._steps: Power | None = None
        self._moves: Moving | None = None
        self.writers = Writers()
        self.opened: list[Callable[[Containers], None]] = []
        """Called when the host was opened, before any guest is looked at."""
        images.used = self._images_used

    def _images_used(self) -> list[ImageRef]:
        return [image for record in self._records.values() for image in record.guest.images]

    @property
    def parts(self) -> Containers:
        assert self._parts is not None, "start() comes first"
        return self._parts

    @property
    def health(self) -> Health:
        assert self._health is not None, "start() comes first"
        return self._health

    @property
    def _power(self) -> Power:
        assert self._steps is not None, "start() comes first"
        return self._steps

    @property
    def _moving(self) -> Moving:
        assert self._moves is not None, "start() comes first"
        return self._moves

    def record(self, guest_id: str) -> Record:
        """Raises LookupError for a guest that is not here."""
        if guest_id not in self._records:
            raise LookupError(f"guest {guest_id} is not on this host")
        return self._records[guest_id]

    async def disk(self, guest_id: str) -> Disk:
        """Where the guest's files lie; mounted again where a restart of the host took the mount. Raises LookupError, OSError."""
        record, paths = self.record(guest_id), self.parts.layout.guest(guest_id)
        try:
            image = await self._images.ensure(record.guest.image)
        except ImageError as error:
            raise OSError(str(error)) from error
        if not os.path.ismount(paths.rootfs):
            async with self._lock(guest_id):
                await asyncio.to_thread(self.parts.build_disk, guest_id, self.record(guest_id).seat, image)
        base = self.parts.slots.base_id(record.seat.home)
        return Disk(paths.disk / "upper", image.lowers, paths.lower, paths.rootfs, base)

    @contextlib.asynccontextmanager
    async def mounts(self, guest_id: str) -> AsyncIterator[list[tuple[str, int]]]:
        """(target, mount) of what a guest that does not run would see over its disk, see volumes.trees. Raises LookupError, OSError."""
        async with self._bindings.trees(self.record(guest_id), self.parts) as found:
            yield found

    def guest(self, guest_id: str) -> Guest | None:
        """The guest as it was last asked for, or None when it is not here."""
        record = self._records.get(guest_id)
        return record.guest if record else None

    async def start(self, observe: Observe) -> None:
        """Raises OSError when this host cannot run containers; the text says what is missing."""
        self._observe = observe
        self._parts = await asyncio.to_thread(probe.open_host, self._config)
        self._health = Health(self._parts, self._tell)
        self._steps = Power(self._parts, self._images, self._bindings, self._save, self._boot_id, self._disks)
        self._moves = Moving(self._steps, self._save, probe.criu(self._config))
        for ready in self.opened:
            ready(self._parts)
        self._records = await asyncio.to_thread(records.load_all, self._parts.layout)
        used = set[int]().union(*(record.slots for record in self._records.values()))
        await asyncio.to_thread(self._parts.slots.start, used)
        halfway = {guest_id for guest_id, record in self._records.items() if record.phase in ("created", "starting")}
        if halfway:
            await asyncio.to_thread(self._parts.kill_launchers, halfway)
        for guest_id in list(self._records):
            async with self._lock(guest_id):
                await self._adopt(guest_id)
        self._spawn(rotating.rotate_forever(self.parts, self._records, self._lock))
        self._spawn(self._moving.try_it())

    def facts(self) -> dict[str, Any]:
        """What is known only by trying: `live_migration`."""
        return self._moving.facts() if self._moves is not None else {}

    async def _adopt(self, guest_id: str) -> None:
        """Take over what an earlier process left of one guest, and say what became of it meanwhile."""
        record, parts = self._records[guest_id], self.parts
        if record.boot_id not in ("", self._boot_id):
            restarts.after_the_hosts(record)
            self._save(record)
        elif record.phase in ("created", "starting", "stopping"):
            await asyncio.to_thread(parts.clear, guest_id)
            record.phase = "stopped" if record.met else "building"
            self._save(record)
        elif record.phase in ("freezing", "thawing"):
            await self._moving.adopt(record)
        if record.phase == "running":
            await asyncio.to_thread(parts.settle, guest_id)
            await asyncio.to_thread(kill_check, parts, guest_id)
            if not self._see(record):
                await self._conclude(record)
        if record.restarting:
            self._restart_later(record)
        self._observe(await self._seen(record))

    async def apply(self, guest: Guest) -> Observation:
        if not is_guest_id(guest.id):
            return fault(guest, "the guest's id is not a UUID")
        timings_ms: dict[str, float] = {}
        async with self._lock(guest.id):
            try:
                await self._make_so(guest, timings_ms)
            except StartFailed as error:
                return await self._seen(await self._keep_failure(guest, error), guest.request_id, timings_ms)
            except NotCheckpointed as error:
                return fault(guest, str(error), timings_ms)
            except TROUBLES as error:
                cause = words(error)
                log.warning("guest %s: %s [%s]", guest.id, cause, guest.request_id)
                return await self._failed(guest, cause, timings_ms)
            record = self._records[guest.id]
            return await self._seen(record, guest.request_id, timings_ms)

    async def _failed(self, guest: Guest, cause: str, timings_ms: dict[str, float]) -> Observation:
        """Undo what a failed start left running; folders and mounts stay for the next try, and go with `remove`."""
        record = self._records.get(guest.id)
        if record is None:
            return fault(guest, cause, timings_ms)
        record.fault = cause
        try:
            if record.phase in ("created", "starting", "stopping"):
                await asyncio.to_thread(self.parts.clear, guest.id)
                record.phase = "stopped" if record.met else "building"
            self._save(record)
        except OSError as error:
            return fault(guest, f"{cause}; then {words(error)}", timings_ms)
        if record.phase == "running":  # It goes on as it was. The older generation says that another try is due.
            return fault(guest, cause, timings_ms, generation=record.met)
        return fault(guest, cause, timings_ms)

    async def _keep_failure(self, guest: Guest, error: StartFailed) -> Record:
        """The container could not be started as it was asked for: that was this boot, and the next one is somebody's to ask for."""
        record = self._records[guest.id]
        await asyncio.to_thread(self.parts.clear, guest.id)
        record.guest, record.met, record.boots, record.phase = guest, guest.generation, guest.boots, "stopped"
        record.ended, record.failed, record.restarting = True, True, False
        record.fault, record.exit_code, record.finished_at = str(error), error.exit_code, time.time()
        self._save(record)
        return record

    async def write(self, guest_id: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Let something be put into the guest's files. Raises FileExistsError when the guest is started or removed meanwhile."""
        async with self._lock(guest_id):
            task = self.writers.begin(guest_id, work())
        await self.writers.wait(guest_id, task)

    async def _make_so(self, guest: Guest, timings_ms: dict[str, float]) -> None:
        record = self._records.get(guest.id)
        if record is None:
            home = self._bindings.home(guest)
            if (slot := self.parts.slots.take_ready()) is None:
                slot = await asyncio.to_thread(self.parts.slots.take)
            record = self._records[guest.id] = Record(guest, slot, home)
            (self.parts.layout.guests / guest.id).mkdir(mode=0o711, parents=True, exist_ok=True)
            self._save(record)
        if arrivals.is_due(record, guest):
            self._unwatch(guest.id)
            await self._power.arrive(record, guest)
        alive = record.phase == "running"
        if (guest.image.digest, guest.rebuilds) != (record.guest.image.digest, record.guest.rebuilds):
            self._unwatch(guest.id)
            await self._power.rebuild(record, guest)
            alive = False
        if guest.power == "checkpointed" and record.phase != "checkpointed":
            await self._freeze(record, guest, timings_ms)
        elif guest.power == "checkpointed":
            await self._power.sync_ports(record, guest, timings_ms)
        elif record.phase == "checkpointed" and guest.power == "running" and record.boots >= guest.boots:
            await self._thaw(record, guest, timings_ms)
        elif alive and guest.power != "stopped" and record.boots >= guest.boots:
            await self._power.adjust(record, guest, timings_ms)
        elif guest.power == "stopped":
            await self._power_off(record, guest, timings_ms)
        elif alive or restarts.is_asked_for(record, guest):
            self._forget_restart(record)
            record.restart_count, record.restart_pause_s = 0, 0.0
            await self._power_on(record, guest, timings_ms)
        if record.phase == "running":
            await asyncio.to_thread(self.parts.cgroups.freeze, guest.id, guest.power == "paused")
            if guest.power == "running":
                await self._power.change_password(record, guest)
            record.fault = "" if self._watch.has_monitor(guest.id) else record.fault
        record.guest, record.met = guest, guest.generation
        self._save(record)

    async def _freeze(self, record: Record, guest: Guest, timings_ms: dict[str, float]) -> None:
        self._unwatch(guest.id)
        try:
            await self._moving.freeze(record, guest, timings_ms)
        except NotCheckpointed:
            if record.phase == "running" and not self._see(record):
                await self._conclude(record)
            raise

    async def _thaw(self, record: Record, guest: Guest, timings_ms: dict[str, float]) -> None:
        """One that does not come back where it was starts anew there; one that comes from elsewhere goes back."""
        await self.writers.stop(guest.id)
        try:
            await self._moving.thaw(record, guest, timings_ms)
        except TROUBLES as error:
            if guest.origin is not None:
                raise
            log.warning("guest %s does not go on from its checkpoint, and starts anew: %s", guest.id, words(error))
            await self._power_on(record, guest, timings_ms)
            return
        self._spawn(self._power.settle(guest.id))
        if not self._see(record):
            await self._conclude(record)

    def _see(self, record: Record) -> bool:
        """Watch a guest that runs. False when it has ended."""
        guest_id = record.guest.id
        if not self._watch.add(guest_id, self.parts.first_pid(guest_id), self.parts.monitor_pid(guest_id)):
            return False
        self.health.begin(record)
        return True

    async def _power_off(self, record: Record, guest: Guest, timings_ms: dict[str, float]) -> None:
        self._forget_restart(record)
        if record.phase == "building":
            await self.writers.stop(guest.id)
        self._unwatch(guest.id)
        await self._power.stop(record, guest, timings_ms)
        if record.phase == "created":
            self._spawn(self._uncreate_later(record))

    async def _power_on(self, record: Record, guest: Guest, timings_ms: dict[str, float]) -> None:
        self._unwatch(guest.id)
        await self.writers.stop(guest.id)
        await self._power.start(record, guest, timings_ms)
        self._spawn(self._power.settle(guest.id))
        if not self._see(record):
            await self._conclude(record)

    def _unwatch(self, guest_id: str) -> None:
        """What happens to the guest from here on is no surprise."""
        self._watch.remove(guest_id)
        self.health.end(guest_id)

    async def _uncreate_later(self, record: Record) -> None:
        await asyncio.sleep(CREATED_WAIT_S)
        await self.uncreate(record.guest.id)

    async def uncreate(self, guest_id: str) -> None:
        """Take away the process of a container that was created and not started: its start makes another. Again: no change."""
        async with self._lock(guest_id):
            record = self._records.get(guest_id)
            if record is None or record.phase != "created":
                return
            try:
                await self._power.uncreate(record)
            except OSError as error:
                log.warning("guest %s: %s", guest_id, words(error))

    async def signal(self, guest_id: str, name: str) -> None:
        """Send a signal to the guest's first process (docker kill). It does not wait for whoever stops the guest at the time.

        Raises LookupError when the guest is not here, FileExistsError when it does not run.
        """
        record = self.record(guest_id)
        number = signal_number(name)
        if record.phase != "running":
            raise FileExistsError(f"container {guest_id} is not running")
        container = record.guest.container
        if number in (SIGKILL, signal_number(container.stop_signal or "SIGTERM") if container else SIGKILL):
            record.halted = True
        if number == SIGKILL:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self.parts.cgroups.freeze, guest_id, False)
        if not await asyncio.to_thread(self.parts.send, guest_id, number):
            raise FileExistsError(f"container {guest_id} is not running")

    async def remove(self, guest_id: str) -> Observation:
        if not is_guest_id(guest_id):
            return Observation("guest", guest_id, "gone")
        async with self._lock(guest_id):
            record = self._records.get(guest_id)
            self._watch.remove(guest_id)
            self.health.forget(guest_id)
            others = (other.slots for other in self._records.values() if other is not record)
            free = record.slots - set().union(*others) if record else set[int]()
            try:
                await self.writers.stop(guest_id)
                if record is not None:
                    self._forget_restart(record)
                    await self._bindings.unplug(record, parting=record.slot in free)
                await asyncio.to_thread(self.parts.unmake, guest_id, free)
                if record is not None:
                    await self._bindings.let_go(record)
                await asyncio.to_thread(self.parts.forget, guest_id)
            except OSError as error:
                return Observation("guest", guest_id, "error", fault=f"cannot be removed: {words(error)}")
            self._records.pop(guest_id, None)
        self._locks.pop(guest_id, None)
        return Observation("guest", guest_id, "gone")

    async def observe(self) -> list[Observation]:
        return [await self._seen(record) for record in list(self._records.values())]

    async def console(self, guest_id: str) -> bytes:
        self.record(guest_id)
        return await asyncio.to_thread(console.read, self.parts.layout.guest(guest_id))

    async def survey(self) -> list[Holding]:
        used = {slot: guest_id for guest_id, record in self._records.items() for slot in record.slots}
        return await asyncio.to_thread(survey.look, self.parts, used)

    async def close(self) -> None:
        for task in [*self._tasks, *self._restarts.values()]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._restarts.values(), return_exceptions=True)
        self._watch.close()
        if self._parts is not None:
            await self.health.close()
            await asyncio.to_thread(self._parts.close)

    async def _seen(self, record: Record, request_id: str = "", timings_ms: dict[str, float] | None = None) -> Observation:
        """What is there, as an observation."""
        guest_id, runs = record.guest.id, record.phase == "running"
        return observation(
            record,
            paused=runs and self.parts.cgroups.is_frozen(guest_id),
            pid=self.parts.first_pid(guest_id) if runs else None,
            probes=self.health.probes(guest_id),
            request_id=request_id,
            timings_ms=timings_ms or {},
        )

    def _tell(self, guest_id: str) -> None:
        """A health check has news."""
        self._spawn(self._tell_now(guest_id))

    async def _tell_now(self, guest_id: str) -> None:
        record = self._records.get(guest_id)
        if record is not None and record.phase == "running":
            self._save(record)
            self._observe(await self._seen(record))

    def _ended(self, guest_id: str) -> None:
        self._spawn(self._handle_end(guest_id))

    async def _handle_end(self, guest_id: str) -> None:
        async with self._lock(guest_id):
            record = self._records.get(guest_id)
            if record is None or record.phase != "running" or self.parts.first_pid(guest_id) is not None:
                return  # It was stopped, removed or started again meanwhile: that call reports.
            await self._conclude(record)
            self._observe(await self._seen(record))

    async def _conclude(self, record: Record) -> None:
        """The guest ended by itself: keep its exit status and the cause, and take away what the runtime left."""
        guest_id, parts = record.guest.id, self.parts
        self._unwatch(guest_id)
        code = await asyncio.to_thread(parts.await_exit_code, guest_id)
        record.oom_killed = parts.cgroups.oom_kills(guest_id) > 0
        record.fault = cause_of_end(code, record.oom_killed, record.guest)
        record.exit_code, record.ended, record.phase, record.finished_at = code, True, "stopped", time.time()
        try:
            await asyncio.to_thread(parts.clear, guest_id)
            record.restarting = restarts.is_due(record)
            if record.restarting:
                record.restart_pause_s = restarts.next_pause_s(record, time.time() - (record.started_at or 0.0))
                self._restart_later(record)
            else:
                await self._bindings.let_go(record)
            self._save(record)
        except OSError as error:
            record.fault += f"; then {words(error)}" if record.fault else words(error)

    def _restart_later(self, record: Record) -> None:
        self._restarts[record.guest.id] = asyncio.ensure_future(self._restart(record))

    def _forget_restart(self, record: Record) -> None:
        """Somebody asks for something else."""
        record.restarting = False
        task = self._restarts.pop(record.guest.id, None)
        if task is not None:
            task.cancel()

    async def _restart(self, record: Record) -> None:
        """What the restart policy does after its pause; where that fails, again after a longer one."""
        await asyncio.sleep(record.restart_pause_s)
        async with self._lock(record.guest.id):
            if record.restarting and self._records.get(record.guest.id) is record:
                # Whoever calls this off waits for the lock: a start is not cut off in the middle.
                await asyncio.shield(self._spawn(self._restart_once(record)))

    async def _restart_once(self, record: Record) -> None:
        guest = record.guest
        record.restart_count += 1
        try:
            await self._power_on(record, guest, {})
            self._save(record)
        except StartFailed as error:
            await self._keep_failure(guest, error)
        except TROUBLES as error:
            log.warning("guest %s is not restarted yet: %s", guest.id, words(error))
            await self._failed(guest, words(error), {})
            record.restarting, record.restart_pause_s = True, restarts.next_pause_s(record, 0.0)
            self._restart_later(record)
        self._observe(await self._seen(record))

    def _monitor_ended(self, guest_id: str) -> None:
        self._spawn(self._handle_monitor_end(guest_id))

    async def _handle_monitor_end(self, guest_id: str) -> None:
        async with self._lock(guest_id):
            record = self._records.get(guest_id)
            if record is None or record.phase != "running" or self.parts.first_pid(guest_id) is None:
                return  # The guest ended, and conmon after it, as it should.
            record.fault = "conmon died: the console is silent and the exit status will not be known until the guest is rebooted"
            self._save(record)
            self._observe(await self._seen(record))

    def _lock(self, guest_id: str) -> asyncio.Lock:
        return self._locks.setdefault(guest_id, asyncio.Lock())

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _save(self, record: Record) -> None:
        # A small file and a rename: less than a hand-over to a thread and back.
        records.save(self.parts.layout.guest(record.guest.id), record)
