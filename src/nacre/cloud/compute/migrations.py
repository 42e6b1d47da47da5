"""The log of resizes and moves: https://docs.openstack.org/api-ref/compute/#migrations-os-migrations."""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.collection import find as find_page
from nacre.cloud.compute.tables import migrations
from nacre.cloud.context import Context
from nacre.store import Listing, Page, Query
from nacre.store.listing import columns_of
from nacre.store.schema import new_id, now

Row = dict[str, Any]

LISTING = Listing(sa.select(migrations), columns_of(migrations), key=migrations.c.uuid, sort=(("created_at", "desc"),))


def begin(conn: sa.Connection, ctx: Context, server: Row, kind: str, dest_host_id: str, flavor: Row) -> None:
    """A move or resize of the server has been asked for."""
    moment = now()
    conn.execute(
        migrations.insert().values(
            uuid=new_id(),
            server_id=server["id"],
            project_id=server["project_id"],
            user_id=ctx.user_id,
            migration_type=kind,
            status="finished",
            source_host_id=server["host_id"],
            dest_host_id=dest_host_id,
            old_flavor_id=server["flavor"]["id"],
            new_flavor_id=flavor["id"],
            created_at=moment,
            updated_at=moment,
        )
    )


def settle(conn: sa.Connection, server_id: str, status: str) -> None:
    """The latest one of the server is at its end: confirmed or reverted."""
    latest = sa.select(sa.func.max(migrations.c.id)).where(migrations.c.server_id == server_id).scalar_subquery()
    conn.execute(migrations.update().where(migrations.c.id == latest).values(status=status, updated_at=now()))


def find(conn: sa.Connection, ctx: Context, query: Query) -> Page:
    """An admin's are all, everybody else's the project's."""
    where = () if ctx.is_admin else (migrations.c.project_id == ctx.project_id,)
    return find_page(conn, LISTING, query, *where)
