"""Port forwardings of floating IPs: https://docs.openstack.org/api-ref/network/v2/#floating-ips-port-forwarding.

The rows are those of published ports (`forwards`): a router does the same for both.
"""

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.collection import find as find_in
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid, NotFound
from nacre.cloud.network import floatingips, gateways, marks, ports
from nacre.cloud.network.common import stamped, touch
from nacre.cloud.network.tables import floating_ips, forwards, routers
from nacre.store import Listing, Page, Query

_LISTING = Listing(sa.select(forwards), dict(forwards.c.items()), key=forwards.c.id)


def find(conn: sa.Connection, ctx: Context, floating_id: str, query: Query) -> Page:
    floatingips.plain(conn, ctx, floating_id)
    return find_in(conn, _LISTING, query, forwards.c.floating_ip_id == floating_id)


def get(conn: sa.Connection, ctx: Context, floating_id: str, ident: str) -> Row:
    floatingips.plain(conn, ctx, floating_id)
    where = (forwards.c.id == ident, forwards.c.floating_ip_id == floating_id)
    row = conn.execute(sa.select(forwards).where(*where)).mappings().first()
    if row is None:
        raise NotFound(f"Port Forwarding {ident} could not be found.", code="PortForwardingNotFound")
    return dict(row)


def create(conn: sa.Connection, ctx: Context, floating_id: str, values: Row) -> Row:
    """Raises Conflict when the floating IP is a port's as a whole or has the port forwarded, Invalid, NotFound where no router leads."""
    floating = floatingips.plain(conn, ctx, floating_id, owned=True)
    if floating["port_id"] is not None:
        raise Conflict(
            f"Floating IP {floating_id} cannot be forwarded from: it is associated with port {floating['port_id']}.",
            code="FipInUseByPortForwarding" if floating["fixed_ip_address"] is None else "PortForwardingNotSupportFip",
        )
    row = stamped(floating["project_id"], {"floating_ip_id": floating_id, "external_address": floating["floating_ip_address"]})
    row |= {"description": "", **values, **_inside(conn, ctx, floating, values)}
    _check_free(conn, row)
    conn.execute(forwards.insert(), row)
    conn.execute(floating_ips.update().where(floating_ips.c.id == floating_id).values(router_id=row["router_id"]))
    _mark(conn, row["router_id"])
    return get(conn, ctx, floating_id, row["id"])


def update(conn: sa.Connection, ctx: Context, floating_id: str, ident: str, values: Row) -> Row:
    row = get(conn, ctx, floating_id, ident)
    floating = floatingips.plain(conn, ctx, floating_id, owned=True)
    changes = dict(values)
    if "port_id" in values or "internal_address" in values:
        asked = {"port_id": values.get("port_id", row["port_id"]), "internal_address": values.get("internal_address")}
        changes |= _inside(conn, ctx, floating, asked)
    _check_free(conn, {**row, **changes})
    touch(conn, forwards, ident, changes)
    _mark(conn, row["router_id"])
    return get(conn, ctx, floating_id, ident)


def delete(conn: sa.Connection, ctx: Context, floating_id: str, ident: str) -> None:
    row = get(conn, ctx, floating_id, ident)
    floatingips.plain(conn, ctx, floating_id, owned=True)
    ports.drop_forwards(conn, forwards.c.id == row["id"])


def _inside(conn: sa.Connection, ctx: Context, floating: Row, values: Row) -> Row:
    """The port, its address and the router that leads to it from the floating IP's network."""
    port = ports.get(conn, ctx, values["port_id"])
    floatingips.require_own(ctx, floating, port)
    fixed = floatingips.fixed_address(port, values.get("internal_address"))
    if ":" in fixed["ip_address"]:
        raise Invalid("Ports are forwarded to IPv4 addresses.", field="internal_ip_address", code="BadRequest")
    router_id = gateways.of_subnet(conn, fixed["subnet_id"], floating["floating_network_id"])
    if router_id is None:
        raise NotFound(
            f"External network {floating['floating_network_id']} is not reachable from subnet {fixed['subnet_id']}. "
            f"Therefore, cannot forward to Port {port['id']}.",
            code="ExternalGatewayForFloatingIPNotFound",
        )
    if floating["router_id"] not in (None, router_id):
        raise Conflict(
            f"Floating IP {floating['id']} is forwarded from by router {floating['router_id']} already.", code="BadRequest"
        )
    return {"port_id": port["id"], "internal_address": fixed["ip_address"], "router_id": router_id}


def _check_free(conn: sa.Connection, row: Row) -> None:
    mine = (
        forwards.c.floating_ip_id == row["floating_ip_id"],
        forwards.c.id != row["id"],
        forwards.c.protocol == row["protocol"],
    )
    outside = forwards.c.external_port == row["external_port"]
    inside = sa.and_(
        forwards.c.port_id == row["port_id"],
        forwards.c.internal_address == row["internal_address"],
        forwards.c.internal_port == row["internal_port"],
    )
    if conn.execute(sa.select(forwards.c.id).where(*mine, sa.or_(outside, inside)).limit(1)).first() is not None:
        raise Conflict(
            f"Bad port_forwarding request: A duplicate port forwarding entry with same attributes already exists for floating IP "
            f"{row['floating_ip_id']}.",
            code="BadRequest",
        )


def _mark(conn: sa.Connection, router_id: str) -> None:
    gathered = marks.Marks()
    gathered.add(conn.execute(sa.select(routers.c.host_id).where(routers.c.id == router_id)).scalar(), "router", router_id)
    gathered.flush(conn)
