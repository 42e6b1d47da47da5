"""What Compute asks of Networking, inside its own transaction: ports for a server, and what a server's addresses are."""

from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Forbidden, Invalid, NotFound
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.network import driven, fixedips, ipam, networks, ports, quotas, rbac, security_groups, topology
from nacre.cloud.network.common import chosen, dns_label, rows_among
from nacre.cloud.network.marks import Marks, changed, groups_of
from nacre.cloud.network.tables import fixed_ips, floating_ips, port_groups, subnets
from nacre.cloud.network.tables import networks as networks_table
from nacre.cloud.network.tables import ports as ports_table
from nacre.cloud.network.tables import security_groups as groups_table
from nacre.store import Prepared, among
from nacre.store.schema import now

OWNER_PREFIX = "compute:"


class NetworkRequest(msgspec.Struct):
    """One network interface as a server's create (or an interface attach) asks for it: a network, or a port."""

    network_id: str | None = None
    port_id: str | None = None
    fixed_ip: str | None = None
    tag: str | None = None
    fixed_ips: tuple[str, ...] = ()
    """Addresses of a port that is made, one of an IP version at most; of the other version it gets one as usual."""
    mac_address: str | None = None
    aliases: tuple[str, ...] = ()
    links: tuple[tuple[str, str, str], ...] = ()
    """As in the table of ports."""
    security_groups: tuple[str, ...] | None = None
    """The ids of the groups of a port that is made, in place of the server's. They are not looked up: no client names them."""
    driver: str = ""
    """Of the network, where it is a plugin of Docker's and who asks has seen to it that the host has it."""


def resolve(
    conn: sa.Connection, ctx: Context, requests: list[NetworkRequest] | Literal["auto", "none"] | None
) -> list[NetworkRequest]:
    """What is asked for, checked: it exists, the caller sees it, and it can be used. Raises Invalid, NotFound, Forbidden, Conflict."""
    if requests == "none":
        return []
    if requests is None or requests == "auto":
        return _usual(conn, ctx, automatic=requests == "auto")
    assert not isinstance(requests, str)
    named = [request.port_id for request in requests if request.port_id]
    if len(set(named)) != len(named):
        raise Invalid("Port IDs must not be repeated.", field="networks")
    return [_checked(conn, ctx, request) for request in requests]


_USABLE = (
    sa.select(networks_table.c.id)
    .where(
        sa.not_(networks_table.c.external),
        networks_table.c.driver == "",
        networks_table.c.id.in_(sa.select(subnets.c.network_id)),
    )
    .limit(2)
)
_OWN_NETWORKS = _USABLE.where(networks_table.c.project_id == sa.bindparam("project"))


def _usual(conn: sa.Connection, ctx: Context, *, automatic: bool) -> list[NetworkRequest]:
    """The project's one network; without one, shared networks are looked at, as Nova does."""
    found = conn.execute(_OWN_NETWORKS, {"project": ctx.project_id or ""}).scalars().all()
    if not found:
        shared = networks_table.c.id.in_(rbac.granted(ctx, "network", rbac.SHARED))
        found = conn.execute(_USABLE.where(shared)).scalars().all()
    if len(found) > 1:
        raise Conflict(
            "Multiple possible networks found, use a Network ID to be more specific.", field="networks", code="NetworkAmbiguous"
        )
    if not found and automatic:
        try:
            found = [topology.ensure(conn, ctx, ctx.project_id or "")]
        except Conflict as error:
            raise Invalid(
                f"Unable to automatically allocate a network for project: {error.message} Create a network, or ask for 'none'.",
                field="networks",
            ) from None
    return [NetworkRequest(network_id=ident) for ident in found]


def _checked(conn: sa.Connection, ctx: Context, request: NetworkRequest) -> NetworkRequest:
    if request.port_id is not None:
        return _checked_port(conn, ctx, request)
    if request.network_id is None:
        raise Invalid("Each network needs a uuid or a port.", field="networks")
    try:
        network = networks.plain(conn, ctx, request.network_id)
    except NotFound:
        raise Invalid(f"Network {request.network_id} could not be found.", field="networks") from None
    if network["external"] and not networks.may_use(conn, ctx, network):
        raise Forbidden(f"It is not allowed to create an interface on external network {network['id']}", field="networks")
    if network["driver"] != request.driver:
        driven.refuse(network, "A server of Compute is")
    found = fixedips.network_subnets(conn, network["id"])
    if not found:
        raise Invalid(
            f"Network {network['id']} requires a subnet in order to boot instances on.",
            field="networks",
            code="NetworkRequiresSubnet",
        )
    if request.fixed_ip is not None:
        address = ipam.parse_address(request.fixed_ip, "fixed_ip")
        inside = any(each["ip_version"] == address.version and address in ipam.parse_cidr(each["cidr"], "cidr") for each in found)
        if not inside:
            raise Invalid(f"Fixed IP {request.fixed_ip} is not a valid ip address for network {network['id']}.", field="networks")
    return request


