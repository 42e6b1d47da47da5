"""The network commands of the unmodified `openstack` client, and openstacksdk's network proxy, for what projects share, limit and forward."""

import json
import urllib.request

import openstack
import pytest

from tests.functional.test_openstack_cli import Shell, processes, shell
from tests.processes import Processes

__all__ = ["processes", "shell"]


@pytest.fixture(scope="module")
def inner(shell: Shell) -> str:
    """A project's network with a router to the outside."""
    network: str = shell("network", "create", "inner")["id"]
    shell("subnet", "create", "--network", "inner", "--subnet-range", "10.88.0.0/24", "inner")
    shell("router", "create", "way")
    shell("router", "set", "--external-gateway", "public", "way")
    shell("router", "add", "subnet", "way", "inner")
    return network


def test_what_a_project_shares(shell: Shell, inner: str) -> None:
    admin = shell.admin()
    target = admin("project", "show", "admin")["id"]
    made = shell(
        "network", "rbac", "create", "--target-project", target, "--action", "access_as_shared", "--type", "network", inner
    )
    assert made["target_project_id"] == target
    assert [each["ID"] for each in shell("network", "rbac", "list")] == [made["id"]]
    assert shell("network", "rbac", "show", made["id"])["object_id"] == inner
    shell("network", "rbac", "delete", made["id"])
    assert shell("network", "rbac", "list") == []


def test_scopes_pools_and_groups_of_addresses(shell: Shell) -> None:
    assert shell("address", "scope", "create", "--ip-version", "4", "corp")["shared"] is False
    pool = shell("subnet", "pool", "create", "--pool-prefix", "10.70.0.0/16", "--address-scope", "corp", "offices")
    assert pool["address_scope_id"] == shell("address", "scope", "show", "corp")["id"]
    assert "in use" in shell.fails("address", "scope", "delete", "corp")
    shell("subnet", "pool", "unset", "--tag", "none", "offices")
    shell("subnet", "pool", "set", "--no-address-scope", "offices")
    shell("address", "scope", "set", "--name", "gone", "corp")
    shell("address", "scope", "delete", "gone")
    shell("subnet", "pool", "delete", "offices")
    assert shell("address", "group", "create", "--address", "192.0.2.0/24", "branch")["addresses"] == ["192.0.2.0/24"]
    shell("address", "group", "set", "--address", "198.51.100.7", "branch")
    shell("address", "group", "unset", "--address", "192.0.2.0/24", "branch")
    assert shell("address", "group", "show", "branch")["addresses"] == ["198.51.100.7/32"]
    shell("security", "group", "create", "from-branch")
    rule = shell("security", "group", "rule", "create", "--remote-address-group", "branch", "--protocol", "tcp", "from-branch")
    assert rule["remote_address_group_id"] == shell("address", "group", "show", "branch")["id"]
    shell("security", "group", "delete", "from-branch")
    shell("address", "group", "delete", "branch")


def test_limits_of_networks_ports_and_floating_ips(shell: Shell, inner: str) -> None:
    admin = shell.admin()
    admin("network", "qos", "policy", "create", "--share", "slow")
    rule = admin(
        "network", "qos", "rule", "create", "--type", "bandwidth-limit", "--max-kbps", "2000", "--max-burst-kbits", "200",
        "--ingress", "slow",
    )  # fmt: skip
    assert rule["max_kbps"] == 2000
    admin("network", "qos", "rule", "set", "--max-kbps", "3000", "slow", rule["id"])
    assert admin("network", "qos", "rule", "list", "slow")[0]["Max Kbps"] == 3000
    assert [each["Type"] for each in shell("network", "qos", "rule", "type", "list")] == ["bandwidth_limit"]
    assert "drivers" in str(shell("network", "qos", "rule", "type", "show", "bandwidth_limit")).lower()
    policy = shell("network", "qos", "policy", "show", "slow")["id"]
    shell("network", "set", "--qos-policy", "slow", "inner")
    assert shell("network", "show", "inner")["qos_policy_id"] == policy
    assert shell("port", "create", "--network", "inner", "--qos-policy", "slow", "p")["qos_policy_id"] == policy
    floating = shell("floating", "ip", "create", "--qos-policy", "slow", "public")
    assert floating["qos_policy_id"] == policy
    assert "is used by" in admin.fails("network", "qos", "policy", "delete", "slow")
    shell("floating", "ip", "unset", "--qos-policy", floating["id"])
    shell("floating", "ip", "delete", floating["id"])
    shell("port", "unset", "--qos-policy", "p")
    shell("port", "delete", "p")
    shell("network", "set", "--no-qos-policy", "inner")
    admin("network", "qos", "rule", "delete", "slow", rule["id"])
    admin("network", "qos", "policy", "delete", "slow")


