"""Which addresses a port gets: what its fixed_ips ask for, held against its network's subnets."""

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.errors import Conflict, Invalid
from nacre.cloud.network import ipam
from nacre.cloud.network.tables import fixed_ips, subnets
from nacre.store import Prepared

FIXED_IPS_MAX = 50
"""Addresses of one port."""


_SUBNETS = Prepared(
    sa.select(subnets).where(subnets.c.network_id == sa.bindparam("network")).order_by(subnets.c.created_at, subnets.c.id)
)


def network_subnets(conn: sa.Connection, network_id: str) -> list[Row]:
    return _SUBNETS.rows(conn, network=network_id)


def assign(conn: sa.Connection, port: Row, asked: list[Row] | None, *, router: bool = False) -> None:
    """Give a port its addresses: those asked for; or, asked nothing, one of each IP version and those that SLAAC makes. [] is none.

    Raises Invalid and Conflict with Neutron's names.
    """
    found = network_subnets(conn, port["network_id"])
    if asked is None:
        _assign_usual(conn, port, found)
        return
    if len(asked) > FIXED_IPS_MAX:
        raise Invalid("Exceeded maximum amount of fixed ips per port.", field="fixed_ips", code="InvalidInput")
    named: set[str] = set()
    for position, wanted in enumerate(asked):
        subnet = _subnet_of(found, port["network_id"], wanted)
        named.add(subnet["id"])
        _assign_one(conn, port, subnet, wanted.get("ip_address"), position, router)
    if asked and not router:
        for subnet in found:
            if subnet["id"] not in named and ipam.is_auto(subnet):
                _assign_auto(conn, port, subnet, len(named))


def reassign(conn: sa.Connection, port: Row, asked: list[Row], *, router: bool = False) -> None:
    """Replace a port's addresses, keeping those that a wanted subnet already gave when no address is named."""
    held = [
        dict(row)
        for row in conn.execute(
            sa.select(fixed_ips).where(fixed_ips.c.port_id == port["id"]).order_by(fixed_ips.c.position)
        ).mappings()
    ]
    spare = {row["address"]: row["subnet_id"] for row in held}
    wanted = [dict(each) for each in asked]
    for each in wanted:
        if each.get("ip_address"):
            spare.pop(str(ipam.parse_address(each["ip_address"], "fixed_ips")), None)
    for each in wanted:
        if not each.get("ip_address"):
            kept = next((address for address, subnet_id in spare.items() if subnet_id == each.get("subnet_id")), None)
            if kept is not None:
                each["ip_address"] = kept
                spare.pop(kept)
    conn.execute(fixed_ips.delete().where(fixed_ips.c.port_id == port["id"]))
    assign(conn, port, wanted, router=router)


def _assign_usual(conn: sa.Connection, port: Row, found: list[Row]) -> None:
    position = 0
    for version in (4, 6):
        candidates = [subnet for subnet in found if subnet["ip_version"] == version and not ipam.is_auto(subnet)]
        if candidates and not any(ipam.take_next(conn, subnet["id"], port["id"], position) is not None for subnet in candidates):
            raise Conflict(f"No more IP addresses available on network {port['network_id']}.", code="IpAddressGenerationFailure")
        position += bool(candidates)
    for subnet in found:
        if ipam.is_auto(subnet):
            _assign_auto(conn, port, subnet, position)
            position += 1


def _assign_auto(conn: sa.Connection, port: Row, subnet: Row, position: int) -> None:
    address = ipam.eui64(ipam.parse_cidr(subnet["cidr"], "cidr"), port["mac_address"])
    ipam.take(conn, subnet["id"], port["id"], address, position)


def _subnet_of(found: list[Row], network_id: str, wanted: Row) -> Row:
    subnet_id, address = wanted.get("subnet_id"), wanted.get("ip_address")
    if subnet_id is not None:
        subnet = next((each for each in found if each["id"] == subnet_id), None)
        if subnet is None:
            raise Invalid(
                f"Failed to create port on network {network_id}, because fixed_ips included invalid subnet {subnet_id}.",
                field="fixed_ips",
                code="InvalidInput",
            )
        return subnet
    if address is None:
        raise Invalid("IP allocation requires subnet_id or ip_address.", field="fixed_ips", code="InvalidInput")
    ip = ipam.parse_address(address, "fixed_ips")
    for each in found:
        if each["ip_version"] == ip.version and ip in ipam.parse_cidr(each["cidr"], "cidr"):
            return each
    raise Invalid(
        f"IP address {address} is not a valid IP for any of the subnets on the specified network.",
        field="fixed_ips",
        code="InvalidIpForNetwork",
    )


def _assign_one(conn: sa.Connection, port: Row, subnet: Row, text: str | None, position: int, router: bool) -> None:
    cidr = ipam.parse_cidr(subnet["cidr"], "cidr")
    auto = ipam.is_auto(subnet) and not router
    if text is None:
        if auto:
            _assign_auto(conn, port, subnet, position)
        elif ipam.take_next(conn, subnet["id"], port["id"], position) is None:
            raise Conflict(f"No more IP addresses available on network {port['network_id']}.", code="IpAddressGenerationFailure")
        return
    address = ipam.parse_address(text, "fixed_ips")
    if not ipam.usable(cidr, address) and not (router and address in cidr):
        raise Invalid(
            f"IP address {text} is not a valid IP for the specified subnet.", field="fixed_ips", code="InvalidIpForSubnet"
        )
    if auto and address != ipam.eui64(cidr, port["mac_address"]):
        raise Invalid(
            f"IPv6 address {text} can not be directly assigned to a port on subnet {subnet['id']} as the subnet is configured "
            "for automatic addresses.",
            field="fixed_ips",
            code="AllocationOnAutoAddressSubnet",
        )
    ipam.take(conn, subnet["id"], port["id"], address, position)
