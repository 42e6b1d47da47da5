"""RBAC policies: https://docs.openstack.org/api-ref/network/v2/#rbac-policies. A project lets others use what it owns.

A thing's visibility is read from these rows alone; a network's and a subnet pool's `shared` and `external` say the same in short, and
are written with them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Forbidden, Invalid, NotFound
from nacre.cloud.network import quotas
from nacre.cloud.network.common import Readable, forget_tags, own_rows, project_of, stamped, touch
from nacre.cloud.network.tables import (
    address_groups,
    address_scopes,
    floating_ips,
    networks,
    port_groups,
    ports,
    qos_policies,
    rbac_policies,
    routers,
    rules,
    security_groups,
    subnet_pools,
    subnets,
)
from nacre.store import Page, Query

EVERYONE = "*"
SHARED, EXTERNAL = "access_as_shared", "access_as_external"

Users = Callable[[str], list[sa.Select[tuple[str]]]]
"""For a thing's id the selects of the project ids that use it."""


@dataclass(frozen=True)
class Shareable:
    """A kind of thing that projects share."""

    table: sa.Table
    users: Users
    actions: tuple[str, ...] = (SHARED,)
    flags: bool = False
    """Whether the thing's own row says in short that everyone may."""


def _of_networks(ident: str) -> list[sa.Select[tuple[str]]]:
    return [
        sa.select(ports.c.project_id).where(ports.c.network_id == ident),
        sa.select(subnets.c.project_id).where(subnets.c.network_id == ident),
    ]


def _of_groups(ident: str) -> list[sa.Select[tuple[str]]]:
    on = ports.join(port_groups, port_groups.c.port_id == ports.c.id)
    return [sa.select(ports.c.project_id).select_from(on).where(port_groups.c.security_group_id == ident)]


def _of_policies(ident: str) -> list[sa.Select[tuple[str]]]:
    return [sa.select(each.c.project_id).where(each.c.qos_policy_id == ident) for each in (networks, ports, floating_ips)]


TYPES: dict[str, Shareable] = {
    "network": Shareable(networks, _of_networks, (SHARED, EXTERNAL), flags=True),
    "subnetpool": Shareable(
        subnet_pools, lambda ident: [sa.select(subnets.c.project_id).where(subnets.c.subnetpool_id == ident)], flags=True
    ),
    "address_scope": Shareable(
        address_scopes, lambda ident: [sa.select(subnet_pools.c.project_id).where(subnet_pools.c.address_scope_id == ident)]
    ),
    "address_group": Shareable(
        address_groups, lambda ident: [sa.select(rules.c.project_id).where(rules.c.remote_address_group_id == ident)]
    ),
    "security_group": Shareable(security_groups, _of_groups),
    "qos_policy": Shareable(qos_policies, _of_policies),
}


def granted(ctx: Context, object_type: str, *actions: str) -> sa.Select[tuple[str]]:
    """The ids of the things that others let the caller's project use."""
    where = [rbac_policies.c.object_type == object_type, rbac_policies.c.target_project.in_([ctx.project_id or "", EVERYONE])]
    if actions:
        where.append(rbac_policies.c.action.in_(actions))
    return sa.select(rbac_policies.c.object_id).where(*where)


def visible(table: sa.Table, object_type: str) -> Callable[[Context], sa.ColumnElement[bool] | None]:
    """A project's own things and those that it is let use; all for an admin."""

    def condition(ctx: Context) -> sa.ColumnElement[bool] | None:
        if ctx.is_admin:
            return None
        return sa.or_(table.c.project_id == (ctx.project_id or ""), table.c.id.in_(granted(ctx, object_type)))

    return condition


def with_all(table: sa.Table, object_type: str) -> sa.ColumnElement[bool]:
    """Whether the thing is shared with everyone."""
    return (
        sa.select(rbac_policies.c.id)
        .where(
            rbac_policies.c.object_type == object_type,
            rbac_policies.c.object_id == table.c.id,
            rbac_policies.c.target_project == EVERYONE,
            rbac_policies.c.action == SHARED,
        )
        .exists()
    )


