"""What hosts need of Networking, compiled from its tables when a node fetches.

Each compiler takes a bounded number of statements for any number of ids.
"""

from collections.abc import Sequence
from typing import Any, Literal, cast

import sqlalchemy as sa
from msgspec.structs import replace

from nacre.cloud.collection import Row
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.identity.tables import projects
from nacre.cloud.network import ipam, metering, qos
from nacre.cloud.network.common import chosen, dns_label, grouped, rows_among
from nacre.cloud.network.security_group_rules import normalized
from nacre.cloud.network.tables import (
    address_groups,
    fixed_ips,
    floating_ips,
    forwards,
    networks,
    port_groups,
    ports,
    presence,
    routers,
    rules,
    security_groups,
    subnets,
)
from nacre.protocol import networks as protocol
from nacre.protocol.messages import Kind
from nacre.store import Prepared, among

TOP_DOMAIN = "nacre"
_HOST = sa.bindparam("host", type_=sa.Text)
_NAMED_NETWORKS = sa.select(networks, projects.c.name.label("project_name")).outerjoin(
    projects, projects.c.id == networks.c.project_id
)
_PRESENT = Prepared(
    sa.select(presence.c.object_id).where(
        presence.c.host_id == _HOST, presence.c.kind == sa.bindparam("of_kind"), among(presence.c.object_id)
    )
)
_NETWORKS_HERE = sa.select(presence.c.object_id).where(presence.c.host_id == _HOST, presence.c.kind == "network")
_PORTS = Prepared(
    sa.select(ports, hosts.c.tunnel_ip, networks.c.qos_policy_id.label("network_qos_policy_id"))
    .join(networks, networks.c.id == ports.c.network_id)
    .outerjoin(hosts, hosts.c.id == ports.c.host_id)
    .where(
        among(ports.c.id),
        sa.or_(
            ports.c.host_id == _HOST,
            sa.and_(ports.c.host_id.is_not(None), networks.c.physical.is_(None), ports.c.network_id.in_(_NETWORKS_HERE)),
        ),
    )
)
_ADDRESSES = Prepared(sa.select(fixed_ips).where(among(fixed_ips.c.port_id)).order_by(fixed_ips.c.position))
_PORT_GROUPS = Prepared(sa.select(port_groups).where(among(port_groups.c.port_id)))
_GROUPS_HERE = sa.select(presence.c.object_id).where(presence.c.host_id == _HOST, presence.c.kind == "security_group")
_NAMED = Prepared(
    sa.select(rules.c.remote_group_id)
    .where(rules.c.security_group_id.in_(_GROUPS_HERE), among(rules.c.remote_group_id))
    .distinct()
)
_NAMED_ADDRESSES = Prepared(
    sa.select(address_groups.c.id, address_groups.c.addresses).where(
        among(address_groups.c.id),
        address_groups.c.id.in_(sa.select(rules.c.remote_address_group_id).where(rules.c.security_group_id.in_(_GROUPS_HERE))),
    )
)
_RULES = Prepared(sa.select(rules).where(among(rules.c.security_group_id)).order_by(rules.c.created_at, rules.c.id))
_STATELESS = Prepared(sa.select(security_groups.c.id).where(among(security_groups.c.id), security_groups.c.stateful.is_(False)))
_BOUND = (
    sa.select(port_groups.c.security_group_id)
    .join(ports, ports.c.id == port_groups.c.port_id)
    .where(ports.c.host_id.is_not(None), among(port_groups.c.security_group_id))
)
_MEMBERS = Prepared(_BOUND.add_columns(fixed_ips.c.address).join(fixed_ips, fixed_ips.c.port_id == ports.c.id))
_MEMBER_PAIRS = Prepared(
    _BOUND.add_columns(ports.c.allowed_address_pairs).where(sa.cast(ports.c.allowed_address_pairs, sa.Text) != "[]")
)


def _present(conn: sa.Connection, host_id: str, kind: Kind, ids: Sequence[str]) -> list[str]:
    return _PRESENT.scalars(conn, host=host_id, of_kind=kind, ids=list(ids))


