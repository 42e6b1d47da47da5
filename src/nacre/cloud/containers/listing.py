"""The project's containers, and which of them a filter means."""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute.tables import servers
from nacre.cloud.containers.tables import containers
from nacre.cloud.context import Context
from nacre.store import Prepared, among

Row = dict[str, Any]

_OF_PROJECT = Prepared(
    sa.select(servers)
    .where(servers.c.project_id == sa.bindparam("project"), servers.c.image["container_format"].as_string() == "docker")
    .order_by(servers.c.created_at.desc(), servers.c.id)
)
_CONTAINERS = Prepared(sa.select(containers).where(containers.c.project_id == sa.bindparam("project")))
_SOME = Prepared(sa.select(containers).where(among(containers.c.server_id)))


def of_project(conn: sa.Connection, ctx: Context) -> list[Row]:
    """All servers of the project that are containers, newest first, each with its row of `containers` (or None) under "container"."""
    kept = {row["server_id"]: row for row in _CONTAINERS.rows(conn, project=ctx.project_id)}
    rows = _OF_PROJECT.rows(conn, project=ctx.project_id)
    return [{**row, "container": kept.get(row["id"])} for row in rows]


def with_containers(conn: sa.Connection, rows: list[Row]) -> list[Row]:
    """Servers' rows, each with its row of `containers` (or None) under "container"."""
    kept = {row["server_id"]: row for row in _SOME.rows(conn, ids=[row["id"] for row in rows])}
    return [{**row, "container": kept.get(row["id"])} for row in rows]
