"""Subnets: https://docs.openstack.org/api-ref/network/v2/#subnets."""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid
from nacre.cloud.network import driven, ipam, marks, networks, quotas, rbac, subnetpools, walls
from nacre.cloud.network.common import Readable, forget_tags, grouped, project_of, rows_of, stamped, touch
from nacre.cloud.network.tables import fixed_ips, pools, ports, subnets
from nacre.cloud.network.tables import networks as networks_table
from nacre.store import Page, Query

NAMESERVERS_MAX = 5
HOST_ROUTES_MAX = 20
"""Neutron's limits (max_dns_nameservers, max_subnet_host_routes)."""
POOLS_MAX = 50


def _visible(ctx: Context) -> sa.ColumnElement[bool] | None:
    if ctx.is_admin:
        return None
    mine = sa.select(networks_table.c.id).where(networks_table.c.project_id == (ctx.project_id or ""))
    shared = rbac.granted(ctx, "network", rbac.SHARED)
    return sa.or_(
        subnets.c.project_id == (ctx.project_id or ""), subnets.c.network_id.in_(mine), subnets.c.network_id.in_(shared)
    )


def _complete(conn: sa.Connection, rows: list[Row]) -> None:
    select = sa.select(pools).order_by(pools.c.position)
    by_subnet = grouped(rows_of(conn, select, pools.c.subnet_id, (row["id"] for row in rows)), "subnet_id")
    for row in rows:
        row["allocation_pools"] = [
            {"start": str(ipam.address_of(pool["first_key"])), "end": str(ipam.address_of(pool["last_key"]))}
            for pool in by_subnet.get(row["id"], ())
        ]


_SHARED = sa.select(networks_table.c.shared).where(networks_table.c.id == subnets.c.network_id).scalar_subquery()
_READ = Readable("Subnet", subnets, _visible, _complete, extra={"shared": _SHARED})
get = _READ.get
plain = _READ.plain


def find(conn: sa.Connection, ctx: Context, query: Query) -> Page:
    return _READ.find(conn, ctx, query)


def create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    values = dict(values)
    network = networks.plain(conn, ctx, values["network_id"], owned=True)
    driven.refuse(network, "Another subnet is")
    values.setdefault("project_id", network["project_id"])
    project_id = project_of(ctx, values)
    cidr = _cidr(conn, ctx, values, project_id)
    _check_overlap(conn, network["id"], cidr)
    gateway = _gateway(values, cidr)
    row = stamped(project_id, {**_columns(values), "cidr": str(cidr), "ip_version": cidr.version})
    row["gateway_ip"] = None if gateway is None else str(gateway)
    asked = values.get("allocation_pools")
    ranges = ipam.default_pools(cidr, gateway) if asked is None else ipam.check_pools(cidr, gateway, _bounded_pools(asked))
    _check_modes(row, cidr)
    _check_lists(row, cidr)
    conn.execute(subnets.insert(), row)
    ipam.set_pools(conn, row["id"], ranges)
    quotas.charge(conn, project_id, "subnet")
    walls.subnets_changed(conn, network["id"])
    _mark_network(conn, network["id"])
    return _READ.some(conn, subnets.c.id == row["id"])[0]


def update(conn: sa.Connection, ctx: Context, ident: str, values: Row) -> Row:
    row = plain(conn, ctx, ident, owned=True)
    if not {"name", "description"}.issuperset(values):
        driven.check(conn, row["network_id"], "A change of a subnet is")
    changes = _columns(values)
    cidr = ipam.parse_cidr(row["cidr"], "cidr")
    gateway = _given_gateway(values["gateway_ip"], cidr) if "gateway_ip" in values else None
    if "gateway_ip" in values:
        changes["gateway_ip"] = None if gateway is None else str(gateway)
        if changes["gateway_ip"] != row["gateway_ip"]:
            _check_gateway_unused(conn, row)
    elif row["gateway_ip"] is not None:
        gateway = ipam.parse_address(row["gateway_ip"], "gateway_ip")
    _check_lists({**row, **changes}, cidr)
    asked = values.get("allocation_pools")
    if asked is not None:
        ipam.set_pools(conn, ident, ipam.check_pools(cidr, gateway, _bounded_pools(asked)))
    elif "gateway_ip" in values:
        ipam.check_pools(cidr, gateway, get(conn, ctx, ident)["allocation_pools"])
    if changes.get("enable_dhcp") is False and (row["ipv6_ra_mode"] or row["ipv6_address_mode"]):
        raise Invalid("ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False.", field="enable_dhcp")
    touch(conn, subnets, ident, changes)
    _mark_network(conn, row["network_id"])
    return get(conn, ctx, ident)


