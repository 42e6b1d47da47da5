"""Subnets."""

from nacre.cloud.collection import Row
from nacre.cloud.network import subnets
from nacre.panes.edge import Call, Route
from nacre.panes.edge.resource import Attribute, Resource
from nacre.panes.openstack.network import shapes
from nacre.panes.openstack.network.crud import routes_of
from nacre.panes.openstack.network.dialect import standard, standard_values

_SHOWN = (
    "name",
    "network_id",
    "ip_version",
    "cidr",
    "gateway_ip",
    "enable_dhcp",
    "ipv6_ra_mode",
    "ipv6_address_mode",
    "dns_nameservers",
    "host_routes",
    "allocation_pools",
    "subnetpool_id",
)


def render(call: Call, row: Row) -> Row:
    return {**standard_values(row), **{name: row[name] for name in _SHOWN}, "service_types": [], "segment_id": None}


subnet = Resource(
    singular="subnet",
    plural="subnets",
    path="/v2.0/subnets",
    operations=subnets,
    policy="network:%s_subnet",
    render=render,
    attributes=(
        *standard(),
        Attribute("network_id", shapes.Ident, create=True, required=True, filter="text"),
        Attribute("ip_version", shapes.IpVersion, create=True, filter="integer"),
        Attribute("cidr", str | None, create=True, filter="text"),
        Attribute("prefixlen", shapes.Natural | None, create=True),
        Attribute("subnetpool_id", shapes.Ident | None, create=True, filter="text"),
        Attribute("use_default_subnetpool", bool, create=True),
        Attribute("gateway_ip", str | None, create=True, update=True, filter="text"),
        Attribute("allocation_pools", list[shapes.Pool] | None, create=True, update=True),
        Attribute("enable_dhcp", bool, create=True, update=True, default=True, filter="boolean"),
        Attribute("dns_nameservers", list[str] | None, create=True, update=True),
        Attribute("host_routes", list[shapes.Route] | None, create=True, update=True),
        Attribute("ipv6_ra_mode", shapes.Mode | None, create=True, filter="text"),
        Attribute("ipv6_address_mode", shapes.Mode | None, create=True, filter="text"),
        Attribute("shared", bool, filter="boolean"),
    ),
)

ROUTES: tuple[Route, ...] = routes_of(subnet)
