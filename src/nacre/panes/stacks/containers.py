"""The containers of services, one by one."""

from typing import Any

from nacre.cloud.containers import lifecycle
from nacre.cloud.stacks import single
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.stacks import render, views
from nacre.panes.stacks.dialect import page
from nacre.panes.stacks.views import ContainerView


def _matches(view: ContainerView, query: Any) -> bool:
    shown = render.container(view)
    return all(query.get(name) in (None, shown[name]) for name in ("name", "state", "service"))


async def _shown(call: Call, status: int = 200) -> Reply:
    return Reply(render.container(await call.read(views.container, call.path["uuid"])), status)


async def list_containers(call: Call) -> Reply:
    rows = [view for view in await call.read(views.all_containers) if _matches(view, call.query)]
    return page(call, rows, render.container)


async def get(call: Call) -> Reply:
    return await _shown(call)


async def start(call: Call) -> Reply:
    await call.read(views.container, call.path["uuid"])
    await call.write(lifecycle.start, call.path["uuid"], call.cloud.hosts.alive())
    return await _shown(call, 202)


async def stop(call: Call) -> Reply:
    await call.read(views.container, call.path["uuid"])
    await call.write(lifecycle.stop, call.path["uuid"], "", None)
    return await _shown(call, 202)


async def redeploy(call: Call) -> Reply:
    await call.write(single.redeploy, call.path["uuid"])
    return await _shown(call, 202)


async def remove(call: Call) -> Reply:
    await call.write(single.terminate, call.path["uuid"])
    return await _shown(call, 202)


ROUTES: tuple[Route, ...] = (
    Route("GET", "/container/", list_containers, "stacks:read", "List services' containers"),
    Route("GET", "/container/{uuid}/", get, "stacks:read", "Show a container"),
    Route("POST", "/container/{uuid}/start/", start, "stacks:write", "Start a container"),
    Route("POST", "/container/{uuid}/stop/", stop, "stacks:write", "Stop a container"),
    Route("POST", "/container/{uuid}/redeploy/", redeploy, "stacks:write", "Make a container anew"),
    Route("DELETE", "/container/{uuid}/", remove, "stacks:write", "Terminate a container; its service has one less"),
)
