"""Networks."""

from nacre.cloud.collection import Row
from nacre.cloud.network import networks
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.resource import Attribute, Resource
from nacre.panes.openstack.network.crud import routes_of
from nacre.panes.openstack.network.dialect import standard, standard_values
from nacre.panes.openstack.network.shapes import Ident, Mtu, Segment, Text


def render(call: Call, row: Row) -> Row:
    shown = {
        **standard_values(row),
        "name": row["name"],
        "admin_state_up": row["admin_state_up"],
        "status": row["status"],
        "subnets": row["subnets"],
        "shared": row["shared"],
        "router:external": row["external"],
        "is_default": row["is_default"],
        "mtu": row["mtu"],
        "port_security_enabled": row["port_security_enabled"],
        "dns_domain": row["dns_domain"],
        "availability_zone_hints": row["availability_zone_hints"],
        "availability_zones": [],
        "ipv4_address_scope": row["ipv4_address_scope"],
        "ipv6_address_scope": row["ipv6_address_scope"],
        "qos_policy_id": row["qos_policy_id"],
        "l2_adjacency": True,
    }
    if call.context.is_admin:
        shown["provider:network_type"] = row["network_type"]
        shown["provider:physical_network"] = row["physical"]
        shown["provider:segmentation_id"] = None if row["physical"] else row["vni"]
    return shown


network = Resource(
    singular="network",
    plural="networks",
    path="/v2.0/networks",
    operations=networks,
    policy="network:%s_network",
    render=render,
    attributes=(
        *standard(),
        Attribute("admin_state_up", bool, create=True, update=True, default=True, filter="boolean"),
        Attribute("shared", bool, create=True, update=True, admin=True, filter="boolean"),
        Attribute("router:external", bool, create=True, update=True, admin=True, filter="boolean"),
        Attribute("is_default", bool | None, create=True, update=True, admin=True, filter="boolean"),
        Attribute("mtu", Mtu, create=True, update=True, filter="integer"),
        Attribute("port_security_enabled", bool, create=True, update=True),
        Attribute("dns_domain", Text, create=True, update=True),
        Attribute("qos_policy_id", Ident | None, create=True, update=True, filter="text"),
        Attribute("provider:network_type", Ident | None, create=True, update=True, admin=True, filter="text"),
        Attribute("provider:physical_network", Ident | None, create=True, update=True, admin=True, filter="text"),
        Attribute("provider:segmentation_id", Segment | None, create=True, update=True, admin=True, filter="integer"),
        Attribute("status", filter="text"),
    ),
)


def _availability(row: Row) -> Row:
    return {
        "network_id": row["id"],
        "network_name": row["name"],
        "tenant_id": row["project_id"],
        "project_id": row["project_id"],
        "total_ips": sum(subnet["total_ips"] for subnet in row["subnets"]),
        "used_ips": sum(subnet["used_ips"] for subnet in row["subnets"]),
        "subnet_ip_availability": [
            {
                "subnet_id": subnet["id"],
                "subnet_name": subnet["name"],
                "cidr": subnet["cidr"],
                "ip_version": subnet["ip_version"],
                "total_ips": subnet["total_ips"],
                "used_ips": subnet["used_ips"],
            }
            for subnet in row["subnets"]
        ],
    }


async def list_availability(call: Call) -> Reply:
    rows = await call.read(networks.availability)
    return Reply({"network_ip_availabilities": [_wide(_availability(row)) for row in rows]})


async def show_availability(call: Call) -> Reply:
    rows = await call.read(networks.availability, call.path["network_id"])
    return Reply({"network_ip_availability": _wide(_availability(rows[0]))})


JSON_INTEGER_MAX = 2**63 - 1


def _wide(shown: Row) -> Row:
    """An IPv6 subnet holds more addresses than a JSON reader's integer: the count stops at its largest."""
    for each in (shown, *shown["subnet_ip_availability"]):
        each["total_ips"] = min(each["total_ips"], JSON_INTEGER_MAX)
    return shown


_POLICY = "network:get_network_ip_availability"
ROUTES: tuple[Route, ...] = (
    *routes_of(network),
    Route("GET", "/v2.0/network-ip-availabilities", list_availability, _POLICY, "List the use of networks' addresses"),
    Route(
        "GET", "/v2.0/network-ip-availabilities/{network_id}", show_availability, _POLICY, "Show the use of a network's addresses"
    ),
)
