"""Domains: https://docs.openstack.org/api-ref/identity/v3/#domains. Each is the root of a tree of projects."""

import sqlalchemy as sa

from nacre.cloud.collection import Collection, Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Forbidden
from nacre.cloud.identity.cascades import forget_domain
from nacre.cloud.identity.changes import changed, merged, refuse_immutable
from nacre.cloud.identity.tables import projects
from nacre.store.listing import Listing, columns_of
from nacre.store.schema import new_hex_id


def before_create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    return {**values, "is_domain": True, "domain_id": None, "parent_id": None}


def _before_update(conn: sa.Connection, ctx: Context, row: Row, changes: Row) -> Row:
    refuse_immutable(row, changes)
    changed(conn)
    return merged(row, changes, "options")


def before_delete(conn: sa.Connection, ctx: Context, row: Row) -> None:
    """Everything in the domain goes with it. Raises Forbidden while it is enabled."""
    refuse_immutable(row)
    if row["enabled"]:
        raise Forbidden("Cannot delete a domain that is enabled, please disable it first.", code="DomainEnabled")
    forget_domain(conn, row["id"])


def _visible(ctx: Context) -> sa.ColumnElement[bool] | None:
    """A user sees its own domain and those of its token's scope."""
    if ctx.sees_all:
        return None
    own = {ctx.user_domain_id, ctx.domain_id, getattr(ctx.token, "project_domain_id", None)}
    return projects.c.id.in_([ident for ident in own if ident])


operations = Collection(
    kind="domain",
    table=projects,
    listing=Listing(sa.select(projects).where(projects.c.is_domain), columns_of(projects), key=projects.c.id),
    make_id=new_hex_id,
    before_create=before_create,
    before_update=_before_update,
    before_delete=before_delete,
    visible=_visible,
)
