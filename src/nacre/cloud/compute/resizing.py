"""Resize, confirm, revert: https://docs.openstack.org/api-ref/compute/#resize-server-resize-action.

A container's size is a set of limits, which its host changes while it runs. Until the resize is confirmed or reverted, the larger of both
sizes stays claimed, on the host and in the quota, so that either way is open.
"""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute import migrations, quotas, timeline, usage
from nacre.cloud.compute.actions import intend, ready
from nacre.cloud.compute.rules import request_of
from nacre.cloud.compute.servers import flavor_for, image_for
from nacre.cloud.compute.tables import servers
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid
from nacre.cloud.hosts import operations as hosts
from nacre.cloud.scheduler import NoValidHost, Ratios, plan
from nacre.store.schema import now

Row = dict[str, Any]

SIZES = ("vcpus", "memory_mb", "disk_gb")


def _size(flavor: Row) -> dict[str, int]:
    return {"vcpus": flavor["vcpus"], "memory_mb": flavor["memory_mb"], "disk_gb": flavor["disk_gb"] + flavor["ephemeral_gb"]}


def resize(
    conn: sa.Connection,
    ctx: Context,
    ident: str,
    flavor_id: str,
    disk_config: str | None = None,
    *,
    alive: frozenset[str] | None,
    ratios: Ratios | None = None,
) -> None:
    """Raises Invalid (the same flavor, one too small for the image, no room on the host), OverQuota, Conflict."""
    row = ready(conn, ctx, ident, "resize", frozenset({"active", "stopped"}))
    flavor = flavor_for(conn, ctx, flavor_id)
    if flavor["id"] == row["flavor"]["id"]:
        raise Invalid("When resizing, instances must change flavor!", field="flavorRef", code="CannotResizeToSameFlavor")
    if row["disk_gb"] and not _size(flavor)["disk_gb"]:
        raise Invalid("Resize to zero disk flavor is not allowed.", field="flavorRef", code="CannotResizeDisk")
    if row["image_id"] is not None:
        _check_image(conn, ctx, row, flavor)
    larger = {name: max(row[name], size) for name, size in _size(flavor).items()}
    more = {name: larger[name] - row[name] for name in SIZES}
    wanted = {"instances": 0, "cores": more["vcpus"], "ram": more["memory_mb"]}
    for bounds, used in quotas.bounds(conn, row["project_id"], row["user_id"]):
        usage.check(used, wanted, bounds)
    views = hosts.view_of(conn, row["host_id"], alive, ratios or Ratios())
    try:
        plan(views, request_of({**row, **more, "flavor": flavor, "requested_zone": None, "scheduler_hints": {}}))
    except NoValidHost as error:
        raise Invalid(str(error), field="flavorRef", code="NoValidHost") from None
    _claim(conn, row, more)
    changes = {"flavor": flavor, "old_flavor": row["flavor"], **larger}
    intend(conn, ctx, row, "resize", {**changes, "disk_config": disk_config or row["disk_config"]})
    migrations.begin(conn, ctx, row, "resize", row["host_id"], flavor)
    timeline.begin(conn, ctx, row, "resize")


def _check_image(conn: sa.Connection, ctx: Context, row: Row, flavor: Row) -> None:
    """The image's demands, as long as there is the image."""
    try:
        image_for(conn, ctx, row["image_id"], flavor)
    except Invalid as error:
        if error.field == "flavorRef":
            raise


def confirm(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """Give back what the old size had beyond the new one. Nothing happens on the host."""
    row = ready(conn, ctx, ident, "confirmResize", frozenset({"resized"}))
    _settle(conn, row, row["flavor"])
    conn.execute(servers.update().where(servers.c.id == ident).values(old_flavor=sa.null(), updated_at=now()))
    migrations.settle(conn, ident, "confirmed")
    timeline.begin(conn, ctx, row, "confirmResize")


def revert(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """Back to the size before."""
    row = ready(conn, ctx, ident, "revertResize", frozenset({"resized"}))
    _settle(conn, row, row["old_flavor"])
    intend(conn, ctx, row, "revert-resize", {"flavor": row["old_flavor"], "old_flavor": sa.null()})
    migrations.settle(conn, ident, "reverted")
    timeline.begin(conn, ctx, row, "revertResize")


def _settle(conn: sa.Connection, row: Row, flavor: Row) -> None:
    """From the larger claim to the one of this flavor."""
    size = _size(flavor)
    conn.execute(servers.update().where(servers.c.id == row["id"]).values(size))
    _claim(conn, row, {name: size[name] - row[name] for name in SIZES})


def _claim(conn: sa.Connection, row: Row, more: dict[str, int]) -> None:
    if row["host_id"] is None:
        raise Conflict(f"Instance {row['id']} is on no host", code="InstanceInvalidState")
    hosts.claim(conn, row["host_id"], guests=0, **more)
    usage.change(conn, row["project_id"], instances=0, cores=more["vcpus"], ram=more["memory_mb"])
