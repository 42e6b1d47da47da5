"""Role assignments: one set of calls per (target, actor, inherited) of a table, and the list over all."""

from collections.abc import Callable
from typing import Literal

from nacre.cloud.errors import Invalid
from nacre.cloud.identity import assignments
from nacre.cloud.identity.assignments import ActorKind, Filter, Grant, TargetKind
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.route import Handler
from nacre.panes.openstack.identity import render
from nacre.panes.openstack.identity.dialect import DIALECT, members
from nacre.panes.openstack.identity.resources import ROLES
from nacre.panes.openstack.query import parse_boolean

Verb = Literal["PUT", "GET", "HEAD", "DELETE"]


def _grant(target: TargetKind, actor: ActorKind, inherited: bool) -> Callable[[Call], Grant]:
    def of(call: Call) -> Grant:
        path = call.path
        target_id = assignments.SYSTEM if target == "system" else path[f"{target}_id"]
        return Grant(actor, path[f"{actor}_id"], target, target_id, path.get("role_id", ""), inherited)

    return of


def _handlers(grant: Callable[[Call], Grant]) -> tuple[Handler, Handler, Handler, Handler]:
    async def listing(call: Call) -> Reply:
        rows = await call.read(assignments.roles_of, grant(call))
        return Reply({"roles": [DIALECT.one(call, ROLES, row) for row in rows], "links": members(call)})

    async def add(call: Call) -> Reply:
        await call.write(assignments.add, grant(call))
        return Reply(status=204)

    async def check(call: Call) -> Reply:
        await call.read(assignments.check, grant(call))
        return Reply(status=204)

    async def remove(call: Call) -> Reply:
        await call.write(assignments.remove, grant(call))
        return Reply(status=204)

    return listing, add, check, remove


def _routes(target: TargetKind, actor: ActorKind, inherited: bool) -> tuple[Route, ...]:
    listing, add, check, remove = _handlers(_grant(target, actor, inherited))
    where = "/v3/system" if target == "system" else f"/v3/{target}s/{{{target}_id}}"
    stem, suffix = f"{where}/{actor}s/{{{actor}_id}}/roles", ""
    if inherited:
        stem, suffix = stem.replace("/v3/", "/v3/OS-INHERIT/", 1), "/inherited_to_projects"
    kind = "system_" if target == "system" else ""
    item = f"{stem}/{{role_id}}{suffix}"
    what = f"{'an inherited' if inherited else 'a'} role of a {actor} on {'the system' if target == 'system' else 'a ' + target}"
    return (
        Route("GET", stem + suffix, listing, f"identity:list_{kind}grants", f"List each {what.partition(' ')[2]}"),
        Route("PUT", item, add, f"identity:create_{kind}grant", f"Assign {what}"),
        Route("GET", item, check, f"identity:check_{kind}grant", f"Check {what}"),
        Route("HEAD", item, check, f"identity:check_{kind}grant", f"Check {what}"),
        Route("DELETE", item, remove, f"identity:revoke_{kind}grant", f"Take away {what}"),
    )


def _flag(call: Call, name: str) -> bool:
    """Present without a value is true, as Keystone reads it."""
    return name in call.query and parse_boolean(call.query[name], name)


def _filter(call: Call) -> Filter:
    query = call.query
    inherited = query.get("scope.OS-INHERIT:inherited_to")
    wanted = Filter(
        user_id=query.get("user.id"),
        group_id=query.get("group.id"),
        role_id=query.get("role.id"),
        project_id=query.get("scope.project.id"),
        domain_id=query.get("scope.domain.id"),
        system="scope.system" in query,
        inherited=None if inherited is None else inherited == "projects",
        effective=_flag(call, "effective"),
        subtree=_flag(call, "include_subtree"),
    )
    if wanted.user_id and wanted.group_id:
        raise Invalid("Specify a user or a group, not both.", field="group.id")
    if wanted.project_id and wanted.domain_id:
        raise Invalid("Specify a domain or a project, not both.", field="scope.domain.id")
    if wanted.effective and wanted.group_id:
        raise Invalid(
            "An effective list shows users only: combining effective and group filters makes no sense.", field="group.id"
        )
    if wanted.subtree and not wanted.project_id:
        raise Invalid("include_subtree needs scope.project.id.", field="scope.project.id")
    return wanted


async def list_assignments(call: Call) -> Reply:
    wanted = _filter(call)
    found = await call.read(assignments.find, wanted)
    names = await call.read(lambda conn, ctx: assignments.names(conn, found)) if _flag(call, "include_names") else None
    return Reply({"role_assignments": [render.assignment(each, names, call.base_url) for each in found], "links": members(call)})


ROUTES: tuple[Route, ...] = (
    *(
        route
        for target in ("project", "domain", "system")
        for actor in ("user", "group")
        for inherited in ((False, True) if target != "system" else (False,))
        for route in _routes(target, actor, inherited)
    ),
    Route("GET", "/v3/role_assignments", list_assignments, "identity:list_role_assignments", "List role assignments"),
    Route("HEAD", "/v3/role_assignments", list_assignments, "identity:list_role_assignments", "List role assignments"),
)
