"""Bandwidth limits in the kernel: token buckets (tc-tbf), as rtnetlink messages (linux/pkt_sched.h, linux/pkt_cls.h).

What a link sends waits in a bucket at the link itself. What comes in by a link is led by a filter (u32 and mirred) into a device of its
own (ifb), in whose bucket it waits before it goes on. A limit that changes is a bucket that changes: what waits in it stays.
"""

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator, Mapping

from msgspec import Struct

from nacre.node.network import rtnl
from nacre.node.network.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    Netlink,
    attr,
    attributes,
    nested,
    text,
    u32,
)
from nacre.protocol.networks import BandwidthLimit

RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
TCA_KIND, TCA_OPTIONS = 1, 2
TC_H_ROOT, TC_H_INGRESS = 0xFFFFFFFF, 0xFFFFFFF1
ROOT_HANDLE, INGRESS_HANDLE = 0x10000, 0xFFFF0000
TCA_TBF_PARMS, TCA_TBF_RATE64, TCA_TBF_BURST = 1, 4, 6
TC_LINKLAYER_ETHERNET = 1
TCA_U32_SEL, TCA_U32_ACT = 5, 7
TC_U32_TERMINAL = 1
TCA_ACT_KIND, TCA_ACT_OPTIONS = 1, 2
TCA_MIRRED_PARMS = 2
TC_ACT_STOLEN, TCA_EGRESS_REDIR = 4, 1
ETH_P_ALL, ETH_P_IP = 0x0003, 0x0800

_TC = struct.Struct("=BxHiIII")
_RATE = struct.Struct("=BBHhHI")
_MIRRED = struct.Struct("=IIiiiiI")
_OFFSETS = {"source": 12, "destination": 16}
"""Where the addresses stand in an IPv4 header (RFC 791)."""

BITS_PER_KBIT, BITS_PER_BYTE = 1_000, 8
BURST_S, QUEUE_S = 0.05, 0.05
"""A limit without a burst may send what it has in this time at once; what waits longer than that in the queue is dropped."""
BURST_BYTES_MIN, QUEUE_BYTES_MIN = 16 * 1024, 64 * 1024
ABSENT = frozenset({errno.ENOENT, errno.EINVAL, errno.ENODEV})


class Queue(Struct, frozen=True):
    """What waits before a limit: everything that comes in by a link, or what has this IPv4 address as its source or destination."""

    limit: BandwidthLimit
    side: str = ""
    address: str = ""


def _header(index: int, *, handle: int = 0, parent: int = 0, info: int = 0) -> bytes:
    return _TC.pack(socket.AF_UNSPEC, 0, index, handle, parent, info)


def _bucket(index: int, limit: BandwidthLimit, what: str) -> Message:
    """A token bucket as what the device sends through; one that is there is changed."""
    rate = limit.max_kbps * BITS_PER_KBIT // BITS_PER_BYTE
    burst = max(limit.burst_kbits * BITS_PER_KBIT // BITS_PER_BYTE or int(rate * BURST_S), BURST_BYTES_MIN)
    queue = min(max(int(rate * QUEUE_S) + burst, QUEUE_BYTES_MIN), 2**32 - 1)
    told = _RATE.pack(0, TC_LINKLAYER_ETHERNET, 0, 0, 0, min(rate, 2**32 - 1))
    parameters = told + _RATE.pack(0, 0, 0, 0, 0, 0) + struct.pack("=III", queue, 0, 0)
    options = attr(TCA_TBF_PARMS, parameters) + u32(TCA_TBF_BURST, min(burst, 2**32 - 1))
    if rate >= 2**32:
        options += attr(TCA_TBF_RATE64, struct.pack("=Q", rate))
    body = _header(index, handle=ROOT_HANDLE, parent=TC_H_ROOT) + text(TCA_KIND, "tbf") + nested(TCA_OPTIONS, options)
    return Message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body, f"limit {what} to {limit.max_kbps} kbit/s")


def limit_sending(host: Netlink, link: rtnl.Link, limit: BandwidthLimit | None) -> None:
    """Hold what the link sends to a limit, or (None) to none."""
    if limit is not None:
        host.request([_bucket(link.index, limit, link.name)])
    elif "tbf" in _qdiscs(host, link.index):
        body = _header(link.index, handle=ROOT_HANDLE, parent=TC_H_ROOT)
        host.request([Message(RTM_DELQDISC, 0, body, f"no more limit {link.name}", ABSENT)])


