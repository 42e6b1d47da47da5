"""Application credentials: a secret of a user's that stands for some of its roles on one project.

https://docs.openstack.org/api-ref/identity/v3/#application-credentials. Secrets arrive here already hashed.
"""

import sqlalchemy as sa

from nacre.cloud.collection import Row, find
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Forbidden, Invalid, NotFound
from nacre.cloud.identity import access_rules
from nacre.cloud.identity.assignments import effective_roles
from nacre.cloud.identity.changes import changed, refuse_delegated, require
from nacre.cloud.identity.delegations import named_roles, roles_of
from nacre.cloud.identity.tables import application_credential_roles, application_credentials, users
from nacre.store import Page, Query
from nacre.store.listing import Listing, columns_of
from nacre.store.schema import new_hex_id, now

_table = application_credentials
_listing = Listing(sa.select(_table), columns_of(_table, "name", "project_id"), key=_table.c.id)


def create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    """For the caller itself, on its token's project; without `roles` all that the token has. Raises Forbidden, Invalid, Conflict."""
    if ctx.user_id != values["user_id"]:
        raise Forbidden("Only the user itself may make its application credentials.")
    refuse_delegated(ctx)
    if ctx.project_id is None:
        raise Forbidden("An application credential needs a token that is scoped to a project.")
    if values.get("expires_at") is not None and values["expires_at"] <= now():
        raise Invalid("expires_at must be in the future.", field="expires_at")
    held = effective_roles(conn, ctx.user_id, "project", ctx.project_id)
    wanted = values.pop("roles", None)
    role_ids = sorted(held) if wanted is None else named_roles(conn, wanted, held)
    rules = values.pop("access_rules", None) or []
    ident = new_hex_id()
    try:
        conn.execute(_table.insert().values({"id": ident, "project_id": ctx.project_id, **values}))
    except sa.exc.IntegrityError:
        raise Conflict("The user has an application credential of that name already.", code="Conflict") from None
    rows = [{"application_credential_id": ident, "role_id": role_id} for role_id in role_ids]
    if rows:
        conn.execute(application_credential_roles.insert(), rows)
    access_rules.attach(conn, values["user_id"], ident, rules)
    return get(conn, ctx, values["user_id"], ident)


def get(conn: sa.Connection, ctx: Context, user_id: str, ident: str) -> Row:
    """With its `roles` and `access_rules`. Raises NotFound."""
    row = conn.execute(sa.select(_table).where(_table.c.id == ident, _table.c.user_id == user_id)).mappings().first()
    if row is None:
        raise NotFound.of("application credential", ident)
    return _whole(conn, dict(row))


def _whole(conn: sa.Connection, row: Row) -> Row:
    """With its roles and access rules."""
    roles = roles_of(conn, "application_credential", row["id"])
    return {**row, "roles": roles, "access_rules": access_rules.of_credential(conn, row["id"])}


def list_of_user(conn: sa.Connection, ctx: Context, user_id: str, query: Query) -> Page:
    require(conn, users, "user", user_id)
    page = find(conn, _listing, query, _table.c.user_id == user_id)
    return Page([_whole(conn, row) for row in page.rows], page.more)


def delete(conn: sa.Connection, ctx: Context, user_id: str, ident: str) -> None:
    """Tokens that rest on it end with it."""
    get(conn, ctx, user_id, ident)
    refuse_delegated(ctx)
    conn.execute(_table.delete().where(_table.c.id == ident))
    changed(conn, user_id)
