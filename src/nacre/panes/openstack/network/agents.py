"""Agents, availability zones and service providers: the hosts, as Networking's clients know them."""

from typing import Any

from msgspec import Struct

from nacre.cloud.collection import Row
from nacre.cloud.errors import Invalid
from nacre.cloud.network import agents, l3_agents
from nacre.panes.edge import Call, Reply, Route, times
from nacre.panes.openstack.network.dialect import DIALECT
from nacre.panes.openstack.network.routers import router

FILTERS = frozenset(
    {"id", "host", "agent_type", "binary", "availability_zone", "name", "resource", "state", "service_type", "default"}
)


def _filtered(call: Call, rows: list[Row]) -> list[Row]:
    """A handful of rows that are no table: filtered here. Raises Invalid for an unknown name."""
    for key in call.query:
        if key == "fields":
            continue
        if key not in FILTERS:
            raise Invalid(f"Invalid input for operation: '{key}' is an invalid attribute for filtering.", field=key)
        wanted = call.query.getall(key)
        rows = [row for row in rows if str(row.get(key)) in wanted]
    return rows


def _agent(row: Row) -> dict[str, Any]:
    """`alive` is that the host is enabled: whether its node answers is a live fact, which the hosts' own API shows."""
    stamps = {name: times.seconds(row[name]) for name in ("started_at", "created_at", "heartbeat_timestamp")}
    return {**row, **stamps, "alive": row["admin_state_up"], "topic": "N/A", "resources_synced": None}


async def list_agents(call: Call) -> Reply:
    return Reply({"agents": [_agent(row) for row in _filtered(call, await call.read(agents.agents))]})


async def show_agent(call: Call) -> Reply:
    return Reply({"agent": _agent(await call.read(agents.agent, call.path["agent_id"]))})


class _Router(Struct, forbid_unknown_fields=True):
    router_id: str


async def list_routers(call: Call) -> Reply:
    rows = await call.read(l3_agents.routers_of, call.path["agent_id"])
    return Reply({"routers": [DIALECT.one(call, router, row) for row in rows]})


async def list_bearers(call: Call) -> Reply:
    rows = await call.read(l3_agents.agents_of, call.path["router_id"])
    return Reply({"agents": [{**_agent(row), "ha_state": None} for row in rows]})


async def add_router(call: Call) -> Reply:
    sent = await call.body(_Router)
    await call.write(l3_agents.add, call.path["agent_id"], sent.router_id)
    return Reply(b"null", 201)  # As Neutron: the SDK wants some JSON.


async def remove_router(call: Call) -> Reply:
    await call.write(l3_agents.remove, call.path["agent_id"], call.path["router_id"])
    return Reply(status=204)


async def list_zones(call: Call) -> Reply:
    return Reply({"availability_zones": _filtered(call, await call.read(agents.zones))})


SERVICE_PROVIDERS: list[Row] = [{"service_type": "L3_ROUTER_NAT", "name": "nacre", "default": True}]
"""Routers have one kind of maker."""


async def list_service_providers(call: Call) -> Reply:
    return Reply({"service_providers": _filtered(call, SERVICE_PROVIDERS)})


ROUTES: tuple[Route, ...] = (
    Route("GET", "/v2.0/agents", list_agents, "network:get_agents", "List agents"),
    Route("GET", "/v2.0/agents/{agent_id}", show_agent, "network:get_agents", "Show an agent"),
    Route(
        "GET", "/v2.0/agents/{agent_id}/l3-routers", list_routers, "network:get_l3-routers", "List the routers of an agent's host"
    ),
    Route(
        "POST", "/v2.0/agents/{agent_id}/l3-routers", add_router, "network:create_l3-router", "Give a router to an agent's host"
    ),
    Route(
        "DELETE",
        "/v2.0/agents/{agent_id}/l3-routers/{router_id}",
        remove_router,
        "network:delete_l3-router",
        "Take a router off an agent's host",
    ),
    Route(
        "GET", "/v2.0/routers/{router_id}/l3-agents", list_bearers, "network:get_l3-agents", "List the agents of a router's host"
    ),
    Route("GET", "/v2.0/availability_zones", list_zones, "network:get_availability_zones", "List availability zones"),
    Route("GET", "/v2.0/service-providers", list_service_providers, "network:get_service_providers", "List service providers"),
)