def share(conn: sa.Connection, object_type: str, row: Row, *, on: bool, action: str = SHARED) -> None:
    """Bring the policy for everyone in line with what an attribute of the thing says (`shared`, `router:external`)."""
    same = _same(object_type, row["id"], EVERYONE, action)
    there = conn.execute(sa.select(rbac_policies.c.id, rbac_policies.c.project_id).where(*same)).first()
    if on and there is None:
        _insert(conn, row["project_id"], object_type, row["id"], EVERYONE, action)
    elif not on and there is not None:
        conn.execute(rbac_policies.delete().where(rbac_policies.c.id == there.id))
        quotas.refund(conn, there.project_id, "rbac_policy")


def forget(conn: sa.Connection, object_type: str, ident: str) -> None:
    """The thing goes, and all that was said of who may use it."""
    where = (rbac_policies.c.object_type == object_type, rbac_policies.c.object_id == ident)
    for (project_id,) in conn.execute(sa.select(rbac_policies.c.project_id).where(*where)).all():
        quotas.refund(conn, project_id, "rbac_policy")
    conn.execute(rbac_policies.delete().where(*where))


def _same(object_type: str, ident: str, target: str, action: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        rbac_policies.c.object_type == object_type,
        rbac_policies.c.object_id == ident,
        rbac_policies.c.target_project == target,
        rbac_policies.c.action == action,
    )


def _insert(conn: sa.Connection, project_id: str, object_type: str, ident: str, target: str, action: str) -> str:
    values = {"object_type": object_type, "object_id": ident, "target_project": target, "action": action}
    row = stamped(project_id, values)
    conn.execute(rbac_policies.insert(), row)
    quotas.count(conn, project_id, "rbac_policy")
    return str(row["id"])


_READ = Readable("RBAC policy", rbac_policies, own_rows(rbac_policies))


