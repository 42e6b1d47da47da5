"""Role assignments: who (a user or group) has which role on what (a project, a domain or the system).

https://docs.openstack.org/api-ref/identity/v3/#assign-role-to-user-on-project and OS-INHERIT.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from nacre.cloud.context import Context
from nacre.cloud.errors import Forbidden, NotFound
from nacre.cloud.identity import roles as role_operations
from nacre.cloud.identity import trees
from nacre.cloud.identity.changes import changed, require
from nacre.cloud.identity.tables import assignments, groups, memberships, projects, roles, users

ActorKind = Literal["user", "group"]
TargetKind = Literal["project", "domain", "system"]
SYSTEM = "all"


@dataclass(frozen=True)
class Grant:
    """One row. `inherited`: for the projects below the target, not for the target itself."""

    actor_kind: ActorKind
    actor_id: str
    target_kind: TargetKind
    target_id: str
    role_id: str = ""
    inherited: bool = False

    def where(self) -> list[sa.ColumnElement[bool]]:
        columns: dict[str, Any] = {
            "actor_kind": self.actor_kind,
            "actor_id": self.actor_id,
            "target_kind": self.target_kind,
            "target_id": self.target_id,
            "inherited": self.inherited,
        }
        if self.role_id:
            columns["role_id"] = self.role_id
        return [assignments.c[name] == value for name, value in columns.items()]


def _check(conn: sa.Connection, grant: Grant) -> None:
    """Raises NotFound for an actor, a target or a role that is not there."""
    if grant.actor_kind == "user":
        require(conn, users, "user", grant.actor_id)
    else:
        require(conn, groups, "group", grant.actor_id)
    if grant.target_kind != "system":
        is_domain = [projects.c.is_domain] if grant.target_kind == "domain" else []
        require(conn, projects, grant.target_kind, grant.target_id, *is_domain)
    if grant.role_id:
        require(conn, roles, "role", grant.role_id)


MANAGEABLE = frozenset({"manager", "member", "reader"})
"""The roles that a manager of a domain may give and take."""


def _hold_to_domain(conn: sa.Connection, ctx: Context, grant: Grant) -> None:
    """With a token for a domain, actor and target must both be of it: others do not exist. Raises NotFound, Forbidden for its own role.

    Source: Keystone's `rule:domain_managed_target_role`.
    """
    if ctx.sees_all or ctx.domain_id is None:
        return
    actors = users if grant.actor_kind == "user" else groups
    require(conn, actors, grant.actor_kind, grant.actor_id, actors.c.domain_id == ctx.domain_id)
    if _domain_of(conn, grant) != ctx.domain_id:
        raise NotFound.of(grant.target_kind, grant.target_id)


def _hold_to_roles(ctx: Context, role: Mapping[str, Any]) -> None:
    if ctx.domain_id is not None and not ctx.is_admin and (role["name"] not in MANAGEABLE or role["domain_id"] is not None):
        raise Forbidden(f"A manager of a domain may give and take the roles {', '.join(sorted(MANAGEABLE))} only.")


def refuse_above_managers(conn: sa.Connection, ctx: Context, kind: ActorKind, actor_id: str) -> None:
    """A manager of a domain changes no user, and adds to no group, with a role that it could not give: it would have that role then.

    Raises Forbidden.
    """
    if ctx.domain_id is None or ctx.is_admin:
        return
    held = sa.select(assignments.c.role_id).where(_of_user if kind == "user" else assignments.c.actor_id == actor_id)
    ids = conn.execute(held, {"user_id": actor_id}).scalars().all()
    wanted = role_operations.expand(role_operations.inferences(conn), ids)
    names = set(conn.execute(sa.select(roles.c.name).where(roles.c.id.in_(wanted))).scalars())
    if names & {"admin", "service"}:
        raise Forbidden(f"This {kind} has a role that a manager of a domain may not give; ask an admin.")


def _exists(conn: sa.Connection, grant: Grant) -> bool:
    return conn.execute(sa.select(assignments.c.role_id).where(*grant.where())).first() is not None


def add(conn: sa.Connection, ctx: Context, grant: Grant) -> None:
    """Idempotent. Raises NotFound; Forbidden for a domain's own role outside that domain."""
    _check(conn, grant)
    _hold_to_domain(conn, ctx, grant)
    role = require(conn, roles, "role", grant.role_id)
    _hold_to_roles(ctx, role)
    if role["domain_id"] is not None and role["domain_id"] != _domain_of(conn, grant):
        raise Forbidden("A role of a domain can only be assigned within that domain.")
    if not _exists(conn, grant):
        conn.execute(
            assignments.insert().values(
                actor_kind=grant.actor_kind,
                actor_id=grant.actor_id,
                target_kind=grant.target_kind,
                target_id=grant.target_id,
                role_id=grant.role_id,
                inherited=grant.inherited,
            )
        )
        _tell(conn, grant)


