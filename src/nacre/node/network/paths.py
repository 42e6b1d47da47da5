"""The underlay's ways to other hosts: what they can carry, read of the device and tried with packets.

What does not fit is fragmented or lost, which shows as connections that stand still: better that somebody is told.
"""

import contextlib
import ipaddress
import os
import select
import socket
import struct
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from nacre.node.network import rtnl
from nacre.node.network.netlink import Netlink
from nacre.node.network.routing import checksum

HEADERS_V4 = 50
"""What VXLAN over IPv4 adds to an inner packet: Ethernet, VXLAN, UDP and IP (RFC 7348)."""
TRIES = 3
ANSWER_S = 0.4
SMALL = 128
"""A packet that every path carries."""
AT_ONCE_MAX = 16
PATHS_MAX = 256
"""More of them are not tried in one look."""
IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 10, 3
"""ip(7): DF is set, and what the kernel believes of the path does not count."""
_IP_ICMP = 28


def underlay_mtu(tunnel_ip: str | None) -> int:
    """The MTU of the device that bears the tunnel address; 0 where there is none."""
    if tunnel_ip is None:
        return 0
    with contextlib.closing(Netlink(rtnl.NETLINK_ROUTE)) as netlink:
        own = ipaddress.ip_address(tunnel_ip)
        index = next((at for at, cidr in rtnl.addresses(netlink) if ipaddress.ip_interface(cidr).ip == own), 0)
        return next((link.mtu for link in rtnl.links(netlink).values() if link.index == index), 0)


def too_narrow(wanted: Mapping[str, int]) -> list[tuple[str, int]]:
    """Of the other hosts' tunnel addresses, each with the size of the largest packet (bytes, all headers) that has to get there, those that
    answer and do not get such a one. Over IPv4 alone. Blocks for a second or two."""
    chosen = [(remote, size) for remote, size in sorted(wanted.items()) if ":" not in remote][:PATHS_MAX]
    with ThreadPoolExecutor(AT_ONCE_MAX, "paths") as pool:
        narrow = list(pool.map(lambda path: not carries(*path) and carries(path[0], SMALL), chosen))
    return [path for path, is_narrow in zip(chosen, narrow, strict=True) if is_narrow]


def carries(remote: str, size: int) -> bool:
    """Whether a packet of that size gets there in one piece, and the answer back."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as wire:
        wire.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
        wire.connect((remote, 0))
        ident = int.from_bytes(os.urandom(2))
        for number in range(TRIES):
            try:
                wire.send(_echo(ident, number, size - _IP_ICMP))
            except OSError:
                return False  # It is larger than the device takes, or there is no way.
            if _answered(wire, ident, number):
                return True
    return False


def _echo(ident: int, number: int, padding: int) -> bytes:
    """An ICMP echo request (RFC 792)."""
    head, body = struct.pack("!BBHHH", 8, 0, 0, ident, number), bytes(padding)
    return struct.pack("!BBHHH", 8, 0, checksum(head + body + bytes(padding % 2)), ident, number) + body


def _answered(wire: socket.socket, ident: int, number: int) -> bool:
    end = time.monotonic() + ANSWER_S
    while (left := end - time.monotonic()) > 0:
        if not select.select([wire], [], [], left)[0]:
            return False
        try:
            packet = wire.recv(65_535)
        except OSError:
            continue  # An ICMP error that came for it.
        head = (packet[0] & 15) * 4
        if packet[head] == 0 and struct.unpack_from("!HH", packet, head + 4) == (ident, number):
            return True
    return False
