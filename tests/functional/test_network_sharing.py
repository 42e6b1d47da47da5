"""What projects share: RBAC policies over networks, security groups, subnet pools, address scopes, address groups and QoS policies."""

from typing import Any

import pytest

from tests.functional.test_network_networks import N, error, make
from tests.support import Client

SHARED, EXTERNAL = "access_as_shared", "access_as_external"


def share(client: Client, kind: str, ident: str, target: str, action: str = SHARED) -> Any:
    values = {"object_type": kind, "object_id": ident, "target_tenant": target, "action": action}
    return make(client, "rbac_policy", "rbac-policies", **values)


def project_of(client: Client) -> str:
    made = make(client, "network", "networks")
    assert client("DELETE", f"{N}/networks/{made['id']}").status == 204
    return str(made["project_id"])


def test_a_network_is_shared_with_one_project(member: Client, admin: Client, other: Client) -> None:
    theirs = project_of(other)
    network = make(member, "network", "networks", name="shared")
    subnet = make(member, "subnet", "subnets", network_id=network["id"], ip_version=4, cidr="10.9.0.0/24")
    path = f"{N}/networks/{network['id']}"
    assert error(other("GET", path)) == (404, "NetworkNotFound")
    policy = share(member, "network", network["id"], theirs)
    assert policy["target_tenant"] == theirs
    assert other("GET", path).json["network"]["shared"] is True
    assert member("GET", path).json["network"]["shared"] is False
    assert other("GET", f"{N}/subnets/{subnet['id']}").status == 200
    port = make(other, "port", "ports", network_id=network["id"])
    assert port["fixed_ips"][0]["ip_address"].startswith("10.9.0.")
    assert error(other("PUT", path, {"network": {"name": "mine"}})) == (403, "PolicyNotAuthorized")
    assert error(other("GET", f"{N}/rbac-policies/{policy['id']}"))[0] == 404
    assert error(member("DELETE", f"{N}/rbac-policies/{policy['id']}")) == (409, "RbacPolicyInUse")
    again = {"object_type": "network", "object_id": network["id"], "target_tenant": theirs, "action": SHARED}
    assert error(member("POST", f"{N}/rbac-policies", {"rbac_policy": again}))[0] == 409
    assert other("DELETE", f"{N}/ports/{port['id']}").status == 204
    assert member("DELETE", f"{N}/rbac-policies/{policy['id']}").status == 204
    assert error(other("GET", path)) == (404, "NetworkNotFound")


def test_the_owner_of_a_shared_network_opens_no_port_of_another_project(member: Client, admin: Client, other: Client) -> None:
    outside = make(admin, "network", "networks", **{"router:external": True})
    make(admin, "subnet", "subnets", network_id=outside["id"], ip_version=4, cidr="203.0.113.0/24")
    network = make(member, "network", "networks")
    subnet = make(member, "subnet", "subnets", network_id=network["id"], ip_version=4, cidr="10.9.1.0/24")
    router = make(member, "router", "routers", external_gateway_info={"network_id": outside["id"]})
    assert member("PUT", f"{N}/routers/{router['id']}/add_router_interface", {"subnet_id": subnet["id"]}).status == 200
    policy = share(member, "network", network["id"], project_of(other))
    port = make(other, "port", "ports", network_id=network["id"])
    assert member("GET", f"{N}/ports/{port['id']}").status == 200, "it is on the network that is member's"
    at_once = {"floatingip": {"floating_network_id": outside["id"], "port_id": port["id"]}}
    assert error(member("POST", f"{N}/floatingips", at_once)) == (400, "BadRequest")
    assert member("GET", f"{N}/floatingips").json["floatingips"] == []
    floating = make(member, "floatingip", "floatingips", floating_network_id=outside["id"])
    later = {"floatingip": {"port_id": port["id"]}}
    assert error(member("PUT", f"{N}/floatingips/{floating['id']}", later)) == (400, "BadRequest")
    stem = f"{N}/floatingips/{floating['id']}/port_forwardings"
    values = {"protocol": "tcp", "external_port": 2222, "internal_port": 22, "internal_port_id": port["id"]}
    assert error(member("POST", stem, {"port_forwarding": values})) == (400, "BadRequest")
    own = make(member, "port", "ports", network_id=network["id"])
    led = member("POST", stem, {"port_forwarding": {**values, "internal_port_id": own["id"]}}).json["port_forwarding"]
    moved = {"port_forwarding": {"internal_port_id": port["id"]}}
    assert error(member("PUT", f"{stem}/{led['id']}", moved)) == (400, "BadRequest")
    theirs = make(other, "floatingip", "floatingips", floating_network_id=outside["id"], port_id=port["id"])
    assert theirs["port_id"] == port["id"], "its own project may"
    for client, path in (
        (other, f"floatingips/{theirs['id']}"),
        (other, f"ports/{port['id']}"),
        (member, f"floatingips/{floating['id']}"),
        (member, f"rbac-policies/{policy['id']}"),
    ):
        assert client("DELETE", f"{N}/{path}").status == 204, path


