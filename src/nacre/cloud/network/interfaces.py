"""A router's legs in tenant networks: add_router_interface and remove_router_interface."""

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid, NotFound
from nacre.cloud.network import driven, ipam, marks, networks, ports, quotas, routers, subnets
from nacre.cloud.network.tables import fixed_ips, floating_ips, forwards
from nacre.cloud.network.tables import ports as ports_table
from nacre.cloud.network.tables import subnets as subnets_table

OWNER = "network:router_interface"


def add(conn: sa.Connection, ctx: Context, ident: str, *, subnet_id: str | None = None, port_id: str | None = None) -> Row:
    """By subnet: a port with the subnet's gateway address is made. By port: that port is taken. Raises Invalid, NotFound, Conflict."""
    router = routers.plain(conn, ctx, ident, owned=True)
    if (subnet_id is None) == (port_id is None):
        which = "Cannot specify both subnet-id and port-id" if subnet_id else "Either subnet_id or port_id must be specified"
        raise Invalid(which + ".", field="subnet_id", code="BadRequest")
    port = _take_port(conn, ctx, router, port_id) if port_id is not None else _make_port(conn, ctx, router, str(subnet_id))
    routers.connect(conn, ident)
    return _answer(router, port, [each["subnet_id"] for each in routers.interfaces(conn, ident) if each["port_id"] == port["id"]])


def remove(conn: sa.Connection, ctx: Context, ident: str, *, subnet_id: str | None = None, port_id: str | None = None) -> Row:
    """Raises NotFound when there is no such interface, Conflict while floating IPs or routes need it."""
    router = routers.plain(conn, ctx, ident, owned=True)
    if subnet_id is None and port_id is None:
        raise Invalid("Either subnet_id or port_id must be specified.", field="subnet_id", code="BadRequest")
    held = routers.interfaces(conn, ident)
    mine = [each for each in held if each["port_id"] == port_id] if port_id is not None else held
    if port_id is not None and not mine:
        raise NotFound(f"Router {ident} does not have an interface with id {port_id}", code="RouterInterfaceNotFound")
    leaving = [each for each in mine if subnet_id is None or each["subnet_id"] == subnet_id]
    if not leaving:
        if port_id is not None:
            raise Conflict(
                f"Subnet on port {port_id} does not match the requested subnet {subnet_id}.", code="SubnetMismatchForPort"
            )
        subnets.plain(conn, ctx, str(subnet_id))
        raise NotFound(f"Router {ident} has no interface on subnet {subnet_id}", code="RouterInterfaceNotFoundForSubnet")
    for each in leaving:
        _check_unneeded(conn, router, each)
    port = dict(conn.execute(sa.select(ports_table).where(ports_table.c.id == leaving[0]["port_id"])).mappings().one())
    staying = [each for each in held if each["port_id"] == port["id"] and each not in leaving]
    if staying:
        _drop_addresses(conn, port, [each["subnet_id"] for each in leaving])
    else:
        ports.remove(conn, port)
        quotas.refund(conn, port["project_id"], "port")
    routers.connect(conn, ident)
    return _answer(router, port, [each["subnet_id"] for each in leaving])


def _answer(router: Row, port: Row, subnet_ids: list[str]) -> Row:
    return {
        "id": router["id"],
        "tenant_id": router["project_id"],
        "project_id": router["project_id"],
        "port_id": port["id"],
        "network_id": port["network_id"],
        "subnet_id": subnet_ids[0],
        "subnet_ids": subnet_ids,
        "tags": [],
    }


def _make_port(conn: sa.Connection, ctx: Context, router: Row, subnet_id: str) -> Row:
    subnet = subnets.plain(conn, ctx, subnet_id)
    if subnet["gateway_ip"] is None:
        raise Invalid("Subnet for router interface must have a gateway IP", field="subnet_id", code="BadRequest")
    _check_overlap(conn, router, [subnet])
    network = networks.plain(conn, ctx, subnet["network_id"])
    driven.refuse(network, "A router is")
    values = {
        "device_id": router["id"],
        "device_owner": OWNER,
        "fixed_ips": [{"subnet_id": subnet_id, "ip_address": subnet["gateway_ip"]}],
    }
    port = ports.insert(conn, network, router["project_id"], values, router=True)
    quotas.charge(conn, router["project_id"], "port")
    return port


