"""Networking's rows of the policy table."""

from nacre.cloud.policy import ADMIN, MANAGER, MEMBER, READER, Rule

RESOURCES: dict[str, str] = {
    "network": "networks",
    "subnet": "subnets",
    "subnetpool": "subnetpools",
    "port": "ports",
    "router": "routers",
    "floatingip": "floatingips",
    "security_group": "security_groups",
    "security_group_rule": "security_group_rules",
    "address_scope": "address_scopes",
    "address_group": "address_groups",
    "rbac_policy": "rbac_policies",
    "floatingip_port_forwarding": "floatingip_port_forwardings",
}
VERBS: dict[str, Rule] = {"get": READER, "create": MEMBER, "update": MEMBER, "delete": MEMBER}
METERING = ("metering_label", "metering_label_rule")
QOS = ("qos_policy", "policy_bandwidth_limit_rule")
QOS_VERBS: dict[str, Rule] = {"get": READER, "create": MANAGER, "update": MANAGER, "delete": MANAGER}
"""What a project may have of the wire is its manager's to say."""

POLICIES: dict[str, Rule] = {
    **{f"network:{verb}_{singular}": rule for singular in RESOURCES for verb, rule in VERBS.items()},
    **{f"network:list_{plural}": READER for plural in RESOURCES.values()},
    **{f"network:{verb}_{name}": rule for name in QOS for verb, rule in QOS_VERBS.items()},
    **{f"network:{verb}_{name}": ADMIN for name in METERING for verb in VERBS},
    **{f"network:list_{name}s": ADMIN for name in METERING},
    "network:get_metering_counters": ADMIN,
    "network:get_default_security_group_rule": READER,
    "network:list_default_security_group_rules": READER,
    "network:create_default_security_group_rule": ADMIN,
    "network:delete_default_security_group_rule": ADMIN,
    "network:list_policies": READER,
    "network:get_rule_type": READER,
    "network:get_extensions": READER,
    "network:get_availability_zones": READER,
    "network:get_agents": READER,
    "network:get_l3-routers": ADMIN,
    "network:create_l3-router": ADMIN,
    "network:delete_l3-router": ADMIN,
    "network:get_l3-agents": ADMIN,
    "network:get_service_providers": READER,
    "network:get_network_ip_availability": ADMIN,
    "network:get_auto_allocated_topology": Rule("reader", project="project_id"),
    "network:delete_auto_allocated_topology": Rule("member", project="project_id"),
    "network:get_tags": READER,
    "network:update_tags": MEMBER,
    "network:list_quotas": ADMIN,
    "network:get_quota": Rule("reader", project="project_id"),
    "network:update_quota": ADMIN,
    "network:delete_quota": ADMIN,
}
