"""Host aggregates: https://docs.openstack.org/api-ref/compute/#host-aggregates-os-aggregates."""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute.tables import aggregate_hosts, aggregates, servers
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, NotFound
from nacre.cloud.hosts import fleet
from nacre.cloud.hosts.tables import hosts
from nacre.store.schema import new_id, now

Row = dict[str, Any]

ZONE = "availability_zone"
DIGITS_MAX = 18
"""Of an aggregate's number: what is longer fits no column."""
DEFAULT_ZONE = "nova"
"""The zone of a host that no aggregate gives another one."""


def find(conn: sa.Connection, ctx: Context) -> list[Row]:
    """All aggregates, each with the names of its `hosts`."""
    rows = [dict(row) for row in conn.execute(sa.select(aggregates).order_by(aggregates.c.id)).mappings()]
    return _with_hosts(conn, rows)


def get(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    """Raises NotFound."""
    row = None
    if ident.isdecimal() and len(ident) <= DIGITS_MAX:
        row = conn.execute(sa.select(aggregates).where(aggregates.c.id == int(ident))).mappings().first()
    if row is None:
        raise NotFound(f"Aggregate {ident} could not be found.", code="AggregateNotFound")
    return _with_hosts(conn, [dict(row)])[0]


def _with_hosts(conn: sa.Connection, rows: list[Row]) -> list[Row]:
    members: dict[int, list[str]] = {row["id"]: [] for row in rows}
    statement = sa.select(aggregate_hosts.c.aggregate_id, hosts.c.hostname).join(hosts, hosts.c.id == aggregate_hosts.c.host_id)
    for aggregate_id, hostname in conn.execute(statement.order_by(hosts.c.hostname)):
        members.setdefault(aggregate_id, []).append(hostname)
    return [{**row, "hosts": members[row["id"]]} for row in rows]


def create(conn: sa.Connection, ctx: Context, name: str, zone: str | None) -> Row:
    """Raises Conflict."""
    values = {
        "uuid": new_id(),
        "name": name,
        "metadata": {ZONE: zone} if zone else {},
        "created_at": now(),
        "updated_at": None,
    }
    try:
        ident = conn.execute(aggregates.insert().values(values).returning(aggregates.c.id)).scalar_one()
    except sa.exc.IntegrityError:
        raise Conflict(f"Aggregate {name} already exists.", code="AggregateNameExists") from None
    return {**values, "id": ident, "hosts": []}


def update(conn: sa.Connection, ctx: Context, ident: str, name: str | None, zone: str | None, set_zone: bool) -> Row:
    """Another name, another zone. Raises NotFound, Conflict."""
    row = get(conn, ctx, ident)
    metadata = {key: value for key, value in row["metadata"].items() if key != ZONE or not set_zone}
    if set_zone and zone:
        metadata[ZONE] = zone
    return _write(conn, ctx, row, name or row["name"], metadata)


def set_metadata(conn: sa.Connection, ctx: Context, ident: str, changes: dict[str, str | None]) -> Row:
    """Add and change keys; None takes one away."""
    row = get(conn, ctx, ident)
    merged = {**row["metadata"], **changes}
    return _write(conn, ctx, row, row["name"], {key: value for key, value in merged.items() if value is not None})


def _write(conn: sa.Connection, ctx: Context, row: Row, name: str, metadata: dict[str, str]) -> Row:
    zone_changes = metadata.get(ZONE) != row["metadata"].get(ZONE)
    members = _host_ids(conn, row["id"])
    for host_id in members if zone_changes else ():
        _check_zone(conn, host_id, metadata.get(ZONE), row["id"])
    values = {"name": name, "metadata": metadata, "updated_at": now()}
    try:
        conn.execute(aggregates.update().where(aggregates.c.id == row["id"]).values(values))
    except sa.exc.IntegrityError:
        raise Conflict(f"Aggregate {name} already exists.", code="AggregateNameExists") from None
    if zone_changes:
        _set_zone(conn, members, metadata.get(ZONE))
    fleet.changed(conn, *members)
    return {**row, **values}


def delete(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """Raises Conflict while hosts are in it."""
    row = get(conn, ctx, ident)
    if row["hosts"]:
        raise Conflict(f"Cannot remove host aggregate {ident}: it is not empty.", code="InvalidAggregateAction")
    conn.execute(aggregates.delete().where(aggregates.c.id == row["id"]))


def add_host(conn: sa.Connection, ctx: Context, ident: str, hostname: str) -> Row:
    """Raises NotFound (no such host), Conflict (there already, or in another zone)."""
    row = get(conn, ctx, ident)
    host_id = _host_id(conn, hostname)
    if hostname in row["hosts"]:
        raise Conflict(f"Aggregate {ident} already has host {hostname}.", code="AggregateHostExists")
    zone = row["metadata"].get(ZONE)
    _check_zone(conn, host_id, zone, row["id"])
    conn.execute(aggregate_hosts.insert().values(aggregate_id=row["id"], host_id=host_id))
    if zone:
        _set_zone(conn, [host_id], zone)
    fleet.changed(conn, host_id)
    return get(conn, ctx, ident)


def remove_host(conn: sa.Connection, ctx: Context, ident: str, hostname: str) -> Row:
    """Raises NotFound."""
    row = get(conn, ctx, ident)
    if hostname not in row["hosts"]:
        raise NotFound(f"Aggregate {ident} has no host {hostname}.", code="AggregateHostNotFound")
    host_id = _host_id(conn, hostname)
    if row["metadata"].get(ZONE):
        _check_zone(conn, host_id, None, row["id"])
        _set_zone(conn, [host_id], None)
    conn.execute(
        aggregate_hosts.delete().where(aggregate_hosts.c.aggregate_id == row["id"], aggregate_hosts.c.host_id == host_id)
    )
    fleet.changed(conn, host_id)
    return get(conn, ctx, ident)


def _host_id(conn: sa.Connection, hostname: str) -> str:
    found = conn.execute(sa.select(hosts.c.id).where(hosts.c.hostname == hostname)).scalar()
    if found is None:
        raise NotFound(f"Compute host {hostname} could not be found.", code="ComputeHostNotFound")
    return str(found)


def _host_ids(conn: sa.Connection, aggregate_id: int) -> list[str]:
    statement = sa.select(aggregate_hosts.c.host_id).where(aggregate_hosts.c.aggregate_id == aggregate_id)
    return list(conn.execute(statement).scalars())


def _check_zone(conn: sa.Connection, host_id: str, zone: str | None, aggregate_id: int) -> None:
    """A host is in one zone, and does not leave it under its servers. Raises Conflict."""
    others = (
        sa.select(aggregates.c.metadata)
        .join(aggregate_hosts, aggregate_hosts.c.aggregate_id == aggregates.c.id)
        .where(aggregate_hosts.c.host_id == host_id, aggregates.c.id != aggregate_id)
    )
    elsewhere = {metadata[ZONE] for metadata in conn.execute(others).scalars() if metadata.get(ZONE)}
    if zone and elsewhere - {zone}:
        raise Conflict(f"One or more hosts already in availability zone(s) {sorted(elsewhere)}", code="InvalidAggregateAction")
    current = conn.execute(sa.select(hosts.c.availability_zone).where(hosts.c.id == host_id)).scalar()
    populated = conn.execute(sa.select(servers.c.id).where(servers.c.host_id == host_id).limit(1)).first()
    if populated is not None and current != (zone or next(iter(elsewhere), DEFAULT_ZONE)):
        raise Conflict("One or more hosts contain instances in this zone", code="InvalidAggregateAction")


def _set_zone(conn: sa.Connection, host_ids: list[str], zone: str | None) -> None:
    conn.execute(hosts.update().where(hosts.c.id.in_(host_ids)).values(availability_zone=zone or DEFAULT_ZONE, updated_at=now()))
