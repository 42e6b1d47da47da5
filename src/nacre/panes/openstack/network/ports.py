"""Ports."""

from nacre.cloud.collection import Row
from nacre.cloud.network import ports
from nacre.panes.edge import Call, Route
from nacre.panes.edge.resource import Attribute, Resource
from nacre.panes.openstack.network import shapes
from nacre.panes.openstack.network.crud import routes_of
from nacre.panes.openstack.network.dialect import standard, standard_values

_SHOWN = (
    "name",
    "network_id",
    "mac_address",
    "admin_state_up",
    "status",
    "device_id",
    "device_owner",
    "fixed_ips",
    "security_groups",
    "port_security_enabled",
    "allowed_address_pairs",
    "extra_dhcp_opts",
    "dns_name",
)


def render(call: Call, row: Row) -> Row:
    shown = {
        **standard_values(row),
        **{name: row[name] for name in _SHOWN},
        "binding:vnic_type": row["vnic_type"],
        "qos_policy_id": row["qos_policy_id"],
        "qos_network_policy_id": row["qos_network_policy_id"],
        "dns_assignment": _dns(row),
    }
    if call.context.is_admin:
        bound = row["host_id"] is not None
        shown["binding:host_id"] = row["host_id"] or ""
        shown["binding:profile"] = row["profile"]
        shown["binding:vif_type"] = "other" if bound else "unbound"
        shown["binding:vif_details"] = {"port_filter": True} if bound else {}
    return shown


def _dns(row: Row) -> list[Row]:
    """The names under which the network's own resolver knows the port."""
    if not row["dns_name"]:
        return []
    domain = row["network_dns_domain"].strip(".")
    full = f"{row['dns_name']}.{domain}." if domain else f"{row['dns_name']}."
    return [{"ip_address": each["ip_address"], "hostname": row["dns_name"], "fqdn": full} for each in row["fixed_ips"]]


port = Resource(
    singular="port",
    plural="ports",
    path="/v2.0/ports",
    operations=ports,
    policy="network:%s_port",
    render=render,
    attributes=(
        *standard(),
        Attribute("network_id", shapes.Ident, create=True, required=True, filter="text"),
        Attribute("admin_state_up", bool, create=True, update=True, default=True, filter="boolean"),
        Attribute("mac_address", str | None, create=True, update=True, filter="text"),
        Attribute("fixed_ips", list[shapes.FixedIp] | None, create=True, update=True),
        Attribute("device_id", shapes.Text, create=True, update=True, filter="text"),
        Attribute("device_owner", shapes.Text, create=True, update=True, filter="text"),
        Attribute("security_groups", list[shapes.Ident] | None, create=True, update=True, filter="text"),
        Attribute("port_security_enabled", bool, create=True, update=True, filter="boolean"),
        Attribute("allowed_address_pairs", list[shapes.AddressPair] | None, create=True, update=True),
        Attribute("extra_dhcp_opts", list[shapes.DhcpOption] | None, create=True, update=True),
        Attribute("qos_policy_id", shapes.Ident | None, create=True, update=True, filter="text"),
        Attribute("dns_name", shapes.Text, create=True, update=True, filter="text"),
        Attribute("binding:host_id", shapes.Text | None, create=True, update=True, admin=True, filter="text"),
        Attribute("binding:profile", shapes.Profile | None, create=True, update=True, admin=True),
        Attribute("binding:vnic_type", shapes.Text | None, create=True, update=True, filter="text"),
        Attribute("status", filter="text"),
    ),
)

ROUTES: tuple[Route, ...] = routes_of(port)
