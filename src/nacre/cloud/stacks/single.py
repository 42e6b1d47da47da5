"""One container of a service: made anew, or taken away for good."""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute.tables import servers
from nacre.cloud.containers import lifecycle
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, NotFound
from nacre.cloud.stacks import operations
from nacre.cloud.stacks.specs import stored
from nacre.cloud.stacks.tables import service_containers, services
from nacre.store import announce

Row = dict[str, Any]

OUTDATED = 0
"""A revision that none is: the container is made anew."""


def _find(conn: sa.Connection, ctx: Context, server_id: str) -> tuple[Row, Row]:
    """(the container's row, its service's). Raises NotFound, Conflict."""
    joined = sa.select(service_containers).join(services, services.c.id == service_containers.c.service_id)
    where = (service_containers.c.server_id == server_id, services.c.project_id == ctx.project_id)
    row = conn.execute(joined.where(*where)).mappings().first()
    if row is None:
        raise NotFound(f"Container {server_id} was not found")
    if row["leaving"]:
        raise Conflict(f"The container {row['name']} is being terminated")
    return dict(row), operations.get(conn, ctx, row["service_id"])


def redeploy(conn: sa.Connection, ctx: Context, server_id: str) -> None:
    _, service = _find(conn, ctx, server_id)
    if service["intent"] != "running":
        raise Conflict(f"The service {service['name']} does not run")
    conn.execute(_change(server_id).values(revision=OUTDATED))
    operations.change(conn, service, phase="redeploying")


def terminate(conn: sa.Connection, ctx: Context, server_id: str) -> None:
    """Its service has one less after that. Raises Conflict under EVERY_NODE."""
    _, service = _find(conn, ctx, server_id)
    if stored(service).deployment_strategy == "EVERY_NODE":
        raise Conflict("A service on every node is not scaled by hand")
    if conn.execute(sa.select(servers.c.gone).where(servers.c.id == server_id)).scalar() is False:
        lifecycle.remove(conn, ctx, server_id, force=True)
    conn.execute(_change(server_id).values(leaving=True))
    operations.scale(conn, ctx, service["id"], max(0, service["target"] - 1))
    announce(conn, operations.TOPIC)


def _change(server_id: str) -> sa.Update:
    return service_containers.update().where(service_containers.c.server_id == server_id)