_OUTSIDE, _OUTER = fixed_ips.alias("outside"), subnets.alias("outer")
_SUBNETS = chosen(sa.select(subnets).order_by(subnets.c.created_at, subnets.c.id), subnets.c.network_id)
_NETWORKS = chosen(_NAMED_NETWORKS, networks.c.id)


def compile_networks(conn: sa.Connection, host_id: str, ids: Sequence[str]) -> dict[str, protocol.Network]:
    """The networks that a port bound to the host is in."""
    wanted = _present(conn, host_id, "network", ids)
    by_network = grouped(rows_among(conn, _SUBNETS, wanted), "network_id")
    found = rows_among(conn, _NETWORKS, wanted)
    ways = _ways(conn, host_id, [row["id"] for row in found if row["physical"]])
    return {
        row["id"]: protocol.Network(
            id=row["id"],
            vni=row["vni"],
            mtu=row["mtu"],
            subnets=tuple(_subnet(subnet) for subnet in by_network.get(row["id"], ())),
            physical=row["physical"],
            admin_state_up=row["admin_state_up"],
            dns_domain=row["dns_domain"],
            domain=_domain(row["project_name"]),
            driver=row["driver"],
            driver_options=row["driver_options"] if row["driver"] else {},
            ways=ways.get(row["id"], ()),
        )
        for row in found
    }


_BEHIND = chosen(
    sa.select(
        routers.c.external_network_id,
        subnets.c.cidr,
        subnets.c.ip_version,
        routers.c.enable_snat,
        routers.c.host_id,
        _OUTSIDE.c.address,
    )
    .join(ports, sa.and_(ports.c.device_id == routers.c.id, ports.c.device_owner == "network:router_interface"))
    .join(fixed_ips, fixed_ips.c.port_id == ports.c.id)
    .join(subnets, subnets.c.id == fixed_ips.c.subnet_id)
    .join(_OUTSIDE, _OUTSIDE.c.port_id == routers.c.gateway_port_id)
    .join(_OUTER, sa.and_(_OUTER.c.id == _OUTSIDE.c.subnet_id, _OUTER.c.ip_version == subnets.c.ip_version))
    .where(routers.c.host_id.is_not(None), routers.c.admin_state_up.is_(True))
    .order_by(routers.c.created_at, routers.c.id, subnets.c.cidr),
    routers.c.external_network_id,
)


def _ways(conn: sa.Connection, host_id: str, network_ids: Sequence[str]) -> dict[str, tuple[protocol.HostRoute, ...]]:
    """By external network: the prefixes behind routers on other hosts that SNAT does not hide, each with the router's address outside.
    They are for the cloud's own machine. Of two tenants with the same prefix the older router's has it."""
    enrolled = conn.execute(sa.select(hosts.c.enrolled).where(hosts.c.id == host_id)).scalar() if network_ids else True
    found: dict[str, dict[str, str]] = {}
    for row in rows_among(conn, _BEHIND, [] if enrolled else network_ids):
        if row["host_id"] != host_id and not (row["ip_version"] == 4 and row["enable_snat"]):
            found.setdefault(row["external_network_id"], {}).setdefault(row["cidr"], row["address"])
    return {ident: tuple(protocol.HostRoute(*way) for way in ways.items()) for ident, ways in found.items()}


def _domain(project_name: str | None) -> str:
    label = dns_label(project_name or "")
    return f"{label}.{TOP_DOMAIN}" if label else ""


def _version(number: int) -> Literal[4, 6]:
    return 4 if number == 4 else 6


def _routes(found: list[Row]) -> tuple[protocol.HostRoute, ...]:
    return tuple(protocol.HostRoute(route["destination"], route["nexthop"]) for route in found)


def _subnet(row: Row) -> protocol.Subnet:
    return protocol.Subnet(
        id=row["id"],
        cidr=row["cidr"],
        version=_version(row["ip_version"]),
        gateway_ip=row["gateway_ip"],
        dns_nameservers=tuple(row["dns_nameservers"]),
        host_routes=_routes(row["host_routes"]),
        enable_dhcp=row["enable_dhcp"],
        ipv6_address_mode=row["ipv6_address_mode"],
        ipv6_ra_mode=row["ipv6_ra_mode"],
    )