def test_a_port_of_a_floating_ip_leads_on(shell: Shell, inner: str) -> None:
    port = shell("port", "create", "--network", "inner", "server")
    floating = shell("floating", "ip", "create", "public")["id"]
    address = port["fixed_ips"][0]["ip_address"]
    words = ("--internal-ip-address", address, "--port", "server", "--internal-protocol-port", "22")
    led = shell(
        "floating", "ip", "port", "forwarding", "create", *words, "--external-protocol-port", "2222", "--protocol", "tcp",
        floating,
    )  # fmt: skip
    assert (led["external_port"], led["internal_port"]) == (2222, 22)
    shell("floating", "ip", "port", "forwarding", "set", "--external-protocol-port", "2223", floating, led["id"])
    assert shell("floating", "ip", "port", "forwarding", "list", floating)[0]["External Port"] == 2223
    assert shell("floating", "ip", "port", "forwarding", "show", floating, led["id"])["internal_ip_address"] == address
    shell("floating", "ip", "port", "forwarding", "delete", floating, led["id"])
    shell("floating", "ip", "delete", floating)
    shell("port", "delete", "server")


def test_what_is_not_served_is_not_in_the_list(shell: Shell) -> None:
    aliases = {each["Alias"] for each in shell("extension", "list", "--network")}
    assert {"qos", "rbac-policies", "address-scope", "address-group", "floating-ip-port-forwarding"} <= aliases
    assert not {"trunk", "logging", "dvr", "bgp"} & aliases
    assert shell.fails("network", "trunk", "list")


def test_a_meter_counts_at_the_routers_of_its_project(shell: Shell, inner: str) -> None:
    admin = shell.admin()
    label = admin("network", "meter", "create", "--share", "out")
    rule = admin("network", "meter", "rule", "create", "--egress", "--remote-ip-prefix", "0.0.0.0/0", "out")
    assert rule["metering_label_id"] == label["id"]
    token = admin("token", "issue")["id"]
    url = f"{shell.environment['OS_AUTH_URL'].removesuffix('/identity/v3')}/network/v2.0/metering/metering-labels"
    request = urllib.request.Request(f"{url}/{label['id']}/counters", headers={"X-Auth-Token": token})
    counted = json.load(urllib.request.urlopen(request))["metering_counters"]
    assert [(each["router_id"], each["packets"]) for each in counted] == [(shell("router", "show", "way")["id"], 0)]
    admin("network", "meter", "rule", "delete", rule["id"])
    admin("network", "meter", "delete", "out")


def test_a_network_that_is_made_by_itself_and_a_stateless_group(shell: Shell, inner: str) -> None:
    (pool,) = shell("subnet", "pool", "list", "--default")
    assert pool["Name"] == "default", "a new cloud has one"
    network = shell("network", "auto", "allocated", "topology", "create")["id"]
    assert shell("network", "show", network)["name"] == "auto_allocated_network"
    shell("network", "auto", "allocated", "topology", "delete")
    assert shell("security", "group", "create", "--stateless", "bare")["stateful"] is False
    shell("security", "group", "set", "--stateful", "bare")
    shell("security", "group", "delete", "bare")


def test_openstacksdk_goes_the_same_ways(processes: Processes) -> None:
    with openstack.connect(
        auth_url=f"{processes.url}/identity/v3",
        username="admin",
        password="admin-secret",
        project_name="admin",
        user_domain_name="Default",
        project_domain_name="Default",
        region_name="RegionOne",
    ) as conn:
        policy = conn.network.create_qos_policy(name="sdk")
        rule = conn.network.create_qos_bandwidth_limit_rule(policy, max_kbps=500, direction="egress")
        assert conn.network.update_qos_bandwidth_limit_rule(rule, policy, max_kbps=600).max_kbps == 600
        assert [each.type for each in conn.network.qos_rule_types()] == ["bandwidth_limit"]
        network = conn.network.create_network(name="sdk", qos_policy_id=policy.id)
        shared = conn.network.create_rbac_policy(
            object_type="network", object_id=network.id, target_project_id="*", action="access_as_shared"
        )
        assert conn.network.get_network(network.id).is_shared
        conn.network.delete_rbac_policy(shared)
        group = conn.network.create_address_group(name="sdk", addresses=["192.0.2.1/32"])
        assert conn.network.add_addresses_to_address_group(group, ["192.0.2.2/32"]).addresses == ["192.0.2.1/32", "192.0.2.2/32"]
        scope = conn.network.create_address_scope(name="sdk", ip_version=6)
        assert [each.id for each in conn.network.address_scopes(name="sdk")] == [scope.id]
        stale = conn.network.get_network(network.id)
        conn.network.update_network(network.id, name="renamed")
        with pytest.raises(openstack.exceptions.HttpException, match="current revision"):
            conn.network.update_network(stale, if_revision=stale.revision_number, name="again")
        conn.network.delete_address_scope(scope)
        conn.network.delete_address_group(group)
        conn.network.delete_network(network.id)
        conn.network.delete_qos_policy(policy)
