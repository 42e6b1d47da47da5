"""Regions: https://docs.openstack.org/api-ref/identity/v3/#regions."""

import sqlalchemy as sa

from nacre.cloud.collection import Collection, Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Invalid, NotFound
from nacre.cloud.identity.changes import changed, merged
from nacre.cloud.identity.tables import regions
from nacre.store.listing import Listing, columns_of
from nacre.store.schema import new_hex_id


def _check_parent(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    parent = values.get("parent_region_id")
    if parent is not None and conn.execute(sa.select(regions.c.id).where(regions.c.id == parent)).first() is None:
        raise NotFound.of("region", parent)
    return values


def _check_change(conn: sa.Connection, ctx: Context, row: Row, changes: Row) -> Row:
    if changes.get("parent_region_id") == row["id"]:
        raise Invalid("A region cannot be its own parent.", field="parent_region_id")
    changed(conn)
    return merged(row, _check_parent(conn, ctx, changes))


operations = Collection(
    kind="region",
    table=regions,
    listing=Listing(sa.select(regions), columns_of(regions), key=regions.c.id),
    make_id=new_hex_id,
    before_create=_check_parent,
    before_update=_check_change,
)
