"""Where a project's containers publish their ports: on the host's addresses, or on floating IPs."""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.containers import publishing
from nacre.cloud.context import Context
from nacre.cloud.identity import projects
from nacre.panes.edge import Call, Reply, Route


def _shown(conn: sa.Connection, ctx: Context, project_id: str) -> dict[str, Any]:
    projects.get(conn, ctx, project_id)
    return {"project_id": project_id, "place": publishing.place_of(conn, ctx, project_id)}


def _set(conn: sa.Connection, ctx: Context, project_id: str, place: str) -> dict[str, Any]:
    projects.get(conn, ctx, project_id)
    publishing.set_place(conn, ctx, project_id, place)
    return _shown(conn, ctx, project_id)


async def show(call: Call) -> Reply:
    return Reply(await call.read(_shown, call.path["project"]))


async def change(call: Call) -> Reply:
    return Reply(await call.write(_set, call.path["project"], call.path["place"]))


PATH = "/nacre/v1/projects/{project}/docker-publishing"

ROUTES: tuple[Route, ...] = (
    Route("GET", PATH, show, "nacre:docker_publishing", "Show where a project's containers publish their ports"),
    Route("PUT", f"{PATH}/{{place}}", change, "nacre:docker_publishing", "Publish on the host's addresses, or on floating IPs"),
)
