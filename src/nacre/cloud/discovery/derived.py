"""Services that register themselves: what runs, compared with what is registered for it. Level-triggered: `reconcile` may be called for any
server at any time, and leaves the catalog as it has to be.

It is called in the transaction that records what a host's node observed, and for everybody from time to time by a sweeper.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.compute.tables import servers
from nacre.cloud.containers.tables import containers
from nacre.cloud.discovery import catalog
from nacre.cloud.discovery.catalog import WEIGHTS
from nacre.cloud.discovery.indexes import Change, changing
from nacre.cloud.discovery.registrator import Service, Thing, services_of
from nacre.cloud.discovery.sessions import NODE_CHECK
from nacre.cloud.discovery.tables import checks, nodes, services
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.network.tables import fixed_ips, ports
from nacre.store import Prepared, among

RUNS = ("running", "paused")
PASSING = {"name": "Serf Health Status", "status": "passing", "output": "Agent alive and reachable"}
LOST = {"name": "Serf Health Status", "status": "critical", "output": "Agent not live or unreachable"}
_RUNNING = Prepared(
    sa.select(
        servers.c.id,
        servers.c.project_id,
        servers.c.name,
        servers.c.metadata.label("server_metadata"),
        servers.c.image,
        servers.c.host_id,
        hosts.c.hostname.label("host"),
        hosts.c.tunnel_ip,
        containers.c.config,
        containers.c.host_config,
        containers.c.image_ref,
    )
    .join(hosts, hosts.c.id == servers.c.host_id)
    .outerjoin(containers, containers.c.server_id == servers.c.id)
    .where(among(servers.c.id), servers.c.gone.is_(False), sa.or_(*(servers.c.observed_state == state for state in RUNS)))
)
_ADDRESSES = Prepared(
    sa.select(ports.c.device_id, fixed_ips.c.address)
    .join(fixed_ips, fixed_ips.c.port_id == ports.c.id)
    .where(among(ports.c.device_id))
    .order_by(ports.c.position, ports.c.id, fixed_ips.c.position)
)
_TAKEN = Prepared(
    sa.select(services.c.node, services.c.id).where(
        services.c.project_id == sa.bindparam("project"),
        among(services.c.node, "nodes"),
        among(services.c.id),
        services.c.server_id.is_not(None),
    )
)
_REGISTERED = Prepared(sa.select(services).where(among(services.c.server_id)))

_RUNNING_IDS = Prepared(
    sa.select(servers.c.id)
    .where(servers.c.id > sa.bindparam("after"), sa.or_(*(servers.c.observed_state == state for state in RUNS)))
    .order_by(servers.c.id)
    .limit(sa.bindparam("count"))
)
_REGISTERED_IDS = Prepared(
    sa.select(services.c.server_id)
    .where(services.c.server_id > sa.bindparam("after"))
    .distinct()
    .order_by(services.c.server_id)
    .limit(sa.bindparam("count"))
)
_HOST_NODES = Prepared(
    sa.select(nodes.c.project_id, nodes.c.name, nodes.c.host_id, checks.c.status)
    .join(
        checks,
        sa.and_(checks.c.project_id == nodes.c.project_id, checks.c.node == nodes.c.name, checks.c.id == NODE_CHECK),
    )
    .where(nodes.c.host_id.is_not(None))
)

Key = tuple[str, str]
"""(node, id of the service)."""


def reconcile(conn: sa.Connection, server_ids: Sequence[str]) -> int:
    """Register what these servers are now, and take away what they are not (any more). Returns how many services differed."""
    registered = _registered(conn, server_ids)
    wanted, at = _wanted(conn, server_ids, registered)
    differed = 0
    for project_id in {**wanted, **registered}:
        before, after = registered[project_id], wanted[project_id]
        stale = [key for key in before if key not in after]
        fresh = _fresh(conn, project_id, before, after)
        if stale or fresh:
            with changing(conn, project_id, bounded=False) as change:
                _apply(change, stale, {key: after[key] for key in fresh}, at)
            differed += len(stale) + len(fresh)
    return differed


def _registered(conn: sa.Connection, server_ids: Sequence[str]) -> dict[str, dict[Key, Row]]:
    registered: dict[str, dict[Key, Row]] = defaultdict(dict)
    for row in _REGISTERED.rows(conn, ids=list(server_ids)):
        registered[row["project_id"]][row["node"], row["id"]] = row
    return registered


def _fresh(
    conn: sa.Connection, project_id: str, before: Mapping[Key, Row], after: Mapping[Key, tuple[str, Service]]
) -> list[Key]:
    """What has to be registered. An id that its user chose and another server has is that one's until it goes."""
    fresh = [key for key, (server_id, service) in after.items() if not _same(before.get(key), server_id, service)]
    new = [key for key in fresh if key not in before]
    if new:
        at = list({node for node, _ in new})
        taken = _TAKEN.rows(conn, project=project_id, nodes=at, ids=[ident for _, ident in new])
        others = {(row["node"], row["id"]) for row in taken} - before.keys()
        fresh = [key for key in fresh if key not in others]
    return fresh


