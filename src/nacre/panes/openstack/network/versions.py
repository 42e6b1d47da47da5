"""Version documents and extensions."""

from typing import Any

from nacre.cloud.errors import NotFound
from nacre.cloud.network.policies import RESOURCES
from nacre.panes.edge import Call, Reply, Route

EXTENSIONS: dict[str, tuple[str, str]] = {
    "address-group": ("Address group", "Sets of addresses that security group rules name as their remote."),
    "address-scope": ("Address scope", "Subnet pools whose prefixes never overlap."),
    "agent": ("agent", "The hosts' nodes, as agents."),
    "allowed-address-pairs": ("Allowed Address Pairs", "Addresses beyond its own that a port may send from."),
    "auto-allocated-topology": ("Auto Allocated Topology Services", "A network with a way out, made when it is first asked for."),
    "availability_zone": ("Availability Zone", "The availability zones of hosts."),
    "binding": ("Port Binding", "The host that a port is bound to."),
    "default-subnetpools": ("Default Subnetpools", "A default subnet pool for each IP version."),
    "dns-integration": ("DNS Integration", "Names of ports in their network's own resolver."),
    "ext-gw-mode": ("Neutron L3 Configurable external gateway mode", "Source NAT of a router, on or off."),
    "external-net": ("Neutron external network", "Networks that routers have their gateways in."),
    "extra_dhcp_opt": ("Neutron Extra DHCP options", "DHCP options of a port."),
    "extraroute": ("Neutron Extra Route", "Static routes of a router."),
    "extraroute-atomic": ("Atomically add/remove extra routes", "Static routes of a router, added and removed one by one."),
    "filter-validation": ("Filter parameters validation", "A list refuses filters that it does not know."),
    "fip-port-details": ("Floating IP Port Details Extension", "A floating IP shows the port that it leads to."),
    "floating-ip-port-forwarding": ("Floating IP Port Forwarding", "Ports of a floating IP that lead to different ports."),
    "ip-substring-filtering": ("IP address substring filtering", "Ports are found by a part of their addresses."),
    "metering": ("Neutron Metering", "Labels that count what crosses routers' gateways."),
    "metering-counters": ("Metering counters", "What labels have counted: GET metering-labels/ID/counters. Nacre's own."),
    "metering_source_and_destination_fields": ("Metering source and destination filters", "Both prefixes of a metering rule."),
    "l3_agent_scheduler": ("L3 Agent Scheduler", "An administrator takes a router off its host and gives it to another."),
    "l3-ha": ("HA Router extension", "Routers that are moved to another host when theirs is lost."),
    "net-mtu": ("Network MTU", "A network's MTU."),
    "net-mtu-writable": ("Network MTU (writable)", "A network's MTU may be chosen."),
    "network-ip-availability": ("Network IP Availability", "How many addresses of a network are in use."),
    "pagination": ("Pagination support", "Lists in pages."),
    "port-security": ("Port Security", "Anti-spoofing of a port, on or off."),
    "project-id": ("project_id field enabled", "project_id beside tenant_id."),
    "provider": ("Provider Network", "How a network is carried."),
    "qos": ("Quality of Service", "Policies of bandwidth limits."),
    "qos-bw-limit-direction": ("Direction for QoS bandwidth limit rule", "Limits of what a port sends and of what it receives."),
    "qos-default": ("QoS default policy", "A project's default policy, by name; it is put on nothing by itself."),
    "qos-fip": ("Floating IP QoS", "Policies on floating IPs."),
    "qos-rule-type-details": ("Details of QoS rule types", "What a type of rule may say."),
    "qos-rules-alias": ("Ability to modify QoS rules without providing the policy ID", "QoS rules by their own ids."),
    "quota_details": ("Quota details management support", "Quotas with their use."),
    "quotas": ("Quota management support", "Quotas of a project."),
    "rbac-address-group": ("Add address_group type to RBAC", "Shared address groups."),
    "rbac-address-scope": ("Add address_scope type to RBAC", "Shared address scopes."),
    "rbac-policies": ("RBAC Policies", "Networks, QoS policies and more that projects share."),
    "rbac-security-groups": ("Add security_group type to network RBAC", "Shared security groups."),
    "rbac-subnetpool": ("Add subnetpool type to RBAC", "Shared subnet pools."),
    "revision-if-match": ("If-Match constraints based on revision_number", "A change that holds only for the revision it names."),
    "router": ("Neutron L3 Router", "Routers and floating IPs."),
    "security-groups-default-rules": ("Default security group rules", "Templates of the rules that new groups begin with."),
    "security-groups-remote-address-group": (
        "Remote address group id field for security group rules",
        "Address groups as remotes.",
    ),
    "security-groups-shared-filtering": (
        "Security group filtering on the shared field",
        "Security groups by whether they are shared.",
    ),
    "security-group": ("security-group", "Security groups and rules."),
    "service-type": ("Neutron Service Type Management", "Who makes routers."),
    "sorting": ("Sorting support", "Lists in a chosen order."),
    "standard-attr-description": ("standard-attr-description", "Descriptions."),
    "standard-attr-revisions": ("Resource revision numbers", "Revision numbers."),
    "standard-attr-tag": ("Tag support for resources with standard attribute", "Tags."),
    "standard-attr-timestamp": ("Resource timestamps", "created_at and updated_at."),
    "stateful-security-group": ("Stateful security group", "Groups that track connections, and groups that do not."),
    "subnet_allocation": ("Subnet Allocation", "Subnets from subnet pools."),
    "tag": ("Tag support", "Tags of networks, by the name that older clients look for."),
}
"""alias -> (name, description): what is served here, and nothing else."""
UPDATED = "2026-11-01T00:00:00-00:00"


def _version(call: Call) -> dict[str, Any]:
    return {"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": f"{call.base_url}/v2.0/"}]}


async def versions(call: Call) -> Reply:
    return Reply({"versions": [_version(call)]})


async def version(call: Call) -> Reply:
    resources = [
        {
            "name": singular,
            "collection": plural,
            "links": [{"rel": "self", "href": f"{call.base_url}/v2.0/{plural.replace('_', '-')}"}],
        }
        for singular, plural in RESOURCES.items()
    ]
    return Reply({"resources": resources})


def _extension(alias: str) -> dict[str, Any]:
    name, description = EXTENSIONS[alias]
    return {"alias": alias, "name": name, "description": description, "updated": UPDATED, "links": []}


async def extensions(call: Call) -> Reply:
    return Reply({"extensions": [_extension(alias) for alias in EXTENSIONS]})


async def extension(call: Call) -> Reply:
    alias = call.path["alias"]
    if alias not in EXTENSIONS:
        raise NotFound(f"Extension with alias {alias} does not exist", code="HTTPNotFound")
    return Reply({"extension": _extension(alias)})


ROUTES: tuple[Route, ...] = (
    Route("GET", "", versions, None, "List API versions"),
    Route("GET", "/", versions, None, "List API versions"),
    Route("GET", "/v2.0", version, None, "Show the resources of the API"),
    Route("GET", "/v2.0/", version, None, "Show the resources of the API"),
    Route("GET", "/v2.0/extensions", extensions, "network:get_extensions", "List extensions"),
    Route("GET", "/v2.0/extensions/{alias}", extension, "network:get_extensions", "Show an extension"),
)
