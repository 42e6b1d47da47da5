"""Security groups and rules, and what Neutron would refuse."""

from typing import Any

import pytest

from tests.functional.test_network_networks import N, error, make
from tests.support import Client

RULES = f"{N}/security-group-rules"


def test_the_default_group_is_there_when_a_project_looks(member: Client, other: Client) -> None:
    group = member("GET", f"{N}/security-groups").json["security_groups"][0]
    assert group["name"] == "default"
    shape = sorted(
        (rule["direction"], rule["ethertype"], rule["remote_group_id"])
        for rule in group["security_group_rules"]
        if rule["remote_group_id"]
    )
    assert shape == [("ingress", "IPv4", group["id"]), ("ingress", "IPv6", group["id"])]
    assert sum(rule["direction"] == "egress" for rule in group["security_group_rules"]) == 2
    path = f"{N}/security-groups/{group['id']}"
    assert error(member("DELETE", path)) == (409, "SecurityGroupCannotRemoveDefault")
    assert error(member("PUT", path, {"security_group": {"name": "x"}})) == (409, "SecurityGroupCannotUpdateDefault")
    made = member("POST", f"{N}/security-groups", {"security_group": {"name": "default"}})
    assert error(made) == (409, "SecurityGroupDefaultAlreadyExists")
    assert error(other("GET", path))[0] == 404


def test_a_group_in_use_stays(member: Client) -> None:
    group = make(member, "security_group", "security-groups", name="web ☃", description="for pages")
    path = f"{N}/security-groups/{group['id']}"
    assert {rule["direction"] for rule in group["security_group_rules"]} == {"egress"}
    assert member("PUT", path, {"security_group": {"name": "w"}}).json["security_group"]["name"] == "w"
    assert member("PUT", path, {"security_group": {"stateful": False}}).json["security_group"]["stateful"] is False
    network = make(member, "network", "networks")
    port = make(member, "port", "ports", network_id=network["id"], security_groups=[group["id"]])
    assert error(member("DELETE", path)) == (409, "SecurityGroupInUse")
    assert member("PUT", f"{N}/ports/{port['id']}", {"port": {"security_groups": []}}).json["port"]["security_groups"] == []
    assert member("DELETE", path).status == 204
    assert error(member("GET", path)) == (404, "SecurityGroupNotFound")


@pytest.fixture
def group(member: Client) -> Any:
    group = make(member, "security_group", "security-groups", name="rules")
    yield group
    assert member("DELETE", f"{N}/security-groups/{group['id']}").status == 204


