"""Routers, and what is done with their interfaces and routes."""

from typing import Any

from msgspec import Struct

from nacre.cloud.collection import Row
from nacre.cloud.network import interfaces, routers
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.call import convert
from nacre.panes.edge.resource import Attribute, Resource, envelope
from nacre.panes.openstack.network import shapes
from nacre.panes.openstack.network.crud import routes_of
from nacre.panes.openstack.network.dialect import DIALECT, standard, standard_values

_SHOWN = ("name", "admin_state_up", "status", "external_gateway_info", "routes", "availability_zones", "availability_zone_hints")


def render(call: Call, row: Row) -> Row:
    shown = {**standard_values(row), **{name: row[name] for name in _SHOWN}, "flavor_id": None}
    if call.context.is_admin:
        shown["distributed"] = False
        shown["ha"] = row["ha"]
    return shown


router = Resource(
    singular="router",
    plural="routers",
    path="/v2.0/routers",
    operations=routers,
    policy="network:%s_router",
    render=render,
    attributes=(
        *standard(),
        Attribute("admin_state_up", bool, create=True, update=True, default=True, filter="boolean"),
        Attribute("external_gateway_info", shapes.GatewayInfo | None, create=True, update=True),
        Attribute("routes", list[shapes.Route] | None, update=True),
        Attribute("ha", bool | None, create=True, update=True, admin=True, filter="boolean"),
        Attribute("status", filter="text"),
    ),
)


class _Interface(Struct, forbid_unknown_fields=True):
    subnet_id: str | None = None
    port_id: str | None = None


async def add_interface(call: Call) -> Reply:
    sent = await call.body(_Interface)
    answer = await call.write(interfaces.add, call.path["router_id"], subnet_id=sent.subnet_id, port_id=sent.port_id)
    return Reply(answer)


async def remove_interface(call: Call) -> Reply:
    sent = await call.body(_Interface)
    answer = await call.write(interfaces.remove, call.path["router_id"], subnet_id=sent.subnet_id, port_id=sent.port_id)
    return Reply(answer)


class _Routes(Struct, forbid_unknown_fields=True):
    routes: list[shapes.Route]


async def _change_routes(call: Call, *, add: bool) -> Reply:
    sent = convert(envelope(await call.body(dict[str, Any]), "router"), _Routes)
    asked = [{"destination": route.destination, "nexthop": route.nexthop} for route in sent.routes]
    row = await call.write(routers.change_routes, call.path["router_id"], asked, add=add)
    return Reply({"router": DIALECT.one(call, router, row)})


async def add_routes(call: Call) -> Reply:
    return await _change_routes(call, add=True)


async def remove_routes(call: Call) -> Reply:
    return await _change_routes(call, add=False)


_ITEM = "/v2.0/routers/{router_id}"
_POLICY = "network:update_router"
ROUTES: tuple[Route, ...] = (
    *routes_of(router),
    Route("PUT", f"{_ITEM}/add_router_interface", add_interface, _POLICY, "Add an interface to a router"),
    Route("PUT", f"{_ITEM}/remove_router_interface", remove_interface, _POLICY, "Remove an interface from a router"),
    Route("PUT", f"{_ITEM}/add_extraroutes", add_routes, _POLICY, "Add extra routes to a router"),
    Route("PUT", f"{_ITEM}/remove_extraroutes", remove_routes, _POLICY, "Remove extra routes from a router"),
)
