"""Rescheduling, as classic Swarm has it: containers with `-e reschedule:on-node-failure` are made anew elsewhere when their host is lost.

Which hosts are lost `hosts.liveness` says. Name, configuration, swarm id, addresses and Docker id stay; what was written inside is gone with
the host. What runs is started on the new host, what was stopped stays so. A container whose volumes lie on the lost host stays there, since
they are not moved; one for which there is no host now is tried again.
"""

import logging
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
import sqlalchemy as sa

from nacre.cloud.compute import decisions
from nacre.cloud.compute.evacuating import evacuate
from nacre.cloud.compute.rules import request_of
from nacre.cloud.compute.scheduling import FactsOf, Search
from nacre.cloud.compute.tables import servers
from nacre.cloud.containers import events, scheduling
from nacre.cloud.containers.lookup import docker_id
from nacre.cloud.containers.mirror import KILLED, UP
from nacre.cloud.containers.tables import containers
from nacre.cloud.context import internal
from nacre.cloud.core import Cloud
from nacre.cloud.errors import CloudError
from nacre.cloud.hosts import liveness
from nacre.cloud.leases import boottime_s
from nacre.cloud.network.driven import drivers_of
from nacre.cloud.scheduler import ExpressionError, NoValidHost, Ratios, Strategy
from nacre.cloud.volumes import use
from nacre.protocol.containers import Container
from nacre.store import Store
from nacre.store.schema import new_id

Row = dict[str, Any]

EVERY_S = 2.0
TRIES_PER_TURN_MAX = 200
RETRY_S = 20.0
"""How long a container for which there was no host waits for the next try, while the same hosts are alive."""

log = logging.getLogger("nacre.rescheduling")


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


_memories: WeakKeyDictionary[Store, Memory] = WeakKeyDictionary()


class Stays(Exception):
    """The container cannot be made elsewhere now; the text says why."""


async def reschedule(cloud: Cloud) -> None:
    """One turn."""
    memory = _memories.setdefault(cloud.store, Memory())
    lost, alive = liveness.lost(cloud), cloud.hosts.alive()
    waiting = cloud.store.read_now(on_hosts, lost) if lost else []
    for ident in memory.due(waiting, alive):
        await _try(cloud, memory, ident, alive)


async def _try(cloud: Cloud, memory: Memory, ident: str, alive: frozenset[str]) -> None:
    settings = cloud.settings
    try:
        hostname = await cloud.store.write(move, ident, alive, settings.ratios, cloud.hosts.facts, settings.strategy)
    except (Stays, CloudError) as error:
        log.warning("container %s stays with its lost host: %s", docker_id(ident), error)
        memory.tried_s[ident] = boottime_s()
        return
    if hostname:
        log.warning("container %s is made anew on %s: its host is lost", docker_id(ident), hostname)


def on_hosts(conn: sa.Connection, host_ids: Collection[str]) -> list[str]:
    """The containers there whose policy says so, oldest first: what they depend on was made before them."""
    policies = containers.c.labels[scheduling.LABELS["reschedule"]].as_string()
    wanted = (
        sa.select(servers.c.id, containers.c.labels)
        .join(containers, containers.c.server_id == servers.c.id)
        .where(servers.c.host_id.in_(list(host_ids)), servers.c.gone.is_(False), policies.is_not(None))
        .order_by(servers.c.created_at, servers.c.id)
    )
    return [row.id for row in conn.execute(wanted) if scheduling.reschedule_of(row.labels) == "on-node-failure"]


def move(
    conn: sa.Connection, ident: str, alive: frozenset[str], ratios: Ratios, facts: FactsOf | None, strategy: Strategy
) -> str | None:
    """Make it anew on another host; returns the host's name, None where there is nothing to do any more. Raises Stays, CloudError."""
    found = conn.execute(sa.select(servers).where(servers.c.id == ident)).mappings().first()
    if found is None or found["gone"] or found["host_id"] in alive:
        return None
    row = dict(found)
    kept = dict(conn.execute(sa.select(containers).where(containers.c.server_id == ident)).mappings().one())
    spec = msgspec.convert(kept["spec"], Container)
    if use.host_of(conn, spec.mounts) is not None:
        raise Stays("its volumes lie there")
    conditions = scheduling.conditions_of(kept["config"], kept["host_config"])
    conditions = replace(conditions, network_drivers=drivers_of(conn, ident))
    beside = _host_of(conn, {spec.network_of, spec.pid_of, spec.ipc_of} - {""})
    search = Search(conn, row["project_id"], alive=alive, ratios=ratios, facts=facts)
    request = request_of(row, conditions, strategy, host_id=beside)
    try:
        chosen = search.choose(request, row)
    except NoValidHost as error:
        raise Stays(error.docker.replace("\n", " ")) from None
    except ExpressionError as error:
        raise Stays(str(error)) from None
    decisions.record(conn, row, "reschedule", request, chosen)
    host = chosen.best[0]
    use.place(conn, internal(), spec.mounts, host.id)
    if row["observed_state"] in UP:
        events.of_server(conn, row, "die", exitCode=str(KILLED))
    evacuate(conn, internal(f"req-{new_id()}"), row, host)
    conn.execute(
        containers.update()
        .where(containers.c.server_id == ident)
        .values(state=sa.null(), halt=sa.null(), was_started=False, error="")
    )
    events.changed(conn, ident)
    return host.hostname


def _host_of(conn: sa.Connection, idents: Collection[str]) -> str | None:
    """The host of the containers whose namespaces it shares. Raises Stays where it has to be on several."""
    found = set(conn.execute(sa.select(servers.c.host_id).where(servers.c.id.in_(list(idents)))).scalars())
    if len(found) > 1:
        raise Stays("the containers whose namespaces it shares are on different hosts")
    return found.pop() if found else None