def _wanted(
    conn: sa.Connection, server_ids: Sequence[str], registered: Mapping[str, Mapping[Key, Row]]
) -> tuple[dict[str, dict[Key, tuple[str, Service]]], dict[str, Row]]:
    """(by project the services there ought to be, each with its server's id; the hosts by name).

    Of several servers that chose one id the one that has it keeps it.
    """
    running = _RUNNING.rows(conn, ids=list(server_ids))
    addresses: dict[str, list[str]] = defaultdict(list)
    if running:
        for row in _ADDRESSES.rows(conn, ids=[each["id"] for each in running]):
            addresses[row["device_id"]].append(row["address"])
    wanted: dict[str, dict[Key, tuple[str, Service]]] = defaultdict(dict)
    for row in running:
        for service in services_of(thing_of(row, addresses[row["id"]])):
            of_project, key = wanted[row["project_id"]], (row["host"], service.id)
            holder = registered.get(row["project_id"], {}).get(key, {}).get("server_id")
            if key not in of_project or holder == row["id"]:
                of_project[key] = (row["id"], service)
    return wanted, {row["host"]: row for row in running}


def thing_of(row: Mapping[str, Any], addresses: Sequence[str]) -> Thing:
    """A server's row, with its container's where it has one. The first address of version 4 is the service's, or else the first."""
    address = next((each for each in addresses if ":" not in each), next(iter(addresses), ""))
    common = {"name": row["name"], "host": row["host"], "address": address}
    config = row["config"]
    if config is None:
        return Thing(
            **common, image=str(row["image"].get("name") or ""), settings=row["server_metadata"], ports=(), server_id=row["id"]
        )
    env = dict(each.partition("=")[::2] for each in config.get("Env") or ())
    bindings = (row["host_config"] or {}).get("PortBindings") or {}
    asked = {**(config.get("ExposedPorts") or {}), **bindings}
    settings = {**env, **(config.get("Labels") or {})}
    return Thing(**common, image=row["image_ref"], settings=settings, ports=sorted(filter(None, map(_port, asked))))


def _port(text: str) -> tuple[int, str] | None:
    """`6379/tcp`."""
    number, _, protocol = text.partition("/")
    return (int(number), protocol or "tcp") if number.isascii() and number.isdigit() and len(number) <= 5 else None


def _same(row: Row | None, server_id: str, service: Service) -> bool:
    return row is not None and row["server_id"] == server_id and all(row[name] == value for name, value in service.values.items())


def _apply(change: Change, stale: Sequence[Key], fresh: Mapping[Key, tuple[str, Service]], at: Mapping[str, Row]) -> None:
    for node, ident in stale:
        catalog.drop_service(change, node, ident)
    for node in {node for node, _ in fresh}:
        host = at[node]
        catalog.put_node(change, node, {"address": host["tunnel_ip"] or "", "host_id": host["host_id"]})
        if not catalog.has_check(change, node, NODE_CHECK):
            catalog.put_check(change, node, NODE_CHECK, PASSING)
    for (node, ident), (server_id, service) in fresh.items():
        catalog.put_service(change, node, ident, {**service.values, "server_id": server_id, "weights": WEIGHTS})
        if service.check is not None:
            catalog.put_check(change, node, *service.check)
        else:
            catalog.drop_check(change, node, f"service:{ident}")
    for node in {node for node, _ in stale} - {node for node, _ in fresh}:
        _leave(change, node)


def _leave(change: Change, node: str) -> None:
    """A host is a node of the project's while something of the project's is on it."""
    if not catalog.has_services(change, node):
        catalog.drop_node(change, node)


def some_ids(conn: sa.Connection, after: str, limit: int) -> list[str]:
    """Servers that run, or have a service: whatever could differ. So many at most of either, in the order of their ids, from the next one on."""
    running = _RUNNING_IDS.scalars(conn, after=after, count=limit)
    registered = _REGISTERED_IDS.scalars(conn, after=after, count=limit)
    # Beyond the last one of a list that is full there may be more of that kind: those come next time.
    ends = [found[-1] for found in (running, registered) if len(found) == limit]
    return sorted({ident for ident in (*running, *registered) if not ends or ident <= min(ends)})


def differing(conn: sa.Connection, server_ids: Sequence[str]) -> list[str]:
    """Those of the servers whose services are not what they ought to be. It only looks."""
    registered = _registered(conn, server_ids)
    wanted, _ = _wanted(conn, server_ids, registered)
    found: dict[str, None] = {}
    for project_id in {**wanted, **registered}:
        before, after = registered[project_id], wanted[project_id]
        found |= {str(row["server_id"]): None for key, row in before.items() if key not in after}
        found |= {after[key][0]: None for key in _fresh(conn, project_id, before, after)}
    return list(found)


def host_nodes(conn: sa.Connection) -> list[Row]:
    """Every host that is a node of a project, with the status of its own check."""
    return _HOST_NODES.rows(conn)


def set_alive(conn: sa.Connection, changed: Sequence[Row], alive: frozenset[str]) -> None:
    """Hosts that were lost, or are back: each project that has something there is told."""
    for row in changed:
        with changing(conn, row["project_id"]) as change:
            catalog.put_check(change, row["name"], NODE_CHECK, PASSING if row["host_id"] in alive else LOST)
