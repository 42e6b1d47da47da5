"""Port forwardings of floating IPs."""

from types import SimpleNamespace
from typing import Any

from nacre.cloud.collection import Row
from nacre.cloud.network import port_forwardings
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.resource import Attribute, Resource, envelope
from nacre.panes.openstack.network import shapes
from nacre.panes.openstack.network.crud import values_of
from nacre.panes.openstack.network.dialect import DIALECT

_NAMES = {"internal_port_id": "port_id", "internal_ip_address": "internal_address"}
"""The cloud's names of what this API names otherwise."""


def render(call: Call, row: Row) -> Row:
    return {
        "id": row["id"],
        "protocol": row["protocol"],
        "external_port": row["external_port"],
        "internal_port": row["internal_port"],
        "internal_ip_address": row["internal_address"],
        "internal_port_id": row["port_id"],
        "description": row["description"],
    }


forwarding = Resource(
    singular="port_forwarding",
    plural="port_forwardings",
    path="",
    operations=SimpleNamespace(),
    policy="",
    render=render,
    attributes=(
        Attribute("id", filter="text"),
        Attribute("protocol", shapes.ForwardedProtocol, create=True, update=True, required=True, filter="text"),
        Attribute("external_port", shapes.PortNumber, create=True, update=True, required=True, filter="integer"),
        Attribute("internal_port", shapes.PortNumber, create=True, update=True, required=True, filter="integer"),
        Attribute("internal_port_id", shapes.Ident, create=True, update=True, required=True),
        Attribute("internal_ip_address", shapes.Ident, create=True, update=True),
        Attribute("description", shapes.Text, create=True, update=True),
    ),
)


async def _values(call: Call, verb: str) -> Row:
    sent = envelope(await call.body(dict[str, Any]), "port_forwarding")
    return {_NAMES.get(name, name): value for name, value in values_of(forwarding, call, sent, verb).items()}


async def listing(call: Call) -> Reply:
    query = DIALECT.query(call, forwarding)
    page = await call.read(port_forwardings.find, call.path["floatingip_id"], query)
    return Reply(DIALECT.many(call, forwarding, page, query))


async def create(call: Call) -> Reply:
    row = await call.write(port_forwardings.create, call.path["floatingip_id"], await _values(call, "create"))
    return Reply({"port_forwarding": DIALECT.one(call, forwarding, row)}, 201)


async def show(call: Call) -> Reply:
    row = await call.read(port_forwardings.get, call.path["floatingip_id"], call.path["port_forwarding_id"])
    return Reply({"port_forwarding": DIALECT.one(call, forwarding, row)})


async def update(call: Call) -> Reply:
    values = await _values(call, "update")
    row = await call.write(port_forwardings.update, call.path["floatingip_id"], call.path["port_forwarding_id"], values)
    return Reply({"port_forwarding": DIALECT.one(call, forwarding, row)})


async def delete(call: Call) -> Reply:
    await call.write(port_forwardings.delete, call.path["floatingip_id"], call.path["port_forwarding_id"])
    return Reply(status=204)


_STEM = "/v2.0/floatingips/{floatingip_id}/port_forwardings"
_ITEM = f"{_STEM}/{{port_forwarding_id}}"
_POLICY = "network:%s_floatingip_port_forwarding"
ROUTES: tuple[Route, ...] = (
    Route("GET", _STEM, listing, _POLICY % "get", "List the port forwardings of a floating IP"),
    Route("POST", _STEM, create, _POLICY % "create", "Forward a port of a floating IP"),
    Route("GET", _ITEM, show, _POLICY % "get", "Show a port forwarding"),
    Route("PUT", _ITEM, update, _POLICY % "update", "Update a port forwarding"),
    Route("DELETE", _ITEM, delete, _POLICY % "delete", "Delete a port forwarding"),
)