def _domain_of(conn: sa.Connection, grant: Grant) -> str | None:
    if grant.target_kind == "project":
        return conn.execute(sa.select(projects.c.domain_id).where(projects.c.id == grant.target_id)).scalar()
    return grant.target_id if grant.target_kind == "domain" else None


def check(conn: sa.Connection, ctx: Context, grant: Grant) -> None:
    """Raises NotFound when there is no such assignment."""
    _check(conn, grant)
    _hold_to_domain(conn, ctx, grant)
    if not _exists(conn, grant):
        raise NotFound(f"Could not find role assignment with role: {grant.role_id}.", code="RoleAssignmentNotFound")


def remove(conn: sa.Connection, ctx: Context, grant: Grant) -> None:
    check(conn, ctx, grant)
    _hold_to_roles(ctx, require(conn, roles, "role", grant.role_id))
    conn.execute(assignments.delete().where(*grant.where()))
    _tell(conn, grant)


def _tell(conn: sa.Connection, grant: Grant) -> None:
    changed(conn, grant.actor_id if grant.actor_kind == "user" else None)


def roles_of(conn: sa.Connection, ctx: Context, grant: Grant) -> list[dict[str, Any]]:
    """The roles that an actor has directly on a target."""
    _check(conn, grant)
    _hold_to_domain(conn, ctx, grant)
    rows = conn.execute(
        sa.select(roles).join(assignments, assignments.c.role_id == roles.c.id).where(*grant.where()).order_by(roles.c.id)
    )
    return [dict(row) for row in rows.mappings()]


_own_groups = sa.select(memberships.c.group_id).where(memberships.c.user_id == sa.bindparam("user_id"))
_of_user = sa.or_(
    sa.and_(assignments.c.actor_kind == "user", assignments.c.actor_id == sa.bindparam("user_id")),
    sa.and_(assignments.c.actor_kind == "group", assignments.c.actor_id.in_(_own_groups)),
)
_direct_roles = sa.select(assignments.c.role_id).where(
    _of_user,
    sa.or_(
        sa.and_(
            assignments.c.target_kind == sa.bindparam("target_kind"),
            assignments.c.target_id == sa.bindparam("target_id"),
            assignments.c.inherited.is_(False),
        ),
        sa.and_(assignments.c.inherited, assignments.c.target_id.in_(sa.bindparam("above", expanding=True))),
    ),
)
_global_roles = sa.select(roles.c.id, roles.c.name).where(roles.c.domain_id.is_(None))
# These are made once, because making a statement costs more than running it, and every first sight of a token runs them.


def effective_roles(conn: sa.Connection, user_id: str, target_kind: TargetKind, target_id: str) -> dict[str, str]:
    """role id -> name of all that a user may do there: its own and its groups' roles, inherited and implied ones.

    A domain's own roles are only a step to the global roles that they imply, and are left out.
    """
    above = trees.above(conn, target_id) if target_kind == "project" else []
    values = {"user_id": user_id, "target_kind": target_kind, "target_id": target_id, "above": above}
    direct = conn.execute(_direct_roles, values).scalars().all()
    if not direct:
        return {}
    wanted = role_operations.expand(role_operations.inferences(conn), direct)
    return {ident: name for ident, name in conn.execute(_global_roles) if ident in wanted}


def projects_of(conn: sa.Connection, user_id: str) -> list[str]:
    """The ids of the enabled projects that a user has a role on."""
    found: dict[str, None] = {}
    for row in conn.execute(sa.select(assignments).where(_of_user, assignments.c.target_kind != "system"), {"user_id": user_id}):
        if row.inherited:
            found |= dict.fromkeys(trees.descendants(conn, row.target_id))
        elif row.target_kind == "project":
            found[row.target_id] = None
    return _enabled(conn, list(found))


def domains_of(conn: sa.Connection, user_id: str) -> list[str]:
    """The ids of the enabled domains that a user has a role on."""
    here = sa.and_(assignments.c.target_kind == "domain", assignments.c.inherited.is_(False))
    select = sa.select(assignments.c.target_id).where(_of_user, here).distinct()
    ids = conn.execute(select, {"user_id": user_id}).scalars().all()
    return _enabled(conn, list(ids))


def _enabled(conn: sa.Connection, ids: list[str]) -> list[str]:
    rows = conn.execute(sa.select(projects.c.id).where(projects.c.id.in_(ids), projects.c.enabled).order_by(projects.c.id))
    return list(rows.scalars())


@dataclass(frozen=True)
class Filter:
    """What GET /role_assignments is asked for. None is any."""

    user_id: str | None = None
    group_id: str | None = None
    role_id: str | None = None
    project_id: str | None = None
    domain_id: str | None = None
    system: bool = False
    inherited: bool | None = None
    effective: bool = False
    subtree: bool = False


@dataclass(frozen=True)
class Assignment:
    grant: Grant
    via_group: str | None = None
    """The group whose membership gives a user this (in an effective list)."""
    inherited_from: tuple[str, str] | None = None
    prior_role_id: str | None = None
    """The role that implies this one."""