def _checked_port(conn: sa.Connection, ctx: Context, request: NetworkRequest) -> NetworkRequest:
    try:
        port = ports.plain(conn, ctx, str(request.port_id))
    except NotFound:
        raise NotFound(f"Port id {request.port_id} could not be found.", field="networks", code="PortNotFound") from None
    if port["project_id"] != ctx.project_id and not ctx.is_admin:
        # Who has a network sees what others have on it.
        raise Invalid(f"Port {request.port_id} is another project's.", field="networks", code="PortNotUsable")
    if port["device_id"]:
        raise Conflict(f"Port {request.port_id} is still in use.", field="networks", code="PortInUse")
    if request.network_id is not None and request.network_id != port["network_id"]:
        raise Invalid(f"Port {request.port_id} is not on network {request.network_id}.", field="networks")
    if request.fixed_ip is not None:
        raise Invalid("A fixed_ip cannot be given together with a port.", field="networks")
    if conn.execute(sa.select(fixed_ips.c.port_id).where(fixed_ips.c.port_id == port["id"]).limit(1)).first() is None:
        raise Invalid(f"Port {port['id']} requires a FixedIP in order to be used.", field="networks", code="PortRequiresFixedIP")
    return msgspec.structs.replace(request, network_id=port["network_id"])


_ZONE = Prepared(sa.select(hosts.c.availability_zone).where(hosts.c.id == sa.bindparam("host")))
_LAST_POSITION = Prepared(
    sa.select(sa.func.max(ports_table.c.position).label("last")).where(ports_table.c.device_id == sa.bindparam("server"))
)
_NETWORK = Prepared(sa.select(networks_table).where(networks_table.c.id == sa.bindparam("network")))
_OF_SERVER = Prepared(sa.select(ports_table).where(ports_table.c.device_id == sa.bindparam("server")))


def allocate(
    conn: sa.Connection,
    ctx: Context,
    *,
    server_id: str,
    project_id: str,
    hostname: str,
    host_id: str | None,
    requests: list[NetworkRequest],
    security_groups: list[str],
) -> list[Row]:
    """Makes a server's ports, or takes those given, and binds them to the host. Returns them in order.

    `security_groups` (names or ids, the project's default without any) are for the ports that are made. Raises what a port's create raises.
    """
    if not requests:
        return []
    groups = _group_ids(conn, project_id, security_groups)
    zone = _ZONE.scalar(conn, host=host_id) or "nova"
    start = _LAST_POSITION.scalar(conn, server=server_id)
    common = {
        "device_id": server_id,
        "device_owner": OWNER_PREFIX + zone,
        "dns_name": dns_label(hostname),
    }
    made: list[Row] = []
    for position, request in enumerate(requests, start=0 if start is None else start + 1):
        values = {**common, "position": position, "tag": request.tag}
        if request.port_id is not None:
            made.append(_take(conn, ctx, request.port_id, values, host_id))
        else:
            made.append(_make(conn, project_id, request, values, host_id, groups))
    return made


def _group_ids(conn: sa.Connection, project_id: str, names: list[str]) -> list[str]:
    if not names:
        return [security_groups.ensure_default(conn, project_id)]
    return list(dict.fromkeys(security_groups.named(conn, project_id, name) for name in names))


def _make(
    conn: sa.Connection,
    project_id: str,
    request: NetworkRequest,
    values: Row,
    host_id: str | None,
    groups: list[str],
) -> Row:
    (network,) = _NETWORK.rows(conn, network=request.network_id)
    wanted: list[Row] | None = None if request.fixed_ip is None else [{"ip_address": request.fixed_ip}]
    if request.fixed_ips:
        wanted = _completed(conn, network["id"], request.fixed_ips)
    names = {"aliases": list(request.aliases), "links": [list(link) for link in request.links]}
    values = {**values, **names, "host_id": host_id, "made_by_compute": True, "fixed_ips": wanted}
    if request.mac_address is not None:
        values["mac_address"] = request.mac_address
    if network["port_security_enabled"]:
        values["security_groups"] = groups if request.security_groups is None else list(request.security_groups)
    row = ports.insert(conn, network, project_id, values)
    quotas.charge(conn, project_id, "port")
    return row


def _completed(conn: sa.Connection, network_id: str, addresses: tuple[str, ...]) -> list[Row]:
    """The addresses asked for, and any one of each IP version that none was asked of."""
    asked: list[Row] = [{"ip_address": address} for address in addresses]
    versions = {ipam.parse_address(address, "fixed_ips").version for address in addresses}
    for subnet in fixedips.network_subnets(conn, network_id):
        if subnet["ip_version"] not in versions and not ipam.is_auto(subnet):
            versions.add(subnet["ip_version"])
            asked.append({"subnet_id": subnet["id"]})
    return asked


