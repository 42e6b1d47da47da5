"""Networking's rows of the policy table."""

from nacre.cloud.policy import ADMIN, MEMBER, READER, Rule

RESOURCES: dict[str, str] = {
    "network": "networks",
    "subnet": "subnets",
    "subnetpool": "subnetpools",
    "port": "ports",
    "router": "routers",
    "floatingip": "floatingips",
    "security_group": "security_groups",
    "security_group_rule": "security_group_rules",
}
VERBS: dict[str, Rule] = {"get": READER, "create": MEMBER, "update": MEMBER, "delete": MEMBER}

POLICIES: dict[str, Rule] = {
    **{f"network:{verb}_{singular}": rule for singular in RESOURCES for verb, rule in VERBS.items()},
    **{f"network:list_{plural}": READER for plural in RESOURCES.values()},
    "network:get_extensions": READER,
    "network:get_availability_zones": READER,
    "network:get_agents": READER,
    "network:get_service_providers": READER,
    "network:get_network_ip_availability": ADMIN,
    "network:get_tags": READER,
    "network:update_tags": MEMBER,
    "network:list_quotas": ADMIN,
    "network:get_quota": Rule("reader", project="project_id"),
    "network:update_quota": ADMIN,
    "network:delete_quota": ADMIN,
}
