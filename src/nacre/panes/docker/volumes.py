"""Volumes (Engine API, Volume): the project's, on whatever host they lie.

Drivers: `local`, `nacre` and `flocker` are the nodes' own (with -o profile=, size=, host=), any other is a volume plugin on a host.
"""

import asyncio
import fnmatch
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from nacre.cloud.errors import CloudError, Invalid, Unavailable
from nacre.cloud.volumes import operations
from nacre.cloud.volumes.operations import VolumeSpec
from nacre.cloud.volumes.placing import hostname_of
from nacre.cloud.volumes.use import LABEL_ANONYMOUS, mountpoint
from nacre.panes.docker.dialect import minor_of
from nacre.panes.docker.filters import Filters, labels_match, parse
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.call import decode

FILTERS = frozenset({"dangling", "driver", "label", "name", "node"})
PRUNE_FILTERS = frozenset({"all", "label", "label!"})
PRUNE_ALL_UNTIL = 42
"""From this minor version on a prune takes volumes without a name only, unless `all` is asked for."""
USAGE_HOSTS_MAX = 1000
MADE_WITHIN_S = 150.0
"""How long a create waits for a slow plugin; the node gives it up before."""
POLL_S = 0.01

NO_SWARM = 'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.'

Row = dict[str, Any]


class CreateBody(Struct, kw_only=True, rename="pascal"):
    """POST /volumes/create."""

    name: str | None = ""
    driver: str | None = ""
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    cluster_volume_spec: dict[str, Any] | None = None


async def list_volumes(call: Call) -> Reply:
    filters = parse(call, FILTERS)
    dangling = _boolean(filters["dangling"], "dangling") if "dangling" in filters else None
    rows = await call.read(_found)
    shown = [_render(row) for row in rows if _matches(row, filters, dangling)]
    return Reply({"Volumes": shown, "Warnings": None})


async def create(call: Call) -> Reply:
    raw = await call.raw_body()
    body = decode(raw, CreateBody) if raw.strip() else CreateBody()
    if body.cluster_volume_spec is not None:
        raise Unavailable(NO_SWARM)
    name, labels = body.name or "", body.labels or {}
    if not name:
        labels = {**labels, LABEL_ANONYMOUS: ""}
    spec = VolumeSpec(name, body.driver or "", body.driver_opts or {}, labels, anonymous=not name)
    row = await call.write(operations.create, spec, alive=call.cloud.hosts.alive())
    await _await_made(call, row)
    return Reply(_render(await call.read(_shown, row)), status=201)


async def _await_made(call: Call, row: Row) -> None:
    """Wait a while for the host's word. A volume that it cannot make is taken back; raises Unavailable with the cause."""
    deadline = time.monotonic() + MADE_WITHIN_S
    while row["observed"] is None and row["host_id"] in call.cloud.hosts.connected() and time.monotonic() < deadline:
        await asyncio.sleep(POLL_S)
        row = await call.read(operations.get, row["name"])
    if row["observed"] == "error" and not row["used"]:
        await call.write(operations.remove, row["name"], force=True)
        raise Unavailable(f"create {row['name']}: {row['fault']}")


async def inspect(call: Call) -> Reply:
    row = await call.read(operations.get, call.path["name"])
    return Reply({**_render(await call.read(_shown, row)), "Status": _status(row)})


async def remove(call: Call) -> Reply:
    force = call.query.get("force", "").lower() in ("1", "true")
    await call.write(operations.remove, call.path["name"], force=force)
    return Reply(status=204)


async def update(call: Call) -> Reply:
    """Only cluster volumes can be changed, and there are none outside of swarm mode."""
    await call.read(operations.get, call.path["name"])
    raise Unavailable(NO_SWARM)


async def prune(call: Call) -> Reply:
    filters = parse(call, PRUNE_FILTERS)
    everything = minor_of(call.request) < PRUNE_ALL_UNTIL or ("all" in filters and _boolean(filters["all"], "all"))
    rows = await call.read(_found)
    chosen = [row for row in rows if (everything or row["anonymous"]) and _labelled(row, filters)]
    sizes = await usages(call, chosen)
    removed = await call.write(operations.prune, [row["name"] for row in chosen])
    freed = sum(max(sizes.get(row["id"], 0), 0) for row in removed)
    return Reply({"VolumesDeleted": [row["name"] for row in removed], "SpaceReclaimed": freed})


