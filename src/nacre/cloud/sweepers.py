"""The sweepers: what must happen without anybody asking. Each is a row, and each run is idempotent. Of several API processes the one that leads
runs them; where another has just taken over, two may do so for a moment."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nacre.cloud import abandoned, draining, lost_hosts
from nacre.cloud.builds import sweeping as builds
from nacre.cloud.compute import decisions, shelving
from nacre.cloud.compute import observations as compute
from nacre.cloud.containers import events
from nacre.cloud.core import Cloud
from nacre.cloud.discovery import probing
from nacre.cloud.discovery import sweeping as discovery
from nacre.cloud.image import leaving
from nacre.cloud.memory import PerStore
from nacre.cloud.network import failover
from nacre.cloud.processes import sweeping as processes
from nacre.cloud.registry import uploads
from nacre.cloud.stacks import reconciling as stacks

log = logging.getLogger("nacre.sweepers")


@dataclass(frozen=True)
class Sweeper:
    """`run` is called every `every_s` seconds, never twice at once; sooner when `woken` returns."""

    name: str
    every_s: float
    run: Callable[[Cloud], Awaitable[None]]
    woken: Callable[[Cloud], Awaitable[None]] | None = None


async def expire_transitions(cloud: Cloud) -> None:
    """A server that did not reach its intent before the deadline is in ERROR, with that as its cause."""
    for server_id in await cloud.store.write(compute.expire):
        log.warning("server %s missed its deadline", server_id)


async def sweep_uploads(cloud: Cloud) -> None:
    """What clients of the registry began and never ended."""
    removed = await uploads.sweep(cloud)
    if removed:
        log.info("%d things were left of pushes that nobody ended", removed)


async def trim_events(cloud: Cloud) -> None:
    """The log behind `docker events` keeps its length."""
    await cloud.store.write(events.trim)


SWEEPERS: tuple[Sweeper, ...] = (
    Sweeper("expire transitions", 5.0, expire_transitions),
    Sweeper("API processes", processes.SWEEP_EVERY_S, processes.sweep),
    Sweeper("what gone processes were at", abandoned.SWEEP_EVERY_S, abandoned.sweep),
    Sweeper("images of servers", leaving.SWEEP_EVERY_S, leaving.sweep),
    Sweeper("shelved servers", shelving.SWEEP_EVERY_S, shelving.sweep),
    Sweeper("lost hosts", lost_hosts.EVERY_S, lost_hosts.leave),
    Sweeper("drained hosts", draining.EVERY_S, draining.turn),
    Sweeper("routers of lost hosts", failover.SWEEP_EVERY_S, failover.sweep),
    Sweeper("discovery's leases", discovery.SWEEP_EVERY_S, discovery.sweep),
    Sweeper("discovery's checks", probing.PLAN_EVERY_S, probing.start_due),
    Sweeper("discovery's hosts", 2.0, discovery.watch_hosts),
    Sweeper("discovery's services", 20.0, discovery.reconcile),
    Sweeper("discovery's marks", 60.0, discovery.forget_marks),
    Sweeper("stacks", stacks.SWEEP_EVERY_S, stacks.run, stacks.woken),
    Sweeper("sweep uploads", 300.0, sweep_uploads),
    Sweeper("trim events", 60.0, trim_events),
    Sweeper("scheduler's decisions", decisions.SWEEP_EVERY_S, decisions.sweep),
    Sweeper("builds' containers", builds.SWEEP_EVERY_S, builds.sweep),
)


class Sweeping:
    """The sweepers of this process, while it leads."""

    def __init__(self, cloud: Cloud, sweepers: tuple[Sweeper, ...] = SWEEPERS) -> None:
        self._cloud = cloud
        self._sweepers = sweepers
        self._task: asyncio.Task[None] | None = None

    def lead(self, leads: bool) -> None:
        """To be called in the loop when this process begins to lead, and when it may not lead any more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._cloud.presence is not None:
            self._cloud.presence.leads = leads
        if leads:
            PerStore.forget(self._cloud.store)
            self._task = asyncio.create_task(sweep_for_ever(self._cloud, self._sweepers))

    async def close(self) -> None:
        task = self._task
        self.lead(False)
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)


async def sweep_for_ever(cloud: Cloud, sweepers: tuple[Sweeper, ...] = SWEEPERS) -> None:
    """Run until cancelled. A sweeper that fails is logged and comes again at its next turn."""
    await asyncio.gather(*(_turns(cloud, sweeper) for sweeper in sweepers))


async def _turns(cloud: Cloud, sweeper: Sweeper) -> None:
    while True:
        await _pause(cloud, sweeper)
        try:
            await sweeper.run(cloud)
        except Exception:
            log.exception("the sweeper %r failed; it comes again in %.0f s", sweeper.name, sweeper.every_s)


async def _pause(cloud: Cloud, sweeper: Sweeper) -> None:
    if sweeper.woken is None:
        await asyncio.sleep(sweeper.every_s)
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(sweeper.every_s):
            await sweeper.woken(cloud)
