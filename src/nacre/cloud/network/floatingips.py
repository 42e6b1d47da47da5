"""Floating IPs: https://docs.openstack.org/api-ref/network/v2/#floating-ips-floatingips."""

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context, internal
from nacre.cloud.errors import Conflict, Invalid, NotFound
from nacre.cloud.network import driven, fixedips, gateways, ipam, marks, networks, ports, qos, quotas
from nacre.cloud.network.common import Readable, grouped, own_rows, project_of, rows_of, stamped, touch
from nacre.cloud.network.tables import floating_ips, forwards, routers
from nacre.cloud.network.tables import ports as ports_table
from nacre.store import Page, Query

STATUS = sa.case((floating_ips.c.router_id.is_not(None), "ACTIVE"), else_="DOWN")
DETAILS = ("name", "network_id", "mac_address", "admin_state_up", "status", "device_id", "device_owner")


def _complete(conn: sa.Connection, rows: list[Row]) -> None:
    select = sa.select(ports_table, ports.STATUS.label("status"))
    by_id = {
        port["id"]: port for port in rows_of(conn, select, ports_table.c.id, (row["port_id"] for row in rows if row["port_id"]))
    }
    for row in rows:
        port = by_id.get(row["port_id"])
        row["port_details"] = None if port is None else {name: port[name] for name in DETAILS}
    leading = grouped(
        rows_of(conn, sa.select(forwards), forwards.c.floating_ip_id, (row["id"] for row in rows)), "floating_ip_id"
    )
    for row in rows:
        row["port_forwardings"] = leading.get(row["id"], [])


_READ = Readable("Floating IP", floating_ips, own_rows(floating_ips), _complete, extra={"status": STATUS})
get = _READ.get
plain = _READ.plain


def find(conn: sa.Connection, ctx: Context, query: Query) -> Page:
    return _READ.find(conn, ctx, query)


def create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    """Takes an address of the external network, and associates it when a port is given."""
    values = dict(values)
    project_id = project_of(ctx, values)
    network = networks.plain(conn, ctx, values["floating_network_id"])
    if not network["external"]:
        raise Invalid(f"Network {network['id']} is not a valid external network", field="floating_network_id", code="BadRequest")
    columns = {name: value for name, value in values.items() if name in floating_ips.c}
    qos.usable(conn, ctx, values.get("qos_policy_id"))
    row = stamped(project_id, {**columns, "port_id": None, "fixed_ip_address": None})
    port = ports.insert(
        conn,
        network,
        "",
        {"device_id": row["id"], "device_owner": ports.FLOATING_OWNER, "fixed_ips": _wanted_address(conn, network, values)},
        router=True,
    )
    row["floating_port_id"] = port["id"]
    row["floating_ip_address"] = port["fixed_ips"][0]["ip_address"]
    conn.execute(floating_ips.insert(), row)
    quotas.charge(conn, project_id, "floatingip")
    if values.get("port_id") is not None:
        _associate(conn, ctx, row, values["port_id"], values.get("fixed_ip_address"))
    elif values.get("fixed_ip_address") is not None:
        raise _needs_port()
    return _READ.some(conn, floating_ips.c.id == row["id"])[0]


def update(conn: sa.Connection, ctx: Context, ident: str, values: Row) -> Row:
    """A port_id of null, and an update that names no port at all but an address, disassociate."""
    row = plain(conn, ctx, ident, owned=True)
    if "port_id" in values or "fixed_ip_address" in values:
        _require_unpublished(row)
        _require_unforwarded(conn, row)
    if values.get("port_id") is not None:
        _associate(conn, ctx, row, values["port_id"], values.get("fixed_ip_address"))
    elif values.get("fixed_ip_address") is not None:
        if "port_id" in values or row["port_id"] is None:
            raise _needs_port()
        _associate(conn, ctx, row, row["port_id"], values["fixed_ip_address"])
    elif "port_id" in values:
        _disassociate(conn, row)
    if "qos_policy_id" in values and values["qos_policy_id"] != row["qos_policy_id"]:
        qos.usable(conn, ctx, values["qos_policy_id"])
    changes: Row = {name: values[name] for name in ("description", "qos_policy_id") if name in values}
    touch(conn, floating_ips, ident, changes)
    _mark_router(conn, plain(conn, ctx, ident)["router_id"] if "qos_policy_id" in changes else None)
    return get(conn, ctx, ident)


def delete(conn: sa.Connection, ctx: Context, ident: str) -> None:
    row = plain(conn, ctx, ident, owned=True)
    _require_unpublished(row)
    _disassociate(conn, row)
    ports.drop_forwards(conn, forwards.c.floating_ip_id == ident)
    ports.drop_floating(conn, row)


def take_to_publish(conn: sa.Connection, project_id: str, router: Row, port_id: str) -> Row:
    """The floating IP that the port publishes on: the one that it has, or a new one of the router's external network.

    It is the port's until the port goes, and in the project's quota. Raises OverQuota, and Conflict when no address is left.
    """
    held = conn.execute(sa.select(floating_ips).where(ports.PUBLISHES, floating_ips.c.port_id == port_id)).mappings().first()
    if held is not None and held["router_id"] == router["id"]:
        return dict(held)
    ports.release_published(conn, [port_id])
    values = {
        "project_id": project_id,
        "floating_network_id": router["external_network_id"],
        "description": "What a container publishes its ports on.",
    }
    made = create(conn, internal(), values)
    conn.execute(floating_ips.update().where(floating_ips.c.id == made["id"]).values(port_id=port_id, router_id=router["id"]))
    return made


def _require_unpublished(row: Row) -> None:
    if row["port_id"] is not None and row["fixed_ip_address"] is None:
        raise Conflict(
            f"Floating IP {row['floating_ip_address']} ({row['id']}) is in use by the published ports of port {row['port_id']}: "
            "it goes with the container.",
            code="FipInUseByPortForwarding",
        )


