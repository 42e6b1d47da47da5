"""The network's part of the audit: ports, addresses, presence and usage counted again."""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute.tables import servers
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.network.tables import (
    address_groups,
    address_scopes,
    fixed_ips,
    floating_ips,
    networks,
    port_groups,
    ports,
    presence,
    qos_policies,
    rbac_policies,
    routers,
    rules,
    security_groups,
    subnets,
    usages,
)

Found = tuple[str, str, str]
"""(kind, id, problem)."""

COUNTED = {
    "network": networks,
    "subnet": subnets,
    "port": ports,
    "router": routers,
    "floatingip": floating_ips,
    "security_group": security_groups,
    "security_group_rule": rules,
    "rbac_policy": rbac_policies,
    "address_group": address_groups,
    "address_scope": address_scopes,
    "qos_policy": qos_policies,
}


def findings(conn: sa.Connection) -> list[Found]:
    """What contradicts itself in the network's books."""
    return [*_orphan_ports(conn), *_orphan_addresses(conn), *_presence(conn), *_usage(conn)]


def _orphan_ports(conn: sa.Connection) -> list[Found]:
    """Ports of servers and routers that are not there."""
    statement = sa.select(ports.c.id, ports.c.device_owner, ports.c.device_id)
    of_compute = sa.and_(ports.c.made_by_compute, ports.c.device_id.not_in(sa.select(servers.c.id)))
    of_router = sa.and_(ports.c.device_owner.startswith("network:router"), ports.c.device_id.not_in(sa.select(routers.c.id)))
    return [
        ("port", row.id, f"belongs to {row.device_owner} {row.device_id}, which is not there")
        for row in conn.execute(statement.where(sa.or_(of_compute, of_router)))
    ]


def _orphan_addresses(conn: sa.Connection) -> list[Found]:
    statement = sa.select(fixed_ips.c.address, fixed_ips.c.port_id).where(fixed_ips.c.port_id.not_in(sa.select(ports.c.id)))
    return [("address", row.address, f"is held for port {row.port_id}, which is not there") for row in conn.execute(statement)]


def _presence(conn: sa.Connection) -> list[Found]:
    """How many ports of a host use a network or group, counted again."""
    bound = ports.c.host_id.is_not(None)
    by_network = sa.select(sa.literal("network"), ports.c.network_id, ports.c.host_id, sa.func.count()).where(bound)
    by_group = (
        sa.select(sa.literal("security_group"), port_groups.c.security_group_id, ports.c.host_id, sa.func.count())
        .join(ports, ports.c.id == port_groups.c.port_id)
        .where(bound)
    )
    counted: dict[tuple[str, str, str], int] = {
        (kind, ident, host): number
        for statement in (
            by_network.group_by(ports.c.network_id, ports.c.host_id),
            by_group.group_by(port_groups.c.security_group_id, ports.c.host_id),
        )
        for kind, ident, host, number in conn.execute(statement)
    }
    for network_id, own, number in conn.execute(_anchors()):
        key = ("network", network_id, own)
        counted[key] = counted.get(key, 0) + number
    written = {(row.kind, row.object_id, row.host_id): row.ports for row in conn.execute(sa.select(presence)) if row.ports}
    return [
        (key[0], key[1], f"presence on host {key[2]}: the row says {written.get(key, 0)}, there are {counted.get(key, 0)} ports")
        for key in sorted(counted.keys() | written.keys())
        if counted.get(key, 0) != written.get(key, 0)
    ]


def _anchors() -> sa.Select[Any]:
    """A physical network counts on the cloud's own machine once more for each other host that has it (see marks)."""
    own, other = hosts.alias("own"), hosts.alias("other")
    used = (
        sa.select(ports.c.network_id, ports.c.host_id)
        .join(networks, networks.c.id == ports.c.network_id)
        .where(networks.c.physical.is_not(None), ports.c.host_id.is_not(None))
        .distinct()
        .subquery()
    )
    return (
        sa.select(used.c.network_id, own.c.id, sa.func.count())
        .select_from(used)
        .join(other, sa.and_(other.c.id == used.c.host_id, other.c.enrolled.is_(True)))
        .join(own, own.c.enrolled.is_(False))
        .group_by(used.c.network_id, own.c.id)
    )


def _usage(conn: sa.Connection) -> list[Found]:
    found: list[Found] = []
    # What belongs to no project (gateways' and floating IPs' ports) is in nobody's quota.
    written = {(row.project_id, row.resource): row.used for row in conn.execute(sa.select(usages)) if row.used}
    for resource, table in COUNTED.items():
        each = sa.select(table.c.project_id, sa.func.count().label("there")).where(table.c.project_id != "")
        counted: dict[str, int] = {row.project_id: row.there for row in conn.execute(each.group_by(table.c.project_id))}
        projects = counted.keys() | {project for project, name in written if name == resource}
        found += [
            (
                "usage",
                project,
                f"{resource}: the row says {written.get((project, resource), 0)}, there are {counted.get(project, 0)}",
            )
            for project in sorted(projects)
            if counted.get(project, 0) != written.get((project, resource), 0)
        ]
    return found
