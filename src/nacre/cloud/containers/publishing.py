"""Which ports a container publishes: `Config.ExposedPorts`, `HostConfig.PortBindings` and `HostConfig.PublishAllPorts`, parsed.

And where: on the addresses of the router's host, or on a floating IP that each container takes for itself, as an admin says for the project.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, cast

import sqlalchemy as sa

from nacre.cloud.containers.tables import publishing
from nacre.cloud.context import Context
from nacre.cloud.errors import Invalid
from nacre.cloud.network.forwards import EVERY_ADDRESS, Wanted
from nacre.cloud.network.walls import Protocol
from nacre.store import Prepared, insert

PROTOCOLS = ("tcp", "udp", "sctp")
PLACES = ("host", "floating")
"""The first is where it is when nobody has said it."""
PORT_MAX = 65_535
PUBLISHED_MAX = 1_000
"""Ports of one container."""
_PORT = re.compile(r"(\d{1,5})(?:/([a-z]+))?", re.IGNORECASE)
_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


def wanted_ports(config: Mapping[str, Any], host_config: Mapping[str, Any]) -> list[Wanted]:
    """In the order of the container's ports. Raises Invalid with Docker's words."""
    bindings: Mapping[str, Any] = host_config.get("PortBindings") or {}
    found: list[Wanted] = []
    for text in sorted(bindings, key=_key):
        protocol, port = parse_port(text)
        for binding in bindings[text] or [{}]:
            found.append(_binding(protocol, port, binding or {}))
    if host_config.get("PublishAllPorts"):
        bound = {(each.protocol, each.internal_port) for each in found}
        exposed = {parse_port(text) for text in config.get("ExposedPorts") or {}}
        found += [Wanted(cast(Protocol, protocol), port) for protocol, port in sorted(exposed - bound)]
    if len(found) > PUBLISHED_MAX:
        raise Invalid(f"a container publishes at most {PUBLISHED_MAX} ports")
    return found


_PLACE = Prepared(sa.select(publishing.c.place).where(publishing.c.project_id == sa.bindparam("project")))


def place_of(conn: sa.Connection, ctx: Context, project_id: str) -> str:
    """One of PLACES."""
    return str(_PLACE.scalar(conn, project=project_id) or PLACES[0])


def set_place(conn: sa.Connection, ctx: Context, project_id: str, place: str) -> None:
    """From each container's next start on; what is published stays until then. Raises Invalid for what is none of PLACES."""
    if place not in PLACES:
        raise Invalid(f"ports are published on one of {', '.join(PLACES)}, not on {place}", field="place")
    statement = insert(publishing).values(project_id=project_id, place=place)
    conn.execute(statement.on_conflict_do_update(index_elements=["project_id"], set_={"place": place}))


def check_place(place: str, wanted: list[Wanted]) -> None:
    """A floating IP is none of the host's addresses. Raises Invalid for a port that is to be on one of these."""
    named = next((each.host_address for each in wanted if each.host_address not in EVERY_ADDRESS), None)
    if place == "floating" and named is not None:
        raise Invalid(
            f"this project's ports are published on a floating IP of the container's own, not on {named}: name no address",
            field="PortBindings",
        )


def _key(text: str) -> tuple[int, str]:
    protocol, port = parse_port(text)
    return port, protocol


def parse_port(text: str) -> tuple[str, int]:
    """`80`, `80/tcp` -> (tcp, 80). Raises Invalid."""
    found = _PORT.fullmatch(text)
    if found is None or not 0 < int(found[1]) <= PORT_MAX:
        raise Invalid(f"invalid port specification: {text!r}", field="PortBindings")
    protocol = (found[2] or "tcp").lower()
    if protocol not in PROTOCOLS:
        raise Invalid(f"invalid proto: {protocol}", field="PortBindings")
    return protocol, int(found[1])


def _binding(protocol: str, port: int, binding: Mapping[str, Any]) -> Wanted:
    address, text = str(binding.get("HostIp") or ""), str(binding.get("HostPort") or "")
    if address:
        try:
            address = str(ipaddress.ip_address(address))
        except ValueError:
            raise Invalid(f"invalid IP address: {address}", field="PortBindings") from None
        if "%" in address:
            raise Invalid(f"invalid IP address: {address}: a port cannot be published on one link", field="PortBindings")
        if ":" in address and protocol != "tcp":
            raise Invalid(
                f"by IPv6 tcp alone is published in this cloud: {port}/{protocol} on {address} is not", field="PortBindings"
            )
    first = last = 0
    if text not in ("", "0"):
        found = _RANGE.fullmatch(text)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 0 < first <= last <= PORT_MAX:
            raise Invalid(f"invalid port specification: {text!r}", field="PortBindings")
    return Wanted(cast(Protocol, protocol), port, address, first, last)
