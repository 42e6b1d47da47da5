"""Who may do what in Networking: each route, asked by each role. The table is Neutron's current default policy, written down by hand."""

import re

import pytest

from nacre.cloud.context import ROLE_IMPLIES, Context
from nacre.cloud.network.policies import POLICIES
from nacre.panes.openstack.network.routes import ROUTES
from tests.functional.test_network_networks import N
from tests.support import Client

OWNED = (
    "network", "subnet", "subnetpool", "port", "router", "floatingip", "security_group", "security_group_rule", "address_scope",
    "address_group", "rbac_policy", "floatingip_port_forwarding",
)  # fmt: skip
"""What a project's members make and its readers see."""
READERS = frozenset(
    {
        *(f"get_{name}" for name in OWNED), "get_tags", "get_extensions", "get_availability_zones", "get_agents",
        "get_service_providers", "get_qos_policy", "get_policy_bandwidth_limit_rule", "get_rule_type", "get_quota",
        "get_auto_allocated_topology",
        "get_default_security_group_rule",
        "list_default_security_group_rules",
        "list_policies", "list_networks", "list_subnets", "list_subnetpools", "list_ports", "list_routers", "list_floatingips",
        "list_security_groups", "list_security_group_rules", "list_address_scopes", "list_address_groups", "list_rbac_policies",
    }
)  # fmt: skip
MEMBERS = frozenset(
    {
        *(f"{verb}_{name}" for name in OWNED for verb in ("create", "update", "delete")),
        "update_tags",
        "delete_auto_allocated_topology",
    }
)
MANAGERS = frozenset(
    f"{verb}_{name}" for name in ("qos_policy", "policy_bandwidth_limit_rule") for verb in ("create", "update", "delete")
)
LADDER = ("reader", "member", "manager", "admin")


def least(policy: str) -> str:
    """The lowest role that may."""
    name = policy.removeprefix("network:")
    for role, names in (("reader", READERS), ("member", MEMBERS), ("manager", MANAGERS)):
        if name in names:
            return role
    return "admin"


GUARDED = sorted({(route.method, route.path, route.policy) for route in ROUTES if route.policy is not None})


@pytest.mark.parametrize("role", LADDER)
def test_each_row_lets_the_roles_in_that_neutron_lets_in(role: str) -> None:
    context = Context("u", "default", project_id="p", roles=ROLE_IMPLIES[role])
    for _, _, policy in GUARDED:
        may = LADDER.index(role) >= LADDER.index(least(policy))
        assert POLICIES[policy].allows(context, {"project_id": "p"}) is may, policy


def test_each_route_asks_its_row(reader: Client, member: Client, admin: Client) -> None:
    for method, path, policy in GUARDED:
        url = N.removesuffix("/v2.0") + re.sub(r"\{project_id\}", "1" * 32, path)
        url = re.sub(r"\{[a-z_]+\}", "nothing", url)
        for role, client in (("reader", reader), ("member", member), ("admin", admin)):
            answer = client(method, url, {} if method in ("POST", "PUT") else None)
            refused = answer.status == 403 and f"Policy doesn't allow {policy}" in answer.json["NeutronError"]["message"]
            assert refused is (LADDER.index(role) < LADDER.index(least(policy))), (role, method, path, answer.body)
