"""Resize, confirm, revert: https://docs.openstack.org/api-ref/compute/#resize-server-resize-action.

A container's size is a set of limits, which its host changes while it runs. Until the resize is confirmed or reverted, the larger of both
sizes stays claimed, on the host and in the quota, so that either way is open. Where its host has no room for the new size, it goes to one that
has, as a cold migration does (see `cold_migration`).
"""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute import cold_migration, migrations, quotas, timeline, usage
from nacre.cloud.compute.actions import intend, ready
from nacre.cloud.compute.migrations import SIZES
from nacre.cloud.compute.placing import Placing, choose
from nacre.cloud.compute.rules import request_of
from nacre.cloud.compute.servers import flavor_for, image_for
from nacre.cloud.compute.tables import servers
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid
from nacre.cloud.hosts import operations as hosts
from nacre.cloud.scheduler import ExpressionError, HostView, NoValidHost, plan
from nacre.store.schema import now

Row = dict[str, Any]


def _size(flavor: Row) -> dict[str, int]:
    return {"vcpus": flavor["vcpus"], "memory_mb": flavor["memory_mb"], "disk_gb": flavor["disk_gb"] + flavor["ephemeral_gb"]}


def resize(
    conn: sa.Connection,
    ctx: Context,
    ident: str,
    flavor_id: str,
    disk_config: str | None = None,
    *,
    known: Placing,
) -> None:
    """Raises Invalid (the same flavor, one too small for the image, no room on any host), OverQuota, Conflict."""
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
    disk = {"disk_config": disk_config or row["disk_config"]}
    host = _elsewhere(conn, row, more, flavor, known)
    if host is not None:
        cold_migration.begin(conn, ctx, row, host, flavor, _size(flavor), automatic=False, **disk)
        return
    _claim(conn, row, more)
    changes = {"flavor": flavor, "old_flavor": row["flavor"], **larger}
    intend(conn, ctx, row, "resize", {**changes, **disk})
    migrations.begin(conn, ctx, row, "resize", row["host_id"], flavor)
    timeline.begin(conn, ctx, row, "resize")


def _elsewhere(conn: sa.Connection, row: Row, more: dict[str, int], flavor: Row, known: Placing) -> HostView | None:
    """The host to which it has to go for its new size; None where its own has room for it. Raises Invalid where no host has."""
    wanted = {**row, "flavor": flavor, "requested_zone": None}
    here = hosts.view_of(conn, row["host_id"], known.alive, known.ratios)
    try:
        plan(here, request_of({**wanted, **more, "scheduler_hints": {}}))
    except NoValidHost as error:
        zone = (row["requested_zone"] or "").partition(":")[0]
        moved = {**wanted, **_size(flavor), "requested_zone": zone or None}
        try:
            return choose(conn, moved, known, without=(row["host_id"],), action="resize")
        except (NoValidHost, ExpressionError):
            raise Invalid(str(error), field="flavorRef", code="NoValidHost") from None
    return None


def _check_image(conn: sa.Connection, ctx: Context, row: Row, flavor: Row) -> None:
    """The image's demands, as long as there is the image."""
    try:
        image_for(conn, ctx, row["image_id"], flavor)
    except Invalid as error:
        if error.field == "flavorRef":
            raise


def confirm(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """Give back what the old size had beyond the new one, on the host where the server was before, if that was another one."""
    row = ready(conn, ctx, ident, "confirmResize", frozenset({"resized"}))
    migration = migrations.open_of(conn, ident)
    if migration is not None:
        cold_migration.confirm(conn, row, migration)
        timeline.begin(conn, ctx, row, "confirmResize")
        return
    _settle(conn, row, row["flavor"])
    conn.execute(servers.update().where(servers.c.id == ident).values(old_flavor=sa.null(), updated_at=now()))
    migrations.settle(conn, ident, "confirmed")
    timeline.begin(conn, ctx, row, "confirmResize")


def revert(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """Back to the size before, and to the host where it was."""
    row = ready(conn, ctx, ident, "revertResize", frozenset({"resized"}))
    migration = migrations.open_of(conn, ident)
    if migration is not None:
        cold_migration.revert(conn, ctx, row, migration)
        timeline.begin(conn, ctx, row, "revertResize")
        return
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
