"""Tracked connections of a namespace: listed, and marked or deleted when what allowed them has changed (ctnetlink)."""

import ipaddress
import socket
import struct
from collections.abc import Callable, Iterable, Set
from typing import NamedTuple

from nacre.node.network.netlink import Message, Netlink, attr, attributes, nested
from nacre.node.network.rtnl import GONE_ALREADY

NETLINK_NETFILTER = 12
IPCTNL_MSG_CT_NEW = 1 << 8
IPCTNL_MSG_CT_GET = (1 << 8) | 1
IPCTNL_MSG_CT_DELETE = (1 << 8) | 2
IPCTNL_MSG_CT_GET_STATS = (1 << 8) | 5
CTA_STATS_GLOBAL_ENTRIES = 1

CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_MARK = 1, 2, 8
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_V4_SRC, CTA_IP_V4_DST, CTA_IP_V6_SRC, CTA_IP_V6_DST = 1, 2, 3, 4
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT = 1, 2, 3
CTA_PROTO_ICMP_TYPE, CTA_PROTO_ICMP_CODE, CTA_PROTO_ICMPV6_TYPE, CTA_PROTO_ICMPV6_CODE = 5, 6, 8, 9

DELETE = -1
"""The verdict that deletes a connection."""


class Flow(NamedTuple):
    """The packet that began a connection."""

    version: int
    source: str
    destination: str
    protocol: int
    source_port: int
    destination_port: int
    icmp_type: int
    icmp_code: int
    reply_source: str
    reply_destination: str
    mark: int = 0


def _ip(values: dict[int, bytes], v4: int, v6: int) -> str:
    raw = values.get(v4) or values.get(v6)
    return str(ipaddress.ip_address(raw)) if raw else ""


def _parse(body: bytes) -> tuple[Flow, bytes] | None:
    found = attributes(body, 4)
    original = found.get(CTA_TUPLE_ORIG)
    if original is None:
        return None
    parts = attributes(original)
    addresses, protocol = attributes(parts.get(CTA_TUPLE_IP, b"")), attributes(parts.get(CTA_TUPLE_PROTO, b""))
    reply = attributes(attributes(found.get(CTA_TUPLE_REPLY, b"")).get(CTA_TUPLE_IP, b""))

    def number(*kinds: int) -> int:
        return next((int.from_bytes(protocol[kind], "big") for kind in kinds if kind in protocol), 0)

    flow = Flow(
        version=4 if body[0] == socket.AF_INET else 6,
        source=_ip(addresses, CTA_IP_V4_SRC, CTA_IP_V6_SRC),
        destination=_ip(addresses, CTA_IP_V4_DST, CTA_IP_V6_DST),
        protocol=number(CTA_PROTO_NUM),
        source_port=number(CTA_PROTO_SRC_PORT),
        destination_port=number(CTA_PROTO_DST_PORT),
        icmp_type=number(CTA_PROTO_ICMP_TYPE, CTA_PROTO_ICMPV6_TYPE),
        icmp_code=number(CTA_PROTO_ICMP_CODE, CTA_PROTO_ICMPV6_CODE),
        reply_source=_ip(reply, CTA_IP_V4_SRC, CTA_IP_V6_SRC),
        reply_destination=_ip(reply, CTA_IP_V4_DST, CTA_IP_V6_DST),
        mark=int.from_bytes(found.get(CTA_MARK, b""), "big"),
    )
    return flow, original


def _header(family: int) -> bytes:
    return struct.pack("!BBH", family, 0, 0)


def _concerns(body: bytes, addresses: Set[bytes]) -> bool:
    """Whether the first packet's source or destination is among the addresses, told without reading the rest.

    They stand first in every answer: the header, then the heads of CTA_TUPLE_ORIG and CTA_TUPLE_IP, then each with a head of its own.
    """
    size = 4 if body[0] == socket.AF_INET else 16
    return body[16 : 16 + size] in addresses or body[20 + size : 20 + 2 * size] in addresses


class Conntrack:
    """A socket to the connection tracking of the namespace in which the calling thread stood when it was made."""

    def __init__(self) -> None:
        self._netlink = Netlink(NETLINK_NETFILTER)

    def close(self) -> None:
        self._netlink.close()

    def judge(self, addresses: Iterable[str], verdict: Callable[[Flow], int | None]) -> int:
        """Give each connection that began from or to one of the addresses the mark that `verdict` says.

        None leaves it, DELETE deletes it. Returns how many changed. Raises NetlinkError.
        """
        if not self._tracks():
            return 0
        wanted = {ipaddress.ip_address(address).packed for address in addresses}
        messages: list[Message] = []
        # No family asks for both at once: the kernel walks its whole table for each question, all namespaces' connections.
        for answer in self._netlink.dump(IPCTNL_MSG_CT_GET, _header(socket.AF_UNSPEC), "list connections"):
            parsed = _parse(answer.body) if _concerns(answer.body, wanted) else None
            if parsed is None:
                continue
            flow, original = parsed
            said = verdict(flow)
            body = _header(answer.body[0]) + nested(CTA_TUPLE_ORIG, original)
            if said == DELETE:
                messages.append(Message(IPCTNL_MSG_CT_DELETE, 0, body, f"delete connection {flow}", GONE_ALREADY))
            elif said is not None and said != flow.mark:
                body += attr(CTA_MARK, struct.pack("!I", said))
                messages.append(Message(IPCTNL_MSG_CT_NEW, 0, body, f"mark connection {flow}", GONE_ALREADY))
        self._netlink.request(messages)
        return len(messages)

    def _tracks(self) -> bool:
        """Whether the namespace has any connection: most that lose a guest have none, and the question costs nothing."""
        answer = self._netlink.get(IPCTNL_MSG_CT_GET_STATS, _header(socket.AF_UNSPEC), "count connections")
        entries = attributes(answer.body, 4).get(CTA_STATS_GLOBAL_ENTRIES) if answer else None
        return entries is None or int.from_bytes(entries, "big") > 0
