"""QoS policies and what bears them, and the ports of floating IPs that lead on."""

from tests.functional.test_network_networks import N, error, make
from tests.support import Client


def test_a_policy_with_its_rules(admin: Client, member: Client, other: Client) -> None:
    assert member("GET", f"{N}/qos/rule-types").json["rule_types"] == [{"type": "bandwidth_limit"}]
    assert member("GET", f"{N}/qos/rule-types/bandwidth_limit").json["rule_type"]["drivers"]
    assert error(member("GET", f"{N}/qos/rule-types/dscp_marking"))[0] == 404
    assert error(member("POST", f"{N}/qos/policies", {"policy": {"name": "mine"}})) == (403, "PolicyNotAuthorized")
    policy = make(admin, "policy", "qos/policies", name="slow", shared=True)
    stem = f"qos/policies/{policy['id']}/bandwidth_limit_rules"
    rule = make(admin, "bandwidth_limit_rule", stem, max_kbps=1000)
    assert (rule["direction"], rule["max_burst_kbps"]) == ("egress", 0)
    second = {"bandwidth_limit_rule": {"max_kbps": 5, "direction": "egress"}}
    assert error(admin("POST", f"{N}/{stem}", second)) == (409, "QoSRulesConflict")
    assert error(admin("POST", f"{N}/{stem}", {"bandwidth_limit_rule": {"max_kbps": 0}}))[0] == 400
    changed = admin("PUT", f"{N}/qos/alias_bandwidth_limit_rules/{rule['id']}", {"bandwidth_limit_rule": {"max_kbps": 2000}})
    assert changed.json["bandwidth_limit_rule"]["max_kbps"] == 2000
    shown = member("GET", f"{N}/qos/policies/{policy['id']}").json["policy"]
    assert [(each["type"], each["max_kbps"]) for each in shown["rules"]] == [("bandwidth_limit", 2000)]
    network = make(member, "network", "networks", qos_policy_id=policy["id"])
    port = make(member, "port", "ports", network_id=network["id"])
    assert (port["qos_policy_id"], port["qos_network_policy_id"]) == (None, policy["id"])
    assert error(admin("DELETE", f"{N}/qos/policies/{policy['id']}")) == (409, "QosPolicyInUse")
    cleared = member("PUT", f"{N}/networks/{network['id']}", {"network": {"qos_policy_id": None}}).json["network"]
    assert cleared["qos_policy_id"] is None
    set_ = member("PUT", f"{N}/ports/{port['id']}", {"port": {"qos_policy_id": policy["id"]}}).json["port"]
    assert set_["qos_policy_id"] == policy["id"]
    hidden = make(admin, "policy", "qos/policies", name="hidden")
    assert error(member("PUT", f"{N}/ports/{port['id']}", {"port": {"qos_policy_id": hidden["id"]}}))[0] == 404
    assert error(other("GET", f"{N}/qos/policies/{hidden['id']}/bandwidth_limit_rules"))[0] == 404
    assert member("DELETE", f"{N}/ports/{port['id']}").status == 204
    assert admin("DELETE", f"{N}/{stem}/{rule['id']}").status == 204
    assert admin("DELETE", f"{N}/qos/policies/{policy['id']}").status == 204


def test_ports_of_a_floating_ip_lead_on(admin: Client, member: Client, other: Client) -> None:
    outside = make(admin, "network", "networks", **{"router:external": True})
    make(admin, "subnet", "subnets", network_id=outside["id"], ip_version=4, cidr="203.0.113.0/24")
    inside = make(member, "network", "networks")
    subnet = make(member, "subnet", "subnets", network_id=inside["id"], ip_version=4, cidr="10.60.0.0/24")
    router = make(member, "router", "routers", external_gateway_info={"network_id": outside["id"]})
    port = make(member, "port", "ports", network_id=inside["id"])
    floating = make(member, "floatingip", "floatingips", floating_network_id=outside["id"])
    stem = f"floatingips/{floating['id']}/port_forwardings"
    values = {"protocol": "tcp", "external_port": 2222, "internal_port": 22, "internal_port_id": port["id"]}
    assert error(member("POST", f"{N}/{stem}", {"port_forwarding": values})) == (404, "ExternalGatewayForFloatingIPNotFound")
    joined = member("PUT", f"{N}/routers/{router['id']}/add_router_interface", {"subnet_id": subnet["id"]})
    assert joined.status == 200
    led = make(member, "port_forwarding", stem, **values)
    assert led["internal_ip_address"] == port["fixed_ips"][0]["ip_address"]
    assert error(member("POST", f"{N}/{stem}", {"port_forwarding": values}))[0] == 409
    assert error(member("POST", f"{N}/{stem}", {"port_forwarding": {**values, "external_port": 0}}))[0] == 400
    assert error(other("GET", f"{N}/{stem}"))[0] == 404
    seen = member("GET", f"{N}/floatingips/{floating['id']}").json["floatingip"]
    assert (seen["status"], seen["port_forwardings"][0]["external_port"]) == ("ACTIVE", 2222)
    whole = {"floatingip": {"port_id": port["id"]}}
    assert error(member("PUT", f"{N}/floatingips/{floating['id']}", whole)) == (409, "FipInUseByPortForwarding")
    leaving = member("PUT", f"{N}/routers/{router['id']}/remove_router_interface", {"subnet_id": subnet["id"]})
    assert error(leaving) == (409, "RouterInterfaceInUseByFloatingIP")
    moved = member("PUT", f"{N}/{stem}/{led['id']}", {"port_forwarding": {"external_port": 2223, "description": "ssh"}})
    assert moved.json["port_forwarding"]["external_port"] == 2223
    assert [each["id"] for each in member("GET", f"{N}/{stem}?external_port=2223").json["port_forwardings"]] == [led["id"]]
    assert member("DELETE", f"{N}/{stem}/{led['id']}").status == 204
    assert member("GET", f"{N}/floatingips/{floating['id']}").json["floatingip"]["status"] == "DOWN"
    make(member, "port_forwarding", stem, **values)
    assert member("DELETE", f"{N}/ports/{port['id']}").status == 204
    assert member("GET", f"{N}/{stem}").json["port_forwardings"] == []
    assert member("DELETE", f"{N}/floatingips/{floating['id']}").status == 204