def compile_ports(conn: sa.Connection, host_id: str, ids: Sequence[str]) -> dict[str, protocol.Port]:
    """The ports bound to the host, and of those bound elsewhere the ones in a tenant network that the host has."""
    found = _PORTS.rows(conn, host=host_id, ids=list(ids))
    wanted = [row["id"] for row in found]
    addresses = grouped(_ADDRESSES.rows(conn, ids=wanted), "port_id")
    groups = grouped(_PORT_GROUPS.rows(conn, ids=wanted), "port_id")
    limits = qos.limits_of_ports(conn, found)
    return {
        row["id"]: _port(row, host_id, addresses.get(row["id"], []), groups.get(row["id"], []), limits.get(row["id"], ()))
        for row in found
    }


def _port(
    row: Row, host_id: str, addresses: list[Row], groups: list[Row], limits: tuple[protocol.BandwidthLimit, ...]
) -> protocol.Port:
    local = row["host_id"] == host_id
    return protocol.Port(
        id=row["id"],
        network_id=row["network_id"],
        mac=row["mac_address"],
        fixed_ips=tuple(protocol.FixedIp(each["subnet_id"], each["address"]) for each in addresses),
        local=local,
        tunnel_ip=None if local else row["tunnel_ip"],
        device_id=row["device_id"],
        device_owner=row["device_owner"],
        security_groups=tuple(sorted(each["security_group_id"] for each in groups)) if local else (),
        port_security=row["port_security_enabled"],
        allowed_address_pairs=tuple(
            protocol.AddressPair(pair["ip_address"], pair.get("mac_address") or row["mac_address"])
            for pair in row["allowed_address_pairs"]
        ),
        admin_state_up=row["admin_state_up"],
        dns_name=row["dns_name"],
        aliases=tuple(row["aliases"]),
        links=tuple((name, target) for name, target, _ in row["links"]) if local else (),
        limits=limits if local else (),
    )


def compile_security_groups(conn: sa.Connection, host_id: str, ids: Sequence[str]) -> dict[str, protocol.SecurityGroup]:
    """The groups that a port bound to the host uses, with their rules; and those that such a group's rules name, for their members.

    An address group is to a host a group that has members and no rules.
    """
    used = set(_present(conn, host_id, "security_group", ids))
    named = set(_NAMED.scalars(conn, host=host_id, ids=list(ids)))
    by_group = grouped(_RULES.rows(conn, ids=list(used)), "security_group_id")
    members = _members(conn, named)
    stateless = set(_STATELESS.scalars(conn, ids=list(used | named)))
    addresses = {row["id"]: row["addresses"] for row in _NAMED_ADDRESSES.rows(conn, host=host_id, ids=list(ids))}
    return {ident: protocol.SecurityGroup(ident, members=tuple(sorted(found))) for ident, found in addresses.items()} | {
        ident: protocol.SecurityGroup(
            ident,
            tuple(_rule(rule) for rule in by_group.get(ident, ())),
            tuple(sorted(members.get(ident, ()))),
            ident not in stateless,
        )
        for ident in used | named
    }


def _members(conn: sa.Connection, groups: set[str]) -> dict[str, set[str]]:
    """The addresses of the groups' bound ports, and what else these may send from."""
    found: dict[str, set[str]] = {}
    for row in _MEMBERS.rows(conn, ids=list(groups)):
        found.setdefault(row["security_group_id"], set()).add(row["address"])
    for row in _MEMBER_PAIRS.rows(conn, ids=list(groups)):
        more = (pair["ip_address"] for pair in row["allowed_address_pairs"])
        found.setdefault(row["security_group_id"], set()).update(more)
    return found


