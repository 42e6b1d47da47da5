"""Networking's tables."""

from typing import Any

import sqlalchemy as sa

from nacre.store.schema import boolean, id_column, integer, json, moment, table, text


def _standard() -> list[sa.Column[Any]]:
    """The attributes that every resource of Networking has (the standard-attr-* extensions)."""
    return [
        text("description", default=""),
        integer("revision_number", default=0),
        moment("created_at"),
        moment("updated_at"),
    ]


def _reference(name: str, target: str, *, cascade: bool = False, nullable: bool = False) -> sa.Column[str]:
    foreign = sa.ForeignKey(target, ondelete="CASCADE" if cascade else None)
    return sa.Column(name, sa.String(64), foreign, nullable=nullable)


networks = table(
    "networks",
    id_column(),
    text("project_id", index=True),
    text("name", default=""),
    boolean("admin_state_up", default=True),
    boolean("shared", default=False),
    boolean("external", default=False),
    boolean("is_default", default=False),
    boolean("port_security_enabled", default=True),
    integer("mtu", default=1450),
    text("network_type", default="vxlan"),
    text("physical", nullable=True),
    integer("vni", unique=True),
    text("dns_domain", default=""),
    json("availability_zone_hints", default=list),
    text("qos_policy_id", nullable=True, index=True),
    text("driver", default=""),
    json("driver_options", default=dict),
    *_standard(),
)
"""`driver` names a network plugin of Docker's, which plugs the network's ports on the hosts that have it; `driver_options` are for it.
`shared` and `external` are written with the RBAC policies that say so: shared with all, external for anyone.
`physical` names the physical network of a flat one. Every network has a vni of its own, also a flat one."""

network_sequences = table("network_sequences", sa.Column("name", sa.String(20), primary_key=True), integer("value"))
"""Numbers that are given out in turn, so that what was just given up is not reused at once."""

subnets = table(
    "network_subnets",
    id_column(),
    text("project_id", index=True),
    _reference("network_id", "networks.id"),
    text("name", default=""),
    integer("ip_version"),
    text("cidr"),
    text("gateway_ip", nullable=True),
    boolean("enable_dhcp", default=True),
    text("ipv6_ra_mode", nullable=True),
    text("ipv6_address_mode", nullable=True),
    json("dns_nameservers", default=list),
    json("host_routes", default=list),
    text("subnetpool_id", nullable=True, index=True),
    *_standard(),
    sa.Index(None, "network_id"),
)

pools = table(
    "network_allocation_pools",
    _reference("subnet_id", "network_subnets.id", cascade=True),
    integer("position"),
    text("first_key"),
    text("last_key"),
    text("next_key"),
    sa.PrimaryKeyConstraint("subnet_id", "position"),
)
"""Keys are addresses as hex digits of fixed width, so that text sorts as numbers do.
`next_key` is where the next search for a free address begins."""

ports = table(
    "network_ports",
    id_column(),
    text("project_id", index=True),
    _reference("network_id", "networks.id"),
    text("name", default=""),
    text("mac_address"),
    boolean("admin_state_up", default=True),
    text("device_id", default="", index=True),
    text("device_owner", default=""),
    boolean("port_security_enabled", default=True),
    json("allowed_address_pairs", default=list),
    json("extra_dhcp_opts", default=list),
    text("dns_name", default=""),
    json("aliases", default=list),
    json("links", default=list),
    text("host_id", nullable=True),
    text("vnic_type", default="normal"),
    json("profile", default=dict),
    text("tag", nullable=True),
    text("qos_policy_id", nullable=True, index=True),
    integer("position", default=0),
    boolean("made_by_compute", default=False),
    text("observed", nullable=True),
    text("fault", default=""),
    *_standard(),
    sa.UniqueConstraint("network_id", "mac_address"),
    sa.Index(None, "network_id", "host_id"),
    sa.Index(None, "host_id"),
)
"""`aliases` are more names of the port in its network; `links` are its own names for others: [name, the other's name, as it was asked for].
`host_id` is the host that the port is bound to; `observed` what that host's node last said of it. `position` orders the ports of a server."""

