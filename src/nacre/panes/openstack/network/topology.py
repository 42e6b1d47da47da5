"""The auto-allocated topology of a project."""

from nacre.cloud.errors import Invalid
from nacre.cloud.network import topology
from nacre.panes.edge import Call, Reply, Route

DRY_RUN = "dry-run"


async def show(call: Call) -> Reply:
    """Makes it when it is not there yet, as Neutron does on a GET. fields=dry-run only says whether it could be."""
    project_id = call.path["project_id"]
    for key in call.query:
        if key != "fields":
            raise Invalid(f"Invalid input for operation: '{key}' is an invalid attribute for filtering.", field=key)
    if DRY_RUN in call.query.getall("fields", []):
        await call.read(topology.check)
        ident = f"{DRY_RUN}=pass"
    else:
        found = await call.read(topology.find, project_id)
        ident = await call.write(topology.ensure, project_id) if found is None else found
    return Reply({"auto_allocated_topology": {"id": ident, "tenant_id": project_id, "project_id": project_id}})


async def delete(call: Call) -> Reply:
    await call.write(topology.delete, call.path["project_id"])
    return Reply(status=204)


_ITEM = "/v2.0/auto-allocated-topology/{project_id}"
ROUTES: tuple[Route, ...] = (
    Route("GET", _ITEM, show, "network:get_auto_allocated_topology", "Show a project's auto-allocated topology, made if need be"),
    Route("DELETE", _ITEM, delete, "network:delete_auto_allocated_topology", "Delete a project's auto-allocated topology"),
)
