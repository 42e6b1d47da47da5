"""What projects have used over a time: https://docs.openstack.org/api-ref/compute/#usage-reports-os-simple-tenant-usage."""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute.tables import ended_servers, servers
from nacre.cloud.context import Context
from nacre.store.schema import now

Row = dict[str, Any]


def ended(conn: sa.Connection, row: Row) -> None:
    """Write down a server that is gone."""
    if row["launched_at"] is None:
        return
    size = {name: row[name] for name in ("id", "project_id", "name", "vcpus", "memory_mb", "disk_gb")}
    conn.execute(
        ended_servers.insert().values(**size, flavor=row["flavor"]["name"], started_at=row["launched_at"], ended_at=now())
    )


def between(conn: sa.Connection, ctx: Context, start: float, end: float, project_id: str | None = None) -> list[Row]:
    """The servers that ran at any time from `start` to `end`, of one project or of all, by project and then by beginning.

    `state` is the one of a server that is there, `terminated` of one that is gone; `ended_at` is then set.
    """
    size = ("id", "project_id", "name", "vcpus", "memory_mb", "disk_gb")
    gone = sa.select(ended_servers).where(ended_servers.c.started_at < end, ended_servers.c.ended_at > start)
    here = sa.select(servers).where(servers.c.launched_at < end)
    if project_id is not None:
        gone = gone.where(ended_servers.c.project_id == project_id)
        here = here.where(servers.c.project_id == project_id)
    found = [{**row, "state": "terminated"} for row in conn.execute(gone).mappings()]
    for row in conn.execute(here).mappings():
        shown = {name: row[name] for name in size}
        state = {"running": "active"}.get(row["observed_state"] or "", row["observed_state"] or "building")
        found.append(
            {**shown, "flavor": row["flavor"]["name"], "started_at": row["launched_at"], "ended_at": None, "state": state}
        )
    return sorted(found, key=lambda row: (row["project_id"], row["started_at"], row["id"]))


def hours(row: Row, start: float, end: float) -> float:
    """How long the server ran within the time."""
    ran_s: float = min(row["ended_at"] or now(), end) - max(row["started_at"], start)
    return max(0.0, ran_s) / 3600