fixed_ips = table(
    "network_fixed_ips",
    _reference("subnet_id", "network_subnets.id"),
    text("key"),
    text("address"),
    _reference("port_id", "network_ports.id", cascade=True),
    integer("position", default=0),
    sa.PrimaryKeyConstraint("subnet_id", "key"),
    sa.Index(None, "port_id"),
    sa.Index(None, "address"),
)

security_groups = table(
    "network_security_groups",
    id_column(),
    text("project_id"),
    text("name", default=""),
    boolean("stateful", default=True),
    boolean("is_default", default=False),
    *_standard(),
    sa.Index(
        "uq_network_security_groups_default",
        "project_id",
        unique=True,
        sqlite_where=sa.text("is_default"),
        postgresql_where=sa.text("is_default"),
    ),
    sa.Index(None, "project_id", "name"),
)

rules = table(
    "network_security_group_rules",
    id_column(),
    text("project_id", index=True),
    _reference("security_group_id", "network_security_groups.id", cascade=True),
    text("direction"),
    text("ethertype"),
    text("protocol", nullable=True),
    integer("port_range_min", nullable=True),
    integer("port_range_max", nullable=True),
    text("remote_ip_prefix", nullable=True),
    _reference("remote_group_id", "network_security_groups.id", cascade=True, nullable=True),
    text("remote_address_group_id", nullable=True, index=True),
    *_standard(),
    sa.Index(None, "security_group_id"),
    sa.Index(None, "remote_group_id"),
)

port_groups = table(
    "network_port_security_groups",
    _reference("port_id", "network_ports.id", cascade=True),
    _reference("security_group_id", "network_security_groups.id"),
    sa.PrimaryKeyConstraint("port_id", "security_group_id"),
    sa.Index(None, "security_group_id"),
)

presence = table(
    "network_presence",
    sa.Column("kind", sa.String(20)),
    sa.Column("object_id", sa.String(64)),
    sa.Column("host_id", sa.String(64)),
    integer("ports"),
    sa.PrimaryKeyConstraint("kind", "object_id", "host_id"),
    sa.Index(None, "host_id"),
)
"""How many ports bound to a host use a network or a security group: it has to be there while there is one."""

routers = table(
    "network_routers",
    id_column(),
    text("project_id", index=True),
    text("name", default=""),
    boolean("admin_state_up", default=True),
    _reference("external_network_id", "networks.id", nullable=True),
    _reference("gateway_port_id", "network_ports.id", nullable=True),
    boolean("enable_snat", default=True),
    json("routes", default=list),
    json("availability_zone_hints", default=list),
    text("host_id", nullable=True, index=True),
    text("observed", nullable=True),
    text("fault", default=""),
    boolean("ha", default=False),
    *_standard(),
)
"""One that is `ha` is moved when its host is lost. Interfaces and gateway are ports whose device_id is the router."""

floating_ips = table(
    "network_floating_ips",
    id_column(),
    text("project_id", index=True),
    _reference("floating_network_id", "networks.id"),
    text("floating_ip_address"),
    _reference("floating_port_id", "network_ports.id"),
    _reference("port_id", "network_ports.id", nullable=True),
    text("fixed_ip_address", nullable=True),
    _reference("router_id", "network_routers.id", nullable=True),
    text("dns_name", default=""),
    text("dns_domain", default=""),
    text("qos_policy_id", nullable=True, index=True),
    *_standard(),
    sa.UniqueConstraint("port_id", "fixed_ip_address"),
    sa.Index(None, "router_id"),
    sa.Index(None, "floating_port_id"),
    sa.Index(None, "floating_ip_address"),
)

forwards = table(
    "network_port_forwards",
    id_column(),
    text("project_id", index=True),
    _reference("router_id", "network_routers.id", cascade=True),
    _reference("port_id", "network_ports.id", cascade=True),
    _reference("floating_ip_id", "network_floating_ips.id", cascade=True, nullable=True),
    text("protocol"),
    text("external_address", default=""),
    text("host_address", default=""),
    integer("external_port"),
    text("internal_address"),
    integer("internal_port"),
    *_standard(),
    sa.Index(None, "router_id"),
    sa.Index(None, "port_id"),
    sa.Index(None, "floating_ip_id"),
    sa.Index(None, "protocol", "external_port"),
)
"""One published port each. Without a floating IP the router's host forwards its own addresses' port (`host_address`: one of them only)."""

