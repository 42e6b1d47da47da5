"""Address scopes and address groups."""

from typing import Any

from msgspec import Struct

from nacre.cloud.collection import Row
from nacre.cloud.network import address_groups, address_scopes
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.call import convert
from nacre.panes.edge.resource import Attribute, Resource, envelope
from nacre.panes.openstack.network import shapes
from nacre.panes.openstack.network.crud import routes_of
from nacre.panes.openstack.network.dialect import DIALECT, standard, standard_values


def render_scope(call: Call, row: Row) -> Row:
    shown = {name: row[name] for name in ("id", "name", "project_id", "ip_version", "shared")}
    return {**shown, "tenant_id": row["project_id"]}


scope = Resource(
    singular="address_scope",
    plural="address_scopes",
    path="/v2.0/address-scopes",
    operations=address_scopes,
    policy="network:%s_address_scope",
    render=render_scope,
    attributes=(
        Attribute("id", filter="text"),
        Attribute("name", shapes.Name, create=True, update=True, default="", filter="text"),
        Attribute("project_id", shapes.Ident, create=True, filter="text"),
        Attribute("tenant_id", shapes.Ident, create=True, filter="text"),
        Attribute("ip_version", shapes.IpVersion, create=True, required=True, filter="integer"),
        Attribute("shared", bool, create=True, update=True, admin=True, filter="boolean"),
    ),
)


def render_group(call: Call, row: Row) -> Row:
    return {**standard_values(row), "name": row["name"], "addresses": row["addresses"], "shared": row["shared"]}


group = Resource(
    singular="address_group",
    plural="address_groups",
    path="/v2.0/address-groups",
    operations=address_groups,
    policy="network:%s_address_group",
    render=render_group,
    attributes=(
        *standard(),
        Attribute("addresses", list[str], create=True),
        Attribute("shared", bool, filter="boolean"),
    ),
)


class _Addresses(Struct, forbid_unknown_fields=True):
    addresses: list[str]


async def _sent(call: Call) -> list[str]:
    body = await call.body(dict[str, Any])
    # The reference shows the list alone, the CLI and Neutron's own client an envelope around it.
    return convert(envelope(body, "address_group") if "address_group" in body else body, _Addresses).addresses


async def add_addresses(call: Call) -> Reply:
    row = await call.write(address_groups.add_addresses, call.path["address_group_id"], await _sent(call))
    return Reply({"address_group": DIALECT.one(call, group, row)})


async def remove_addresses(call: Call) -> Reply:
    row = await call.write(address_groups.remove_addresses, call.path["address_group_id"], await _sent(call))
    return Reply({"address_group": DIALECT.one(call, group, row)})


_ITEM = "/v2.0/address-groups/{address_group_id}"
_POLICY = "network:update_address_group"
ROUTES: tuple[Route, ...] = (
    *routes_of(scope),
    *routes_of(group),
    Route("PUT", f"{_ITEM}/add_addresses", add_addresses, _POLICY, "Add addresses to an address group"),
    Route("PUT", f"{_ITEM}/remove_addresses", remove_addresses, _POLICY, "Remove addresses from an address group"),
)
