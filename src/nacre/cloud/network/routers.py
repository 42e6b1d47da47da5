"""Routers: https://docs.openstack.org/api-ref/network/v2/#routers-routers."""

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.network import gateways, ipam, marks, ports, quotas
from nacre.cloud.network.common import Readable, forget_tags, grouped, own_rows, project_of, rows_of, stamped, touch
from nacre.cloud.network.placing import ensure_placed
from nacre.cloud.network.tables import fixed_ips, routers, subnets
from nacre.cloud.network.tables import ports as ports_table
from nacre.store import Page, Query

ROUTES_MAX = 30
"""Neutron's max_routes."""

STATUS = sa.case((routers.c.observed == "error", "ERROR"), (routers.c.admin_state_up, "ACTIVE"), else_="DOWN")


def _complete(conn: sa.Connection, rows: list[Row]) -> None:
    select = sa.select(fixed_ips.c.port_id, fixed_ips.c.subnet_id, fixed_ips.c.address).order_by(fixed_ips.c.position)
    gateway_ports = [row["gateway_port_id"] for row in rows if row["gateway_port_id"]]
    by_port = grouped(rows_of(conn, select, fixed_ips.c.port_id, gateway_ports), "port_id")
    zones = sa.select(hosts.c.id, hosts.c.availability_zone)
    zone_of = {
        row["id"]: row["availability_zone"]
        for row in rows_of(conn, zones, hosts.c.id, (r["host_id"] for r in rows if r["host_id"]))
    }
    for row in rows:
        row["availability_zones"] = [zone_of[row["host_id"]]] if row["host_id"] in zone_of else []
        row["external_gateway_info"] = None
        if row["gateway_port_id"] is not None:
            row["external_gateway_info"] = {
                "network_id": row["external_network_id"],
                "enable_snat": row["enable_snat"],
                "external_fixed_ips": [
                    {"subnet_id": each["subnet_id"], "ip_address": each["address"]}
                    for each in by_port.get(row["gateway_port_id"], ())
                ],
            }


_READ = Readable("Router", routers, own_rows(routers), _complete, extra={"status": STATUS})
get = _READ.get
plain = _READ.plain
some = _READ.some


def find(conn: sa.Connection, ctx: Context, query: Query) -> Page:
    return _READ.find(conn, ctx, query)


def create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    values = dict(values)
    project_id = project_of(ctx, values)
    gateway = values.pop("external_gateway_info", None)
    values["ha"] = bool(values.get("ha"))
    row = stamped(project_id, values)
    conn.execute(routers.insert(), row)
    quotas.charge(conn, project_id, "router")
    if gateway:
        gateways.change(conn, ctx, _row(conn, row["id"]), gateway)
    return _READ.some(conn, routers.c.id == row["id"])[0]


def update(conn: sa.Connection, ctx: Context, ident: str, values: Row) -> Row:
    row = plain(conn, ctx, ident, owned=True)
    changes = dict(values)
    if "ha" in changes:
        changes["ha"] = _checked_ha(row, changes)
    if "external_gateway_info" in changes:
        gateways.change(conn, ctx, row, changes.pop("external_gateway_info") or {})
    if "routes" in changes:
        changes["routes"] = _checked_routes(conn, ident, changes["routes"] or [])
    touch(conn, routers, ident, changes)
    mark_router(conn, ident)
    return get(conn, ctx, ident)