def delete(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """Raises Conflict while ports have addresses of it, except those that hosts make themselves."""
    row = plain(conn, ctx, ident, owned=True)
    driven.check(conn, row["network_id"], "The removal of a subnet is")
    users = (
        sa.select(fixed_ips.c.port_id, ports.c.device_owner)
        .join(ports, ports.c.id == fixed_ips.c.port_id)
        .where(fixed_ips.c.subnet_id == ident)
    )
    if ipam.is_auto(row):
        users = users.where(ports.c.device_owner.like("network:%"))
    found = conn.execute(users.limit(1)).first()
    if found is not None:
        raise Conflict(
            f"Unable to complete operation on subnet {ident}: One or more ports have an IP allocation from this subnet.",
            code="SubnetInUse",
        )
    touched = _free_all(conn, ident)
    conn.execute(pools.delete().where(pools.c.subnet_id == ident))
    conn.execute(subnets.delete().where(subnets.c.id == ident))
    forget_tags(conn, ident)
    walls.subnets_changed(conn, row["network_id"])
    quotas.refund(conn, row["project_id"], "subnet")
    gathered = marks.Marks()
    for port in rows_of(conn, sa.select(ports), ports.c.id, touched):
        marks.changed(conn, gathered, port)
    marks.network_changed(conn, gathered, row["network_id"])
    gathered.flush(conn)


def _free_all(conn: sa.Connection, ident: str) -> list[str]:
    port_ids = list(conn.execute(sa.select(fixed_ips.c.port_id).where(fixed_ips.c.subnet_id == ident).distinct()).scalars())
    conn.execute(fixed_ips.delete().where(fixed_ips.c.subnet_id == ident))
    return port_ids


def _columns(values: Row) -> Row:
    return {name: value for name, value in values.items() if name in subnets.c and name not in ("id", "network_id")} | (
        {"network_id": values["network_id"]} if "network_id" in values else {}
    )


def _cidr(conn: sa.Connection, ctx: Context, values: Row, project_id: str) -> ipam.Cidr:
    """The cidr that was sent, or one that a subnet pool has free. Raises Invalid."""
    version, sent = values.get("ip_version"), values.get("cidr")
    cidr = None if sent is None else ipam.parse_cidr(sent, "cidr")
    pool_id = values.get("subnetpool_id")
    if values.pop("use_default_subnetpool", False) and pool_id is None:
        pool_id = values["subnetpool_id"] = subnetpools.default_of(conn, ctx, version)
    if pool_id is not None:
        return subnetpools.allocate(conn, ctx, pool_id, project_id, cidr, values.pop("prefixlen", None), version)
    if cidr is None:
        raise Invalid("A subnet needs a cidr, or a subnetpool_id.", field="cidr", code="BadRequest")
    if version is None:
        raise Invalid("The ip_version must be specified.", field="ip_version")
    if version != cidr.version:
        raise Invalid(f"Invalid input for cidr: {cidr} does not match the ip_version '{version}'.", field="ip_version")
    if cidr.prefixlen == 0:
        raise Invalid("0 is not allowed as CIDR prefix length.", field="cidr")
    if cidr.network_address.is_multicast or cidr.network_address.is_loopback:
        raise Invalid(f"Multicast and loopback addresses cannot be a subnet: {cidr}.", field="cidr")
    values.pop("prefixlen", None)
    return cidr


def _check_overlap(conn: sa.Connection, network_id: str, cidr: ipam.Cidr) -> None:
    for text in conn.execute(sa.select(subnets.c.cidr).where(subnets.c.network_id == network_id)).scalars():
        other = ipam.parse_cidr(text, "cidr")
        if other.version == cidr.version and cidr.overlaps(other):
            raise Invalid(
                f"Requested subnet with cidr: {cidr} for network: {network_id} overlaps with another subnet.", field="cidr"
            )


def _gateway(values: Row, cidr: ipam.Cidr) -> ipam.Address | None:
    """The gateway that was sent, none for null, the first address when nothing was sent."""
    if "gateway_ip" in values:
        return _given_gateway(values["gateway_ip"], cidr)
    return ipam.first_usable(cidr)


def _given_gateway(text: str | None, cidr: ipam.Cidr) -> ipam.Address | None:
    if text is None:
        return None
    gateway = ipam.parse_address(text, "gateway_ip")
    link_local = gateway.version == 6 and gateway.is_link_local
    if gateway.version != cidr.version or not (link_local or ipam.usable(cidr, gateway)):
        raise Invalid(f"Gateway is not valid on subnet: {gateway} is not in {cidr}.", field="gateway_ip", code="InvalidInput")
    return gateway


def _check_gateway_unused(conn: sa.Connection, row: Row) -> None:
    if row["gateway_ip"] is None:
        return
    used = conn.execute(
        sa.select(ports.c.id)
        .join(fixed_ips, fixed_ips.c.port_id == ports.c.id)
        .where(
            fixed_ips.c.subnet_id == row["id"],
            fixed_ips.c.address == row["gateway_ip"],
            ports.c.device_owner == "network:router_interface",
        )
    ).scalar()
    if used is not None:
        raise Conflict(
            f"Current gateway ip {row['gateway_ip']} already in use by port {used}. Unable to update.", code="GatewayIpInUse"
        )


def _bounded_pools(asked: list[dict[str, str]]) -> list[dict[str, str]]:
    if len(asked) > POOLS_MAX:
        raise Invalid(f"A subnet has at most {POOLS_MAX} allocation pools.", field="allocation_pools")
    return asked


def _check_modes(row: Row, cidr: ipam.Cidr) -> None:
    """https://docs.openstack.org/api-ref/network/v2/#subnets: both modes equal when both are set; SLAAC needs a /64."""
    ra_mode, address_mode = row.get("ipv6_ra_mode"), row.get("ipv6_address_mode")
    if not ra_mode and not address_mode:
        return
    if cidr.version == 4:
        raise Invalid("ipv6_ra_mode and ipv6_address_mode are valid only for IPv6 subnets.", field="ipv6_ra_mode")
    if row.get("enable_dhcp") is False:
        raise Invalid("ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False.", field="ipv6_ra_mode")
    if ra_mode and address_mode and ra_mode != address_mode:
        raise Invalid(
            f"ipv6_ra_mode set to '{ra_mode}' with ipv6_address_mode set to '{address_mode}' is not valid. "
            "If both attributes are set, they must be the same value.",
            field="ipv6_address_mode",
        )
    if address_mode in ipam.AUTO_MODES and cidr.prefixlen != 64:
        raise Invalid(f"Invalid CIDR {cidr} for IPv6 address mode. SLAAC requires a prefix length of 64.", field="cidr")


def _check_lists(row: Row, cidr: ipam.Cidr) -> None:
    nameservers: list[str] = row.get("dns_nameservers") or []
    routes: list[Any] = row.get("host_routes") or []
    if len(nameservers) > NAMESERVERS_MAX:
        raise Invalid(
            f"The number of DNS nameservers exceeds the limit {NAMESERVERS_MAX}.",
            field="dns_nameservers",
            code="DNSNameServersExhausted",
        )
    if len(routes) > HOST_ROUTES_MAX:
        raise Invalid(
            f"The number of host routes exceeds the limit {HOST_ROUTES_MAX}.", field="host_routes", code="HostRoutesExhausted"
        )
    if len(set(nameservers)) != len(nameservers):
        raise Invalid("Duplicate items in dns_nameservers.", field="dns_nameservers")
    for nameserver in nameservers:
        ipam.parse_address(nameserver, "dns_nameservers")
    for route in routes:
        destination = ipam.parse_cidr(route["destination"], "host_routes", exact=False)
        nexthop = ipam.parse_address(route["nexthop"], "host_routes")
        if destination.version != cidr.version or nexthop.version != cidr.version:
            raise Invalid(f"Host routes must be of IP version {cidr.version}.", field="host_routes")


def _mark_network(conn: sa.Connection, network_id: str) -> None:
    gathered = marks.Marks()
    marks.network_changed(conn, gathered, network_id)
    gathered.flush(conn)
