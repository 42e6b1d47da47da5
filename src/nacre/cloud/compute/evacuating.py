"""Evacuation: a server whose host is lost is made anew on another one, from its image; id, name, size and addresses stay.

https://docs.openstack.org/api-ref/compute/#evacuate-server-evacuate-action says the same of machines without shared disks.

The lost host is told too: what it must bring about does not name the server any more, so that, once it is back, its node removes what is
left there, and what it says of the server meanwhile is of another host's server and is not heard (see `observations.observe`).
"""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute import migrations, timeline
from nacre.cloud.compute.actions import intend
from nacre.cloud.compute.migrations import SIZES
from nacre.cloud.context import Context
from nacre.cloud.hosts import operations as hosts
from nacre.cloud.hosts.desired import mark
from nacre.cloud.network import servers as network
from nacre.cloud.scheduler import HostView
from nacre.store.schema import now

Row = dict[str, Any]

NEVER_SEEN: Row = {
    "observed_state": None,
    "observed_generation": 0,
    "observed_boots": 0,
    "exit_code": None,
}
"""The new host's node has observed nothing of it yet."""


def evacuate(conn: sa.Connection, ctx: Context, row: Row, host: HostView) -> None:
    """Move the server's claim, ports and intent to that host. It is started there if it was to run; one that was stopped stays so."""
    started = now()
    moving = migrations.open_of(conn, row["id"]) is not None
    migrations.abandon(conn, row)
    size = {name: row[name] for name in SIZES}
    hosts.claim(conn, row["host_id"], guests=-1, **{name: -amount for name, amount in size.items()})
    hosts.claim(conn, host.id, **size)
    network.move(conn, row["id"], host.id)
    mark(conn, row["host_id"], "guest", row["id"])
    up = row["power"] != "stopped"
    changes = {
        **NEVER_SEEN,
        "host_id": host.id,
        "availability_zone": host.availability_zone,
        "power": "running" if up else "stopped",
        "boots": row["boots"] + 1 if up else row["boots"],
        "rebuilds": row["rebuilds"] + 1,
    }
    if moving:
        changes["old_flavor"] = sa.null()
    migrations.begin(conn, ctx, row, "evacuation", host.id, row["flavor"], status="done")
    moved = {**row, "host_id": host.id, "request_id": ctx.request_id}
    intend(conn, ctx, moved, "evacuate", changes)
    timeline.begin(conn, ctx, moved, "evacuate")
    timeline.event(conn, moved, "conductor_rebuild_server", started, now())
