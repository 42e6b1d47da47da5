"""Ports: addresses, MACs, groups, and who may choose them."""

from typing import Any

import pytest

from tests.functional.test_network_networks import N, error, make
from tests.support import Client


@pytest.fixture
def network(member: Client) -> Any:
    network = make(member, "network", "networks")
    network["v4"] = make(member, "subnet", "subnets", network_id=network["id"], ip_version=4, cidr="10.0.0.0/24")
    return network


def test_a_port_from_create_to_delete(member: Client, network: Any, other: Client) -> None:
    port = make(member, "port", "ports", network_id=network["id"], name="p")
    assert port["fixed_ips"] == [{"subnet_id": network["v4"]["id"], "ip_address": "10.0.0.2"}]
    assert port["mac_address"].startswith("fa:16:3e:")
    assert port["status"] == "DOWN"
    assert "binding:host_id" not in port
    groups = member("GET", f"{N}/security-groups?name=default").json["security_groups"]
    assert port["security_groups"] == [groups[0]["id"]]
    path = f"{N}/ports/{port['id']}"
    changed = member(
        "PUT", path, {"port": {"name": "q", "fixed_ips": [{"ip_address": "10.0.0.9"}, {"subnet_id": network["v4"]["id"]}]}}
    ).json["port"]
    assert [each["ip_address"] for each in changed["fixed_ips"]] == ["10.0.0.9", "10.0.0.2"]
    found = member("GET", f"{N}/ports?fixed_ips=ip_address%3D10.0.0.9&fixed_ips=subnet_id%3D{network['v4']['id']}").json["ports"]
    assert [each["id"] for each in found] == [port["id"]]
    assert member("GET", f"{N}/ports?fixed_ips=ip_address%3D10.0.0.99").json["ports"] == []
    assert error(other("PUT", path, {"port": {"name": "x"}})) == (404, "PortNotFound")
    assert member("DELETE", path).status == 204
    assert error(member("DELETE", path)) == (404, "PortNotFound")


def test_addresses_and_macs_that_are_refused(member: Client, network: Any) -> None:
    base: dict[str, Any] = {"network_id": network["id"]}
    taken = make(member, "port", "ports", **base, fixed_ips=[{"ip_address": "10.0.0.7"}], mac_address="FA-16-3E-00-00-01")
    assert taken["mac_address"] == "fa:16:3e:00:00:01"
    refused: list[tuple[dict[str, Any], int, str]] = [
        ({"fixed_ips": [{"ip_address": "10.0.0.7"}]}, 409, "IpAddressAlreadyAllocated"),
        ({"fixed_ips": [{"ip_address": "10.0.1.7"}]}, 400, "InvalidIpForNetwork"),
        ({"fixed_ips": [{"ip_address": "10.0.0.255"}]}, 400, "InvalidIpForSubnet"),
        ({"fixed_ips": [{"ip_address": "ten"}]}, 400, "InvalidInput"),
        ({"fixed_ips": [{"subnet_id": "none"}]}, 400, "InvalidInput"),
        ({"fixed_ips": [{}]}, 400, "InvalidInput"),
        ({"fixed_ips": "10.0.0.8"}, 400, "InvalidInput"),
        ({"mac_address": "fa:16:3e:00:00:01"}, 409, "MacAddressInUse"),
        ({"mac_address": "01:00:5e:00:00:01"}, 400, "InvalidInput"),
        ({"mac_address": "?"}, 400, "InvalidInput"),
        ({"security_groups": ["none"]}, 404, "SecurityGroupNotFound"),
        ({"device_owner": "network:dhcp"}, 403, "PolicyNotAuthorized"),
        ({"binding:host_id": "h"}, 403, "PolicyNotAuthorized"),
        ({"port_security_enabled": False, "allowed_address_pairs": [{"ip_address": "10.0.0.8"}]}, 409, "AddressPairAndPortSecurityRequired"),
        ({"name": 5}, 400, "InvalidInput"),
        ({"name": "n" * 256}, 400, "InvalidInput"),
    ]  # fmt: skip
    for change, status, kind in refused:
        assert error(member("POST", f"{N}/ports", {"port": base | change})) == (status, kind), change
    assert len(member("GET", f"{N}/ports?network_id={network['id']}").json["ports"]) == 1


def test_no_addresses_no_groups_no_security(member: Client, network: Any) -> None:
    bare = make(member, "port", "ports", network_id=network["id"], fixed_ips=[], security_groups=[])
    assert (bare["fixed_ips"], bare["security_groups"], bare["port_security_enabled"]) == ([], [], True)
    path = f"{N}/ports/{bare['id']}"
    pairs = [{"ip_address": "10.0.0.0/25"}, {"ip_address": "10.0.0.200", "mac_address": "fa:16:3e:aa:bb:cc"}]
    assert member("PUT", path, {"port": {"allowed_address_pairs": pairs}}).json["port"]["allowed_address_pairs"] == pairs
    assert error(member("PUT", path, {"port": {"port_security_enabled": False}}))[0] == 409
    off = member("PUT", path, {"port": {"port_security_enabled": False, "allowed_address_pairs": []}})
    assert off.json["port"]["port_security_enabled"] is False
    options = [{"opt_name": "mtu", "opt_value": "1400", "ip_version": 4}]
    assert member("PUT", path, {"port": {"extra_dhcp_opts": options}}).json["port"]["extra_dhcp_opts"] == options


def test_slaac_addresses_come_from_the_mac(member: Client, network: Any) -> None:
    v6 = make(
        member, "subnet", "subnets", network_id=network["id"], ip_version=6, cidr="2001:db8:1::/64", ipv6_ra_mode="slaac",
        ipv6_address_mode="slaac",
    )  # fmt: skip
    port = make(member, "port", "ports", network_id=network["id"], mac_address="fa:16:3e:01:02:03")
    addresses = [each["ip_address"] for each in port["fixed_ips"]]
    assert addresses[1] == "2001:db8:1:0:f816:3eff:fe01:203"
    wrong = [{"subnet_id": v6["id"], "ip_address": "2001:db8:1::99"}]
    answer = member("POST", f"{N}/ports", {"port": {"network_id": network["id"], "fixed_ips": wrong}})
    assert error(answer) == (400, "AllocationOnAutoAddressSubnet")
    assert member("DELETE", f"{N}/subnets/{v6['id']}").status == 204
    assert len(member("GET", f"{N}/ports/{port['id']}").json["port"]["fixed_ips"]) == 1


def test_an_admin_binds_a_port(admin: Client, member: Client, network: Any) -> None:
    port = make(member, "port", "ports", network_id=network["id"])
    bound = admin("PUT", f"{N}/ports/{port['id']}", {"port": {"binding:host_id": "host-1"}}).json["port"]
    assert (bound["binding:host_id"], bound["status"]) == ("host-1", "DOWN")
    assert admin("PUT", f"{N}/ports/{port['id']}", {"port": {"binding:host_id": None}}).json["port"]["binding:host_id"] == ""
