"""What clients know as agents: one for each host, the node that does Networking's work there. And the availability zones of hosts."""

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.errors import NotFound
from nacre.cloud.hosts.tables import hosts

AGENT_TYPE = "Nacre node"
BINARY = "nacre-node"


def agents(conn: sa.Connection, ctx: Context) -> list[Row]:
    """For a caller who is no admin there are none."""
    if not ctx.is_admin:
        return []
    return [_agent(dict(row)) for row in conn.execute(sa.select(hosts).order_by(hosts.c.hostname)).mappings()]


def agent(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    row = conn.execute(sa.select(hosts).where(hosts.c.id == ident)).mappings().first()
    if row is None or not ctx.is_admin:
        raise NotFound(f"Agent {ident} could not be found.", code="AgentNotFound")
    return _agent(dict(row))


def _agent(host: Row) -> Row:
    return {
        "id": host["id"],
        "agent_type": AGENT_TYPE,
        "binary": BINARY,
        "host": host["hostname"],
        "availability_zone": host["availability_zone"],
        "admin_state_up": host["enabled"],
        "started_at": host["created_at"],
        "created_at": host["created_at"],
        "heartbeat_timestamp": host["updated_at"],
        "description": host["disabled_reason"],
        "configurations": {"tunneling_ip": host["tunnel_ip"], "tunnel_types": ["vxlan"]},
    }


def zones(conn: sa.Connection, ctx: Context) -> list[Row]:
    """The zones of hosts, each for networks and for routers."""
    rows = conn.execute(
        sa.select(hosts.c.availability_zone, sa.func.max(sa.case((hosts.c.enabled, 1), else_=0))).group_by(
            hosts.c.availability_zone
        )
    ).all()
    return [
        {"name": name, "resource": resource, "state": "available" if enabled else "unavailable"}
        for name, enabled in rows
        for resource in ("network", "router")
    ]