def get(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    return _READ.get(conn, ctx, ident)


def plain(conn: sa.Connection, ctx: Context, ident: str, *, owned: bool = False) -> Row:
    return _READ.plain(conn, ctx, ident, owned=owned)


def find(conn: sa.Connection, ctx: Context, query: Query) -> Page:
    return _READ.find(conn, ctx, query)


def create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    """Raises Invalid, NotFound for a thing that is not the caller's, Forbidden for what only an admin may give, Conflict for a second one."""
    values = dict(values)
    kind, action, target = values["object_type"], values["action"], values["target_project"]
    shareable = _kind(kind, action)
    _check_target(ctx, target)
    where = [shareable.table.c.id == values["object_id"]]
    if not ctx.is_admin:
        where.append(shareable.table.c.project_id == (ctx.project_id or ""))
    thing = conn.execute(sa.select(shareable.table).where(*where)).mappings().first()
    if thing is None:
        raise NotFound(f"{kind} {values['object_id']} could not be found.", code="HTTPNotFound")
    if action == EXTERNAL and not ctx.is_admin:
        raise Forbidden("Only an admin may make a network external.", field="action", code="PolicyNotAuthorized")
    project_id = project_of(ctx, values)
    if conn.execute(sa.select(rbac_policies.c.id).where(*_same(kind, thing["id"], target, action))).first() is not None:
        raise Conflict(
            "An RBAC policy already exists with those values.", code="DuplicatePolicyError", object_id=values["object_id"]
        )
    ident = _insert(conn, project_id, kind, thing["id"], target, action)
    quotas.check(conn, project_id, "rbac_policy")
    _follow(conn, kind, thing["id"])
    return get(conn, ctx, ident)


def update(conn: sa.Connection, ctx: Context, ident: str, values: Row) -> Row:
    """The target alone can change. Raises Conflict while the old target uses the thing."""
    row = plain(conn, ctx, ident, owned=True)
    target: str = values.get("target_project") or row["target_project"]
    _check_target(ctx, target)
    if target != row["target_project"]:
        _require_unused(conn, row)
        if conn.execute(
            sa.select(rbac_policies.c.id).where(*_same(row["object_type"], row["object_id"], target, row["action"]))
        ).first():
            raise Conflict("An RBAC policy already exists with those values.", code="DuplicatePolicyError")
        touch(conn, rbac_policies, ident, {"target_project": target})
        _follow(conn, row["object_type"], row["object_id"])
    return get(conn, ctx, ident)


def delete(conn: sa.Connection, ctx: Context, ident: str) -> None:
    row = plain(conn, ctx, ident, owned=True)
    _require_unused(conn, row)
    conn.execute(rbac_policies.delete().where(rbac_policies.c.id == ident))
    quotas.refund(conn, row["project_id"], "rbac_policy")
    forget_tags(conn, ident)
    _follow(conn, row["object_type"], row["object_id"])


def _kind(name: str, action: str) -> Shareable:
    if name not in TYPES:
        raise Invalid(f"'{name}' is not in {sorted(TYPES)}.", field="object_type", code="InvalidInput")
    if action not in TYPES[name].actions:
        raise Invalid(
            f"Invalid action '{action}' for object type '{name}'. Valid actions: {', '.join(TYPES[name].actions)}",
            field="action",
            code="InvalidAction",
        )
    return TYPES[name]


def _check_target(ctx: Context, target: str) -> None:
    if not target:
        raise Invalid("target_tenant must name a project, or be '*'.", field="target_tenant")
    if target == EVERYONE and not ctx.is_admin:
        raise Forbidden("Only an admin may share with everyone.", field="target_tenant", code="PolicyNotAuthorized")


def _require_unused(conn: sa.Connection, row: Row) -> None:
    """Sharing cannot be taken back from those who use it, unless another policy lets them."""
    shareable = TYPES[row["object_type"]]
    owner = conn.execute(sa.select(shareable.table.c.project_id).where(shareable.table.c.id == row["object_id"])).scalar()
    others = conn.execute(
        sa.select(rbac_policies.c.target_project).where(
            rbac_policies.c.object_type == row["object_type"],
            rbac_policies.c.object_id == row["object_id"],
            rbac_policies.c.action == row["action"],
            rbac_policies.c.id != row["id"],
        )
    ).scalars()
    allowed = {owner, "", *others}
    if EVERYONE in allowed:
        return
    selects = shareable.users(row["object_id"])
    if row["action"] == EXTERNAL:
        selects = [
            sa.select(routers.c.project_id).where(routers.c.external_network_id == row["object_id"]),
            sa.select(floating_ips.c.project_id).where(floating_ips.c.floating_network_id == row["object_id"]),
        ]
    using = {project for select in selects for project in conn.execute(select.distinct()).scalars()} - allowed
    if using & {row["target_project"]} or (row["target_project"] == EVERYONE and using):
        raise Conflict(
            f"RBAC policy on object {row['object_id']} cannot be removed because other objects depend on it.",
            code="RbacPolicyInUse",
        )


def _follow(conn: sa.Connection, object_type: str, ident: str) -> None:
    """The short form in the thing's own row."""
    shareable = TYPES[object_type]
    if not shareable.flags:
        return
    said = conn.execute(
        sa.select(rbac_policies.c.action, rbac_policies.c.target_project).where(
            rbac_policies.c.object_type == object_type, rbac_policies.c.object_id == ident
        )
    ).all()
    flags = {"shared": (SHARED, EVERYONE) in {tuple(each) for each in said}}
    if EXTERNAL in shareable.actions:
        flags["external"] = any(action == EXTERNAL for action, _ in said)
    touch(conn, shareable.table, ident, flags)