subnet_pools = table(
    "network_subnet_pools",
    id_column(),
    text("project_id", index=True),
    text("name"),
    json("prefixes", default=list),
    integer("ip_version"),
    integer("min_prefixlen"),
    integer("max_prefixlen"),
    integer("default_prefixlen"),
    integer("default_quota", nullable=True),
    text("address_scope_id", nullable=True, index=True),
    boolean("shared", default=False),
    boolean("is_default", default=False),
    *_standard(),
)

address_scopes = table(
    "network_address_scopes",
    id_column(),
    text("project_id", index=True),
    text("name"),
    integer("ip_version"),
    *_standard(),
)

address_groups = table(
    "network_address_groups",
    id_column(),
    text("project_id", index=True),
    text("name", default=""),
    json("addresses", default=list),
    *_standard(),
)

rbac_policies = table(
    "network_rbac_policies",
    id_column(),
    text("project_id", index=True),
    text("object_type"),
    text("object_id"),
    text("target_project"),
    text("action"),
    *_standard(),
    sa.UniqueConstraint("object_type", "object_id", "target_project", "action"),
    sa.Index(None, "object_id"),
    sa.Index(None, "object_type", "target_project"),
)
"""Who may use a thing that another project owns. `*` as the target is everyone."""

qos_policies = table(
    "network_qos_policies",
    id_column(),
    text("project_id", index=True),
    text("name"),
    boolean("is_default", default=False),
    *_standard(),
)

qos_rules = table(
    "network_qos_rules",
    id_column(),
    _reference("qos_policy_id", "network_qos_policies.id", cascade=True),
    text("type"),
    text("direction", default=""),
    integer("max_kbps", nullable=True),
    integer("max_burst_kbps", nullable=True),
    integer("dscp_mark", nullable=True),
    moment("created_at"),
    sa.UniqueConstraint("qos_policy_id", "type", "direction"),
)
"""A policy has one rule of each type and direction."""

default_rules = table(
    "network_default_security_group_rules",
    id_column(),
    text("direction"),
    text("ethertype"),
    text("protocol", nullable=True),
    integer("port_range_min", nullable=True),
    integer("port_range_max", nullable=True),
    text("remote_ip_prefix", nullable=True),
    text("remote_group_id", nullable=True),
    boolean("used_in_default_sg", default=False),
    boolean("used_in_non_default_sg", default=True),
    text("project_id", default=""),
    *_standard(),
)
"""Templates of the rules that a new group begins with. A remote_group_id of PARENT is the new group itself."""

metering_labels = table(
    "network_metering_labels",
    id_column(),
    text("project_id", index=True),
    text("name", default=""),
    boolean("shared", default=False),
    *_standard(),
)

metering_rules = table(
    "network_metering_label_rules",
    id_column(),
    text("project_id", index=True),
    _reference("metering_label_id", "network_metering_labels.id", cascade=True),
    text("direction"),
    text("remote_ip_prefix", nullable=True),
    text("source_ip_prefix", nullable=True),
    text("destination_ip_prefix", nullable=True),
    boolean("excluded", default=False),
    *_standard(),
    sa.Index(None, "metering_label_id"),
)

tags = table(
    "network_tags",
    sa.Column("resource_id", sa.String(64), primary_key=True),
    sa.Column("tag", sa.Text, primary_key=True),
)

quotas = table(
    "network_quotas",
    sa.Column("project_id", sa.String(64), primary_key=True),
    sa.Column("resource", sa.String(30), primary_key=True),
    integer("limit"),
)

usages = table(
    "network_usages",
    sa.Column("project_id", sa.String(64), primary_key=True),
    sa.Column("resource", sa.String(30), primary_key=True),
    integer("used"),
)
"""What a project uses of its quota, changed in the transaction that makes or removes the thing."""