async def disk_usage(call: Call) -> list[Row]:
    """The volumes of GET /system/df, each with `UsageData` (a size of -1 where its host does not say)."""
    rows = await call.read(_found)
    sizes = await usages(call, rows)
    return [{**_render(row), "UsageData": {"Size": sizes.get(row["id"], -1), "RefCount": len(row["users"])}} for row in rows]


async def usages(call: Call, rows: list[Row]) -> dict[str, int]:
    """Volume id -> the bytes that it takes. A host that cannot be asked now leaves its volumes out."""
    by_host: dict[str, list[str]] = {}
    for row in rows:
        if row["host_id"]:
            by_host.setdefault(row["host_id"], []).append(row["id"])
    found: dict[str, int] = {}
    for host_id, ids in list(by_host.items())[:USAGE_HOSTS_MAX]:
        try:
            found |= msgspec.json.decode(
                await call.cloud.hosts.dial(host_id, "volumes_usage", "", {"ids": ids}), type=dict[str, int]
            )
        except (CloudError, msgspec.DecodeError):
            continue
    return found


def _boolean(values: list[str], name: str) -> bool:
    for value in values:
        if value.lower() not in ("1", "true", "0", "false"):
            raise Invalid(f"invalid filter '{name}={values}'")
    return any(value.lower() in ("1", "true") for value in values)


def _matches(row: Row, filters: Filters, dangling: bool | None) -> bool:
    return (
        (dangling is None or dangling == (not row["users"]))
        and ("name" not in filters or any(name in row["name"] for name in filters["name"]))
        and ("driver" not in filters or row["driver"] in filters["driver"])
        and ("node" not in filters or any(fnmatch.fnmatchcase(row["node"], name) for name in filters["node"]))
        and _labelled(row, filters)
    )


def _labelled(row: Row, filters: Filters) -> bool:
    """Every `label` holds, and no `label!`."""
    unwanted = any(labels_match(row["labels"], (text,)) for text in filters.get("label!", ()))
    return labels_match(row["labels"], filters.get("label", ())) and not unwanted


def _found(conn: Any, ctx: Any) -> list[Row]:
    return [_shown(conn, ctx, row) for row in operations.find(conn, ctx)]


def _shown(conn: Any, ctx: Any, row: Row) -> Row:
    return {**row, "node": hostname_of(conn, row["host_id"]) if row["host_id"] else ""}


def _render(row: Row) -> Row:
    return {
        "CreatedAt": datetime.fromtimestamp(row["created_at"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "Driver": row["driver"],
        "Labels": row["labels"] or None,
        "Mountpoint": mountpoint(row),
        "Name": row["name"],
        "Options": row["options"] or None,
        "Scope": "global",
        **({"Node": row["node"]} if row.get("node") else {}),
    }


def _status(row: Row) -> Row:
    """What is true of this volume and not of every engine's."""
    state = row["state"] or {}
    status: Row = {"id": row["id"], "profile": row["profile"] or "default", "state": row["observed"] or "pending"}
    if row["size_bytes"]:
        status["size"] = row["size_bytes"]
    if row["source_id"]:
        status["snapshot_of"] = row["source_id"]
    if row["fault"]:
        status["fault"] = row["fault"]
    if state:
        status |= {"backend": state["backend"], "size_limited": state.get("size_limited", False)}
        status["throttled"] = state.get("throttled", False)
    return status


ROUTES: tuple[Route, ...] = (
    Route("GET", "/volumes", list_volumes, "docker:read", "List volumes"),
    Route("POST", "/volumes/create", create, "docker:volumes", "Make a volume"),
    Route("POST", "/volumes/prune", prune, "docker:volumes", "Remove the volumes that nothing uses"),
    Route("GET", "/volumes/{name}", inspect, "docker:read", "Show a volume"),
    Route("PUT", "/volumes/{name}", update, "docker:volumes", "Change a cluster volume"),
    Route("DELETE", "/volumes/{name}", remove, "docker:volumes", "Remove a volume"),
)
