"""Containers: create, list, inspect, rename, update, remove, prune (https://docs.docker.com/reference/api/engine/, tag Container)."""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.containers import create as creating
from nacre.cloud.containers import lifecycle, listing, lookup, mounts, networking, waiting
from nacre.cloud.containers.specs import ContainerSpec
from nacre.cloud.context import Context
from nacre.cloud.errors import Invalid
from nacre.cloud.volumes import use
from nacre.panes.docker import nodes, render, sizes
from nacre.panes.docker.container_filters import FILTERS, PRUNE_FILTERS, Selection
from nacre.panes.docker.filters import parse
from nacre.panes.docker.query import flag, number
from nacre.panes.docker.schemas import ContainerCreate, HostConfig, NetworkingConfig, plain
from nacre.panes.edge import Call, Reply, Route
from nacre.store.schema import now

Row = dict[str, Any]

REMOVE_WAIT_S = 60.0
"""How long a removal may take before it is answered that it was begun; its host goes on."""
_BESIDES = ("HostConfig", "NetworkingConfig")


async def create(call: Call) -> Reply:
    body = await call.body(ContainerCreate)
    whole = plain(body)
    spec = ContainerSpec(
        name=call.query.get("name") or None,
        config={name: value for name, value in whole.items() if name not in _BESIDES},
        host_config=plain(body.host_config or HostConfig()),
        networking_config=plain(body.networking_config or NetworkingConfig()),
    )
    if spec.config["Labels"] is None:
        spec.config["Labels"] = {}
    platform = call.query.get("platform")
    if platform and not platform.startswith("linux"):
        raise Invalid(f"platform {platform} is not available in this cloud: use linux/amd64", field="platform")
    settings = call.cloud.settings
    ident, warnings = await call.write(
        creating.create,
        spec,
        alive=call.cloud.hosts.alive(),
        ratios=settings.ratios,
        facts=call.cloud.hosts.facts,
        strategy=settings.strategy,
    )
    return Reply({"Id": lookup.docker_id(ident), "Warnings": warnings}, 201)


def _views(conn: sa.Connection, ctx: Context, rows: list[Row]) -> list[render.View]:
    endpoints = networking.endpoints(conn, ctx, [row["id"] for row in rows])
    return [render.View(row, endpoints[row["id"]], use.describe(conn, mounts.of_container(row["container"]))) for row in rows]


def _list(conn: sa.Connection, ctx: Context, selection: Selection, show_all: bool, limit: int | None) -> list[Row]:
    rows = listing.of_project(conn, ctx)
    chosen = selection.choose(conn, ctx, rows, show_all=show_all)
    views = _views(conn, ctx, chosen if limit is None else chosen[:limit])
    moment = now()
    return [render.summary(view, moment) for view in selection.narrow(views)]


async def list_containers(call: Call) -> Reply:
    selection = Selection(parse(call, FILTERS))
    limit = number(call, "limit")
    limited = limit is not None and limit > 0
    # As in the engine: a limit, `since`, `before` and a filter by status reach beyond what runs.
    shown = await call.read(_list, selection, flag(call, "all") or limited, limit if limited else None)
    return Reply(await sizes.add(call, shown) if flag(call, "size") else shown)


def summaries(conn: sa.Connection, ctx: Context) -> list[Row]:
    """All containers of the project, newest first."""
    return _list(conn, ctx, Selection({}), show_all=True, limit=None)


def _inspect(conn: sa.Connection, ctx: Context, ref: str) -> Row:
    (view,) = _views(conn, ctx, [lookup.find(conn, ctx, ref)])
    node = nodes.of_container(conn, ctx, view.row)
    return {**render.inspect(view), **({"Node": node} if node else {})}


async def inspect(call: Call) -> Reply:
    shown = await call.read(_inspect, call.path["id"])
    if flag(call, "size"):
        await sizes.add(call, [shown])
    return Reply(shown)


async def rename(call: Call) -> Reply:
    await call.write(lifecycle.rename, call.path["id"], call.query.get("name", ""))
    return Reply(status=204)


async def remove(call: Call) -> Reply:
    """Answers when nothing is left of it."""
    done = await call.write(lifecycle.remove, call.path["id"], force=flag(call, "force"), volumes=flag(call, "v"))
    await waiting.removed(call.cloud, done.server_id, REMOVE_WAIT_S)
    return Reply(status=204)


def _prunable(conn: sa.Connection, ctx: Context, selection: Selection) -> dict[str, Row]:
    rows = selection.choose(conn, ctx, listing.of_project(conn, ctx), show_all=True)
    return {row["id"]: row for row in rows if row["power"] == "stopped" and not row["gone"]}


async def prune(call: Call) -> Reply:
    selection = Selection(parse(call, PRUNE_FILTERS))
    chosen = await call.read(_prunable, selection)
    removed = await call.write(lifecycle.prune, chosen)
    for ident in removed:
        await waiting.removed(call.cloud, ident, REMOVE_WAIT_S)
    return Reply({"ContainersDeleted": [lookup.docker_id(ident) for ident in removed] or None, "SpaceReclaimed": 0})


ROUTES: tuple[Route, ...] = (
    Route("GET", "/containers/json", list_containers, "docker:read", "List containers"),
    Route("POST", "/containers/create", create, "docker:containers", "Create a container"),
    Route("POST", "/containers/prune", prune, "docker:containers", "Remove stopped containers"),
    Route("GET", "/containers/{id}/json", inspect, "docker:read", "Inspect a container"),
    Route("POST", "/containers/{id}/rename", rename, "docker:containers", "Rename a container"),
    Route("DELETE", "/containers/{id}", remove, "docker:containers", "Remove a container"),
)
