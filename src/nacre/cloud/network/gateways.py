"""A router's leg in an external network: external_gateway_info."""

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Forbidden, Invalid
from nacre.cloud.network import fixedips, marks, networks, ports
from nacre.cloud.network.placing import ensure_placed
from nacre.cloud.network.tables import fixed_ips, floating_ips, routers
from nacre.cloud.network.tables import ports as ports_table


def change(conn: sa.Connection, ctx: Context, router: Row, asked: Row) -> None:
    """Set, change or (asked nothing) clear the gateway. Raises Invalid, NotFound, Forbidden, Conflict."""
    network_id = asked.get("network_id")
    if asked and network_id is None:
        raise Invalid("external_gateway_info needs a network_id.", field="external_gateway_info.network_id")
    for name in ("enable_snat", "external_fixed_ips"):
        if asked.get(name) is not None and not ctx.is_admin and not (name == "enable_snat" and asked[name]):
            raise Forbidden(f"Only an admin may set {name}.", field=name, code="PolicyNotAuthorized")
    if network_id != router["external_network_id"]:
        if router["gateway_port_id"] is not None:
            _clear(conn, router)
        if network_id is not None:
            _set(conn, ctx, router, network_id, asked.get("external_fixed_ips"))
    elif network_id is not None and asked.get("external_fixed_ips") is not None:
        port = dict(conn.execute(sa.select(ports_table).where(ports_table.c.id == router["gateway_port_id"])).mappings().one())
        ports.change_addresses(conn, port, asked["external_fixed_ips"])
        _mark_port(conn, port)
    snat = asked.get("enable_snat")
    conn.execute(routers.update().where(routers.c.id == router["id"]).values(enable_snat=True if snat is None else snat))


def _set(conn: sa.Connection, ctx: Context, router: Row, network_id: str, fixed: list[Row] | None) -> None:
    network = networks.plain(conn, ctx, network_id)
    if not network["external"]:
        raise Invalid(f"Network {network_id} is not an external network", field="external_gateway_info", code="BadRequest")
    if fixed is None:
        # One address of each IP version, as Neutron gives; an external network without IPv6 is the common case.
        fixed = [{"subnet_id": subnet["id"]} for subnet in _one_of_each(fixedips.network_subnets(conn, network_id))]
    values = {"device_id": router["id"], "device_owner": "network:router_gateway", "fixed_ips": fixed}
    port_id = ports.insert(conn, network, "", values, router=True)["id"]
    conn.execute(
        routers.update().where(routers.c.id == router["id"]).values(external_network_id=network_id, gateway_port_id=port_id)
    )
    row = conn.execute(sa.select(routers).where(routers.c.id == router["id"])).mappings().one()
    ensure_placed(conn, dict(row))


def _one_of_each(found: list[Row]) -> list[Row]:
    first: dict[int, Row] = {}
    for subnet in found:
        first.setdefault(subnet["ip_version"], subnet)
    return list(first.values())


def _clear(conn: sa.Connection, router: Row) -> None:
    used = conn.execute(sa.select(floating_ips.c.id).where(floating_ips.c.router_id == router["id"]).limit(1)).first()
    if used is not None:
        raise Conflict(
            f"Gateway cannot be updated for router {router['id']}, since a gateway to external network "
            f"{router['external_network_id']} is required by one or more floating IPs.",
            code="RouterExternalGatewayInUseByFloatingIp",
        )
    port = conn.execute(sa.select(ports_table).where(ports_table.c.id == router["gateway_port_id"])).mappings().one()
    gathered = marks.Marks()
    marks.router_changed(conn, gathered, router)
    gathered.flush(conn)
    conn.execute(routers.update().where(routers.c.id == router["id"]).values(external_network_id=None, gateway_port_id=None))
    ports.remove(conn, dict(port))


def _mark_port(conn: sa.Connection, port: Row) -> None:
    gathered = marks.Marks()
    marks.changed(conn, gathered, port)
    gathered.flush(conn)


def of_subnet(conn: sa.Connection, subnet_id: str, external_network_id: str) -> str | None:
    """The router that joins a tenant's subnet to an external network; None when there is none."""
    return conn.execute(
        sa.select(routers.c.id)
        .join(ports_table, ports_table.c.device_id == routers.c.id)
        .join(fixed_ips, fixed_ips.c.port_id == ports_table.c.id)
        .where(
            fixed_ips.c.subnet_id == subnet_id,
            ports_table.c.device_owner == "network:router_interface",
            routers.c.external_network_id == external_network_id,
        )
        .limit(1)
    ).scalar()
