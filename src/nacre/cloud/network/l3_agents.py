"""Which host bears a router, as Neutron's l3_agent_scheduler has it: https://docs.openstack.org/api-ref/network/v2/#l3-agent-scheduler.

An administrator takes a router off its host and gives it to another one.
"""

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.network import agents, placing, routers
from nacre.cloud.network.tables import forwards
from nacre.cloud.network.tables import routers as routers_table


def routers_of(conn: sa.Connection, ctx: Context, agent_id: str) -> list[Row]:
    """The routers that a host bears. Raises NotFound."""
    agents.agent(conn, ctx, agent_id)
    return routers.some(conn, routers_table.c.host_id == agent_id)


def agents_of(conn: sa.Connection, ctx: Context, router_id: str) -> list[Row]:
    """The host that bears a router, or none. Raises NotFound."""
    host_id = routers.plain(conn, ctx, router_id)["host_id"]
    return [agents.agent(conn, ctx, host_id)] if host_id else []


def add(conn: sa.Connection, ctx: Context, agent_id: str, router_id: str) -> None:
    """Give a host a router that is on none. Again: no change. Raises NotFound, and Conflict where another host has it or this one cannot."""
    agents.agent(conn, ctx, agent_id)
    router = routers.plain(conn, ctx, router_id)
    if router["host_id"] == agent_id:
        return
    if router["host_id"] is not None:
        raise Conflict(
            f"The router {router_id} has been already hosted by the L3 Agent {router['host_id']}.", code="RouterHostedByL3Agent"
        )
    if conn.execute(placing.fit().where(hosts.c.id == agent_id)).scalar() is None:
        raise Conflict(
            f"Agent {agent_id} is not a L3 Agent or has been disabled: its host does not reach the external network, or takes no work.",
            code="InvalidL3Agent",
        )
    placing.move(conn, router, agent_id)


def remove(conn: sa.Connection, ctx: Context, agent_id: str, router_id: str) -> None:
    """Take a router off its host; until another one is given it, nothing bears it. Raises NotFound, Conflict."""
    agents.agent(conn, ctx, agent_id)
    router = routers.plain(conn, ctx, router_id)
    if router["host_id"] != agent_id:
        raise Conflict(f"The router {router_id} is not hosted by L3 agent {agent_id}.", code="RouterNotHostedByL3Agent")
    published = sa.select(forwards.c.id).where(forwards.c.router_id == router_id, forwards.c.external_address == "")
    if conn.execute(published.limit(1)).first() is not None:
        raise Conflict(f"Ports of the host are published through router {router_id}, and are that host's.", code="RouterInUse")
    placing.move(conn, router, None)
