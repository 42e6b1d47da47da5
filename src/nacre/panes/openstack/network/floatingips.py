"""Floating IPs."""

from nacre.cloud.collection import Row
from nacre.cloud.network import floatingips
from nacre.panes.edge import Call, Route
from nacre.panes.edge.resource import Attribute, Resource
from nacre.panes.openstack.network import shapes
from nacre.panes.openstack.network.crud import routes_of
from nacre.panes.openstack.network.dialect import standard, standard_values

_SHOWN = (
    "floating_network_id",
    "floating_ip_address",
    "fixed_ip_address",
    "port_id",
    "router_id",
    "status",
    "port_details",
    "dns_name",
    "dns_domain",
)


def render(call: Call, row: Row) -> Row:
    led = [
        {
            "protocol": each["protocol"],
            "external_port": each["external_port"],
            "internal_port": each["internal_port"],
            "internal_ip_address": each["internal_address"],
        }
        for each in row["port_forwardings"]
    ]
    return {
        **standard_values(row),
        **{name: row[name] for name in _SHOWN},
        "qos_policy_id": row["qos_policy_id"],
        "port_forwardings": led,
    }


floatingip = Resource(
    singular="floatingip",
    plural="floatingips",
    path="/v2.0/floatingips",
    operations=floatingips,
    policy="network:%s_floatingip",
    render=render,
    attributes=(
        *standard(name=False),
        Attribute("floating_network_id", shapes.Ident, create=True, required=True, filter="text"),
        Attribute("subnet_id", shapes.Ident | None, create=True),
        Attribute("floating_ip_address", str | None, create=True, admin=True, filter="text"),
        Attribute("port_id", shapes.Ident | None, create=True, update=True, filter="text"),
        Attribute("fixed_ip_address", str | None, create=True, update=True, filter="text"),
        Attribute("qos_policy_id", shapes.Ident | None, create=True, update=True, filter="text"),
        Attribute("router_id", filter="text"),
        Attribute("status", filter="text"),
    ),
)

ROUTES: tuple[Route, ...] = routes_of(floatingip)