def test_shared_and_external_are_policies_for_everyone(member: Client, admin: Client, other: Client) -> None:
    network = make(admin, "network", "networks", shared=True)
    found = admin("GET", f"{N}/rbac-policies?object_id={network['id']}").json["rbac_policies"]
    assert [(each["action"], each["target_tenant"]) for each in found] == [(SHARED, "*")]
    assert member("GET", f"{N}/networks/{network['id']}").json["network"]["shared"] is True
    assert admin("DELETE", f"{N}/rbac-policies/{found[0]['id']}").status == 204
    assert admin("GET", f"{N}/networks/{network['id']}").json["network"]["shared"] is False
    assert error(member("GET", f"{N}/networks/{network['id']}"))[0] == 404
    outside = share(admin, "network", network["id"], project_of(other), EXTERNAL)
    seen = other("GET", f"{N}/networks/{network['id']}").json["network"]
    assert (seen["router:external"], seen["shared"]) == (True, False)
    assert error(other("POST", f"{N}/ports", {"port": {"network_id": network["id"]}})) == (403, "PolicyNotAuthorized")
    assert error(member("GET", f"{N}/networks/{network['id']}"))[0] == 404
    moved = {"rbac_policy": {"target_tenant": project_of(member)}}
    assert admin("PUT", f"{N}/rbac-policies/{outside['id']}", moved).status == 200
    assert member("GET", f"{N}/networks/{network['id']}").status == 200
    assert error(other("GET", f"{N}/networks/{network['id']}"))[0] == 404


def test_what_may_not_be_shared(member: Client, other: Client) -> None:
    network = make(member, "network", "networks")
    base = {"object_type": "network", "object_id": network["id"], "target_tenant": "p", "action": SHARED}
    refused = [
        (member, {"object_type": "port"}, 400),
        (member, {"action": "access_as_owner"}, 400),
        (member, {"target_tenant": "*"}, 403),
        (member, {"action": EXTERNAL}, 403),
        (member, {"object_id": "nothing"}, 404),
        (other, {}, 404),
    ]
    for client, change, status in refused:
        assert error(client("POST", f"{N}/rbac-policies", {"rbac_policy": {**base, **change}}))[0] == status, change
    assert member("GET", f"{N}/rbac-policies").json["rbac_policies"] == []