def test_rules(member: Client, group: Any, other: Client) -> None:
    base: dict[str, Any] = {"security_group_id": group["id"], "direction": "ingress", "ethertype": "IPv4"}
    tcp = {**base, "protocol": "TCP", "port_range_min": "22", "port_range_max": 22, "remote_ip_prefix": "10.0.0.7/8"}
    rule = make(member, "security_group_rule", "security-group-rules", **tcp)
    assert (rule["protocol"], rule["port_range_min"]) == ("tcp", 22)
    assert (rule["remote_ip_prefix"], rule["normalized_cidr"]) == ("10.0.0.7/8", "10.0.0.0/8")
    repeated = member("POST", RULES, {"security_group_rule": {**tcp, "description": "again"}})
    assert error(repeated) == (409, "SecurityGroupRuleExists")
    make(member, "security_group_rule", "security-group-rules", **base, protocol=6)
    make(member, "security_group_rule", "security-group-rules", **base, protocol="icmp", port_range_min=8)
    make(member, "security_group_rule", "security-group-rules", **base, remote_group_id=group["id"])
    refused: list[tuple[dict[str, Any], int, str]] = [
        ({"protocol": "bad"}, 400, "SecurityGroupRuleInvalidProtocol"),
        ({"protocol": 256}, 400, "SecurityGroupRuleInvalidProtocol"),
        ({"protocol": "tcp", "port_range_min": 80, "port_range_max": 79}, 400, "SecurityGroupInvalidPortRange"),
        ({"protocol": "tcp", "port_range_min": 1, "port_range_max": 65536}, 400, "SecurityGroupInvalidPortValue"),
        ({"protocol": "tcp", "port_range_min": 2**80}, 400, "InvalidInput"),
        ({"port_range_min": 1, "port_range_max": 2}, 400, "SecurityGroupProtocolRequiredWithPorts"),
        ({"protocol": "icmp", "port_range_max": 2}, 400, "SecurityGroupMissingIcmpType"),
        ({"protocol": "icmp", "port_range_min": 256}, 400, "SecurityGroupInvalidIcmpValue"),
        ({"protocol": "ipv6-icmp"}, 400, "SecurityGroupEthertypeConflictWithProtocol"),
        ({"remote_ip_prefix": "bad"}, 400, "InvalidInput"),
        ({"remote_ip_prefix": "::/0"}, 400, "SecurityGroupRuleParameterConflict"),
        ({"remote_ip_prefix": "1.1.1.1", "remote_group_id": group["id"]}, 400, "SecurityGroupMultipleRemoteEntitySpecified"),
        ({"remote_group_id": "none"}, 404, "SecurityGroupNotFound"),
        ({"ethertype": "IPv5"}, 400, "SecurityGroupRuleInvalidEtherType"),
        ({"direction": "sideways"}, 400, "InvalidInput"),
        ({"security_group_id": "none"}, 404, "SecurityGroupNotFound"),
    ]
    for change, status, kind in refused:
        assert error(member("POST", RULES, {"security_group_rule": base | change})) == (status, kind), change
    assert error(other("DELETE", f"{RULES}/{rule['id']}"))[0] == 404
    found = member("GET", f"{RULES}?security_group_id={group['id']}&protocol=tcp").json["security_group_rules"]
    assert [each["id"] for each in found] == [rule["id"]]
    assert member("DELETE", f"{RULES}/{rule['id']}").status == 204
    assert error(member("GET", f"{RULES}/{rule['id']}"))[0] == 404


def test_an_admin_says_what_new_groups_begin_with(admin: Client, member: Client) -> None:
    path = f"{N}/default-security-group-rules"
    usual = member("GET", path).json["default_security_group_rules"]
    assert sorted((each["direction"], each["remote_group_id"], each["used_in_non_default_sg"]) for each in usual) == [
        ("egress", None, True),
        ("egress", None, True),
        ("ingress", "PARENT", False),
        ("ingress", "PARENT", False),
    ]
    ssh = {"direction": "ingress", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22}
    assert error(member("POST", path, {"default_security_group_rule": ssh})) == (403, "PolicyNotAuthorized")
    made = admin("POST", path, {"default_security_group_rule": ssh}).json["default_security_group_rule"]
    assert (made["used_in_default_sg"], made["used_in_non_default_sg"]) == (False, True)
    assert error(admin("POST", path, {"default_security_group_rule": ssh})) == (409, "DefaultSecurityGroupRuleExists")
    assert error(admin("POST", path, {"default_security_group_rule": {**ssh, "remote_group_id": "x"}}))[0] == 400
    assert error(admin("POST", path, {"default_security_group_rule": {**ssh, "port_range_min": 0}}))[0] == 400
    group = make(member, "security_group", "security-groups", name="from templates")
    rules = group["security_group_rules"]
    assert sorted((each["direction"], each["port_range_min"]) for each in rules if each["direction"] == "ingress") == [
        ("ingress", 22)
    ]
    assert len(rules) == 3
    assert admin("DELETE", f"{path}/{made['id']}").status == 204
    assert error(admin("GET", f"{path}/{made['id']}"))[0] == 404
    assert len(make(member, "security_group", "security-groups", name="as before")["security_group_rules"]) == 2
