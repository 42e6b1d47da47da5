"""What one API process and the others tell each other through the store, once a second: that they live, and which hosts they hear.

A process that cannot write that for a third of a lease, where there are others, lets go of its hosts: their nodes find another. One that was
struck out ends, to begin anew: it had stood still for so long that the others took it for dead, and undid what it had under way.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

from nacre.cloud.core import Cloud
from nacre.cloud.hosts import operations as hosts
from nacre.cloud.leases import Lease, Watch, boottime_s
from nacre.cloud.processes import operations
from nacre.cloud.processes.operations import Process
from nacre.store import Fenced, StoreError

TURN_S = 1.0
LEASE_S = 15.0
"""A process that was silent for so long is taken for dead."""
PAUSE_MAX_S = 5.0
"""After a longer one this process may have missed what others would have told it: leases of hosts start anew."""

log = logging.getLogger("nacre.processes")


class Presence:
    """Of this process. Belongs to the loop."""

    def __init__(self, cloud: Cloud, struck_out: Callable[[], None]) -> None:
        self._cloud = cloud
        self._struck_out = struck_out
        self._counts: dict[str, int] = {}
        self._noted_s: dict[str, float] = {}
        self._beats: dict[str, int] = {}
        """Host id -> the number of its latest beat that is not in the store yet."""
        self._lives = Watch()
        self._seen: dict[str, Mapping[str, int]] = {}
        self._written_s = boottime_s()
        self.silent: list[tuple[str, int]] = []
        """Processes that are taken for dead, each with the counter at which it stands still."""
        self.leads = False
        """Whether this process runs the sweepers."""
        self.processes: tuple[Process, ...] = ()
        """Those that live, this one among them."""

    def note(self, host_id: str, beat: int) -> None:
        """A host has given a sign of life on its stream to this process. It is told so by `Hosts.recorded`."""
        self._counts[host_id] = self._counts.get(host_id, 0) + 1
        self._noted_s[host_id] = boottime_s()
        self._beats[host_id] = beat

    @property
    def moment_s(self) -> float:
        """As of when leases of hosts are judged: while the store is away nothing is heard of what other processes hear, and time stands
        still."""
        return min(boottime_s(), self._written_s + self._cloud.settings.lease_s / 3)

    @property
    def reaches_store(self) -> bool:
        """Whether what it hears of hosts counts with the others."""
        return boottime_s() - self._written_s < self._cloud.settings.lease_s / 3

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(min(TURN_S, self._cloud.settings.lease_s / 15))
            try:
                await self.turn()
            except StoreError as error:
                log.warning("the other processes do not hear of this one: %s", error)
                if len(self.processes) > 1 and not self.reaches_store:
                    self._cloud.hosts.let_go()
            except Exception:
                log.exception("a sign of life failed")

    async def turn(self) -> None:
        """Raises StoreError."""
        moment = boottime_s()
        beats, self._beats = self._beats, {}
        long_ago_s = moment - self._cloud.settings.lease_s
        self._counts = {host_id: count for host_id, count in self._counts.items() if self._noted_s[host_id] > long_ago_s}
        self._noted_s = {host_id: self._noted_s[host_id] for host_id in self._counts}
        try:
            found = await self._cloud.store.write(operations.renew, self._cloud.process_id, self._counts, leads=self.leads)
        except Fenced:
            found = None
        if found is None:
            log.error("the other processes took this one for dead and undid what it had under way: it ends, to begin anew")
            self._struck_out()
            return
        away_s = boottime_s() - self._written_s
        if away_s > PAUSE_MAX_S:
            log.warning("this process knew nothing of the others for %.0f s: all leases start anew", away_s)
            self._cloud.hosts.renew(await self._cloud.store.read(hosts.ids))
            self._lives = Watch()
        self._written_s = boottime_s()
        self._cloud.hosts.recorded(beats)
        self._hear(found)

    def _hear(self, found: list[Process]) -> None:
        over = {str(key) for key in self._lives.over({each.id: Lease(each.counter, LEASE_S) for each in found})}
        self.silent = [(each.id, each.counter) for each in found if each.id in over and each.id != self._cloud.process_id]
        living = tuple(each for each in found if each.id not in over or each.id == self._cloud.process_id)
        heard = {
            host_id
            for each in living
            if each.id != self._cloud.process_id
            for host_id, count in each.heard.items()
            if each.id in self._seen and self._seen[each.id].get(host_id) != count
        }
        self._seen = {each.id: each.heard for each in living}
        if heard:
            self._cloud.hosts.renew(heard)
        changed = [each[:4] for each in living] != [each[:4] for each in self.processes]
        self.processes = living
        if changed:
            log.info("API processes: %s", ", ".join(f"{each.hostname} ({each.id})" for each in living))
            self._cloud.hosts.tell_peers()