@pytest.mark.parametrize(
    ("kind", "collection", "singular", "values"),
    [
        ("security_group", "security-groups", "security_group", {"name": "web"}),
        ("subnetpool", "subnetpools", "subnetpool", {"name": "pool", "prefixes": ["10.40.0.0/16"], "default_prefixlen": 24}),
        ("address_scope", "address-scopes", "address_scope", {"name": "scope", "ip_version": 4}),
        ("address_group", "address-groups", "address_group", {"name": "offices", "addresses": ["192.0.2.7"]}),
        ("qos_policy", "qos/policies", "policy", {"name": "slow"}),
    ],
)
def test_other_things_are_shared_too(
    admin: Client, other: Client, kind: str, collection: str, singular: str, values: dict[str, Any]
) -> None:
    thing = make(admin, singular, collection, **values)
    path = f"{N}/{collection}/{thing['id']}"
    assert error(other("GET", path))[0] == 404
    policy = share(admin, kind, thing["id"], project_of(other))
    assert other("GET", path).json[singular]["id"] == thing["id"]
    assert error(other("DELETE", path))[0] == 403
    assert [each["id"] for each in other("GET", f"{N}/{collection}").json[collection_key(singular)] if each["id"] == thing["id"]]
    if kind == "security_group":
        network = make(other, "network", "networks")
        port = make(other, "port", "ports", network_id=network["id"], security_groups=[thing["id"]])
        assert error(admin("DELETE", f"{N}/rbac-policies/{policy['id']}")) == (409, "RbacPolicyInUse")
        assert other("DELETE", f"{N}/ports/{port['id']}").status == 204
    assert admin("DELETE", f"{N}/rbac-policies/{policy['id']}").status == 204
    assert error(other("GET", path))[0] == 404


def collection_key(singular: str) -> str:
    return "policies" if singular == "policy" else f"{singular}s"


def test_address_scopes_keep_pools_apart(member: Client, admin: Client) -> None:
    scope = make(member, "address_scope", "address-scopes", name="s", ip_version=4)
    pool = make(
        member, "subnetpool", "subnetpools", name="a", prefixes=["10.50.0.0/16"], default_prefixlen=24,
        address_scope_id=scope["id"],
    )  # fmt: skip
    assert pool["address_scope_id"] == scope["id"]
    again = {"name": "b", "prefixes": ["10.50.128.0/17"], "address_scope_id": scope["id"]}
    assert error(member("POST", f"{N}/subnetpools", {"subnetpool": again})) == (409, "AddressScopePrefixConflict")
    six = {"name": "b", "prefixes": ["2001:db8::/48"], "address_scope_id": scope["id"]}
    assert error(member("POST", f"{N}/subnetpools", {"subnetpool": six}))[0] == 400
    network = make(member, "network", "networks")
    make(member, "subnet", "subnets", network_id=network["id"], ip_version=4, subnetpool_id=pool["id"])
    assert member("GET", f"{N}/networks/{network['id']}").json["network"]["ipv4_address_scope"] == scope["id"]
    assert error(member("DELETE", f"{N}/address-scopes/{scope['id']}")) == (409, "AddressScopeInUse")
    left = member("PUT", f"{N}/subnetpools/{pool['id']}", {"subnetpool": {"address_scope_id": None}}).json["subnetpool"]
    assert left["address_scope_id"] is None
    assert member("DELETE", f"{N}/address-scopes/{scope['id']}").status == 204


def test_an_address_group_as_the_remote_of_a_rule(member: Client, other: Client) -> None:
    group = make(member, "address_group", "address-groups", name="g", addresses=["192.0.2.1", "2001:db8::/64"])
    assert group["addresses"] == ["192.0.2.1/32", "2001:db8::/64"]
    path = f"{N}/address-groups/{group['id']}"
    grown = member("PUT", f"{path}/add_addresses", {"addresses": ["198.51.100.0/24"]}).json["address_group"]
    assert grown["addresses"][-1] == "198.51.100.0/24"
    assert error(member("PUT", f"{path}/add_addresses", {"addresses": ["198.51.100.0/24"]}))[0] == 400
    assert error(member("PUT", f"{path}/remove_addresses", {"addresses": ["10.0.0.0/8"]}))[0] == 400
    assert error(member("PUT", f"{path}/add_addresses", {"addresses": ["nowhere"]}))[0] == 400
    web = make(member, "security_group", "security-groups", name="web")
    values = {
        "security_group_id": web["id"],
        "direction": "ingress",
        "protocol": "tcp",
        "port_range_min": 80,
        "port_range_max": 80,
    }
    rule = make(member, "security_group_rule", "security-group-rules", **values, remote_address_group_id=group["id"])
    assert (rule["remote_address_group_id"], rule["remote_group_id"]) == (group["id"], None)
    assert error(member("DELETE", path)) == (409, "AddressGroupInUse")
    both = {**values, "port_range_max": 81, "remote_address_group_id": group["id"], "remote_ip_prefix": "10.0.0.0/8"}
    assert error(member("POST", f"{N}/security-group-rules", {"security_group_rule": both}))[0] == 400
    theirs = make(other, "security_group", "security-groups", name="web")
    stolen = {"security_group_id": theirs["id"], "direction": "ingress", "remote_address_group_id": group["id"]}
    assert error(other("POST", f"{N}/security-group-rules", {"security_group_rule": stolen}))[0] == 404
    assert member("DELETE", f"{N}/security-group-rules/{rule['id']}").status == 204
    assert member("DELETE", path).status == 204


