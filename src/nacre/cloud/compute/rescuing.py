"""Rescue: https://docs.openstack.org/api-ref/compute/#rescue-server-rescue-action.

The server boots another system, made anew from an image; its own files lie in that one, as they are, at /rescue. What is done there stays,
what is done to the other system goes as it ends.
"""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute import timeline
from nacre.cloud.compute.actions import intend, ready
from nacre.cloud.compute.servers import get, image_for, let_go
from nacre.cloud.containers.tables import containers
from nacre.cloud.context import Context
from nacre.cloud.errors import Invalid

Row = dict[str, Any]

FROM_STATES = frozenset({"active", "stopped", "error"})


def refuse_container(conn: sa.Connection, row: Row, verb: str) -> None:
    """Raises Invalid for what Docker's pane made: one process, which has no system that could be exchanged or be made elsewhere."""
    if conn.execute(sa.select(containers.c.server_id).where(containers.c.server_id == row["id"])).first() is not None:
        raise Invalid(f"Instance {row['id']} is a container of Docker's: it cannot be {verb}.", code="InstanceNotRescuable")


def rescue(conn: sa.Connection, ctx: Context, ident: str, image_id: str | None, password_hash: str) -> None:
    """Without an image the server's own is taken. The flavor's demands hold for the rescue image as well. Raises Conflict, Invalid."""
    row = ready(conn, ctx, ident, "rescue", FROM_STATES)
    refuse_container(conn, row, "rescued")
    let_go(conn, row, own=False)
    image = row["image"] if image_id is None else image_for(conn, ctx, image_id, row["flavor"])
    changes = {"rescue": {"image": image, "password_hash": password_hash}, "power": "running", "boots": row["boots"] + 1}
    intend(conn, ctx, row, "rescue", {**changes, "reboot": "hard"})
    timeline.begin(conn, ctx, row, "rescue")


def unrescue(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """Back to its own system, also where the rescue itself failed."""
    failed = get(conn, ctx, ident)["rescue"] is not None
    row = ready(conn, ctx, ident, "unrescue", frozenset({"rescued", "error"} if failed else {"rescued"}))
    let_go(conn, row, own=False)
    intend(conn, ctx, row, "unrescue", {"rescue": sa.null(), "power": "running", "boots": row["boots"] + 1, "reboot": "hard"})
    timeline.begin(conn, ctx, row, "unrescue")