def hold(host: Netlink, link: rtnl.Link, wanted: Mapping[str, Queue]) -> None:
    """Hold what comes in by the link to these limits and no others. Keys are the names of the devices that it waits in."""
    there = dict(_led(host, link.index))
    if not wanted and not there:
        return
    devices = {found.index: name for name, found in rtnl.links(host).items() if found.kind == "ifb"}
    numbers = {name: _number(queue) for name, queue in wanted.items()}
    for number, index in there.items():
        name = devices.get(index, "")
        if numbers.get(name) != number:
            host.request([_unlead(link, number)])
            if index in devices:
                host.request([rtnl.delete_link(index, name)])
                del devices[index]
    if not wanted:
        body = _header(link.index, handle=INGRESS_HANDLE, parent=TC_H_INGRESS)
        host.request([Message(RTM_DELQDISC, 0, body, f"no more filters of {link.name}", ABSENT)])
        return
    body = _header(link.index, handle=INGRESS_HANDLE, parent=TC_H_INGRESS) + text(TCA_KIND, "ingress")
    host.request([Message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body, f"filters of {link.name}", rtnl.THERE_ALREADY)])
    for name, queue in wanted.items():
        index = next((index for index, found in devices.items() if found == name), 0) or _device(host, name, link.mtu)
        host.request([_bucket(index, queue.limit, name)])
        if there.get(numbers[name]) != index:
            host.request([_lead(link, numbers[name], queue, index)])


def sweep(host: Netlink) -> None:
    """Delete the devices to which no filter leads any more: a link that goes takes its filters along, and not what they lead to."""
    devices = {found.index: name for name, found in rtnl.links(host).items() if found.kind == "ifb"}
    if not devices:
        return
    used = {device for link in _qdiscs(host, 0).get("ingress", ()) for _, device in _led(host, link)}
    host.request([rtnl.delete_link(index, name) for index, name in sorted(devices.items()) if index not in used])


def limited(host: Netlink) -> set[str]:
    """The names of the links that are held to some limit."""
    by_index = {found.index: name for name, found in rtnl.links(host).items()}
    found = _qdiscs(host, 0)
    return {by_index[index] for kind in ("tbf", "ingress") for index in found.get(kind, ()) if index in by_index}


def _qdiscs(host: Netlink, index: int) -> dict[str, list[int]]:
    """By kind the links with such a queue; `index` 0 is all links."""
    found: dict[str, list[int]] = {}
    for answer in host.dump(RTM_GETQDISC, _header(0), "list queues"):
        of_link = _TC.unpack_from(answer.body)[2]
        kind = attributes(answer.body, _TC.size).get(TCA_KIND, b"").rstrip(b"\0").decode()
        if index in (0, of_link):
            found.setdefault(kind, []).append(of_link)
    return found


def _led(host: Netlink, index: int) -> Iterator[tuple[int, int]]:
    """The filters of a link: their numbers, and the devices that they lead to."""
    if index not in _qdiscs(host, index).get("ingress", ()):
        return
    for answer in host.dump(RTM_GETTFILTER, _header(index, parent=INGRESS_HANDLE), "list filters"):
        info = _TC.unpack_from(answer.body)[5]
        options = attributes(attributes(answer.body, _TC.size).get(TCA_OPTIONS, b""))
        action = attributes(attributes(options.get(TCA_U32_ACT, b"")).get(1, b""))
        parameters = attributes(action.get(TCA_ACT_OPTIONS, b"")).get(TCA_MIRRED_PARMS)
        if parameters is not None:
            yield info >> 16, _MIRRED.unpack_from(parameters)[6]


def _number(queue: Queue) -> int:
    """The filter's priority: 1 is everything; for an address what tells it from the others of its subnet."""
    return int(ipaddress.ip_address(queue.address)) % 0xFFF0 + 2 if queue.address else 1


def _device(host: Netlink, name: str, mtu: int) -> int:
    body = rtnl.new_link(name, "ifb", mtu)
    host.request([Message(rtnl.RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"add ifb {name}", rtnl.THERE_ALREADY)])
    link = rtnl.find_link(host, name)
    if link is None:
        raise OSError(f"the device {name} vanished while it was made")
    return link.index


def _lead(link: rtnl.Link, number: int, queue: Queue, index: int) -> Message:
    """What matches comes out at the device instead, and from there in again at the link."""
    mask, value, offset = 0, 0, 0
    if queue.address:
        mask, value, offset = 0xFFFFFFFF, int(ipaddress.ip_address(queue.address)), _OFFSETS[queue.side]
    protocol = ETH_P_IP if queue.address else ETH_P_ALL
    # struct tc_u32_sel: flags, shift, keys, masks and offsets that nothing here uses; then one key: mask, value, offset.
    selector = struct.pack("=BBBxHHhhI", TC_U32_TERMINAL, 0, 1, 0, 0, 0, 0, 0) + struct.pack("!II", mask, value)
    selector += struct.pack("=ii", offset, 0)
    mirred = _MIRRED.pack(0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, index)
    action = nested(1, text(TCA_ACT_KIND, "mirred") + nested(TCA_ACT_OPTIONS, attr(TCA_MIRRED_PARMS, mirred)))
    options = nested(TCA_OPTIONS, attr(TCA_U32_SEL, selector), nested(TCA_U32_ACT, action))
    info = number << 16 | socket.htons(protocol)
    body = _header(link.index, parent=INGRESS_HANDLE, info=info) + text(TCA_KIND, "u32") + options
    return Message(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, body, f"lead what comes in by {link.name} to its limit")


def _unlead(link: rtnl.Link, number: int) -> Message:
    body = _header(link.index, parent=INGRESS_HANDLE, info=number << 16)
    return Message(RTM_DELTFILTER, 0, body, f"no more limit of what comes in by {link.name}", ABSENT)
