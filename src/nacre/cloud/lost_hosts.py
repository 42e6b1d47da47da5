"""What happens when hosts are lost: migrations that wait for them end, and what may be made anew elsewhere is.

Which hosts are lost `hosts.liveness` says, for which servers this is wanted `compute.fencing`: Nova's servers are evacuated, containers of
Docker's rescheduled. A server for which there is no host now is tried again.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable

import sqlalchemy as sa

from nacre.cloud.compute import cold_migration
from nacre.cloud.compute.evacuating import evacuate
from nacre.cloud.compute.fencing import is_fenced
from nacre.cloud.compute.moving import EVACUATED
from nacre.cloud.compute.placing import Placing, choose
from nacre.cloud.compute.states import state_of
from nacre.cloud.compute.tables import servers
from nacre.cloud.containers import rescheduling
from nacre.cloud.containers.rescheduling import Stays
from nacre.cloud.containers.tables import containers
from nacre.cloud.context import internal
from nacre.cloud.core import Cloud
from nacre.cloud.errors import CloudError
from nacre.cloud.hosts import liveness
from nacre.cloud.leases import boottime_s
from nacre.cloud.memory import PerStore
from nacre.cloud.scheduler import ExpressionError, NoValidHost
from nacre.store.schema import new_id

EVERY_S = 0.5
TRIES_PER_TURN_MAX = 200
AT_ONCE_MAX = 16
RETRY_S = 20.0
"""How long a server for which there was no host waits for the next try, while the same hosts are alive."""

log = logging.getLogger("nacre.lost_hosts")


class Memory:
    """What this process has seen of one store's hosts."""

    def __init__(self) -> None:
        self.alive: frozenset[str] = frozenset()
        self.tried_s: dict[str, float] = {}
        """Server id -> when no host was found for it."""

    def due(self, idents: Iterable[str], alive: frozenset[str]) -> list[str]:
        """Those to be tried now."""
        if alive != self.alive:
            self.alive, self.tried_s = alive, {}
        ids = list(idents)
        self.tried_s = {ident: at_s for ident, at_s in self.tried_s.items() if ident in ids}
        lately = boottime_s() - RETRY_S
        return [ident for ident in ids if self.tried_s.get(ident, lately) <= lately][:TRIES_PER_TURN_MAX]


_memories = PerStore(lambda _store: Memory())


async def leave(cloud: Cloud) -> None:
    """One turn."""
    memory = _memories.of(cloud.store)
    lost, alive = liveness.lost(cloud), cloud.hosts.alive()
    if not lost:
        memory.due((), alive)
        return
    if cloud.store.read_now(cold_migration.waiting_for, lost):
        for ident in await cloud.store.write(cold_migration.hosts_lost, lost):
            log.warning("the migration of server %s was given up: its host is lost", ident)
    settings = cloud.settings
    known = Placing(alive, settings.ratios, cloud.hosts.facts, settings.strategy)
    work: dict[str, Callable[[sa.Connection, str], str | None]] = {}
    for ident in cloud.store.read_now(evacuated, lost):
        work[ident] = lambda conn, one: _evacuate(conn, one, known)
    for ident in cloud.store.read_now(rescheduling.on_hosts, lost):
        work[ident] = lambda conn, one: rescheduling.move(conn, one, alive, known.ratios, known.facts, known.strategy)
    due = memory.due(work, alive)
    for start in range(0, len(due), AT_ONCE_MAX):
        # In this order, and with one sync to disk for all that wait together (see `store.engine`).
        await asyncio.gather(*(_try(cloud, memory, ident, work[ident]) for ident in due[start : start + AT_ONCE_MAX]))


async def _try(cloud: Cloud, memory: Memory, ident: str, move: Callable[[sa.Connection, str], str | None]) -> None:
    try:
        hostname = await cloud.store.write(move, ident)
    except (Stays, CloudError) as error:
        log.warning("server %s stays with its lost host: %s", ident, error)
        memory.tried_s[ident] = boottime_s()
        return
    if hostname:
        log.warning("server %s is made anew on %s: its host is lost", ident, hostname)


def evacuated(conn: sa.Connection, host_ids: Collection[str]) -> list[str]:
    """Nova's servers there whose policy says so, oldest first."""
    wanted = (
        sa.select(servers)
        .outerjoin(containers, containers.c.server_id == servers.c.id)
        .where(servers.c.host_id.in_(list(host_ids)), servers.c.gone.is_(False), containers.c.server_id.is_(None))
        .order_by(servers.c.created_at, servers.c.id)
    )
    return [row["id"] for row in conn.execute(wanted).mappings() if is_fenced(dict(row))]


def _evacuate(conn: sa.Connection, ident: str, known: Placing) -> str | None:
    """Returns the host's name, None where there is nothing to do any more. Raises Stays."""
    found = conn.execute(sa.select(servers).where(servers.c.id == ident)).mappings().first()
    if found is None or found["gone"] or found["host_id"] in known.alive:
        return None
    row = dict(found)
    vm_state = state_of(row).vm_state
    if vm_state not in EVACUATED | {"building", "resized"}:
        raise Stays(f"it is {vm_state}")
    # A host that was asked for at its creation is asked for no more.
    zone = (row["requested_zone"] or "").partition(":")[0]
    try:
        host = choose(conn, {**row, "requested_zone": zone or None}, known, without=(row["host_id"],), action="evacuate")
    except (NoValidHost, ExpressionError) as error:
        raise Stays(str(error)) from None
    evacuate(conn, internal(f"req-{new_id()}"), row, host)
    return host.hostname