def _take(conn: sa.Connection, ctx: Context, port_id: str, values: Row, host_id: str | None) -> Row:
    port = ports.plain(conn, ctx, port_id)
    if port["device_id"]:
        raise Conflict(f"Port {port_id} is still in use.", field="networks", code="PortInUse")
    if port["dns_name"]:
        values = {**values, "dns_name": port["dns_name"]}
    conn.execute(ports_table.update().where(ports_table.c.id == port_id).values(**values, updated_at=now()))
    ports.move(conn, {**port, **values}, host_id)
    return ports.some(conn, ports_table.c.id == port_id)[0]


def release(conn: sa.Connection, server_id: str) -> None:
    """The ports that Compute made go; those that users gave are theirs again."""
    for port in _OF_SERVER.rows(conn, server=server_id):
        _release(conn, port)


def move(conn: sa.Connection, server_id: str, host_id: str | None) -> None:
    """The server is on another host from now on, or on none: its ports are bound there, with their addresses and groups."""
    for port in _OF_SERVER.rows(conn, server=server_id):
        ports.move(conn, port, host_id)


def _release(conn: sa.Connection, port: Row) -> None:
    if port["made_by_compute"]:
        ports.remove(conn, port)
        quotas.refund(conn, port["project_id"], "port")
        return
    ports.move(conn, port, None)
    conn.execute(
        ports_table.update()
        .where(ports_table.c.id == port["id"])
        .values(device_id="", device_owner="", dns_name="", position=0, tag=None, updated_at=now())
    )


def detach(conn: sa.Connection, ctx: Context, server_id: str, port_id: str) -> None:
    """Raises NotFound when the port is not the server's."""
    port = (
        conn.execute(sa.select(ports_table).where(ports_table.c.id == port_id, ports_table.c.device_id == server_id))
        .mappings()
        .first()
    )
    if port is None:
        raise NotFound(f"Port {port_id} is not attached to instance {server_id}.", code="PortNotFound")
    _release(conn, dict(port))


_OF_SERVERS = among(ports_table.c.device_id, "servers")
_ADDRESSES = Prepared(
    sa.select(
        ports_table.c.device_id,
        ports_table.c.id,
        ports_table.c.network_id,
        networks_table.c.name,
        ports_table.c.mac_address,
        ports_table.c.tag,
        ports.STATUS.label("status"),
        fixed_ips.c.address,
        fixed_ips.c.subnet_id,
        floating_ips.c.floating_ip_address,
    )
    .join(networks_table, networks_table.c.id == ports_table.c.network_id)
    .outerjoin(fixed_ips, fixed_ips.c.port_id == ports_table.c.id)
    .outerjoin(
        floating_ips,
        sa.and_(floating_ips.c.port_id == ports_table.c.id, floating_ips.c.fixed_ip_address == fixed_ips.c.address),
    )
    .where(_OF_SERVERS)
    .order_by(ports_table.c.device_id, ports_table.c.position, ports_table.c.id, fixed_ips.c.position)
)
_GROUPS = Prepared(
    sa.select(port_groups.c.port_id, groups_table.c.name)
    .join(ports_table, ports_table.c.id == port_groups.c.port_id)
    .join(groups_table, groups_table.c.id == port_groups.c.security_group_id)
    .where(_OF_SERVERS)
    .order_by(groups_table.c.name)
)


