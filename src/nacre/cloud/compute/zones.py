"""The hosts as Compute's administrators see them: availability zones, services and hypervisors, all read from one table.

`alive` is the set of hosts whose node holds a stream, or None where the caller does not know (then every host counts as up).
"""

from collections.abc import Mapping

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.compute.tables import servers
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, NotFound
from nacre.cloud.hosts import fleet
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.network.tables import routers
from nacre.cloud.volumes.tables import volumes
from nacre.store import Prepared
from nacre.store.schema import now

Alive = frozenset[str] | None

SUMMED = ("vcpus", "claimed_vcpus", "memory_mb", "claimed_memory_mb", "disk_gb", "claimed_disk_gb", "guests")


def is_up(row: Mapping[str, object], alive: Alive) -> bool:
    return not row["forced_down"] and (alive is None or row["id"] in alive)


def number_of(host_id: str) -> int:
    """A host's id as the integer that clients before 2.53 expect: the first 31 bits of its UUID."""
    try:
        return int(host_id.replace("-", "")[:8], 16) & 0x7FFFFFFF
    except ValueError:
        return int.from_bytes(host_id.encode()[:4], "big") & 0x7FFFFFFF


def find(conn: sa.Connection, ctx: Context) -> list[Row]:
    """All hosts, by name."""
    return [dict(row) for row in conn.execute(sa.select(hosts).order_by(hosts.c.hostname, hosts.c.id)).mappings()]


def get(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    """A host by its id, or by the integer that stands for it. Raises NotFound."""
    row = conn.execute(sa.select(hosts).where(hosts.c.id == ident)).mappings().first()
    if row is not None:
        return dict(row)
    for candidate in find(conn, ctx) if ident.isdecimal() else ():
        if str(number_of(candidate["id"])) == ident:
            return candidate
    raise NotFound(f"Compute host {ident} could not be found.", code="ComputeHostNotFound")


def by_name(conn: sa.Connection, ctx: Context, hostname: str) -> Row:
    """Raises NotFound."""
    row = conn.execute(sa.select(hosts).where(hosts.c.hostname == hostname)).mappings().first()
    if row is None:
        raise NotFound(f"Could not find binary nova-compute on host {hostname}.", code="HostBinaryNotFound")
    return dict(row)


_NAMES = Prepared(sa.select(hosts.c.id, hosts.c.hostname))


_NAME_OF_SERVER = Prepared(
    sa.select(hosts.c.id, hosts.c.hostname)
    .join(servers, servers.c.host_id == hosts.c.id)
    .where(servers.c.id == sa.bindparam("server"))
)


def name_of_server(conn: sa.Connection, server_id: str) -> dict[str, str]:
    """The id of the server's host with its name; nothing where it has none."""
    return {row["id"]: row["hostname"] for row in _NAME_OF_SERVER.rows(conn, server=server_id)}


def names(conn: sa.Connection) -> dict[str, str]:
    """Each host's id with its name."""
    return {row["id"]: row["hostname"] for row in _NAMES.rows(conn)}


def set_enabled(conn: sa.Connection, ctx: Context, ident: str, enabled: bool, reason: str | None = None) -> Row:
    """Whether the scheduler may place servers on the host; those that are there stay."""
    row = get(conn, ctx, ident)
    values = {"enabled": enabled, "disabled_reason": None if enabled else reason, "updated_at": now()}
    conn.execute(hosts.update().where(hosts.c.id == row["id"]).values(values))
    fleet.changed(conn, row["id"])
    return {**row, **values}


def set_forced_down(conn: sa.Connection, ctx: Context, ident: str, forced: bool) -> Row:
    """Whether the host is taken for lost whatever its node says: it gets no servers, and those there may be evacuated."""
    row = get(conn, ctx, ident)
    values = {"forced_down": forced, "updated_at": now()}
    conn.execute(hosts.update().where(hosts.c.id == row["id"]).values(values))
    fleet.changed(conn, row["id"])
    return {**row, **values}


def delete(conn: sa.Connection, ctx: Context, ident: str, alive: Alive) -> None:
    """Forget a host. One whose node comes back joins anew. Raises Conflict while it is up, or something still has its place there."""
    row = get(conn, ctx, ident)
    if row["guests"]:
        raise Conflict(f"Unable to delete compute service of {row['hostname']}: it is hosting instances. Migrate them first.")
    if is_up({**row, "forced_down": False}, alive):
        raise Conflict(f"Unable to delete compute service of {row['hostname']}: its node is up. Stop it first.")
    for column, what in ((volumes.c.host_id, "volumes"), (routers.c.host_id, "routers")):
        if conn.execute(sa.select(column).where(column == row["id"]).limit(1)).first() is not None:
            raise Conflict(f"Unable to delete compute service of {row['hostname']}: {what} have their place there.")
    conn.execute(hosts.delete().where(hosts.c.id == row["id"]))
    fleet.changed(conn, row["id"])


def zones(conn: sa.Connection, ctx: Context, alive: Alive) -> list[tuple[str, bool, list[Row]]]:
    """Each zone with whether it can take servers, and its hosts."""
    by_zone: dict[str, list[Row]] = {}
    for row in find(conn, ctx):
        by_zone.setdefault(row["availability_zone"], []).append(row)
    return [
        (zone, any(row["enabled"] and is_up(row, alive) for row in members), members) for zone, members in sorted(by_zone.items())
    ]


def totals(conn: sa.Connection, ctx: Context) -> dict[str, int]:
    """The sums over all hosts of capacity and claims, and their `count`."""
    row = conn.execute(
        sa.select(
            sa.func.count().label("count"), *(sa.func.coalesce(sa.func.sum(hosts.c[name]), 0).label(name) for name in SUMMED)
        )
    ).mappings()
    return {name: int(value) for name, value in row.one().items()}


def claims_by_project(conn: sa.Connection, host_id: str) -> list[tuple[str, int, int, int]]:
    """What the servers of each project claim of a host: (project, vCPUs, MB of memory, GB of disk)."""
    sums = (sa.func.sum(servers.c[name]) for name in ("vcpus", "memory_mb", "disk_gb"))
    statement = sa.select(servers.c.project_id, *sums).where(servers.c.host_id == host_id)
    return [(row[0], row[1], row[2], row[3]) for row in conn.execute(statement.group_by(servers.c.project_id))]


def servers_on(conn: sa.Connection, host_ids: list[str]) -> dict[str, list[Row]]:
    """The servers of each of these hosts, as {uuid, name}."""
    found: dict[str, list[Row]] = {host_id: [] for host_id in host_ids}
    statement = sa.select(servers.c.id, servers.c.name, servers.c.host_id).where(servers.c.host_id.in_(host_ids))
    for row in conn.execute(statement.order_by(servers.c.created_at, servers.c.id)):
        found[row.host_id].append({"uuid": row.id, "name": row.name})
    return found
