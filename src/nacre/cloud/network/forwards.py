"""Published ports: what comes to a port of the host (or of a floating IP) goes to a port of a guest.

A forward lies on the router that joins the guest's subnet to the outside, and on that router's host. Who has which port of a host is
decided here, in the transaction, under the host's row lock: two that publish the same port at once do not both get it.
"""

import ipaddress
import itertools
import secrets
from dataclasses import dataclass

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.errors import CloudError
from nacre.cloud.network import floatingips, marks, walls
from nacre.cloud.network.common import chosen, grouped, rows_among, stamped
from nacre.cloud.network.placing import bring_home
from nacre.cloud.network.ports import drop_forwards, set_groups
from nacre.cloud.network.tables import fixed_ips, forwards, ports, routers

EPHEMERAL = (32_768, 60_999)
"""What a port is chosen from where none was named: Linux's own range, as Docker does."""
EVERY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104 - names, nothing is bound


class PortTaken(CloudError):
    """Docker answers 500 to it."""

    def __init__(self, address: str, port: int) -> None:
        shown = address or "0.0.0.0"  # noqa: S104
        super().__init__(f"Bind for {shown}:{port} failed: port is already allocated", code="PortTaken")


@dataclass(frozen=True)
class Wanted:
    """A port to publish: one of `first` to `last` (0: any ephemeral one) of the host's address."""

    protocol: walls.Protocol
    internal_port: int
    host_address: str = ""
    first: int = 0
    last: int = 0


def publish(conn: sa.Connection, project_id: str, port_id: str, wanted: list[Wanted], *, floating: bool = False) -> list[Row]:
    """Publish ports of the port on the host of its router, or on a floating IP of its own, all or none.

    Raises PortTaken, CloudError where no router leads out, and on a floating IP OverQuota and Conflict (no address is left).
    """
    if not wanted:
        return []
    port = dict(conn.execute(sa.select(ports).where(ports.c.id == port_id)).mappings().one())
    router, address = _way(conn, port_id)
    gathered = marks.Marks()
    if not floating:
        router["host_id"] = bring_home(conn, router)
    gathered.add(router["host_id"], "router", router["id"])
    outside = floatingips.take_to_publish(conn, project_id, router, port_id) if floating else None
    gathered.flush(conn)  # From here to the commit the host's row is locked: nobody else looks for a port on it.
    made: list[Row] = []
    for each in wanted:
        row = stamped(
            project_id,
            {
                "router_id": router["id"],
                "port_id": port_id,
                "floating_ip_id": outside["id"] if outside else None,
                "protocol": each.protocol,
                "external_address": outside["floating_ip_address"] if outside else "",
                "host_address": each.host_address,
                "external_port": _choose(conn, router["host_id"], each, outside),
                "internal_address": address,
                "internal_port": each.internal_port,
            },
        )
        conn.execute(forwards.insert(), row)
        made.append(row)
    _open_doors(conn, port, wanted)
    return made


def _open_doors(conn: sa.Connection, port: Row, wanted: list[Wanted]) -> None:
    if not port["port_security_enabled"]:
        return
    doors = {walls.ensure_door(conn, each.protocol, each.internal_port) for each in wanted}
    set_groups(conn, port, {*marks.groups_of(conn, port["id"]), *doors})


_OF_PORTS = chosen(
    sa.select(forwards).order_by(forwards.c.internal_port, forwards.c.protocol, forwards.c.external_port), forwards.c.port_id
)


def unpublish(conn: sa.Connection, port_ids: list[str]) -> None:
    """Give back what these ports publish, and close their doors. A floating IP stays the port's: published again, it is the same."""
    for port_id in port_ids:
        held = rows_among(conn, _OF_PORTS, [port_id])
        if not held:
            continue
        drop_forwards(conn, forwards.c.port_id == port_id)
        port = dict(conn.execute(sa.select(ports).where(ports.c.id == port_id)).mappings().one())
        shut = {walls.door_id(row["protocol"], row["internal_port"]) for row in held}
        set_groups(conn, port, set(marks.groups_of(conn, port_id)) - shut)


def of_ports(conn: sa.Connection, port_ids: list[str]) -> dict[str, list[Row]]:
    """The published ports of each port, by its id."""
    return grouped(rows_among(conn, _OF_PORTS, port_ids), "port_id")


def _way(conn: sa.Connection, port_id: str) -> tuple[Row, str]:
    """The router with a gateway that one of the port's subnets has, and the port's address there, IPv4 first."""
    legs = fixed_ips.alias()
    found = conn.execute(
        sa.select(routers.c.id, routers.c.host_id, routers.c.external_network_id, fixed_ips.c.address)
        .select_from(fixed_ips)
        .join(legs, legs.c.subnet_id == fixed_ips.c.subnet_id)
        .join(ports, sa.and_(ports.c.id == legs.c.port_id, ports.c.device_owner == "network:router_interface"))
        .join(routers, routers.c.id == ports.c.device_id)
        .where(fixed_ips.c.port_id == port_id, routers.c.gateway_port_id.is_not(None), routers.c.host_id.is_not(None))
    ).all()
    if not found:
        raise CloudError(
            "no router leads from the container's network to the outside, so its ports cannot be published", code="NoWayOut"
        )
    best = min(found, key=lambda row: (":" in row.address, row.address))
    if ":" in best.address:
        raise CloudError("ports are published for IPv4 addresses only, and the container's network has none", code="NoWayOut")
    return {"id": best.id, "host_id": best.host_id, "external_network_id": best.external_network_id}, best.address


def _choose(conn: sa.Connection, host_id: str, wanted: Wanted, outside: Row | None) -> int:
    """A port that nobody has: of the floating IP, or of the host."""
    first, last = (wanted.first, wanted.last or wanted.first) if wanted.first else EPHEMERAL
    same = (
        forwards.c.floating_ip_id == outside["id"]
        if outside
        else sa.and_(routers.c.host_id == host_id, forwards.c.floating_ip_id.is_(None))
    )
    taken = conn.execute(
        sa.select(forwards.c.external_port, forwards.c.host_address)
        .join(routers, routers.c.id == forwards.c.router_id)
        .where(same, forwards.c.protocol == wanted.protocol, forwards.c.external_port.between(first, last))
    ).all()
    held = {port for port, address in taken if _meet(address, wanted.host_address)}
    # Any ephemeral one is looked for from anywhere: what else is on the host, another cloud or engine, begins at the range's beginning.
    begin = first if wanted.first else first + secrets.randbelow(last - first + 1)
    for port in itertools.chain(range(begin, last + 1), range(first, begin)):
        if port not in held:
            return port
    raise PortTaken(outside["floating_ip_address"] if outside else wanted.host_address, first)


def _meet(one: str, other: str) -> bool:
    """Whether two host addresses mean the same one. Without a name all addresses of both versions are meant."""
    if not one or not other:
        return True
    if (":" in one) != (":" in other):
        return False
    if one in EVERY_ADDRESS or other in EVERY_ADDRESS:
        return True
    return ipaddress.ip_address(one) == ipaddress.ip_address(other)