def _rule(row: Row) -> protocol.SecurityGroupRule:
    return protocol.SecurityGroupRule(
        id=row["id"],
        direction=cast(Literal["ingress", "egress"], row["direction"]),
        version=4 if row["ethertype"] == "IPv4" else 6,
        protocol=row["protocol"],
        port_min=row["port_range_min"],
        port_max=row["port_range_max"],
        remote_prefix=normalized(row["remote_ip_prefix"]),
        remote_group_id=row["remote_group_id"] or row["remote_address_group_id"],
    )


_ROUTERS = chosen(sa.select(routers), routers.c.id)
_LEGS = chosen(
    sa.select(
        ports.c.device_id,
        ports.c.id,
        ports.c.network_id,
        ports.c.mac_address,
        fixed_ips.c.address,
        subnets.c.cidr,
        subnets.c.gateway_ip,
    )
    .join(fixed_ips, fixed_ips.c.port_id == ports.c.id)
    .join(subnets, subnets.c.id == fixed_ips.c.subnet_id)
    .where(sa.or_(ports.c.device_owner == "network:router_interface", ports.c.device_owner == "network:router_gateway"))
    .order_by(ports.c.created_at, ports.c.id, fixed_ips.c.position),
    ports.c.device_id,
)
_FLOATING = chosen(sa.select(floating_ips), floating_ips.c.router_id)
_FORWARDS = chosen(sa.select(forwards).order_by(forwards.c.created_at, forwards.c.id), forwards.c.router_id)


def compile_routers(conn: sa.Connection, host_id: str, ids: Sequence[str]) -> dict[str, protocol.Router]:
    """The routers that the host bears."""
    found = [row for row in rows_among(conn, _ROUTERS, ids) if row["host_id"] == host_id]
    wanted = [row["id"] for row in found]
    by_router = grouped(rows_among(conn, _LEGS, wanted), "device_id")
    floating = grouped(rows_among(conn, _FLOATING, wanted), "router_id")
    leading = grouped(rows_among(conn, _FORWARDS, wanted), "router_id")
    limits = qos.limits(conn, [each["qos_policy_id"] for some in floating.values() for each in some])
    meters = metering.of_projects(conn, {row["project_id"] for row in found})
    return {
        row["id"]: replace(
            _router(row, by_router.get(row["id"], []), floating.get(row["id"], []), leading.get(row["id"], []), limits),
            meters=meters.get(row["project_id"], ()),
        )
        for row in found
    }


def _router(
    row: Row,
    legs: list[Row],
    floating: list[Row],
    leading: list[Row],
    limits: dict[str, tuple[protocol.BandwidthLimit, ...]],
) -> protocol.Router:
    by_port = grouped(legs, "id")
    gateway = by_port.pop(row["gateway_port_id"], None)
    return protocol.Router(
        id=row["id"],
        interfaces=tuple(protocol.RouterInterface(**_leg(addresses)) for addresses in by_port.values()),
        gateway=None
        if gateway is None
        else protocol.RouterGateway(
            **_leg(gateway),
            nexthops=tuple(leg["gateway_ip"] for leg in gateway if leg["gateway_ip"] is not None),
            snat=row["enable_snat"],
        ),
        routes=_routes(row["routes"]),
        floating_ips=tuple(
            protocol.FloatingIp(
                each["id"], each["floating_ip_address"], each["fixed_ip_address"], limits.get(each["qos_policy_id"], ())
            )
            for each in floating
            if each["fixed_ip_address"] is not None
        ),
        forwards=tuple(_forward(each) for each in leading) if gateway is not None else (),
        admin_state_up=row["admin_state_up"],
        ha=row["ha"],
    )


def _forward(row: Row) -> protocol.PortForward:
    return protocol.PortForward(
        id=row["id"],
        protocol=row["protocol"],
        external_port=row["external_port"],
        internal_address=row["internal_address"],
        internal_port=row["internal_port"],
        external_address=row["external_address"],
        host_address=row["host_address"],
    )


def _leg(addresses: list[Row]) -> dict[str, Any]:
    first = addresses[0]
    return {
        "port_id": first["id"],
        "network_id": first["network_id"],
        "mac": first["mac_address"],
        "addresses": tuple(f"{each['address']}/{ipam.parse_cidr(each['cidr'], 'cidr').prefixlen}" for each in addresses),
    }