def test_a_change_may_be_held_to_a_revision(member: Client) -> None:
    network = make(member, "network", "networks")
    path = f"{N}/networks/{network['id']}"
    held = {"If-Match": f"revision_number={network['revision_number']}"}
    assert member("PUT", path, {"network": {"name": "one"}}, headers=held).status == 200
    stale = member("PUT", path, {"network": {"name": "two"}}, headers=held)
    assert error(stale) == (412, "RevisionNumberConstraintFailed")
    assert error(member("DELETE", path, headers=held))[0] == 412
    assert error(member("DELETE", path, headers={"If-Match": "yesterday"}))[0] == 400
    assert member("GET", path).json["network"]["name"] == "one"


def test_a_topology_is_made_when_it_is_first_asked_for(admin: Client, member: Client, other: Client) -> None:
    project = project_of(member)
    path = f"{N}/auto-allocated-topology/{project}"
    before = len(member("GET", f"{N}/networks").json["networks"])
    assert error(member("GET", path)) == (409, "AutoAllocationFailure")
    pool = make(
        admin, "subnetpool", "subnetpools", name="all", prefixes=["10.200.0.0/16"], default_prefixlen=26, is_default=True,
        shared=True,
    )  # fmt: skip
    outside = {"router:external": True, "is_default": True}
    external = make(admin, "network", "networks", **outside)
    make(admin, "subnet", "subnets", network_id=external["id"], ip_version=4, cidr="203.0.113.0/24")
    assert error(other("GET", path))[0] == 403
    assert member("GET", f"{path}?fields=dry-run").json["auto_allocated_topology"]["id"] == "dry-run=pass"
    made = member("GET", path).json["auto_allocated_topology"]
    assert member("GET", path).json["auto_allocated_topology"] == made
    network = member("GET", f"{N}/networks/{made['id']}").json["network"]
    assert (network["project_id"], len(network["subnets"])) == (project, 1)
    routers = member("GET", f"{N}/routers?name=auto_allocated_router").json["routers"]
    assert routers[0]["external_gateway_info"]["network_id"] == external["id"]
    port = make(member, "port", "ports", network_id=made["id"])
    assert error(member("DELETE", path))[0] == 409
    assert member("GET", f"{N}/routers?name=auto_allocated_router").json["routers"] == routers
    assert member("DELETE", f"{N}/ports/{port['id']}").status == 204
    assert member("DELETE", path).status == 204
    assert error(member("DELETE", path)) == (404, "AutoAllocatedTopologyNotFound")
    assert member("GET", f"{N}/routers?name=auto_allocated_router").json["routers"] == []
    assert admin("DELETE", f"{N}/subnetpools/{pool['id']}").status == 204
    assert admin("DELETE", f"{N}/networks/{external['id']}").status == 204
    assert len(member("GET", f"{N}/networks").json["networks"]) == before


def test_a_ports_names_stand_in_its_networks_domain(member: Client) -> None:
    network = make(member, "network", "networks", dns_domain="shop.example.")
    make(member, "subnet", "subnets", network_id=network["id"], ip_version=4, cidr="10.61.0.0/24")
    port = make(member, "port", "ports", network_id=network["id"], dns_name="till")
    address = port["fixed_ips"][0]["ip_address"]
    assert port["dns_assignment"] == [{"ip_address": address, "hostname": "till", "fqdn": "till.shop.example."}]
