"""OS-EP-FILTER's associations: https://docs.openstack.org/api-ref/identity/v3-ext/#os-ep-filter-api."""

from nacre.cloud.identity import endpoint_filter, projects
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.route import Handler
from nacre.panes.openstack.identity.dialect import DIALECT, members
from nacre.panes.openstack.identity.resources import ENDPOINT_GROUPS, ENDPOINTS, PROJECTS

_ROOT = "/v3/OS-EP-FILTER"


def _handlers(kind: str) -> tuple[Handler, Handler, Handler, Handler]:
    """Associate, check, dissociate, and list the projects, of `endpoint` or `endpoint_group`."""

    async def associate(call: Call) -> Reply:
        await call.write(endpoint_filter.associate, kind, call.path[f"{kind}_id"], call.path["project_id"])
        return Reply(status=204)

    async def check(call: Call) -> Reply:
        await call.read(endpoint_filter.check, kind, call.path[f"{kind}_id"], call.path["project_id"])
        return Reply(status=204)

    async def dissociate(call: Call) -> Reply:
        await call.write(endpoint_filter.dissociate, kind, call.path[f"{kind}_id"], call.path["project_id"])
        return Reply(status=204)

    async def list_projects(call: Call) -> Reply:
        ids = await call.read(endpoint_filter.projects_of, kind, call.path[f"{kind}_id"])
        rows = await call.read(projects.rows_of, ids)
        return Reply({"projects": [DIALECT.one(call, PROJECTS, row) for row in rows], "links": members(call)})

    return associate, check, dissociate, list_projects


async def check_group(call: Call) -> Reply:
    await call.read(endpoint_filter.groups.get, call.path["endpoint_group_id"])
    return Reply(status=200)


async def list_endpoints_of_group(call: Call) -> Reply:
    rows = await call.read(endpoint_filter.endpoints_of_group, call.path["endpoint_group_id"])
    return Reply({"endpoints": [DIALECT.one(call, ENDPOINTS, row) for row in rows], "links": members(call)})


async def list_endpoints_of_project(call: Call) -> Reply:
    rows = await call.read(endpoint_filter.endpoints_of_project, call.path["project_id"])
    return Reply({"endpoints": [DIALECT.one(call, ENDPOINTS, row) for row in rows], "links": members(call)})


async def list_groups_of_project(call: Call) -> Reply:
    rows = await call.read(endpoint_filter.groups_of_project, call.path["project_id"])
    return Reply({"endpoint_groups": [DIALECT.one(call, ENDPOINT_GROUPS, row) for row in rows], "links": members(call)})


def _routes() -> tuple[Route, ...]:
    add, check, remove, list_projects = _handlers("endpoint")
    group_add, group_check, group_remove, group_projects = _handlers("endpoint_group")
    one = _ROOT + "/projects/{project_id}/endpoints/{endpoint_id}"
    group = _ROOT + "/endpoint_groups/{endpoint_group_id}"
    link = group + "/projects/{project_id}"
    of_project = _ROOT + "/projects/{project_id}"
    named = "identity:%s"
    return (
        Route("PUT", one, add, named % "add_endpoint_to_project", "Show an endpoint to a project"),
        Route("GET", one, check, named % "check_endpoint_in_project", "Check that an endpoint is shown to a project"),
        Route("HEAD", one, check, named % "check_endpoint_in_project", "Check that an endpoint is shown to a project"),
        Route("DELETE", one, remove, named % "remove_endpoint_from_project", "No longer show an endpoint to a project"),
        Route("GET", of_project + "/endpoints", list_endpoints_of_project, named % "list_endpoints_for_project", "List them"),
        Route(
            "GET",
            of_project + "/endpoint_groups",
            list_groups_of_project,
            named % "list_endpoint_groups_for_project",
            "List the endpoint groups of a project",
        ),
        Route(
            "GET",
            _ROOT + "/endpoints/{endpoint_id}/projects",
            list_projects,
            named % "list_projects_for_endpoint",
            "List the projects that an endpoint is shown to",
        ),
        Route("HEAD", group, check_group, named % "get_endpoint_group", "Check an endpoint group"),
        Route("PUT", link, group_add, named % "add_endpoint_group_to_project", "Show a group of endpoints to a project"),
        Route("GET", link, group_check, named % "get_endpoint_group_in_project", "Check that a project has the group"),
        Route("HEAD", link, group_check, named % "get_endpoint_group_in_project", "Check that a project has the group"),
        Route("DELETE", link, group_remove, named % "remove_endpoint_group_from_project", "Take the group from a project"),
        Route(
            "GET",
            group + "/projects",
            group_projects,
            named % "list_projects_associated_with_endpoint_group",
            "List the projects of an endpoint group",
        ),
        Route(
            "GET",
            group + "/endpoints",
            list_endpoints_of_group,
            named % "list_endpoints_associated_with_endpoint_group",
            "List the endpoints of a group",
        ),
    )


ROUTES = _routes()
