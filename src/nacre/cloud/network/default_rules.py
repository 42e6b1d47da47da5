"""Default security group rules: https://docs.openstack.org/api-ref/network/v2/#default-security-group-rules."""

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid
from nacre.cloud.network import security_group_rules, templates
from nacre.cloud.network.common import Readable, forget_tags, stamped
from nacre.cloud.network.tables import default_rules
from nacre.store import Page, Query

SAME = tuple(name for name in security_group_rules.SAME if name in default_rules.c)

_READ = Readable("Default security group rule", default_rules, lambda ctx: None)
get = _READ.get
plain = _READ.plain


def find(conn: sa.Connection, ctx: Context, query: Query) -> Page:
    return _READ.find(conn, ctx, query)


def lacking(conn: sa.Connection, ctx: Context) -> bool:
    return templates.lacking(conn)


def seed(conn: sa.Connection, ctx: Context) -> None:
    templates.seed(conn)


def create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    """Raises Invalid for what is no rule, or names a group or an address group; Conflict for a second such template."""
    templates.seed(conn)
    values = {name: value for name, value in values.items() if name != "project_id"}
    remote = values.get("remote_group_id")
    if remote is not None and remote != templates.PARENT:
        raise Invalid(f"A template knows no group but {templates.PARENT}, the new group itself.", field="remote_group_id")
    if values.get("remote_address_group_id") is not None:
        raise Invalid("A template is for every project's groups: it names no address group.", field="remote_address_group_id")
    checked = security_group_rules.check({**values, "security_group_id": None})
    row = {name: checked[name] for name in (*SAME, "description")}
    row |= {name: values[name] for name in ("used_in_default_sg", "used_in_non_default_sg") if name in values}
    where = [default_rules.c[name].is_(None) if row[name] is None else default_rules.c[name] == row[name] for name in SAME]
    found = conn.execute(sa.select(default_rules.c.id).where(*where)).scalar()
    if found is not None:
        raise Conflict(f"Default Security group rule already exists. Rule id is {found}.", code="DefaultSecurityGroupRuleExists")
    made = stamped("", row)
    conn.execute(default_rules.insert(), made)
    return _READ.some(conn, default_rules.c.id == made["id"])[0]


def update(conn: sa.Connection, ctx: Context, ident: str, values: Row) -> Row:
    """Raises Invalid: a template is not changed, it is made anew."""
    plain(conn, ctx, ident)
    raise Invalid("Cannot update a default security group rule.", field=next(iter(values), "default_security_group_rule"))


def delete(conn: sa.Connection, ctx: Context, ident: str) -> None:
    plain(conn, ctx, ident)
    conn.execute(default_rules.delete().where(default_rules.c.id == ident))
    forget_tags(conn, ident)
