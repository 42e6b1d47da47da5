"""Security groups: https://docs.openstack.org/api-ref/network/v2/#security-groups-security-groups."""

from collections.abc import Iterable

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, NotFound
from nacre.cloud.network import marks, quotas, rbac, templates
from nacre.cloud.network.common import Readable, forget_tags, grouped, project_of, rows_of, stamped, touch
from nacre.cloud.network.tables import port_groups, rules, security_groups
from nacre.store import Page, Prepared, Query

DEFAULT_NAME = "default"
VERSIONS = (("IPv4", 4), ("IPv6", 6))


def _complete(conn: sa.Connection, rows: list[Row]) -> None:
    select = sa.select(rules).order_by(rules.c.created_at, rules.c.id)
    by_group = grouped(rows_of(conn, select, rules.c.security_group_id, (row["id"] for row in rows)), "security_group_id")
    for row in rows:
        row["security_group_rules"] = by_group.get(row["id"], [])
        for rule in row["security_group_rules"]:
            rule["tags"] = []


_READ = Readable(
    "Security group",
    security_groups,
    rbac.visible(security_groups, "security_group"),
    _complete,
    extra={"shared": rbac.with_all(security_groups, "security_group")},
)
get = _READ.get
plain = _READ.plain
some = _READ.some


def find(conn: sa.Connection, ctx: Context, query: Query) -> Page:
    return _READ.find(conn, ctx, query)


def lacks_default(conn: sa.Connection, ctx: Context) -> bool:
    """Whether the caller's project has no default group yet."""
    return ctx.project_id is not None and _default_of(conn, ctx.project_id) is None


def make_default(conn: sa.Connection, ctx: Context) -> None:
    """The caller's project gets its default group if it has none."""
    if ctx.project_id is not None:
        ensure_default(conn, ctx.project_id)


_DEFAULT_OF = Prepared(
    sa.select(security_groups.c.id).where(security_groups.c.project_id == sa.bindparam("project"), security_groups.c.is_default)
)


def _default_of(conn: sa.Connection, project_id: str) -> str | None:
    ident: str | None = _DEFAULT_OF.scalar(conn, project=project_id)
    return ident


def ensure_default(conn: sa.Connection, project_id: str) -> str:
    """The id of a project's default group, made on first need with the rules of the templates."""
    found = _default_of(conn, project_id)
    if found is not None:
        return found
    return _insert(conn, project_id, {"name": DEFAULT_NAME, "description": "Default security group", "is_default": True})


def _insert(conn: sa.Connection, project_id: str, values: Row) -> str:
    row = stamped(project_id, values)
    conn.execute(security_groups.insert(), row)
    first = templates.rules_of(conn, project_id, row["id"], default=bool(row.get("is_default")))
    if first:
        conn.execute(rules.insert(), first)
    quotas.charge(conn, project_id, "security_group")
    quotas.charge(conn, project_id, "security_group_rule", len(first))
    return str(row["id"])


def create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    """A new group has the rules of the templates: as they are at first, everything may go out."""
    values = dict(values)
    project_id = project_of(ctx, values)
    if values.get("name") == DEFAULT_NAME:
        raise Conflict("Default security group already exists.", code="SecurityGroupDefaultAlreadyExists")
    ensure_default(conn, project_id)
    ident = _insert(conn, project_id, values)
    return _READ.some(conn, security_groups.c.id == ident)[0]


def update(conn: sa.Connection, ctx: Context, ident: str, values: Row) -> Row:
    row = plain(conn, ctx, ident, owned=True)
    name = values.get("name")
    if row["is_default"] and name is not None and name != row["name"]:
        raise Conflict("Updating the default security group's name is not allowed.", code="SecurityGroupCannotUpdateDefault")
    if name == DEFAULT_NAME and not row["is_default"]:
        raise Conflict("Default security group already exists.", code="SecurityGroupDefaultAlreadyExists")
    if values.get("stateful") not in (None, row["stateful"]) and _used(conn, ident):
        raise Conflict(f"Security Group {ident} in use.", code="SecurityGroupInUse")
    touch(conn, security_groups, ident, values)
    return get(conn, ctx, ident)


def delete(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """Raises Conflict while a port uses it, and for the default group of a project, which only an admin may delete."""
    row = plain(conn, ctx, ident, owned=True)
    if row["is_default"] and not ctx.is_admin:
        raise Conflict("Insufficient rights for removing default security group.", code="SecurityGroupCannotRemoveDefault")
    if _used(conn, ident):
        raise Conflict(f"Security Group {ident} in use.", code="SecurityGroupInUse")
    naming = sa.select(rules.c.security_group_id, rules.c.project_id).where(
        rules.c.remote_group_id == ident, rules.c.security_group_id != ident
    )
    gathered = marks.Marks()
    for group, project_id in conn.execute(naming).all():
        marks.rules_changed(conn, gathered, group, ident)
        quotas.refund(conn, project_id, "security_group_rule")
    own = conn.execute(sa.select(sa.func.count()).select_from(rules).where(rules.c.security_group_id == ident)).scalar_one()
    conn.execute(rules.delete().where(rules.c.remote_group_id == ident))
    rbac.forget(conn, "security_group", ident)
    conn.execute(security_groups.delete().where(security_groups.c.id == ident))
    gathered.flush(conn)
    forget_tags(conn, ident)
    quotas.refund(conn, row["project_id"], "security_group")
    quotas.refund(conn, row["project_id"], "security_group_rule", own)


def _used(conn: sa.Connection, ident: str) -> bool:
    select = sa.select(port_groups.c.port_id).where(port_groups.c.security_group_id == ident)
    return conn.execute(select.limit(1)).first() is not None


def existing(conn: sa.Connection, ctx: Context, project_id: str, asked: Iterable[str]) -> list[str]:
    """The groups asked for by id, without repetition. Raises NotFound for one that is not the project's (or the caller's)."""
    wanted = list(dict.fromkeys(asked))
    select = sa.select(security_groups.c.id).where(security_groups.c.id.in_(wanted))
    if not ctx.is_admin:
        shared = rbac.granted(ctx, "security_group")
        select = select.where(sa.or_(security_groups.c.project_id == project_id, security_groups.c.id.in_(shared)))
    found = set(conn.execute(select).scalars())
    for ident in wanted:
        if ident not in found:
            raise NotFound(f"Security group {ident} does not exist", code="SecurityGroupNotFound")
    return wanted


def named(conn: sa.Connection, project_id: str, name_or_id: str) -> str:
    """A project's group by id, or by a name that only one has. Raises NotFound, Conflict."""
    own = security_groups.c.project_id == project_id
    rows = conn.execute(
        sa.select(security_groups.c.id, security_groups.c.name).where(
            own, sa.or_(security_groups.c.id == name_or_id, security_groups.c.name == name_or_id)
        )
    ).all()
    for ident, _ in rows:
        if ident == name_or_id:
            return str(ident)
    if not rows:
        if name_or_id == DEFAULT_NAME:
            return ensure_default(conn, project_id)
        raise NotFound(f"Security group {name_or_id} not found for project {project_id}.", code="SecurityGroupNotFound")
    if len(rows) > 1:
        raise Conflict(
            f"Multiple security groups found matching '{name_or_id}'. Use an ID to be more specific.",
            code="NoUniqueMatch",
        )
    return str(rows[0][0])
