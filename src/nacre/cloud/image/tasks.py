"""Tasks: what became of imports. https://docs.openstack.org/api-ref/image/v2/#tasks. An ended one is forgotten after two days."""

from collections.abc import Mapping

import sqlalchemy as sa

from nacre.cloud import collection
from nacre.cloud.context import Context
from nacre.cloud.errors import NotFound
from nacre.cloud.image import operations
from nacre.cloud.image.rules import Row
from nacre.cloud.image.tables import image_tasks
from nacre.store import Page, Query
from nacre.store.listing import Listing, columns_of
from nacre.store.schema import new_id, now

LIFE_S = 48 * 3600.0
"""Glance's task_time_to_live."""
OF_IMAGE_MAX = 100
"""Ended tasks of one image that are kept; older ones go sooner."""
PENDING = ("pending", "processing")
_table = image_tasks
LISTING = Listing(
    sa.select(_table),
    columns_of(_table, "id", "type", "status", "created_at", "updated_at"),
    key=_table.c.id,
    sort=(("created_at", "desc"),),
)


def add(conn: sa.Connection, ctx: Context, kind: str, asked: Row, image: Row | None, status: str, message: str = "") -> Row:
    """A new one; those that are long over go meanwhile."""
    moment, ident = now(), new_id()
    conn.execute(_table.delete().where(_table.c.expires_at < moment))
    ended = status not in PENDING
    values = {
        "id": ident,
        "type": kind,
        "status": status,
        "owner": ctx.project_id,
        "image_id": image["id"] if image else None,
        "user_id": ctx.user_id,
        "request_id": ctx.request_id,
        "input": asked,
        "result": {"image_id": image["id"]} if image and status == "success" else None,
        "message": message,
        "created_at": moment,
        "updated_at": moment,
        "expires_at": moment + LIFE_S if ended else None,
    }
    if image is not None:
        _make_room(conn, image["id"])
    conn.execute(_table.insert().values(values))
    return values


def _make_room(conn: sa.Connection, image_id: str) -> None:
    over = (_table.c.image_id == image_id, _table.c.status.not_in(PENDING))
    newest = sa.select(_table.c.id).where(*over).order_by(_table.c.created_at.desc()).limit(OF_IMAGE_MAX - 1)
    conn.execute(_table.delete().where(*over, _table.c.id.not_in(newest)))


def end(conn: sa.Connection, ident: str, status: str, result: Mapping[str, str] | None, message: str) -> None:
    moment = now()
    values = {"status": status, "result": result, "message": message, "updated_at": moment, "expires_at": moment + LIFE_S}
    conn.execute(_table.update().where(_table.c.id == ident).values(values))


def get(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    """Raises NotFound."""
    row = conn.execute(sa.select(_table).where(_table.c.id == ident)).mappings().first()
    if row is None:
        raise NotFound(f"The requested task {ident} could not be found.", code="TaskNotFound")
    return dict(row)


def find(conn: sa.Connection, ctx: Context, query: Query) -> Page:
    return collection.find(conn, LISTING, query)


def of_image(conn: sa.Connection, ctx: Context, image_id: str) -> list[Row]:
    """Newest first. Raises NotFound for an image that the caller does not see."""
    operations.get(conn, ctx, image_id)
    rows = conn.execute(sa.select(_table).where(_table.c.image_id == image_id).order_by(_table.c.created_at.desc()))
    return [dict(row) for row in rows.mappings()]