def _take_port(conn: sa.Connection, ctx: Context, router: Row, port_id: str) -> Row:
    port = ports.plain(conn, ctx, port_id, owned=True)
    if port["device_id"] or port["host_id"]:
        raise Conflict(
            f"Unable to complete operation on port {port_id} for network {port['network_id']}. "
            f"Port already has an attached device {port['device_id']}.",
            code="PortInUse",
        )
    on_port = sa.select(fixed_ips.c.subnet_id).where(fixed_ips.c.port_id == port_id)
    found = [dict(row) for row in conn.execute(sa.select(subnets_table).where(subnets_table.c.id.in_(on_port))).mappings()]
    if not found:
        raise Invalid("Router port must have at least one fixed IP", field="port_id", code="BadRequest")
    if sum(subnet["ip_version"] == 4 for subnet in found) > 1:
        raise Invalid("Cannot have multiple IPv4 subnets on router port", field="port_id", code="BadRequest")
    _check_overlap(conn, router, found)
    ports.set_groups(conn, port, [])
    changes = {"device_id": router["id"], "device_owner": OWNER, "port_security_enabled": False, "allowed_address_pairs": []}
    conn.execute(ports_table.update().where(ports_table.c.id == port_id).values(changes))
    return port


def _check_overlap(conn: sa.Connection, router: Row, joining: list[Row]) -> None:
    held = routers.interfaces(conn, router["id"])
    for subnet in joining:
        cidr = ipam.parse_cidr(subnet["cidr"], "cidr")
        for each in held:
            if each["subnet_id"] == subnet["id"]:
                raise Invalid(f"Router already has a port on subnet {subnet['id']}", field="subnet_id", code="BadRequest")
            other = ipam.parse_cidr(each["cidr"], "cidr")
            if other.version == cidr.version and cidr.overlaps(other):
                raise Invalid(
                    f"Cidr {cidr} of subnet {subnet['id']} overlaps with cidr {other} of subnet {each['subnet_id']}.",
                    field="subnet_id",
                    code="BadRequest",
                )


def _check_unneeded(conn: sa.Connection, router: Row, interface: Row) -> None:
    needing = (
        sa.select(floating_ips.c.id)
        .join(
            fixed_ips,
            sa.and_(fixed_ips.c.port_id == floating_ips.c.port_id, fixed_ips.c.address == floating_ips.c.fixed_ip_address),
        )
        .where(floating_ips.c.router_id == router["id"], fixed_ips.c.subnet_id == interface["subnet_id"])
    )
    if conn.execute(needing.limit(1)).first() is not None:
        raise Conflict(
            f"Router interface for subnet {interface['subnet_id']} on router {router['id']} cannot be deleted, "
            "as it is required by one or more floating IPs.",
            code="RouterInterfaceInUseByFloatingIP",
        )
    leading = (
        sa.select(forwards.c.id)
        .join(floating_ips, floating_ips.c.id == forwards.c.floating_ip_id)
        .join(fixed_ips, sa.and_(fixed_ips.c.port_id == forwards.c.port_id, fixed_ips.c.address == forwards.c.internal_address))
        .where(
            forwards.c.router_id == router["id"],
            fixed_ips.c.subnet_id == interface["subnet_id"],
            floating_ips.c.port_id.is_(None),
        )
    )
    if conn.execute(leading.limit(1)).first() is not None:
        raise Conflict(
            f"Router interface for subnet {interface['subnet_id']} on router {router['id']} cannot be deleted, "
            "as it is required by one or more port forwardings.",
            code="RouterInterfaceInUseByFloatingIP",
        )
    cidr = ipam.parse_cidr(interface["cidr"], "cidr")
    for route in router["routes"]:
        nexthop = ipam.parse_address(route["nexthop"], "routes")
        if nexthop.version == cidr.version and nexthop in cidr:
            raise Conflict(
                f"Router interface for subnet {interface['subnet_id']} on router {router['id']} cannot be deleted, "
                "as it is required by one or more routes.",
                code="RouterInterfaceInUseByRoute",
            )


def _drop_addresses(conn: sa.Connection, port: Row, subnet_ids: list[str]) -> None:
    conn.execute(fixed_ips.delete().where(fixed_ips.c.port_id == port["id"], fixed_ips.c.subnet_id.in_(subnet_ids)))
    gathered = marks.Marks()
    marks.changed(conn, gathered, port)
    gathered.flush(conn)
