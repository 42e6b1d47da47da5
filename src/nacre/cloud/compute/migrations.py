"""The log of resizes and moves: https://docs.openstack.org/api-ref/compute/#migrations-os-migrations.

One that takes a server to another host is open until it is at its end: the server is on one of both hosts then (`servers.host_id`), and has a
claim, and maybe a copy that does not run, on the other one. See `cold_migration` for its phases.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from nacre.cloud.collection import find as find_page
from nacre.cloud.compute import usage
from nacre.cloud.compute.tables import migrations
from nacre.cloud.context import Context
from nacre.cloud.hosts import operations as hosts
from nacre.cloud.hosts.desired import mark
from nacre.store import Listing, Page, Prepared, Query, among
from nacre.store.listing import columns_of
from nacre.store.schema import new_id, now

Row = dict[str, Any]

LISTING = Listing(sa.select(migrations), columns_of(migrations), key=migrations.c.uuid, sort=(("created_at", "desc"),))
SIZES = ("vcpus", "memory_mb", "disk_gb")

LIVE = "live-migration"
LEAVING, COMING = ("pre-migrating", "preparing"), ("migrating", "running")
"""The server is being stopped (live: checkpointed); its disk goes to the other host, where it starts (live: goes on). The second of each is
Nova's word for a live one."""
OPEN = (*LEAVING, *COMING, "finished", "reverting")
"""After these: it waits for its confirmation; it goes back."""


def is_open() -> sa.ColumnElement[bool]:
    """Whether a migration holds something on a second host."""
    return sa.and_(
        sa.or_(*(migrations.c.status == status for status in OPEN)),
        sa.or_(*(migrations.c.migration_type == kind for kind in ("migration", "resize", LIVE))),
        migrations.c.source_host_id != migrations.c.dest_host_id,
    )


_OPEN_OF = Prepared(sa.select(migrations).where(among(migrations.c.server_id), is_open()))


def open_among(conn: sa.Connection, server_ids: Sequence[str]) -> dict[str, Row]:
    """Server id -> its open migration, for those that have one."""
    return {row["server_id"]: row for row in _OPEN_OF.rows(conn, ids=list(server_ids))}


def open_of(conn: sa.Connection, server_id: str) -> Row | None:
    return open_among(conn, [server_id]).get(server_id)


def begin(conn: sa.Connection, ctx: Context, server: Row, kind: str, dest_host_id: str, flavor: Row, **values: Any) -> None:
    """A move or resize of the server has been asked for. Without other `values` it needs no steps of its own."""
    moment = now()
    columns = {
        "uuid": new_id(),
        "server_id": server["id"],
        "project_id": server["project_id"],
        "user_id": ctx.user_id,
        "migration_type": kind,
        "status": "finished",
        "source_host_id": server["host_id"],
        "dest_host_id": dest_host_id,
        "old_flavor_id": server["flavor"]["id"],
        "new_flavor_id": flavor["id"],
        "created_at": moment,
        "updated_at": moment,
    }
    conn.execute(migrations.insert().values({**columns, **values}))


def change(conn: sa.Connection, migration: Row, **values: Any) -> None:
    conn.execute(migrations.update().where(migrations.c.id == migration["id"]).values(**values, updated_at=now()))


def settle(conn: sa.Connection, server_id: str, status: str) -> None:
    """The latest one of the server is at its end: confirmed or reverted."""
    latest = sa.select(sa.func.max(migrations.c.id)).where(migrations.c.server_id == server_id).scalar_subquery()
    conn.execute(migrations.update().where(migrations.c.id == latest).values(status=status, updated_at=now()))


def held(one: Row, other: Row) -> dict[str, int]:
    """What a server that has claims on two hosts counts for in the quota: the larger of both."""
    return {name: max(one[name], other[name]) for name in SIZES}


def close(conn: sa.Connection, server: Row, migration: Row, status: str, message: str = "") -> None:
    """The server is where its row says and nowhere else any more: the other host forgets it, and what was claimed there is given back."""
    here = server["host_id"]
    there = migration["source_host_id"] if here == migration["dest_host_id"] else migration["dest_host_id"]
    hosts.claim(conn, there, guests=-1, **{name: -migration[name] for name in SIZES})
    mark(conn, there, "guest", server["id"])
    change(conn, migration, status=status, message=message, **dict.fromkeys(SIZES, 0))
    more = {name: server[name] - size for name, size in held(server, migration).items()}
    usage.change(conn, server["project_id"], instances=0, cores=more["vcpus"], ram=more["memory_mb"])


def abandon(conn: sa.Connection, server: Row) -> None:
    """The server goes away, or is made anew elsewhere: one that waited for its confirmation has it, any other is at its end."""
    migration = open_of(conn, server["id"])
    if migration is not None:
        close(conn, server, migration, "confirmed" if migration["status"] == "finished" else "error", migration["message"])


def find(conn: sa.Connection, ctx: Context, query: Query) -> Page:
    """An admin's are all, everybody else's the project's."""
    where = () if ctx.is_admin else (migrations.c.project_id == ctx.project_id,)
    return find_page(conn, LISTING, query, *where)
