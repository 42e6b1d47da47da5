"""Stacks."""

from nacre.cloud.stacks import operations, whole
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.stacks import export, render, views
from nacre.panes.stacks.dialect import page
from nacre.panes.stacks.schemas import StackCreate, StackUpdate, spec_of
from nacre.panes.stacks.services import new_secrets, reuses_volumes


async def _shown(call: Call, ident: str, status: int = 200) -> Reply:
    return Reply(render.stack(await call.read(views.stack, ident)), status)


async def list_stacks(call: Call) -> Reply:
    name = call.query.get("name")
    rows = [view for view in await call.read(views.all_stacks) if name is None or view.row["name"] == name]
    return page(call, rows, render.stack)


async def create(call: Call) -> Reply:
    body = await call.body(StackCreate)
    specs = [spec_of(each) for each in body.services]
    row = await call.write(operations.create_stack, body.name, specs, await new_secrets(call, specs))
    return await _shown(call, row["id"], 201)


async def get(call: Call) -> Reply:
    return await _shown(call, call.path["uuid"])


async def update(call: Call) -> Reply:
    specs = [spec_of(each) for each in (await call.body(StackUpdate)).services]
    await call.write(whole.update, call.path["uuid"], specs, await new_secrets(call, specs))
    return await _shown(call, call.path["uuid"])


async def remove(call: Call) -> Reply:
    row = await call.write(operations.remove_stack, call.path["uuid"])
    return await _shown(call, row["id"], 202)


async def start(call: Call) -> Reply:
    await call.write(whole.start, call.path["uuid"])
    return await _shown(call, call.path["uuid"], 202)


async def stop(call: Call) -> Reply:
    await call.write(whole.stop, call.path["uuid"])
    return await _shown(call, call.path["uuid"], 202)


async def redeploy(call: Call) -> Reply:
    await call.write(whole.redeploy, call.path["uuid"], reuse_volumes=reuses_volumes(call))
    return await _shown(call, call.path["uuid"], 202)


async def export_stack(call: Call) -> Reply:
    return Reply(export.document(await call.read(views.stack, call.path["uuid"])))


ROUTES: tuple[Route, ...] = (
    Route("GET", "/stack/", list_stacks, "stacks:read", "List stacks"),
    Route("POST", "/stack/", create, "stacks:write", "Create a stack"),
    Route("GET", "/stack/{uuid}/", get, "stacks:read", "Show a stack"),
    Route("PATCH", "/stack/{uuid}/", update, "stacks:write", "Change a stack's services"),
    Route("DELETE", "/stack/{uuid}/", remove, "stacks:write", "Terminate a stack"),
    Route("POST", "/stack/{uuid}/start/", start, "stacks:write", "Start a stack"),
    Route("POST", "/stack/{uuid}/stop/", stop, "stacks:write", "Stop a stack"),
    Route("POST", "/stack/{uuid}/redeploy/", redeploy, "stacks:write", "Make a stack's containers anew"),
    Route("GET", "/stack/{uuid}/export/", export_stack, "stacks:read", "Export a stack as a stack file"),
)
