"""Routers and floating IPs: interfaces, gateways, and what holds them."""

from typing import Any

import pytest

from tests.functional.test_network_networks import N, error, make
from tests.support import Client


@pytest.fixture(scope="module")
def external(cloud: Any) -> Any:
    admin = cloud.client("admin")
    network = make(admin, "network", "networks", name="outside", **{"router:external": True})
    network["v4"] = make(admin, "subnet", "subnets", network_id=network["id"], ip_version=4, cidr="203.0.113.0/24")
    return network


@pytest.fixture
def inside(member: Client) -> Any:
    network = make(member, "network", "networks")
    network["v4"] = make(member, "subnet", "subnets", network_id=network["id"], ip_version=4, cidr="10.0.0.0/24")
    return network


def test_a_router_between_networks(member: Client, inside: Any, external: Any, other: Client) -> None:
    router = make(member, "router", "routers", name="r", external_gateway_info={"network_id": external["id"]})
    info = router["external_gateway_info"]
    assert (info["network_id"], info["enable_snat"]) == (external["id"], True)
    assert info["external_fixed_ips"][0]["subnet_id"] == external["v4"]["id"]
    path = f"{N}/routers/{router['id']}"
    joined = member("PUT", f"{path}/add_router_interface", {"subnet_id": inside["v4"]["id"]}).json
    assert joined["subnet_id"] == inside["v4"]["id"]
    leg = member("GET", f"{N}/ports/{joined['port_id']}").json["port"]
    assert (leg["device_owner"], leg["fixed_ips"][0]["ip_address"]) == ("network:router_interface", "10.0.0.1")
    again = member("PUT", f"{path}/add_router_interface", {"subnet_id": inside["v4"]["id"]})
    assert error(again) == (400, "BadRequest")
    assert error(member("DELETE", f"{N}/ports/{joined['port_id']}")) == (409, "ServicePortInUse")
    assert error(member("DELETE", f"{N}/subnets/{inside['v4']['id']}")) == (409, "SubnetInUse")
    moved = member("PUT", f"{N}/subnets/{inside['v4']['id']}", {"subnet": {"gateway_ip": "10.0.0.254"}})
    assert error(moved) == (409, "GatewayIpInUse")
    assert error(member("DELETE", path)) == (409, "RouterInUse")
    routes = [{"destination": "192.0.2.0/24", "nexthop": "10.0.0.77"}]
    assert member("PUT", path, {"router": {"routes": routes}}).json["router"]["routes"] == routes
    held = member("PUT", f"{path}/remove_router_interface", {"subnet_id": inside["v4"]["id"]})
    assert error(held) == (409, "RouterInterfaceInUseByRoute")
    stray = [{"destination": "192.0.2.0/24", "nexthop": "172.16.0.1"}]
    assert error(member("PUT", path, {"router": {"routes": stray}})) == (400, "InvalidRoutes")
    assert error(other("PUT", f"{path}/add_router_interface", {"subnet_id": inside["v4"]["id"]})) == (404, "RouterNotFound")
    assert member("PUT", f"{path}/remove_extraroutes", {"router": {"routes": routes}}).json["router"]["routes"] == []
    assert member("PUT", f"{path}/add_extraroutes", {"router": {"routes": routes}}).json["router"]["routes"] == routes
    assert member("PUT", path, {"router": {"routes": None}}).json["router"]["routes"] == []
    assert member("PUT", f"{path}/remove_router_interface", {"subnet_id": inside["v4"]["id"]}).status == 200
    assert error(member("GET", f"{N}/ports/{joined['port_id']}")) == (404, "PortNotFound")
    cleared = member("PUT", path, {"router": {"external_gateway_info": {}}}).json["router"]
    assert cleared["external_gateway_info"] is None
    assert member("DELETE", path).status == 204


def test_interfaces_by_port(member: Client, inside: Any) -> None:
    router = make(member, "router", "routers")
    path = f"{N}/routers/{router['id']}"
    port = make(member, "port", "ports", network_id=inside["id"])
    assert member("PUT", f"{path}/add_router_interface", {"port_id": port["id"]}).json["port_id"] == port["id"]
    assert member("GET", f"{N}/ports/{port['id']}").json["port"]["device_id"] == router["id"]
    assert error(member("PUT", f"{path}/add_router_interface", {"port_id": port["id"]})) == (409, "PortInUse")
    assert error(member("PUT", f"{path}/add_router_interface", {})) == (400, "BadRequest")
    assert error(member("PUT", f"{path}/add_router_interface", {"port_id": "x", "subnet_id": "y"})) == (400, "BadRequest")
    assert error(member("PUT", f"{path}/remove_router_interface", {"port_id": "x"})) == (404, "RouterInterfaceNotFound")
    assert member("PUT", f"{path}/remove_router_interface", {"port_id": port["id"]}).status == 200
    assert member("DELETE", path).status == 204


