"""What a project's containers may do that hands over a host."""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.containers import grants
from nacre.cloud.context import Context
from nacre.cloud.identity import projects
from nacre.panes.edge import Call, Reply, Route


def _shown(conn: sa.Connection, ctx: Context, project_id: str) -> dict[str, Any]:
    projects.get(conn, ctx, project_id)
    return {"project_id": project_id, "policies": grants.of_project(conn, ctx, project_id)}


def _allow(conn: sa.Connection, ctx: Context, project_id: str, policy: str) -> dict[str, Any]:
    projects.get(conn, ctx, project_id)
    grants.allow(conn, ctx, project_id, policy)
    return _shown(conn, ctx, project_id)


def _forbid(conn: sa.Connection, ctx: Context, project_id: str, policy: str) -> dict[str, Any]:
    projects.get(conn, ctx, project_id)
    grants.forbid(conn, ctx, project_id, policy)
    return _shown(conn, ctx, project_id)


async def show(call: Call) -> Reply:
    return Reply(await call.read(_shown, call.path["project"]))


async def allow(call: Call) -> Reply:
    return Reply(await call.write(_allow, call.path["project"], call.path["policy"]))


async def forbid(call: Call) -> Reply:
    return Reply(await call.write(_forbid, call.path["project"], call.path["policy"]))


PATH = "/nacre/v1/projects/{project}/docker-grants"

ROUTES: tuple[Route, ...] = (
    Route("GET", PATH, show, "nacre:docker_grants", "Show what a project's containers may do to hosts"),
    Route("PUT", f"{PATH}/{{policy}}", allow, "nacre:docker_grants", "Allow a project's containers one thing more"),
    Route("DELETE", f"{PATH}/{{policy}}", forbid, "nacre:docker_grants", "Take it back"),
)
