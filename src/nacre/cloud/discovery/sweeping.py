"""What happens to sessions, checks and marks without anybody asking. Time is measured by this process's own clock (see `leases`): after a
restart every lease begins anew."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from nacre.cloud.core import Cloud
from nacre.cloud.discovery import checks, derived, durations, indexes, sessions
from nacre.cloud.discovery.sessions import TTL_TIMES
from nacre.cloud.leases import Lease, Watch, boottime_s
from nacre.cloud.memory import PerStore

SWEEP_EVERY_S = 1.0
RECONCILED_AT_ONCE = 20
RECONCILE_PAUSE_S = 0.05
"""Between two such lots: nobody waits for them, and whoever waits for something else is not to wait for many of them."""
HOSTS_EVERY_S = 30.0
"""How often all hosts' checks are compared with the hosts, where none came or went."""
MARKS_KEPT_S = 900.0
"""How long a key that is gone leaves a trace by which a query finds out what it missed; after that it reads everything again."""

log = logging.getLogger("nacre.discovery")


class Memory:
    """What this process has seen of one store."""

    def __init__(self) -> None:
        self.sessions = Watch()
        self.ttls = Watch()
        self.delays = Watch()
        self.critical = Watch()
        self.values: dict[str, int] = {}
        self.values_at_s = boottime_s()
        self.alive: frozenset[str] = frozenset()
        """The hosts that were alive when all their checks were compared, and when that was."""
        self.hosts_at_s = float("-inf")


_memories = PerStore(lambda _store: Memory())


def _memory(cloud: Cloud) -> Memory:
    return _memories.of(cloud.store)


def _over(
    watch: Watch, rows: list[dict[str, Any]], key: Callable[[Any], Any], lease: Callable[[Any], Lease]
) -> list[dict[str, Any]]:
    """The rows whose lease is over."""
    by_key = {key(row): row for row in rows}
    return [by_key[each] for each in watch.over({ident: lease(row) for ident, row in by_key.items()})]


async def sweep(cloud: Cloud) -> None:
    """Sessions that were not renewed, locks' delays, TTL checks that were not reported, services that were critical for too long."""
    memory, store = _memory(cloud), cloud.store
    lost = _over(memory.sessions, store.read_now(sessions.with_ttl), lambda row: row["id"], _session_lease)
    if lost:
        for ident in await store.write(sessions.expire, {row["id"]: row["renewals"] for row in lost}):
            log.info("session %s was not renewed in time and is over", ident)
    delays = _over(memory.delays, store.read_now(sessions.delays), _delay_key, lambda row: Lease(0, row["delay_ns"] / 10**9))
    if delays:
        await store.write(sessions.end_delays, delays)
    kept = store.read_now(checks.of_types, "ttl", "http", "tcp")
    silent = _over(memory.ttls, [row for row in kept if row["type"] == "ttl"], _check_key, _ttl_lease)
    if any(row["status"] != "critical" for row in silent):
        await store.write(checks.record, [checks.ttl_over(row) for row in silent if row["status"] != "critical"])
    doomed = [row for row in kept if checks.deregister_after_s(row) is not None]
    gone = _over(memory.critical, doomed, _check_key, lambda row: Lease(0, checks.deregister_after_s(row) or 0.0))
    if gone:
        await store.write(checks.deregister_services, gone)


def _session_lease(row: dict[str, Any]) -> Lease:
    return Lease(row["renewals"], TTL_TIMES * durations.nanoseconds(row["ttl"], "TTL") / 10**9)


def _ttl_lease(row: dict[str, Any]) -> Lease:
    return Lease(row["renewals"], checks.seconds(row["definition"], "TTL", 0))


def _delay_key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["project_id"], row["key"], row["since_index"]


def _check_key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["project_id"], row["node"], row["id"]


async def forget_marks(cloud: Cloud) -> None:
    """Marks that are older than MARKS_KEPT_S, as this process counts it."""
    memory = _memory(cloud)
    if boottime_s() - memory.values_at_s < MARKS_KEPT_S:
        return
    for project_id, value in memory.values.items():
        await cloud.store.write(indexes.forget, project_id, value)
    memory.values, memory.values_at_s = cloud.store.read_now(indexes.all_values), boottime_s()


async def watch_hosts(cloud: Cloud) -> None:
    """Hosts that are lost are nodes whose own check is critical, and what is on them is found no more."""
    memory, alive = _memory(cloud), cloud.hosts.alive()
    if alive == memory.alive and boottime_s() - memory.hosts_at_s < HOSTS_EVERY_S:
        return
    rows = cloud.store.read_now(derived.host_nodes)
    changed = [row for row in rows if (row["status"] == "passing") != (row["host_id"] in alive)]
    if changed:
        await cloud.store.write(derived.set_alive, changed, alive)
    memory.alive, memory.hosts_at_s = alive, boottime_s()


async def reconcile(cloud: Cloud) -> None:
    """The services of all that runs, some at a time: what changed without a node's observing it, and what an older version has left."""
    last = ""
    while ids := cloud.store.read_now(derived.some_ids, last, RECONCILED_AT_ONCE):
        differing = cloud.store.read_now(derived.differing, ids)
        if differing:
            await cloud.store.write(derived.reconcile, differing)
        last = ids[-1]
        await asyncio.sleep(RECONCILE_PAUSE_S)
