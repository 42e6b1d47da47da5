"""Server groups: https://docs.openstack.org/api-ref/compute/#server-groups-os-server-groups."""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute import quotas
from nacre.cloud.compute.tables import server_group_members, server_groups, servers
from nacre.cloud.context import Context
from nacre.cloud.errors import Forbidden, Invalid, NotFound, OverQuota
from nacre.store.schema import new_id, now

Row = dict[str, Any]

POLICIES = ("affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity")


def find(conn: sa.Connection, ctx: Context, *, all_projects: bool, limit: int, offset: int) -> list[Row]:
    """The project's groups, each with the ids of its `members`."""
    statement = sa.select(server_groups).order_by(server_groups.c.created_at, server_groups.c.id).limit(limit).offset(offset)
    if not all_projects:
        statement = statement.where(server_groups.c.project_id == ctx.project_id)
    return _with_members(conn, [dict(row) for row in conn.execute(statement).mappings()])


def get(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    """Raises NotFound, also for another project's group."""
    row = conn.execute(sa.select(server_groups).where(server_groups.c.id == ident)).mappings().first()
    if row is None or not ctx.sees(row["project_id"]):
        raise NotFound(f"Instance group {ident} could not be found.", code="InstanceGroupNotFound")
    return _with_members(conn, [dict(row)])[0]


def _with_members(conn: sa.Connection, rows: list[Row]) -> list[Row]:
    members: dict[str, list[str]] = {row["id"]: [] for row in rows}
    where = server_group_members.c.group_id.in_(list(members))
    for row in conn.execute(sa.select(server_group_members).where(where).order_by(server_group_members.c.server_id)):
        members[row.group_id].append(row.server_id)
    return [{**row, "members": members[row["id"]]} for row in rows]


def create(conn: sa.Connection, ctx: Context, name: str, policy: str, rules: dict[str, int]) -> Row:
    """Raises OverQuota, Forbidden (no project)."""
    if ctx.project_id is None:
        raise Forbidden("A server group needs a project: use a project-scoped token.")
    limit = quotas.limits_of(conn, ctx.project_id)["server_groups"]
    held = sa.select(sa.func.count()).select_from(server_groups).where(server_groups.c.project_id == ctx.project_id)
    if 0 <= limit <= conn.execute(held).scalar_one():
        raise OverQuota("Quota exceeded, too many server groups.", field="server_groups")
    values = {
        "id": new_id(),
        "project_id": ctx.project_id,
        "user_id": ctx.user_id,
        "name": name,
        "policy": policy,
        "rules": rules,
        "created_at": now(),
    }
    conn.execute(server_groups.insert().values(values))
    return {**values, "members": []}


def delete(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """Its servers stay, and are members of nothing."""
    get(conn, ctx, ident)
    conn.execute(server_groups.delete().where(server_groups.c.id == ident))


def of_server(conn: sa.Connection, server_ids: list[str]) -> dict[str, str]:
    """server -> the group that it is a member of."""
    where = server_group_members.c.server_id.in_(server_ids)
    return {row.server_id: row.group_id for row in conn.execute(sa.select(server_group_members).where(where))}


def for_create(conn: sa.Connection, ctx: Context, ident: str, count: int) -> Row:
    """The group of a server that is being made, with `occupied`: host -> its members there. Raises Invalid, OverQuota."""
    try:
        row = get(conn, ctx, ident)
    except NotFound as error:
        raise Invalid(error.message, field="os:scheduler_hints.group", code=error.code) from None
    _lock(conn, ident)
    limit = quotas.limits_of(conn, ctx.project_id)["server_group_members"]
    if 0 <= limit < len(row["members"]) + count:
        raise OverQuota("Quota exceeded, too many servers in group", field="server_group_members")
    return {**row, "occupied": _occupied(conn, ident)}


def _lock(conn: sa.Connection, ident: str) -> None:
    """Until the commit nobody else places a member of the group: two at once could not see each other."""
    conn.execute(sa.select(server_groups.c.id).where(server_groups.c.id == ident).with_for_update())


def of_member(conn: sa.Connection, server_id: str) -> Row | None:
    """The group of a server that is placed anew, as `for_create` gives it; None where it is in none."""
    ident = of_server(conn, [server_id]).get(server_id)
    if ident is None:
        return None
    _lock(conn, ident)
    row = conn.execute(sa.select(server_groups).where(server_groups.c.id == ident)).mappings().one()
    return {**row, "occupied": _occupied(conn, ident, without=server_id)}


def _occupied(conn: sa.Connection, ident: str, without: str = "") -> dict[str, int]:
    """host -> the group's members there, but for the one that is placed."""
    statement = (
        sa.select(servers.c.host_id, sa.func.count())
        .join(server_group_members, server_group_members.c.server_id == servers.c.id)
        .where(server_group_members.c.group_id == ident, servers.c.host_id.is_not(None), servers.c.id != without)
        .group_by(servers.c.host_id)
    )
    return {row[0]: row[1] for row in conn.execute(statement)}


def join(conn: sa.Connection, group_id: str, server_id: str) -> None:
    conn.execute(server_group_members.insert().values(group_id=group_id, server_id=server_id))