def test_what_an_admin_alone_may_say_of_a_gateway(admin: Client, member: Client, external: Any, inside: Any) -> None:
    fixed = [{"subnet_id": external["v4"]["id"], "ip_address": "203.0.113.200"}]
    info = {"network_id": external["id"], "external_fixed_ips": fixed, "enable_snat": False}
    assert error(member("POST", f"{N}/routers", {"router": {"external_gateway_info": info}})) == (403, "PolicyNotAuthorized")
    router = make(admin, "router", "routers", external_gateway_info=info)
    assert router["external_gateway_info"] == info
    wrong = {"router": {"external_gateway_info": {"network_id": inside["id"]}}}
    assert error(member("POST", f"{N}/routers", wrong)) == (400, "BadRequest")
    assert admin("DELETE", f"{N}/routers/{router['id']}").status == 204


def test_a_floating_ip_from_create_to_delete(member: Client, admin: Client, other: Client, inside: Any, external: Any) -> None:
    port = make(member, "port", "ports", network_id=inside["id"])
    unreachable = {"floatingip": {"floating_network_id": external["id"], "port_id": port["id"]}}
    assert error(member("POST", f"{N}/floatingips", unreachable)) == (404, "ExternalGatewayForFloatingIPNotFound")
    router = make(member, "router", "routers", external_gateway_info={"network_id": external["id"]})
    path = f"{N}/routers/{router['id']}"
    member("PUT", f"{path}/add_router_interface", {"subnet_id": inside["v4"]["id"]})
    floating = make(member, "floatingip", "floatingips", floating_network_id=external["id"], port_id=port["id"])
    assert (floating["status"], floating["router_id"]) == ("ACTIVE", router["id"])
    assert floating["fixed_ip_address"] == port["fixed_ips"][0]["ip_address"]
    assert floating["port_details"]["mac_address"] == port["mac_address"]
    assert error(member("PUT", f"{path}/remove_router_interface", {"subnet_id": inside["v4"]["id"]})) == (
        409, "RouterInterfaceInUseByFloatingIP",
    )  # fmt: skip
    cleared = {"router": {"external_gateway_info": {}}}
    assert error(member("PUT", path, cleared)) == (409, "RouterExternalGatewayInUseByFloatingIp")
    second = make(member, "floatingip", "floatingips", floating_network_id=external["id"])
    assert (second["status"], second["port_id"]) == ("DOWN", None)
    twice = member("PUT", f"{N}/floatingips/{second['id']}", {"floatingip": {"port_id": port["id"]}})
    assert error(twice) == (409, "FloatingIPPortAlreadyAssociated")
    item = f"{N}/floatingips/{floating['id']}"
    loose = member("PUT", item, {"floatingip": {"port_id": None}}).json["floatingip"]
    assert (loose["status"], loose["port_id"], loose["router_id"]) == ("DOWN", None, None)
    assert member("PUT", item, {"floatingip": {"port_id": port["id"]}}).json["floatingip"]["status"] == "ACTIVE"
    assert member("DELETE", f"{N}/ports/{port['id']}").status == 204
    assert member("GET", item).json["floatingip"]["status"] == "DOWN"
    assert error(other("GET", item))[0] == 404
    asked = {"floating_network_id": external["id"], "floating_ip_address": "203.0.113.99"}
    assert error(member("POST", f"{N}/floatingips", {"floatingip": asked}))[0] == 403
    assert make(admin, "floatingip", "floatingips", **asked)["floating_ip_address"] == "203.0.113.99"
    assert error(admin("POST", f"{N}/floatingips", {"floatingip": asked})) == (409, "IpAddressAlreadyAllocated")
    inner = {"floatingip": {"floating_network_id": inside["id"]}}
    assert error(member("POST", f"{N}/floatingips", inner)) == (400, "BadRequest")
    for each in (floating, second):
        assert member("DELETE", f"{N}/floatingips/{each['id']}").status == 204
    assert error(member("GET", item))[0] == 404


def test_an_external_network_goes_with_the_floating_ips_that_nobody_uses(admin: Client) -> None:
    network = make(admin, "network", "networks", **{"router:external": True})
    make(admin, "subnet", "subnets", network_id=network["id"], ip_version=4, cidr="192.0.2.0/28")
    floating = make(admin, "floatingip", "floatingips", floating_network_id=network["id"])
    assert admin("DELETE", f"{N}/networks/{network['id']}").status == 204
    assert error(admin("GET", f"{N}/floatingips/{floating['id']}")) == (404, "FloatingIpNotFound")
