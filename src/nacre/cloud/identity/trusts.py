"""Trusts: a user (trustor) lets another (trustee) act with some of its roles on a project.

https://docs.openstack.org/api-ref/identity/v3-ext/#os-trust-api. Trusts are not delegated further, as Keystone's default has it.
"""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.collection import Row, find
from nacre.cloud.context import Context
from nacre.cloud.errors import Forbidden, Invalid, NotFound
from nacre.cloud.identity.assignments import effective_roles
from nacre.cloud.identity.changes import changed, refer, refuse_delegated
from nacre.cloud.identity.delegations import named_roles, roles_of
from nacre.cloud.identity.tables import projects, trust_roles, trusts, users
from nacre.store import Page, Query
from nacre.store.listing import Listing, columns_of
from nacre.store.schema import new_hex_id, now

_listing = Listing(sa.select(trusts), columns_of(trusts, "trustor_user_id", "trustee_user_id", "project_id"), key=trusts.c.id)


def create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    """Only the trustor itself may, and only roles that it has. Raises Forbidden, Invalid naming the field."""
    if ctx.user_id != values["trustor_user_id"]:
        raise Forbidden("The trustor of a trust must be who asks for it.", field="trustor_user_id")
    refuse_delegated(ctx)
    refer(conn, users, "user", values["trustee_user_id"], "trustee_user_id")
    project_id = values.get("project_id")
    wanted = values.pop("roles")
    if project_id is not None:
        refer(conn, projects, "project", project_id, "project_id")
        if not wanted:
            raise Invalid("A trust for a project needs at least one role.", field="roles")
    elif wanted:
        raise Invalid("A trust with roles needs a project.", field="project_id")
    if values.get("expires_at") is not None and values["expires_at"] <= now():
        raise Invalid("expires_at must be in the future.", field="expires_at")
    held = effective_roles(conn, ctx.user_id, "project", project_id) if project_id else {}
    role_ids = named_roles(conn, wanted, held)
    ident = new_hex_id()
    conn.execute(trusts.insert().values({"id": ident, **values}))
    if role_ids:
        conn.execute(trust_roles.insert(), [{"trust_id": ident, "role_id": role_id} for role_id in role_ids])
    return get(conn, ctx, ident)


def _visible(ctx: Context) -> sa.ColumnElement[bool]:
    if ctx.sees_all:
        return sa.true()
    return sa.or_(trusts.c.trustor_user_id == ctx.user_id, trusts.c.trustee_user_id == ctx.user_id)


def _alive() -> sa.ColumnElement[bool]:
    return sa.or_(trusts.c.expires_at.is_(None), trusts.c.expires_at > now())


def get(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    """With its `roles`. Raises NotFound, also once it has expired or is used up."""
    row = conn.execute(sa.select(trusts).where(trusts.c.id == ident, _visible(ctx), _alive())).mappings().first()
    if row is None or row["remaining_uses"] == 0:
        raise NotFound.of("trust", ident)
    return {**row, "roles": roles_of(conn, "trust", ident)}


def get_role(conn: sa.Connection, ctx: Context, ident: str, role_id: str) -> Row:
    """One role of a trust. Raises NotFound."""
    for role in get(conn, ctx, ident)["roles"]:
        if role["id"] == role_id:
            return dict(role)
    raise NotFound.of("role", role_id)


def list_trusts(conn: sa.Connection, ctx: Context, query: Query) -> Page:
    """All are an admin's to list; one's own as trustor or trustee, when asked for so. Raises Forbidden."""
    own = {criterion.value for criterion in query.criteria if criterion.name in ("trustor_user_id", "trustee_user_id")}
    if not ctx.sees_all and ctx.user_id not in own:
        raise Forbidden("Policy doesn't allow identity:list_trusts to be performed.", code="PolicyNotAuthorized")
    return find(conn, _listing, query, _visible(ctx), _alive())


def delete(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """The tokens that rest on it end with it. Raises NotFound, Forbidden for the trustee."""
    row = get(conn, ctx, ident)
    if ctx.user_id != row["trustor_user_id"] and not ctx.is_admin:
        raise Forbidden("Only the trustor may delete a trust.")
    conn.execute(trusts.delete().where(trusts.c.id == ident))
    changed(conn)


def consume(conn: sa.Connection, ident: str) -> bool:
    """Count one use; False when there is none left."""
    left: Any = conn.execute(sa.select(trusts.c.remaining_uses).where(trusts.c.id == ident)).scalar()
    if left is not None:
        conn.execute(trusts.update().where(trusts.c.id == ident, trusts.c.remaining_uses > 0).values(remaining_uses=left - 1))
    return left is None or left > 0
