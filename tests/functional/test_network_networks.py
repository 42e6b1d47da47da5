"""Networks and subnets, from the first to the last call."""

from typing import Any

from tests.support import Answer, Client

N = "/network/v2.0"


def make(client: Client, kind: str, path: str, **values: Any) -> Any:
    answer = client("POST", f"{N}/{path}", {kind: values})
    assert answer.status == 201, answer.body
    return answer.json[kind]


def error(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["NeutronError"]["type"]


def test_a_network_with_subnets_of_both_versions(member: Client, admin: Client, other: Client) -> None:
    network = make(member, "network", "networks", name="réseau ☃")
    assert network["status"] == "ACTIVE"
    assert network["tenant_id"] == network["project_id"]
    assert "provider:segmentation_id" not in network
    seen = admin("GET", f"{N}/networks/{network['id']}").json["network"]
    assert seen["provider:network_type"] == "vxlan"
    assert seen["provider:segmentation_id"] > 0
    v4 = make(member, "subnet", "subnets", network_id=network["id"], ip_version=4, cidr="10.1.0.0/24")
    assert v4["gateway_ip"] == "10.1.0.1"
    assert v4["allocation_pools"] == [{"start": "10.1.0.2", "end": "10.1.0.254"}]
    v6 = make(
        member, "subnet", "subnets", network_id=network["id"], ip_version=6, cidr="2001:db8::/64", ipv6_ra_mode="slaac",
        ipv6_address_mode="slaac",
    )  # fmt: skip
    assert v6["gateway_ip"] == "2001:db8::1"
    assert member("GET", f"{N}/networks/{network['id']}").json["network"]["subnets"] == [v4["id"], v6["id"]]
    assert error(other("GET", f"{N}/networks/{network['id']}")) == (404, "NetworkNotFound")
    assert error(other("DELETE", f"{N}/subnets/{v4['id']}")) == (404, "SubnetNotFound")
    renamed = member("PUT", f"{N}/networks/{network['id']}", {"network": {"name": "n2", "admin_state_up": False}}).json["network"]
    assert (renamed["name"], renamed["admin_state_up"], renamed["revision_number"]) == ("n2", False, 2)
    port = make(member, "port", "ports", network_id=network["id"])
    assert error(member("DELETE", f"{N}/subnets/{v4['id']}")) == (409, "SubnetInUse")
    assert error(member("DELETE", f"{N}/networks/{network['id']}")) == (409, "NetworkInUse")
    assert member("DELETE", f"{N}/ports/{port['id']}").status == 204
    assert member("DELETE", f"{N}/networks/{network['id']}").status == 204
    assert error(member("GET", f"{N}/subnets/{v4['id']}")) == (404, "SubnetNotFound")


def test_what_a_subnet_may_not_be(member: Client) -> None:
    network = make(member, "network", "networks")
    base = {"network_id": network["id"], "ip_version": 4, "cidr": "10.2.0.0/24"}
    pools = "allocation_pools"
    refused: list[tuple[dict[str, Any], int, str]] = [
        ({"cidr": "10.2.0.5/24"}, 400, "InvalidInput"),
        ({"cidr": "10.2.0.0/33"}, 400, "InvalidInput"),
        ({"cidr": "fe80::/64"}, 400, "InvalidInput"),
        ({"ip_version": 5}, 400, "InvalidInput"),
        ({"gateway_ip": "10.3.0.1"}, 400, "InvalidInput"),
        ({pools: [{"start": "10.2.0.9", "end": "10.2.0.3"}]}, 400, "InvalidAllocationPool"),
        ({pools: [{"start": "10.2.0.9", "end": "10.2.1.3"}]}, 400, "OutOfBoundsAllocationPool"),
        ({pools: [{"start": "10.2.0.1", "end": "10.2.0.3"}]}, 409, "GatewayConflictWithAllocationPools"),
        ({pools: [{"start": f"10.2.0.{n}", "end": "10.2.0.9"} for n in (3, 5)]}, 409, "OverlappingAllocationPools"),
        ({"ipv6_ra_mode": "slaac"}, 400, "InvalidInput"),
        ({"dns_nameservers": ["nine"]}, 400, "InvalidInput"),
        ({"host_routes": [{"destination": "1.0.0.0/8", "nexthop": "x"}]}, 400, "InvalidInput"),
        ({"network_id": 7}, 400, "InvalidInput"),
        ({"colour": "red"}, 400, "InvalidInput"),
        ({"cidr": 2**70}, 400, "InvalidInput"),
        ({"network_id": "no-such"}, 404, "NetworkNotFound"),
    ]
    for change, status, kind in refused:
        assert error(member("POST", f"{N}/subnets", {"subnet": base | change})) == (status, kind), change
    made = make(member, "subnet", "subnets", **base, gateway_ip=None)
    assert made["gateway_ip"] is None
    assert made[pools] == [{"start": "10.2.0.1", "end": "10.2.0.254"}]
    overlapping = member("POST", f"{N}/subnets", {"subnet": base | {"cidr": "10.2.0.128/25"}})
    assert error(overlapping) == (400, "InvalidInput")
    assert "overlaps" in overlapping.json["NeutronError"]["message"]
    path = f"{N}/subnets/{made['id']}"
    changed = member("PUT", path, {"subnet": {"gateway_ip": "10.2.0.1", pools: [{"start": "10.2.0.9", "end": "10.2.0.9"}]}})
    assert changed.json["subnet"]["gateway_ip"] == "10.2.0.1"
    body = {"port": {"network_id": network["id"]}}
    assert member("POST", f"{N}/ports", body).json["port"]["fixed_ips"][0]["ip_address"] == "10.2.0.9"
    assert error(member("POST", f"{N}/ports", body)) == (409, "IpAddressGenerationFailure")


def test_bulk_create_is_all_or_nothing(member: Client) -> None:
    made = member("POST", f"{N}/networks", {"networks": [{"name": "bulk-1"}, {"name": "bulk-2"}]})
    assert made.status == 201
    first, second = (network["id"] for network in made.json["networks"])
    subnets = [{"network_id": ident, "ip_version": 4, "cidr": "10.4.0.0/28"} for ident in (first, second, first)]
    assert member("POST", f"{N}/subnets", {"subnets": subnets}).status == 400
    assert member("GET", f"{N}/subnets?network_id={first}&network_id={second}").json["subnets"] == []
    assert len(member("POST", f"{N}/subnets", {"subnets": subnets[:2]}).json["subnets"]) == 2
    ports = member("POST", f"{N}/ports", {"ports": [{"network_id": first, "name": f"p{n}"} for n in range(3)]}).json["ports"]
    assert len({port["fixed_ips"][0]["ip_address"] for port in ports}) == 3
    assert member("POST", f"{N}/ports", {"ports": [{"network_id": first}] * 20}).status == 409
    assert len(member("GET", f"{N}/ports?network_id={first}").json["ports"]) == 3


def test_shared_and_external_networks(member: Client, admin: Client, other: Client) -> None:
    refused = member("POST", f"{N}/networks", {"network": {"router:external": True}})
    assert error(refused) == (403, "PolicyNotAuthorized")
    assert "router:external" in refused.json["NeutronError"]["message"]
    external = make(admin, "network", "networks", name="ext", **{"router:external": True})
    hidden = make(admin, "subnet", "subnets", network_id=external["id"], ip_version=4, cidr="198.51.100.0/24")
    shared = make(admin, "network", "networks", name="shared", shared=True)
    shown = make(admin, "subnet", "subnets", network_id=shared["id"], ip_version=4, cidr="10.8.0.0/24")
    make(member, "network", "networks", name="inner")
    listed = member("GET", f"{N}/networks?router:external=True").json["networks"]
    assert external["id"] in [network["id"] for network in listed]
    assert all(network["router:external"] for network in listed)
    assert error(member("GET", f"{N}/networks?provider:segmentation_id=7")) == (403, "PolicyNotAuthorized")
    visible = {subnet["id"] for subnet in member("GET", f"{N}/subnets").json["subnets"]}
    assert shown["id"] in visible
    assert hidden["id"] not in visible
    assert error(member("PUT", f"{N}/networks/{shared['id']}", {"network": {"name": "mine"}})) == (403, "PolicyNotAuthorized")
    port = make(other, "port", "ports", network_id=shared["id"])
    address = [{"ip_address": "10.8.0.77"}]
    assert error(member("POST", f"{N}/ports", {"port": {"network_id": shared["id"], "fixed_ips": address}}))[0] == 403
    unshare = {"network": {"shared": False}}
    assert error(admin("PUT", f"{N}/networks/{shared['id']}", unshare)) == (409, "InvalidSharedSetting")
    assert error(member("GET", f"{N}/ports/{port['id']}")) == (404, "PortNotFound")
    assert other("DELETE", f"{N}/ports/{port['id']}").status == 204
    assert admin("PUT", f"{N}/networks/{shared['id']}", unshare).status == 200


def test_filters_fields_sorting_and_pages(other: Client) -> None:
    for number in range(5):
        make(other, "network", "networks", name=f"page-{number}", description="d")
    names = [f"page-{number}" for number in range(5)]
    listed = other("GET", f"{N}/networks?name=page-1&name=page-3&sort_key=name&sort_dir=desc&fields=name").json["networks"]
    assert listed == [{"name": "page-3"}, {"name": "page-1"}]
    seen: list[str] = []
    path = f"{N}/networks?limit=2&sort_key=name&description=d"
    for _ in range(5):
        page = other("GET", path).json
        seen += [network["name"] for network in page["networks"]]
        following = [link["href"] for link in page.get("networks_links", []) if link["rel"] == "next"]
        if not following:
            break
        path = following[0].removeprefix(other.base_url)
    assert seen == names
    back = next(link["href"] for link in page["networks_links"] if link["rel"] == "previous").removeprefix(other.base_url)
    assert [network["name"] for network in other("GET", back).json["networks"]] == names[2:4]
    for query in ("colour=red", "limit=many", "sort_key=colour", "sort_dir=asc", "marker=no-such", "admin_state_up=perhaps"):
        assert other("GET", f"{N}/networks?{query}").status == 400, query


def test_what_only_an_admin_sees_orders_and_chooses_nobody_elses_list(other: Client, admin: Client) -> None:
    for path, name in (("ports", "binding:host_id"), ("networks", "provider:segmentation_id")):
        for query in (f"sort_key={name}", f"sort_key=id&sort_key={name}", f"{name}=1"):
            assert error(other("GET", f"{N}/{path}?{query}")) == (403, "PolicyNotAuthorized"), query
            assert admin("GET", f"{N}/{path}?{query}").status == 200, query


def test_tags(member: Client, other: Client) -> None:
    network = make(member, "network", "networks")
    path = f"{N}/networks/{network['id']}/tags"
    assert member("PUT", path, {"tags": ["red", "blue"]}).json == {"tags": ["blue", "red"]}
    assert member("PUT", f"{path}/gr%C3%BCn").status == 201
    assert member("GET", f"{path}/red").status == 204
    assert error(member("GET", f"{path}/black")) == (404, "TagNotFound")
    assert member("GET", f"{N}/networks/{network['id']}").json["network"]["tags"] == ["blue", "grün", "red"]

    def found(query: str) -> bool:
        return network["id"] in [each["id"] for each in member("GET", f"{N}/networks?{query}").json["networks"]]

    assert found("tags=red,blue")
    assert not found("tags=red,black")
    assert found("tags-any=red,black")
    assert not found("not-tags=red,blue")
    assert not found("not-tags-any=red,black")
    assert member("DELETE", f"{path}/red").status == 204
    assert error(other("GET", path)) == (404, "NetworkNotFound")
    assert member("PUT", path, {"tags": [""]}).status == 400
    assert member("DELETE", path).status == 204
    assert member("GET", path).json == {"tags": []}


def test_subnet_pools(member: Client, other: Client) -> None:
    pool = make(member, "subnetpool", "subnetpools", name="pool", prefixes=["10.10.0.0/23"], default_prefixlen=25)
    assert (pool["ip_version"], pool["default_prefixlen"], pool["min_prefixlen"]) == (4, "25", "8")
    network = make(member, "network", "networks")
    wanted = {"network_id": network["id"], "ip_version": 4, "subnetpool_id": pool["id"]}
    cidrs = [make(member, "subnet", "subnets", **wanted, **more)["cidr"] for more in ({}, {"prefixlen": 24}, {})]
    assert cidrs == ["10.10.0.0/25", "10.10.1.0/24", "10.10.0.128/25"]
    assert error(member("POST", f"{N}/subnets", {"subnet": wanted})) == (409, "SubnetAllocationError")
    assert error(member("DELETE", f"{N}/subnetpools/{pool['id']}")) == (409, "SubnetPoolDeleteError")
    shrink = {"subnetpool": {"prefixes": ["10.10.0.0/24"]}}
    assert error(member("PUT", f"{N}/subnetpools/{pool['id']}", shrink)) == (400, "IllegalSubnetPoolPrefixUpdate")
    assert error(other("GET", f"{N}/subnetpools/{pool['id']}"))[0] == 404
    assert error(member("POST", f"{N}/subnetpools", {"subnetpool": {"name": "x", "prefixes": []}}))[0] == 400


def test_quotas_are_enforced(admin: Client, other: Client) -> None:
    project = other("GET", f"{N}/networks").json and make(other, "network", "networks")["project_id"]
    used = admin("GET", f"{N}/quotas/{project}/details").json["quota"]["network"]["used"]
    assert admin("PUT", f"{N}/quotas/{project}", {"quota": {"network": used}}).json["quota"]["network"] == used
    refused = other("POST", f"{N}/networks", {"network": {}})
    assert error(refused) == (409, "OverQuota")
    assert admin("GET", f"{N}/quotas/{project}/details").json["quota"]["network"]["used"] == used
    assert other("GET", f"{N}/quotas/{project}").json["quota"]["network"] == used
    assert other("PUT", f"{N}/quotas/{project}", {"quota": {"network": 5}}).status == 403
    assert other("GET", f"{N}/quotas/{'9' * 32}").status == 403
    assert admin("PUT", f"{N}/quotas/{project}", {"quota": {"bananas": 5}}).status == 400
    assert admin("DELETE", f"{N}/quotas/{project}").status == 204
    assert error(admin("DELETE", f"{N}/quotas/{project}")) == (404, "TenantQuotaNotFound")
    assert other("POST", f"{N}/networks", {"network": {}}).status == 201


def test_documents_and_extensions(member: Client, admin: Client) -> None:
    for path in ("/network", "/network/"):
        assert member("GET", path).json["versions"][0]["id"] == "v2.0"
    names = {each["name"] for each in member("GET", "/network/v2.0/").json["resources"]}
    assert {"network", "subnet", "port"} <= names
    for each in member("GET", f"{N}/extensions").json["extensions"]:
        assert member("GET", f"{N}/extensions/{each['alias']}").json["extension"] == each
    assert member("GET", f"{N}/extensions/dvr").status == 404
    assert member("GET", f"{N}/agents").json == {"agents": []}
    assert admin("GET", f"{N}/agents").json == {"agents": []}
    assert member("GET", f"{N}/availability_zones").json == {"availability_zones": []}
    availability = admin("GET", f"{N}/network-ip-availabilities").json["network_ip_availabilities"]
    assert all(each["used_ips"] <= each["total_ips"] for each in availability)
