"""Credentials (keys of other systems, kept for a user) and policies (opaque blobs): https://docs.openstack.org/api-ref/identity/v3/#credentials."""

import sqlalchemy as sa

from nacre.cloud.collection import Collection, Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Forbidden, Invalid
from nacre.cloud.identity.changes import merged, refer
from nacre.cloud.identity.tables import credentials, policies, projects, users
from nacre.store.listing import Listing, columns_of
from nacre.store.schema import new_hex_id


def _check(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    """Only an admin keeps credentials for others; an EC2 credential needs a project."""
    if "user_id" in values:
        if values["user_id"] != ctx.user_id and not ctx.is_admin:
            raise Forbidden("Only an admin may keep credentials of another user.", field="user_id")
        refer(conn, users, "user", values["user_id"], "user_id")
    if values.get("project_id") is not None:
        refer(conn, projects, "project", values["project_id"], "project_id")
    return values


def _before_create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    values = _check(conn, ctx, {**values, "user_id": values.get("user_id") or ctx.user_id})
    if values["type"] == "ec2" and not values.get("project_id"):
        raise Invalid("A credential of type ec2 needs a project_id.", field="project_id")
    return values


def _before_update(conn: sa.Connection, ctx: Context, row: Row, changes: Row) -> Row:
    return merged(row, _check(conn, ctx, changes))


def _merge(conn: sa.Connection, ctx: Context, row: Row, changes: Row) -> Row:
    return merged(row, changes)


def _own(ctx: Context) -> sa.ColumnElement[bool] | None:
    return None if ctx.is_admin else credentials.c.user_id == ctx.user_id


operations = Collection(
    kind="credential",
    table=credentials,
    listing=Listing(sa.select(credentials), columns_of(credentials), key=credentials.c.id),
    make_id=new_hex_id,
    before_create=_before_create,
    before_update=_before_update,
    visible=_own,
)

policy_operations = Collection(
    kind="policy",
    table=policies,
    listing=Listing(sa.select(policies), columns_of(policies), key=policies.c.id),
    make_id=new_hex_id,
    before_update=_merge,
)
