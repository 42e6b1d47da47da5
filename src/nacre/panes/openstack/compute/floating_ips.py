"""Floating IPs and networks as Nova once passed them on from Neutron (until 2.35; the actions until 2.43)."""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.compute import servers
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid, NotFound
from nacre.cloud.network import floatingips, networks, subnets
from nacre.cloud.network import servers as network
from nacre.panes.edge import Call, Reply
from nacre.panes.openstack.compute import schemas
from nacre.store import Criterion, Query

Names = dict[str, str]


def _pools(conn: sa.Connection, ctx: Context) -> list[Row]:
    return networks.find(conn, ctx, Query((Criterion("external", "eq", True),), sort=(("name", "asc"),))).rows


def _shown(row: Row, names: Names) -> Row:
    port = row["port_details"] or {}
    return {
        "id": row["id"],
        "ip": row["floating_ip_address"],
        "pool": names.get(row["floating_network_id"]),
        "fixed_ip": row["fixed_ip_address"],
        "instance_id": port.get("device_id") or None,
    }


def _names(conn: sa.Connection, ctx: Context) -> Names:
    return {row["id"]: row["name"] for row in _pools(conn, ctx)}


def _own(conn: sa.Connection, ctx: Context, *criteria: Criterion) -> list[Row]:
    return floatingips.find(conn, ctx, Query((Criterion("project_id", "eq", ctx.project_id), *criteria))).rows


def _list(conn: sa.Connection, ctx: Context) -> list[Row]:
    names = _names(conn, ctx)
    return [_shown(row, names) for row in _own(conn, ctx)]


def _get(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    try:
        return _shown(floatingips.get(conn, ctx, ident), _names(conn, ctx))
    except NotFound:
        raise NotFound(f"Floating IP not found for ID {ident}", code="FloatingIpNotFound") from None


def _allocate(conn: sa.Connection, ctx: Context, pool: str | None) -> Row:
    found = [row for row in _pools(conn, ctx) if pool in (None, row["name"], row["id"])]
    if not found:
        raise NotFound("Floating IP pool not found.", code="FloatingIpPoolNotFound")
    made = floatingips.create(conn, ctx, {"floating_network_id": found[0]["id"]})
    return _shown(made, _names(conn, ctx))


def _release(conn: sa.Connection, ctx: Context, ident: str) -> None:
    _get(conn, ctx, ident)
    floatingips.delete(conn, ctx, ident)


async def index(call: Call) -> Reply:
    return Reply({"floating_ips": await call.read(_list)})


async def show(call: Call) -> Reply:
    return Reply({"floating_ip": await call.read(_get, call.path["floating_ip_id"])})


async def create(call: Call) -> Reply:
    data = await call.raw_body()
    pool = (await call.body(schemas.FloatingIpCreate)).pool if data and data != b"null" else None
    return Reply({"floating_ip": await call.write(_allocate, pool)})


async def delete(call: Call) -> Reply:
    await call.write(_release, call.path["floating_ip_id"])
    return Reply(status=202)


async def pools(call: Call) -> Reply:
    return Reply({"floating_ip_pools": [{"name": row["name"]} for row in await call.read(_pools)]})


def _by_address(conn: sa.Connection, ctx: Context, address: str) -> Row:
    found = _own(conn, ctx, Criterion("floating_ip_address", "eq", address))
    if not found:
        raise NotFound("floating IP not found", code="FloatingIpNotFoundForAddress")
    return found[0]


def _associate(conn: sa.Connection, ctx: Context, ident: str, address: str, fixed: str | None) -> None:
    row = servers.changeable(conn, ctx, ident)
    floating = _by_address(conn, ctx, address)
    for port in network.addresses(conn, [row["id"]]).get(row["id"], []):
        for item in port["fixed_ips"]:
            if item["version"] == 4 and fixed in (None, item["address"]):
                _move(conn, ctx, floating, port["port_id"], item["address"])
                return
    raise Invalid(
        "Specified fixed address not assigned to instance" if fixed else "No fixed IPs associated to instance", field="address"
    )


def _move(conn: sa.Connection, ctx: Context, floating: Row, port_id: str, fixed: str) -> None:
    """To this port, from whatever other one it was at. Raises Invalid where Networking refuses."""
    if floating["port_id"] is not None:
        floatingips.update(conn, ctx, floating["id"], {"port_id": None})
    try:
        floatingips.update(conn, ctx, floating["id"], {"port_id": port_id, "fixed_ip_address": fixed})
    except (Conflict, NotFound) as error:
        raise Invalid(f"Unable to associate floating IP: {error.message}", field="address") from None


def _disassociate(conn: sa.Connection, ctx: Context, ident: str, address: str) -> None:
    servers.changeable(conn, ctx, ident)
    floating = _by_address(conn, ctx, address)
    if (floating["port_details"] or {}).get("device_id") != ident:
        raise Conflict(f"Floating IP {address} is not associated with instance {ident}.", code="FloatingIpNotAssociated")
    floatingips.update(conn, ctx, floating["id"], {"port_id": None})


async def add(call: Call, ident: str, body: schemas.AddFloatingIp) -> Reply:
    """The action addFloatingIp."""
    await call.write(_associate, ident, body.address, body.fixed_address)
    return Reply(status=202)


async def remove(call: Call, ident: str, body: schemas.RemoveFloatingIp) -> Reply:
    """The action removeFloatingIp."""
    await call.write(_disassociate, ident, body.address)
    return Reply(status=202)


def _network(conn: sa.Connection, ctx: Context, row: Row) -> Row:
    cidrs = [subnet["cidr"] for subnet in subnets.find(conn, ctx, Query((Criterion("network_id", "eq", row["id"]),))).rows]
    return {"id": row["id"], "label": row["name"], "cidr": cidrs[0] if cidrs else None}


def _networks(conn: sa.Connection, ctx: Context) -> list[Row]:
    return [_network(conn, ctx, row) for row in networks.find(conn, ctx, Query(sort=(("name", "asc"),))).rows]


def _one_network(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    try:
        return _network(conn, ctx, networks.get(conn, ctx, ident))
    except NotFound:
        raise NotFound("Network not found", code="NetworkNotFound") from None


async def network_list(call: Call) -> Reply:
    """GET /os-networks and /os-tenant-networks, until 2.35."""
    return Reply({"networks": await call.read(_networks)})


async def network_show(call: Call) -> Reply:
    found: Any = await call.read(_one_network, call.path["network_id"])
    return Reply({"network": found})
