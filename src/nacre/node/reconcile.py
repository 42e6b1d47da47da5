"""From desired state to drivers: what is asked of this host is made so, in the order of dependency, and what comes of it is observed.

Network things are applied in batches, one batch at a time. Each guest has a task of its own that works through its latest spec only;
it waits for its ports and volumes by itself (volumes: see `upkeep`). What fails is tried again with growing pauses as long as it is desired.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from nacre.node.drivers import GuestDriver, NetworkDriver, VolumeDriver
from nacre.node.upkeep import VolumeUpkeep
from nacre.protocol.guests import Guest
from nacre.protocol.messages import Desired, Gone, Item, Observation

NETWORK_BATCH_MAX = 32
"""Network things that are applied at once: the guests of the first ones need not wait for the last ones."""
RETRY_MIN_S = 1.0
RETRY_MAX_S = 60.0
OTHERS = frozenset({"guest", "volume"})
"""The kinds that are not the network driver's."""
GUESTS_AT_ONCE = 8
"""Guests that are worked on at the same time."""

log = logging.getLogger("nacre.node")


class Reconciler:
    """Makes the host so by difference: a task for each guest that is worked on, one queue for the network."""

    def __init__(
        self,
        guests: GuestDriver,
        network: NetworkDriver,
        volumes: VolumeDriver,
        report: Callable[[Observation], None],
        give_up: Callable[[], None] = lambda: None,
    ) -> None:
        """`report` is told of every observation; `give_up` when something asked for was not done and must be asked for again."""
        self._guests = guests
        self._network = network
        self._volumes = VolumeUpkeep(volumes, self.saw)
        self._report = report
        self._give_up = give_up
        self._seen: dict[tuple[str, str], Observation] = {}
        self._wanted: dict[str, Guest | None] = {}
        self._working: dict[str, asyncio.Task[None]] = {}
        self._network_queue: asyncio.Queue[Desired] = asyncio.Queue()
        self._network_task: asyncio.Task[None] | None = None
        self._slots = asyncio.Semaphore(GUESTS_AT_ONCE)

    def observations(self) -> Iterable[Observation]:
        """The latest observation of everything that is here."""
        return tuple(self._seen.values())

    def saw(self, observation: Observation) -> None:
        """A driver observed something."""
        key = (observation.kind, observation.id)
        if observation.state == "gone":
            self._seen.pop(key, None)
        else:
            self._seen[key] = observation
        self._report(observation)

    def take(self, desired: Desired) -> None:
        """Go about it; returns at once."""
        if self._network_task is None:
            self._network_task = asyncio.create_task(self._apply_network())
        self._network_queue.put_nowait(desired)
        self._volumes.take(desired)
        for item in desired.items:
            if item.guest is not None:
                self._want(item.id, item.guest)
        for gone in desired.gone:
            if gone.kind == "guest":
                self._want(gone.id, None)
        if desired.full:
            task = asyncio.create_task(self._drop_strangers(frozenset(item.id for item in desired.items if item.guest)))
            self._working["*"] = task
            task.add_done_callback(lambda _: self._working.pop("*", None))

    async def close(self) -> None:
        tasks = [*self._working.values(), *([self._network_task] if self._network_task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, self._volumes.close(), return_exceptions=True)

    async def _drop_strangers(self, listed: frozenset[str]) -> None:
        """After a full answer: guests that are on the host and not desired must go."""
        for observation in await self._guests.observe():
            if observation.id not in listed and observation.id not in self._wanted:
                log.warning("guest %s is not desired on this host: it is removed", observation.id)
                self._want(observation.id, None)

    def _want(self, guest_id: str, guest: Guest | None) -> None:
        self._wanted[guest_id] = guest
        if guest_id not in self._working:
            self._working[guest_id] = asyncio.create_task(self._work(guest_id))

    async def _work(self, guest_id: str) -> None:
        """Bring one guest to its latest spec, then let go of it."""
        try:
            await self._work_through(guest_id)
        finally:
            # In the same step as the last look at what is wanted: a spec that comes a moment later gets a task of its own. A callback at
            # the task's end would come after what was ready before it, and that spec would stay undone.
            self._working.pop(guest_id, None)

    async def _work_through(self, guest_id: str) -> None:
        """Again if another spec came meanwhile, again after a pause if it failed."""
        retry_s = RETRY_MIN_S
        while True:
            wanted = self._wanted[guest_id]
            async with self._slots:
                seen = await self._act(guest_id, wanted)
            self.saw(seen)
            if self._wanted[guest_id] is not wanted:
                retry_s = RETRY_MIN_S
                continue
            if seen.state != "error":
                break
            log.warning("guest %s: %s", guest_id, seen.fault)
            if wanted is not None and seen.generation >= wanted.generation:
                # It was tried and failed: the server is in ERROR until somebody asks for something else.
                break
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, RETRY_MAX_S)
        if wanted is None:
            self._wanted.pop(guest_id, None)

    async def _act(self, guest_id: str, wanted: Guest | None) -> Observation:
        started = time.monotonic()
        try:
            seen = await (self._guests.remove(guest_id) if wanted is None else self._guests.apply(wanted))
        except Exception as error:
            log.exception("guest %s", guest_id)
            generation = wanted.generation if wanted else 0
            return Observation("guest", guest_id, "error", generation=generation, fault=f"{type(error).__name__}: {error}")
        log.info(
            "guest %s %s in %.1f ms %s %s",
            guest_id,
            seen.state,
            (time.monotonic() - started) * 1000,
            wanted.request_id if wanted else "",
            ", ".join(f"{step} {ms:.1f}" for step, ms in seen.timings_ms.items()),
        )
        return seen

    async def _apply_network(self) -> None:
        """What is asked for, as it comes. While something could not be made or undone, the driver is called again after growing pauses: it
        tries with each call what failed before."""
        pause_s: float | None = None
        while True:
            try:
                desired = await asyncio.wait_for(self._network_queue.get(), pause_s)
                pause_s = None
                failed = await self._apply_desired(desired)
            except TimeoutError:
                failed = await self._apply_batch([], [], full=False)
            pause_s = min(pause_s * 2 if pause_s else RETRY_MIN_S, RETRY_MAX_S) if failed else None

    async def _apply_desired(self, desired: Desired) -> bool:
        """Returns whether anything failed."""
        items = [item for item in desired.items if item.kind not in OTHERS]
        gone = [gone for gone in desired.gone if gone.kind not in OTHERS]
        if desired.full:
            return await self._apply_batch(items, gone, full=True)
        failed = False
        while items or gone:
            failed |= await self._apply_batch(items[:NETWORK_BATCH_MAX], gone[:NETWORK_BATCH_MAX], full=False)
            items, gone = items[NETWORK_BATCH_MAX:], gone[NETWORK_BATCH_MAX:]
        return failed

    async def _apply_batch(self, items: list[Item], gone: list[Gone], *, full: bool) -> bool:
        """What a driver cannot do it observes; what it raises is a fault of its own, tried again after a pause, a bounded number of times:
        others must not wait behind it for ever. Returns whether anything could not be made or undone."""
        pause_s = RETRY_MIN_S
        while pause_s <= RETRY_MAX_S:
            try:
                observations = await self._network.apply(items, gone, full=full)
                for observation in observations:
                    self.saw(observation)
                return any(observation.state == "error" for observation in observations)
            except Exception:
                log.exception("network things were not applied; trying again in %.0f s", pause_s)
                await asyncio.sleep(pause_s)
                pause_s *= 2
        self._give_up()
        return False
