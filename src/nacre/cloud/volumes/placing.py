"""On which host a volume lies: where a container first uses it, until then on the host with the fewest volumes, or on the one asked for."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from nacre.cloud.errors import Conflict, NotFound
from nacre.cloud.hosts.desired import mark
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.volumes.tables import plugins, volumes

Row = dict[str, Any]


def note_drivers(conn: sa.Connection, host_id: str, drivers: Iterable[str]) -> None:
    """The host's node says which volume drivers it has (its fact `volume_drivers`): those that are not ours are plugins."""
    names = {name for name in drivers if name != "local" and not name.startswith("nacre")}
    known = set(conn.execute(sa.select(plugins.c.name).where(plugins.c.host_id == host_id)).scalars())
    gone, come = known - names, names - known
    if gone:
        conn.execute(plugins.delete().where(plugins.c.host_id == host_id, plugins.c.name.in_(gone)))
    if come:
        conn.execute(plugins.insert(), [{"host_id": host_id, "name": name} for name in sorted(come)])


def has_plugin(conn: sa.Connection, name: str) -> bool:
    """Whether any host has it."""
    return conn.execute(sa.select(plugins.c.name).where(plugins.c.name == name).limit(1)).first() is not None


def host_has_plugin(conn: sa.Connection, host_id: str, name: str) -> bool:
    wanted = sa.select(plugins.c.name).where(plugins.c.host_id == host_id, plugins.c.name == name)
    return conn.execute(wanted).first() is not None


def choose(conn: sa.Connection, plugin: str, alive: frozenset[str] | None) -> str | None:
    """The living host with the fewest volumes, among those with the plugin if one is needed. None where there is no host."""
    count = sa.select(sa.func.count()).where(volumes.c.host_id == hosts.c.id, volumes.c.gone.is_(False)).scalar_subquery()
    statement = (
        sa.select(hosts.c.id).where(hosts.c.enabled.is_(True), hosts.c.acceptance == "accepted").order_by(count, hosts.c.id)
    )
    if plugin:
        statement = statement.where(hosts.c.id.in_(sa.select(plugins.c.host_id).where(plugins.c.name == plugin)))
    for host_id in conn.execute(statement).scalars():
        if alive is None or host_id in alive:
            return str(host_id)
    return None


def by_hostname(conn: sa.Connection, volume: str, hostname: str, alive: frozenset[str] | None) -> str:
    """Raises NotFound, and Conflict for one that is not there now."""
    host_id = conn.execute(sa.select(hosts.c.id).where(hosts.c.hostname == hostname)).scalar()
    if host_id is None:
        raise NotFound(f"create {volume}: there is no host {hostname}", code="HostNotFound")
    if alive is not None and host_id not in alive:
        raise Conflict(f"create {volume}: the host {hostname} gives no sign of life")
    return str(host_id)


def is_fixed(row: Row) -> bool:
    """Whether it must stay where it is: something may be in it, or its plugin has made it there."""
    return row["host_id"] is not None and bool(row["used"] or row["source_id"] or row["plugin"])


def move(conn: sa.Connection, row: Row, host_id: str | None, *, used: bool) -> Row:
    """Place it there. Raises Conflict for one that must stay elsewhere."""
    if host_id is None:
        return row
    if row["host_id"] not in (None, host_id):
        if is_fixed(row):
            raise Conflict(
                f"volume {row['name']} is on host {hostname_of(conn, row['host_id'])}, not on {hostname_of(conn, host_id)}"
            )
        mark(conn, row["host_id"], "volume", row["id"])
    if row["host_id"] == host_id and row["used"] >= used:
        return row
    changes: Row = {"host_id": host_id, "used": row["used"] or used}
    if row["host_id"] != host_id:
        changes |= {"observed": None, "state": None, "fault": ""}
        mark(conn, host_id, "volume", row["id"])
    conn.execute(volumes.update().where(volumes.c.id == row["id"]).values(changes))
    return {**row, **changes}


def hostname_of(conn: sa.Connection, host_id: str | None) -> str:
    return str(conn.execute(sa.select(hosts.c.hostname).where(hosts.c.id == host_id)).scalar() or host_id)
