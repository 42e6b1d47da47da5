"""Groups and their members: https://docs.openstack.org/api-ref/identity/v3/#groups."""

import sqlalchemy as sa

from nacre.cloud.collection import Collection, Row, find
from nacre.cloud.context import Context
from nacre.cloud.errors import Invalid, NotFound
from nacre.cloud.identity import users as user_operations
from nacre.cloud.identity.assignments import refuse_above_managers
from nacre.cloud.identity.changes import changed, hold_to_domain, home_domain, in_scope, merged, require
from nacre.cloud.identity.tables import assignments, groups, memberships, projects, users
from nacre.store import Page, Query
from nacre.store.listing import Listing, columns_of
from nacre.store.schema import new_hex_id


def _before_create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    values["domain_id"] = values.get("domain_id") or home_domain(ctx)
    hold_to_domain(ctx, values["domain_id"])
    require(conn, projects, "domain", values["domain_id"], projects.c.is_domain)
    return values


def _before_update(conn: sa.Connection, ctx: Context, row: Row, changes: Row) -> Row:
    if changes.pop("domain_id", row["domain_id"]) != row["domain_id"]:
        raise Invalid("A group's domain_id cannot be changed.", field="domain_id")
    return merged(row, changes)


def _before_delete(conn: sa.Connection, ctx: Context, row: Row) -> None:
    conn.execute(assignments.delete().where(assignments.c.actor_kind == "group", assignments.c.actor_id == row["id"]))
    changed(conn)


operations = Collection(
    kind="group",
    table=groups,
    listing=Listing(sa.select(groups), columns_of(groups), key=groups.c.id),
    make_id=new_hex_id,
    before_create=_before_create,
    before_update=_before_update,
    before_delete=_before_delete,
    visible=lambda ctx: in_scope(ctx, groups.c.domain_id),
)


def _both(conn: sa.Connection, ctx: Context, group_id: str, user_id: str) -> None:
    operations.get(conn, ctx, group_id)
    user_operations.operations.get(conn, ctx, user_id)


def add_user(conn: sa.Connection, ctx: Context, group_id: str, user_id: str) -> None:
    """Idempotent. Raises NotFound."""
    _both(conn, ctx, group_id, user_id)
    refuse_above_managers(conn, ctx, "group", group_id)
    if not _is_member(conn, group_id, user_id):
        conn.execute(memberships.insert().values(group_id=group_id, user_id=user_id))
        changed(conn, user_id)


def check_user(conn: sa.Connection, ctx: Context, group_id: str, user_id: str) -> None:
    """Raises NotFound when the user is not in the group."""
    _both(conn, ctx, group_id, user_id)
    if not _is_member(conn, group_id, user_id):
        raise NotFound(f"User {user_id} is not in group {group_id}.", code="NotFound")


def remove_user(conn: sa.Connection, ctx: Context, group_id: str, user_id: str) -> None:
    check_user(conn, ctx, group_id, user_id)
    conn.execute(memberships.delete().where(memberships.c.group_id == group_id, memberships.c.user_id == user_id))
    changed(conn, user_id)


def _is_member(conn: sa.Connection, group_id: str, user_id: str) -> bool:
    return (
        conn.execute(
            sa.select(memberships.c.user_id).where(memberships.c.group_id == group_id, memberships.c.user_id == user_id)
        ).first()
        is not None
    )


def find_members(conn: sa.Connection, ctx: Context, group_id: str, query: Query) -> Page:
    """The users of a group. Raises NotFound."""
    operations.get(conn, ctx, group_id)
    members = sa.select(memberships.c.user_id).where(memberships.c.group_id == group_id)
    return find(conn, user_operations.operations.listing, query, users.c.id.in_(members))


def find_of_user(conn: sa.Connection, ctx: Context, user_id: str, query: Query) -> Page:
    """The groups that a user is in. Raises NotFound."""
    user_operations.operations.get(conn, ctx, user_id)
    own = sa.select(memberships.c.group_id).where(memberships.c.user_id == user_id)
    return find(conn, operations.listing, query, groups.c.id.in_(own))