def _require_unforwarded(conn: sa.Connection, row: Row) -> None:
    if conn.execute(sa.select(forwards.c.id).where(forwards.c.floating_ip_id == row["id"]).limit(1)).first() is not None:
        raise Conflict(f"Floating IP {row['id']} in use by Port Forwarding resources.", code="FipInUseByPortForwarding")


def _needs_port() -> Invalid:
    return Invalid("fixed_ip_address cannot be specified without a port_id", field="fixed_ip_address", code="BadRequest")


def _wanted_address(conn: sa.Connection, network: Row, values: Row) -> list[Row]:
    """One IPv4 address: of the subnet or with the value that was asked for. Raises Invalid, Conflict."""
    subnet_id, address = values.get("subnet_id"), values.get("floating_ip_address")
    if address is not None:
        if ipam.parse_address(address, "floating_ip_address").version != 4:
            raise Invalid("A floating IP is an IPv4 address.", field="floating_ip_address", code="BadRequest")
        return [{"ip_address": address, **({"subnet_id": subnet_id} if subnet_id else {})}]
    found = [each for each in _v4_subnets(conn, network["id"]) if subnet_id in (None, each)]
    if not found:
        raise Invalid(
            f"External network {network['id']} does not have an IPv4 subnet to take a floating IP of.",
            field="floating_network_id" if subnet_id is None else "subnet_id",
            code="BadRequest",
        )
    return [{"subnet_id": _with_room(conn, network, found)}]


def _v4_subnets(conn: sa.Connection, network_id: str) -> list[str]:
    return [subnet["id"] for subnet in fixedips.network_subnets(conn, network_id) if subnet["ip_version"] == 4]


def _with_room(conn: sa.Connection, network: Row, subnet_ids: list[str]) -> str:
    for subnet_id in subnet_ids:
        if ipam.has_free(conn, subnet_id):
            return subnet_id
    raise Conflict(f"No more IP addresses available on network {network['id']}.", code="IpAddressGenerationFailure")


def _associate(conn: sa.Connection, ctx: Context, row: Row, port_id: str, address: str | None) -> None:
    """Raises NotFound when no router joins the port's subnet to the external network, Conflict when the address has a floating IP."""
    port = ports.get(conn, ctx, port_id)
    require_own(ctx, row, port)
    driven.check(conn, port["network_id"], "A floating IP is")
    fixed = fixed_address(port, address)
    taken = conn.execute(
        sa.select(floating_ips.c.id, floating_ips.c.floating_ip_address).where(
            floating_ips.c.port_id == port_id,
            floating_ips.c.fixed_ip_address == fixed["ip_address"],
            floating_ips.c.id != row["id"],
        )
    ).first()
    if taken is not None:
        raise Conflict(
            f"Cannot associate floating IP {row['floating_ip_address']} ({row['id']}) with port {port_id} using fixed IP "
            f"{fixed['ip_address']}, as that fixed IP already has a floating IP on external network.",
            code="FloatingIPPortAlreadyAssociated",
        )
    router_id = gateways.of_subnet(conn, fixed["subnet_id"], row["floating_network_id"])
    if router_id is None:
        raise NotFound(
            f"External network {row['floating_network_id']} is not reachable from subnet {fixed['subnet_id']}. "
            f"Therefore, cannot associate Port {port_id} with a Floating IP.",
            code="ExternalGatewayForFloatingIPNotFound",
        )
    _mark_router(conn, row.get("router_id"))
    conn.execute(
        floating_ips.update()
        .where(floating_ips.c.id == row["id"])
        .values(port_id=port_id, fixed_ip_address=fixed["ip_address"], router_id=router_id)
    )
    _mark_router(conn, router_id)


def require_own(ctx: Context, floating: Row, port: Row) -> None:
    """Who has a network sees the ports that others have on it, and opens none of them to the outside. Raises Invalid, as Neutron does."""
    if port["project_id"] != floating["project_id"] and not ctx.is_admin:
        raise Invalid(
            f"Cannot process floating IP association with Port {port['id']}, since that port is owned by a different project",
            field="port_id",
            code="BadRequest",
        )


def fixed_address(port: Row, address: str | None) -> Row:
    candidates: list[Row] = [each for each in port["fixed_ips"] if ":" not in each["ip_address"]]
    if address is not None:
        candidates = [
            each for each in port["fixed_ips"] if each["ip_address"] == str(ipam.parse_address(address, "fixed_ip_address"))
        ]
        if not candidates:
            raise Invalid(f"Port {port['id']} does not have fixed ip {address}", field="fixed_ip_address", code="BadRequest")
    if not candidates:
        raise Invalid(
            f"Cannot add floating IP to port {port['id']} that has no fixed IPv4 addresses", field="port_id", code="BadRequest"
        )
    if len(candidates) > 1:
        raise Invalid(
            f"Port {port['id']} has multiple fixed IPv4 addresses. Must provide a specific IPv4 address when assigning a floating IP",
            field="fixed_ip_address",
            code="BadRequest",
        )
    return candidates[0]


def _disassociate(conn: sa.Connection, row: Row) -> None:
    conn.execute(
        floating_ips.update().where(floating_ips.c.id == row["id"]).values(port_id=None, fixed_ip_address=None, router_id=None)
    )
    _mark_router(conn, row["router_id"])


def _mark_router(conn: sa.Connection, router_id: str | None) -> None:
    if router_id is None:
        return
    gathered = marks.Marks()
    gathered.add(conn.execute(sa.select(routers.c.host_id).where(routers.c.id == router_id)).scalar(), "router", router_id)
    gathered.flush(conn)
