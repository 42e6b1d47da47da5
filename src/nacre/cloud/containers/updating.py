"""`docker update`: other limits and another restart policy for a container, running or not."""

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from nacre.cloud.compute import quotas, timeline, usage
from nacre.cloud.compute.actions import intend
from nacre.cloud.compute.rules import request_of
from nacre.cloud.containers import compiling, events, limits, lookup, refusals
from nacre.cloud.containers.lifecycle import changeable
from nacre.cloud.containers.tables import containers
from nacre.cloud.context import Context
from nacre.cloud.errors import CloudError, Conflict, Invalid
from nacre.cloud.hosts import operations as hosts
from nacre.cloud.scheduler import NoValidHost, Ratios, plan

Row = dict[str, Any]

SIZES = ("vcpus", "memory_mb")
FIXED = ("Devices", "Ulimits")
"""Of the members of `Resources`: what a container has from its create on."""


def update(
    conn: sa.Connection,
    ctx: Context,
    ref: str,
    resources: Mapping[str, Any],
    restart: Mapping[str, Any] | None,
    *,
    alive: frozenset[str] | None,
    ratios: Ratios | None = None,
) -> tuple[str, list[str]]:
    """What is empty in `resources` stays as it is. Returns the server's id and warnings.

    Raises NotFound, Invalid, Conflict (a server that Nova made or resized), OverQuota; CloudError where its host has no room.
    """
    row = changeable(conn, ctx, ref, "updated")
    container = row["container"]
    changes = {name: value for name, value in resources.items() if value}
    _check_own(row, changes)
    host = {**container["host_config"], **changes}
    spec = container["spec"]
    if restart is not None and restart.get("Name"):
        if host["AutoRemove"] and restart["Name"] != "no":
            raise Invalid(
                "Restart policy cannot be updated because AutoRemove is enabled for the container", field="RestartPolicy"
            )
        host["RestartPolicy"] = dict(restart)
        spec = {**spec, "restart": msgspec.to_builtins(compiling.restart_of(host))}
    _check_limits(container["host_config"], host, changes)
    flavor, more = row["flavor"], dict.fromkeys(SIZES, 0)
    if changes:
        flavor = limits.flavor_of(host, row["image"])
        more = {name: flavor[name] - row[name] for name in SIZES}
        _require_room(conn, row, more, alive, ratios)
    conn.execute(containers.update().where(containers.c.server_id == row["id"]).values(host_config=host, spec=spec))
    events.of_server(conn, row, "update")
    intend(conn, ctx, row, "update", {"flavor": flavor, **{name: row[name] + more[name] for name in SIZES}})
    timeline.begin(conn, ctx, row, "update")
    if any(more.values()):
        hosts.claim(conn, row["host_id"], guests=0, disk_gb=0, **more)
        usage.change(conn, row["project_id"], instances=0, cores=more["vcpus"], ram=more["memory_mb"])
    return row["id"], []


def _check_own(row: Row, changes: Mapping[str, Any]) -> None:
    if row["container"] is None or (changes and (row["flavor"]["id"] != limits.FLAVOR or row["old_flavor"] is not None)):
        ident = lookup.docker_id(row["id"])
        raise Conflict(f"Cannot update container {ident}: it has a flavor of Compute; `openstack server resize` gives it another")
    for name in FIXED:
        if changes.get(name):
            raise Invalid(f"{name}: a container keeps what it was created with", field=name)


def _check_limits(before: Mapping[str, Any], host: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    """Raises Invalid; Conflict in the engine's words where one limit needs the other."""
    swap = before.get("MemorySwap") or 0
    if changes.get("Memory") and not changes.get("MemorySwap") and 0 < swap < changes["Memory"]:
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
            field="Memory",
        )
    if before.get("NanoCpus") and (changes.get("CpuQuota") or changes.get("CpuPeriod")):
        name = "CPU Quota" if changes.get("CpuQuota") else "CPU Period"
        raise Conflict(f"Conflicting options: {name} cannot be updated as NanoCPUs has already been set", field="NanoCpus")
    if changes.get("NanoCpus") and (before.get("CpuQuota") or before.get("CpuPeriod")):
        name = "CPU Quota" if before.get("CpuQuota") else "CPU Period"
        raise Conflict(f"Conflicting options: Nano CPUs cannot be updated as {name} has already been set", field="NanoCpus")
    limits.check(host)
    refusals.check(host)


def _require_room(
    conn: sa.Connection, row: Row, more: Mapping[str, int], alive: frozenset[str] | None, ratios: Ratios | None
) -> None:
    """What it takes beyond what it has must fit in the quota and on its host."""
    grown = {name: max(0, size) for name, size in more.items()}
    if not any(grown.values()):
        return
    wanted = {"instances": 0, "cores": grown["vcpus"], "ram": grown["memory_mb"]}
    usage.check(usage.of_project(conn, row["project_id"]), wanted, quotas.limits_of(conn, row["project_id"]))
    views = hosts.view_of(conn, row["host_id"], alive, ratios or Ratios())
    try:
        plan(views, request_of({**row, **grown, "disk_gb": 0, "requested_zone": None, "scheduler_hints": {}}))
    except NoValidHost as error:
        raise CloudError(f"no resources available to update container: {error}") from None