def delete(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """Raises Conflict while it has interfaces."""
    row = plain(conn, ctx, ident, owned=True)
    if interfaces(conn, ident):
        raise Conflict(f"Router {ident} still has ports.", code="RouterInUse")
    gateways.change(conn, ctx, row, {})
    mark_router(conn, ident)
    conn.execute(routers.delete().where(routers.c.id == ident))
    forget_tags(conn, ident)
    quotas.refund(conn, row["project_id"], "router")


def mark_router(conn: sa.Connection, ident: str) -> None:
    gathered = marks.Marks()
    marks.router_changed(conn, gathered, _row(conn, ident))
    gathered.flush(conn)


def _row(conn: sa.Connection, ident: str) -> Row:
    return dict(conn.execute(sa.select(routers).where(routers.c.id == ident)).mappings().one())


def interfaces(conn: sa.Connection, ident: str) -> list[Row]:
    """The router's legs in tenant networks: one row for each address, with its subnet's cidr."""
    rows = conn.execute(
        sa.select(
            ports_table.c.id.label("port_id"),
            ports_table.c.network_id,
            fixed_ips.c.subnet_id,
            fixed_ips.c.address,
            subnets.c.cidr,
        )
        .join(fixed_ips, fixed_ips.c.port_id == ports_table.c.id)
        .join(subnets, subnets.c.id == fixed_ips.c.subnet_id)
        .where(ports_table.c.device_id == ident, ports_table.c.device_owner == "network:router_interface")
        .order_by(ports_table.c.created_at, fixed_ips.c.position)
    ).mappings()
    return [dict(row) for row in rows]


def _checked_routes(conn: sa.Connection, ident: str, asked: list[Row]) -> list[Row]:
    """Each next hop lies in a subnet that the router is connected to, and is not the router itself. Raises Invalid."""
    if len(asked) > ROUTES_MAX:
        raise Invalid(f"Unable to add more than {ROUTES_MAX} routes.", field="routes", code="RoutesExhausted")
    connected = _connected(conn, ident)
    cidrs = [ipam.parse_cidr(each["cidr"], "cidr") for each in connected]
    own = {each["address"] for each in connected}
    routes = []
    for route in asked:
        destination = ipam.parse_cidr(route["destination"], "routes")
        nexthop = ipam.parse_address(route["nexthop"], "routes")
        if destination.version != nexthop.version:
            raise _bad_route(ident, route, "destination and nexthop differ in IP version")
        if not any(nexthop.version == cidr.version and nexthop in cidr for cidr in cidrs):
            raise _bad_route(ident, route, "the nexthop is not connected with router")
        if str(nexthop) in own:
            raise _bad_route(ident, route, "the nexthop is used by router")
        routes.append({"destination": str(destination), "nexthop": str(nexthop)})
    if len({(route["destination"], route["nexthop"]) for route in routes}) != len(routes):
        raise Invalid("Duplicate items in routes.", field="routes")
    return routes


def _checked_ha(row: Row, changes: Row) -> bool:
    """As in Neutron a router is down while this is changed. Raises Invalid."""
    asked = bool(changes["ha"])
    if asked != row["ha"] and (row["admin_state_up"] or changes.get("admin_state_up")):
        verb = "upgrade" if asked else "downgrade"
        raise Invalid(
            f"Cannot {verb} active router. Please set router admin_state_up to False prior to {verb}",
            field="ha",
            code="BadRequest",
        )
    return asked


def _bad_route(ident: str, route: Row, reason: str) -> Invalid:
    message = f"Invalid format for routes: {route['destination']} via {route['nexthop']} of router {ident}, {reason}."
    return Invalid(message, field="routes", code="InvalidRoutes")


def _connected(conn: sa.Connection, ident: str) -> list[Row]:
    """Addresses and cidrs of all the router's ports, its gateway too."""
    rows = conn.execute(
        sa.select(fixed_ips.c.address, subnets.c.cidr)
        .join(ports_table, ports_table.c.id == fixed_ips.c.port_id)
        .join(subnets, subnets.c.id == fixed_ips.c.subnet_id)
        .where(ports_table.c.device_id == ident, ports_table.c.device_owner.in_(ports.ROUTER_OWNERS))
    ).mappings()
    return [dict(row) for row in rows]


def change_routes(conn: sa.Connection, ctx: Context, ident: str, asked: list[Row], *, add: bool) -> Row:
    """Add routes to, or take routes from, those there are, in one step (extraroute-atomic)."""
    row = plain(conn, ctx, ident, owned=True)
    named = {(route["destination"], route["nexthop"]) for route in asked}
    kept = [route for route in row["routes"] if (route["destination"], route["nexthop"]) not in named]
    return update(conn, ctx, ident, {"routes": kept + asked if add else kept})


def connect(conn: sa.Connection, ident: str) -> None:
    """A port came to or left the router: it is placed if it is not yet, and its host told."""
    ensure_placed(conn, _row(conn, ident))
    conn.execute(routers.update().where(routers.c.id == ident).values(revision_number=routers.c.revision_number + 1))
    mark_router(conn, ident)