def addresses(conn: sa.Connection, server_ids: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Each server's ports in order, with their addresses, floating IPs and the names of their groups: two statements for any number of servers."""
    found: dict[str, list[dict[str, Any]]] = {ident: [] for ident in server_ids}
    by_port: dict[str, dict[str, Any]] = {}
    for row in _ADDRESSES.rows(conn, servers=server_ids):
        port = by_port.get(row["id"])
        if port is None:
            port = by_port[row["id"]] = {
                "port_id": row["id"],
                "network_id": row["network_id"],
                "network_name": row["name"],
                "mac": row["mac_address"],
                "fixed_ips": [],
                "floating_ips": [],
                "security_groups": [],
                "status": row["status"],
                "tag": row["tag"],
            }
            found[row["device_id"]].append(port)
        address = row["address"]
        if address is not None:
            version = 6 if ":" in address else 4
            port["fixed_ips"].append({"address": address, "version": version, "subnet_id": row["subnet_id"]})
        if row["floating_ip_address"] is not None:
            port["floating_ips"].append(row["floating_ip_address"])
    if by_port:
        for row in _GROUPS.rows(conn, servers=server_ids):
            by_port[row["port_id"]]["security_groups"].append(row["name"])
    return found


_PORTS = chosen(
    sa.select(ports_table.c.device_id, ports_table.c.id).order_by(ports_table.c.position, ports_table.c.id),
    ports_table.c.device_id,
)


def ports_of(conn: sa.Connection, server_ids: list[str]) -> dict[str, list[str]]:
    """The ids of each server's ports, in order."""
    found: dict[str, list[str]] = {ident: [] for ident in server_ids}
    for row in rows_among(conn, _PORTS, server_ids):
        found[row["device_id"]].append(row["id"])
    return found


def servers_with_address(address: str, version: int) -> sa.Select[tuple[str]]:
    """The ids of the servers that bear an address which matches (Nova's `ip` and `ip6` filters take a regular expression)."""
    family = subnets.c.ip_version == version
    return (
        sa.select(ports_table.c.device_id)
        .join(fixed_ips, fixed_ips.c.port_id == ports_table.c.id)
        .join(subnets, subnets.c.id == fixed_ips.c.subnet_id)
        .where(family, fixed_ips.c.address.regexp_match(address))
    )


def add_group(conn: sa.Connection, ctx: Context, server_id: str, name_or_id: str) -> None:
    """A security group for all ports of a server. Raises NotFound, Conflict."""
    for port in _secured_ports(conn, server_id):
        group = security_groups.named(conn, port["project_id"], name_or_id)
        ports.set_groups(conn, port, {*groups_of(conn, port["id"]), group})


def remove_group(conn: sa.Connection, ctx: Context, server_id: str, name_or_id: str) -> None:
    """Raises NotFound when no port of the server has the group."""
    removed = False
    for port in _secured_ports(conn, server_id):
        group = security_groups.named(conn, port["project_id"], name_or_id)
        held = groups_of(conn, port["id"])
        if group in held:
            ports.set_groups(conn, port, [each for each in held if each != group])
            removed = True
    if not removed:
        raise NotFound(f"Security group {name_or_id} not associated with the instance {server_id}", code="SecurityGroupNotFound")


def _secured_ports(conn: sa.Connection, server_id: str) -> list[Row]:
    select = sa.select(ports_table).where(ports_table.c.device_id == server_id, ports_table.c.port_security_enabled)
    return [dict(row) for row in conn.execute(select.order_by(ports_table.c.position)).mappings().all()]


def groups_of_server(conn: sa.Connection, ctx: Context, server_id: str) -> list[Row]:
    """The security groups of a server's ports, whole, for Nova's os-security-groups."""
    used = (
        sa.select(port_groups.c.security_group_id)
        .join(ports_table, ports_table.c.id == port_groups.c.port_id)
        .where(ports_table.c.device_id == server_id)
    )
    return security_groups.some(conn, groups_table.c.id.in_(used))


def add_fixed_ip(conn: sa.Connection, ctx: Context, server_id: str, network_id: str) -> None:
    """One more address on the server's port in that network (Nova's addFixedIp). Raises NotFound, Conflict."""
    driven.check(conn, network_id, "Another address of a server is")
    for port in _ports_where(conn, server_id, ports_table.c.network_id == network_id):
        held = _held(conn, port["id"])
        subnet_id = held[0]["subnet_id"] if held else None
        if subnet_id is None:
            continue
        ports.change_addresses(conn, port, [*held, {"subnet_id": subnet_id}])
        _mark(conn, port)
        return
    raise NotFound(f"Instance {server_id} has no port on network {network_id}.", code="NetworkNotFoundForInstance")


def remove_fixed_ip(conn: sa.Connection, ctx: Context, server_id: str, address: str) -> None:
    """Raises NotFound when no port of the server has the address."""
    own = sa.select(fixed_ips.c.port_id).where(fixed_ips.c.address == address)
    for port in _ports_where(conn, server_id, ports_table.c.id.in_(own)):
        driven.check(conn, port["network_id"], "Another address of a server is")
        ports.change_addresses(conn, port, [each for each in _held(conn, port["id"]) if each["ip_address"] != address])
        _mark(conn, port)
        return
    raise NotFound(f"Fixed IP not found for instance {server_id}: {address}.", code="FixedIpNotFoundForInstance")


def _ports_where(conn: sa.Connection, server_id: str, condition: sa.ColumnElement[bool]) -> list[Row]:
    select = sa.select(ports_table).where(ports_table.c.device_id == server_id, condition).order_by(ports_table.c.position)
    return [dict(row) for row in conn.execute(select).mappings().all()]


def _held(conn: sa.Connection, port_id: str) -> list[Row]:
    select = sa.select(fixed_ips.c.subnet_id, fixed_ips.c.address.label("ip_address")).where(fixed_ips.c.port_id == port_id)
    return [dict(row) for row in conn.execute(select.order_by(fixed_ips.c.position)).mappings()]


def _mark(conn: sa.Connection, port: Row) -> None:
    gathered = Marks()
    changed(conn, gathered, port)
    gathered.flush(conn)
