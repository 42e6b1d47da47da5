"""Rescheduling, as classic Swarm has it: containers with `-e reschedule:on-node-failure` are made anew elsewhere when their host is lost.

When that is due `cloud.lost_hosts` says. Name, configuration, swarm id, addresses and Docker id stay; what was written inside is gone with
the host. What runs is started on the new host, what was stopped stays so. A container whose volumes lie on the lost host stays there, since
they are not moved; one for which there is no host now is tried again.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import msgspec
import sqlalchemy as sa

from nacre.cloud.compute import decisions
from nacre.cloud.compute.evacuating import evacuate
from nacre.cloud.compute.rules import request_of
from nacre.cloud.compute.scheduling import FactsOf, Search
from nacre.cloud.compute.tables import servers
from nacre.cloud.containers import events, scheduling
from nacre.cloud.containers.mirror import KILLED, UP
from nacre.cloud.containers.tables import containers
from nacre.cloud.context import internal
from nacre.cloud.network.driven import drivers_of
from nacre.cloud.scheduler import ExpressionError, NoValidHost, Ratios, Strategy
from nacre.cloud.volumes import use
from nacre.protocol.containers import Container
from nacre.store.schema import new_id

Row = dict[str, Any]


class Stays(Exception):
    """The container cannot be made elsewhere now; the text says why."""


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