def find(conn: sa.Connection, ctx: Context, wanted: Filter) -> list[Assignment]:
    """The assignments as they are stored, or, effective, what follows from them for users."""
    rows = conn.execute(sa.select(assignments).order_by(*assignments.primary_key.columns)).all()
    stored = [
        Assignment(Grant(row.actor_kind, row.actor_id, row.target_kind, row.target_id, row.role_id, row.inherited))
        for row in rows
    ]
    found = _effective(conn, stored) if wanted.effective else stored
    below = set(trees.descendants(conn, wanted.project_id)) if wanted.subtree and wanted.project_id else set()
    if not ctx.sees_all:
        found = _within(conn, ctx.domain_id, found)
    return [assignment for assignment in found if _matches(assignment, wanted, below)]


def _within(conn: sa.Connection, domain_id: str | None, found: list[Assignment]) -> list[Assignment]:
    """Those on a domain and on the projects in it."""
    own = set(conn.execute(sa.select(projects.c.id).where(projects.c.domain_id == domain_id)).scalars()) | {domain_id}
    return [assignment for assignment in found if assignment.grant.target_id in own]


def _matches(assignment: Assignment, wanted: Filter, below: set[str]) -> bool:
    grant = assignment.grant
    if wanted.inherited is not None:
        inherited = grant.inherited or assignment.inherited_from is not None
        if inherited != wanted.inherited:
            return False
    if wanted.system and grant.target_kind != "system":
        return False
    project_ids = {wanted.project_id} | below
    return (
        (wanted.user_id is None or (grant.actor_kind, grant.actor_id) == ("user", wanted.user_id))
        and (wanted.group_id is None or (grant.actor_kind, grant.actor_id) == ("group", wanted.group_id))
        and (wanted.role_id is None or grant.role_id == wanted.role_id)
        and (wanted.project_id is None or (grant.target_kind == "project" and grant.target_id in project_ids))
        and (wanted.domain_id is None or (grant.target_kind, grant.target_id) == ("domain", wanted.domain_id))
    )


def _effective(conn: sa.Connection, stored: list[Assignment]) -> list[Assignment]:
    """Groups become their users, inherited roles the projects below, and implied roles are added."""
    members: dict[str, list[str]] = {}
    for group_id, user_id in conn.execute(sa.select(memberships.c.group_id, memberships.c.user_id)):
        members.setdefault(group_id, []).append(user_id)
    rules = role_operations.inferences(conn)
    own = set(conn.execute(sa.select(roles.c.id).where(roles.c.domain_id.is_not(None))).scalars())
    found: dict[Grant, Assignment] = {}
    for assignment in stored:
        grant = assignment.grant
        actors = [grant.actor_id] if grant.actor_kind == "user" else members.get(grant.actor_id, [])
        targets: list[tuple[TargetKind, str]] = [(grant.target_kind, grant.target_id)]
        if grant.inherited:
            targets = [("project", ident) for ident in trees.descendants(conn, grant.target_id)]
        for role_id in role_operations.expand(rules, [grant.role_id]) - own:
            for target_kind, target_id in targets:
                for actor_id in actors:
                    each = Grant("user", actor_id, target_kind, target_id, role_id)
                    found.setdefault(
                        each,
                        Assignment(
                            each,
                            grant.actor_id if grant.actor_kind == "group" else None,
                            (grant.target_kind, grant.target_id) if grant.inherited else None,
                            grant.role_id if role_id != grant.role_id else None,
                        ),
                    )
    return list(found.values())


def names(conn: sa.Connection, found: list[Assignment]) -> dict[str, Mapping[str, Any]]:
    """id -> {id, name, domain_id} of every user, group, project, domain and role in these assignments."""
    result: dict[str, Mapping[str, Any]] = {}
    wanted: dict[sa.Table, set[str]] = {users: set(), groups: set(), projects: set(), roles: set()}
    for assignment in found:
        grant = assignment.grant
        wanted[users if grant.actor_kind == "user" else groups].add(grant.actor_id)
        wanted[projects].add(grant.target_id)
        wanted[roles].add(grant.role_id)
    for table, ids in wanted.items():
        for batch in _batches(sorted(ids)):
            for row in conn.execute(
                sa.select(table.c.id, table.c.name, table.c.domain_id).where(table.c.id.in_(batch))
            ).mappings():
                result[row["id"]] = dict(row)
    domain_ids = sorted({row["domain_id"] for row in result.values() if row["domain_id"] and row["domain_id"] not in result})
    for batch in _batches(domain_ids):
        select = sa.select(projects.c.id, projects.c.name, projects.c.domain_id).where(projects.c.id.in_(batch))
        result |= {row["id"]: dict(row) for row in conn.execute(select).mappings()}
    return result


IDS_PER_QUERY = 500


def _batches(ids: list[str]) -> list[list[str]]:
    return [ids[start : start + IDS_PER_QUERY] for start in range(0, len(ids), IDS_PER_QUERY)]
