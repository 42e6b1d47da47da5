"""Rebuild: https://docs.openstack.org/api-ref/compute/#rebuild-server-rebuild-action.

The root file system is made anew from the image, the same one or another; id, addresses, flavor and host stay.
"""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute import injection, quotas, timeline
from nacre.cloud.compute.actions import intend, ready
from nacre.cloud.compute.servers import image_for, let_go, public_key_of
from nacre.cloud.context import Context
from nacre.cloud.errors import Forbidden

Row = dict[str, Any]

FROM_STATES = frozenset({"active", "stopped", "paused", "suspended", "error"})


def rebuild(conn: sa.Connection, ctx: Context, ident: str, image_id: str, values: Row) -> None:
    """`values`: name, description, hostname, metadata, user_data, key_name, access_ip_v4, access_ip_v6, disk_config, files, password_hash,
    as far as they change.

    A stopped server stays stopped. Raises Invalid, NotFound, Conflict, Forbidden (quota of metadata).
    """
    row = ready(conn, ctx, ident, "rebuild", FROM_STATES)
    image = image_for(conn, ctx, image_id, row["flavor"])
    limit = quotas.limits_of(conn, row["project_id"])["metadata_items"]
    if 0 <= limit < len(values.get("metadata", {})):
        raise Forbidden(f"Maximum number of metadata items exceeds {limit}", field="metadata")
    injection.check(conn, row["project_id"], values.get("files", []))
    changes = {**values, "image_id": image["id"], "image": image, "rebuilds": row["rebuilds"] + 1, "boots": row["boots"] + 1}
    changes["rescue"] = sa.null()
    if "key_name" in values:
        changes["public_key"] = public_key_of(conn, ctx, values["key_name"])
    if row["power"] != "stopped":
        changes["power"] = "running"
    intend(conn, ctx, row, "rebuild", changes)
    let_go(conn, row)
    timeline.begin(conn, ctx, row, "rebuild")
