"""Users: https://docs.openstack.org/api-ref/identity/v3/#users. Passwords arrive here already hashed."""

import sqlalchemy as sa

from nacre.cloud.collection import Collection, Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Forbidden, Invalid
from nacre.cloud.identity.cascades import forget_user
from nacre.cloud.identity.changes import changed, home_domain, merged, require
from nacre.cloud.identity.tables import projects, users
from nacre.store.listing import Listing, columns_of
from nacre.store.schema import new_hex_id, now


def _before_create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    values["domain_id"] = values.get("domain_id") or home_domain(ctx)
    require(conn, projects, "domain", values["domain_id"], projects.c.is_domain)
    return values


def _before_update(conn: sa.Connection, ctx: Context, row: Row, changes: Row) -> Row:
    """A new password or `enabled` false revokes the user's tokens."""
    if changes.pop("domain_id", row["domain_id"]) != row["domain_id"]:
        raise Invalid("A user's domain_id cannot be changed.", field="domain_id")
    if "password_hash" in changes or changes.get("enabled") is False:
        changes["tokens_valid_from"] = now()
    changed(conn, row["id"])
    return merged(row, changes, "options")


def _before_delete(conn: sa.Connection, ctx: Context, row: Row) -> None:
    forget_user(conn, row["id"])


operations = Collection(
    kind="user",
    table=users,
    listing=Listing(
        sa.select(users), columns_of(users, "id", "name", "domain_id", "enabled", "default_project_id"), key=users.c.id
    ),
    make_id=new_hex_id,
    before_create=_before_create,
    before_update=_before_update,
    before_delete=_before_delete,
)


def set_password(conn: sa.Connection, ctx: Context, user_id: str, password_hash: str) -> None:
    """A user's own change. Raises Forbidden when its option lock_password is set."""
    user = operations.get(conn, ctx, user_id)
    if user["options"].get("lock_password"):
        raise Forbidden("The password of this user is locked.", code="Forbidden")
    operations.update(conn, ctx, user_id, {"password_hash": password_hash})
