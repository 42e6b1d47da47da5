"""Published ports: from a port of the host's own addresses, or of a floating address, to a port of a guest.

The host translates its own port to the router's gateway address and a port there, and the router translates that to the guest. So a client's
address reaches the guest as it is, tenants' addresses may overlap, and whoever is on the host's loopback is served too. The router
takes such packets from the host's uplink only, told by its MAC address: a port that is published on 127.0.0.1 is nobody else's.
"""

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Callable, Iterable, Mapping

from nacre.node.network.conntrack import DELETE, Flow
from nacre.node.network.versions import Listen
from nacre.protocol.networks import PortForward, Router

TRANSFER_FIRST = 61_000
"""Where a router's port for the host is taken from, when two addresses of the host publish the same one."""
PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}
SOCKET_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
ADDRESS_AND_PORT = "ipv4_addr . inet_proto . inet_service"
TO = "ipv4_addr . inet_service"

EVERY_V4 = ("", "0.0.0.0")  # noqa: S104 - names, nothing is bound

Key = tuple[str, str, int]
"""Protocol, the host's address (empty: all), port."""


def own_address(router: Router) -> str:
    """The router's IPv4 address on the outside; empty without one."""
    addresses = [ipaddress.ip_interface(text).ip for text in router.gateway.addresses] if router.gateway else []
    return next((str(address) for address in addresses if address.version == 4), "")


def of_host(router: Router) -> list[PortForward]:
    """Those on the host's own addresses, of either version. What ends at IPv6 has no way through the router's translation."""
    if not own_address(router) or not router.admin_state_up:
        return []
    return [each for each in router.forwards if not each.external_address and _is_v4(each.internal_address)]


def by_v4(router: Router) -> list[PortForward]:
    """Those of which callers come by IPv4: the kernel translates them."""
    return [each for each in of_host(router) if _is_v4(each.host_address)]


def by_v6(router: Router) -> dict[str, Listen]:
    """By the forward's id where callers come by IPv6: a process carries them, and TCP alone."""
    own, ports = own_address(router), transfer_ports(router)
    return {
        each.id: Listen(each.host_address or "::", each.external_port, own, ports[each.id], asked=bool(each.host_address))
        for each in of_host(router)
        if each.protocol == "tcp" and (not each.host_address or ":" in each.host_address)
    }


def of_floating(router: Router) -> list[PortForward]:
    return [each for each in router.forwards if each.external_address and _is_v4(each.internal_address)]


def _is_v4(*addresses: str) -> bool:
    return all(":" not in address for address in addresses)


def transfer_ports(router: Router) -> dict[str, int]:
    """By the forward's id the port of the router that the host translates to: the published one, unless another has it."""
    chosen: dict[str, int] = {}
    used: set[tuple[str, int]] = set()
    for each in sorted(of_host(router), key=lambda forward: forward.id):
        port = each.external_port
        while (each.protocol, port) in used:
            port = port + 1 if port >= TRANSFER_FIRST else TRANSFER_FIRST
        used.add((each.protocol, port))
        chosen[each.id] = port
    return chosen


def router_elements(router: Router) -> tuple[dict[str, str], dict[str, str]]:
    """The router's maps: for what the host sends on, and for its floating addresses."""
    own, ports = own_address(router), transfer_ports(router)
    inward = {}
    for each in of_host(router):
        key = f"{own} . {each.protocol} . {ports[each.id]}"
        inward[key] = f"{key} : {each.internal_address} . {each.internal_port}"
    floating = {}
    for each in of_floating(router):
        key = f"{each.external_address} . {each.protocol} . {each.external_port}"
        floating[key] = f"{key} : {each.internal_address} . {each.internal_port}"
    return inward, floating


def host_elements(routers: Iterable[Router], refused: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The host's maps: for every address, and for one. `refused` holds the ids of forwards whose port is somebody else's."""
    every: dict[str, str] = {}
    single: dict[str, str] = {}
    for router in routers:
        own, ports = own_address(router), transfer_ports(router)
        for each in by_v4(router):
            if each.id in refused:
                continue
            if each.host_address not in EVERY_V4:
                key = f"{each.host_address} . {each.protocol} . {each.external_port}"
                single[key] = f"{key} : {own} . {ports[each.id]}"
            else:
                key = f"{each.protocol} . {each.external_port}"
                every[key] = f"{key} : {own} . {ports[each.id]}"
    return every, single


Target = tuple[int, int, str, int]
"""Protocol, the port that was called, where it was sent on to: address and port (the flow's reply comes from there)."""


def targets_of_host(router: Router | None) -> set[Target]:
    if router is None:
        return set()
    own, ports = own_address(router), transfer_ports(router)
    return {(PROTOCOLS[each.protocol], each.external_port, own, ports[each.id]) for each in by_v4(router)}


def targets_of_router(router: Router | None) -> set[Target]:
    if router is None:
        return set()
    ports = transfer_ports(router)
    return {
        (PROTOCOLS[each.protocol], port, each.internal_address, each.internal_port)
        for forwards, port_of in ((of_host(router), ports), (of_floating(router), None))
        for each in forwards
        for port in [port_of[each.id] if port_of else each.external_port]
    }


def cut(gone: set[Target]) -> Callable[[Flow], int | None]:
    """The verdict that ends the connections of what is published no more, and no others."""
    calls = {(protocol, port, address) for protocol, port, address, _ in gone}
    return lambda flow: DELETE if (flow.protocol, flow.destination_port, flow.reply_source) in calls else None


class Reservations:
    """The host's ports that are published, bound so that nobody else on the host takes them; and none is taken from who has it."""

    def __init__(self) -> None:
        self._held: dict[Key, socket.socket] = {}

    def hold(self, wanted: Mapping[str, Key]) -> dict[str, str]:
        """Hold these (by the forward's id) and no others. Returns the ids whose port is somebody else's, with the cause."""
        keys = set(wanted.values())
        for key in self._held.keys() - keys:
            self._held.pop(key).close()
        refused: dict[str, str] = {}
        for ident, key in wanted.items():
            if key in self._held:
                continue
            try:
                reserved = _reserve(key)
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                    raise
                refused[ident] = f"listen {key[0]} {key[1] or '0.0.0.0'}:{key[2]}: {error.strerror}"  # noqa: S104
                continue
            if reserved is not None:
                self._held[key] = reserved
        return refused

    def close(self) -> None:
        for held in self._held.values():
            held.close()
        self._held.clear()


def _reserve(key: Key) -> socket.socket | None:
    """A socket that nobody ever reaches, since what comes is translated before. Raises OSError. None for a protocol without sockets here."""
    protocol, address, port = key
    if protocol not in SOCKET_KINDS:
        return None
    with contextlib.ExitStack() as stack:
        held = stack.enter_context(socket.socket(socket.AF_INET, SOCKET_KINDS[protocol] | socket.SOCK_CLOEXEC))
        if protocol == "tcp":
            # Old connections in TIME_WAIT are no obstacle; and only a socket that listens keeps others away who say the same.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((address, port))
        if protocol == "tcp":
            held.listen(1)
        stack.pop_all()
        return held
