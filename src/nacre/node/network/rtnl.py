"""Links, addresses, routes and neighbours as rtnetlink messages (rtnetlink(7), linux/if_link.h), and their dumps as structs."""

import errno
import ipaddress
import socket
import struct

from msgspec import Struct

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
    u8,
    u32,
)

NETLINK_ROUTE = 0

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_GROUP, IFLA_NET_NS_FD, IFLA_LINK_NETNSID = 20, 26, 27, 28, 37
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_INET6_ADDR_GEN_MODE = 8
IN6_ADDR_GEN_MODE_NONE = 1
VETH_INFO_PEER = 1
IFLA_MACVLAN_MODE, MACVLAN_MODE_PASSTHRU = 1, 8
IFLA_BR_MCAST_SNOOPING = 23
IFLA_BRPORT_LEARNING, IFLA_BRPORT_UNICAST_FLOOD, IFLA_BRPORT_MCAST_FLOOD = 8, 9, 27
IFLA_BRPORT_BCAST_FLOOD, IFLA_BRPORT_NEIGH_SUPPRESS = 30, 32
IFLA_VXLAN_ID, IFLA_VXLAN_LEARNING, IFLA_VXLAN_PORT, IFLA_VXLAN_LOCAL, IFLA_VXLAN_LOCAL6 = 1, 7, 15, 4, 17
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_F_NODAD, IFA_F_PERMANENT = 0x02, 0x80
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_TABLE = 1, 4, 5, 6, 7, 15
NDA_DST, NDA_LLADDR = 1, 2
NTF_SELF, NTF_MASTER = 0x02, 0x04
NUD_PERMANENT, NUD_NOARP = 0x80, 0x40

IFF_UP = 1
RT_TABLE_MAIN = 254
RTPROT_OURS = 0x4E
"""The mark of our routes (`proto 78`), which tells them from the kernel's and the operator's."""
SCOPE_UNIVERSE, SCOPE_LINK = 0, 253
RTN_UNICAST = 1
VXLAN_PORT = 4789
DOOMED_GROUP = 0x6E61
"""Links that are put into this group go in one stroke: one wait for the kernel's grace period, not one for each."""

THERE_ALREADY = frozenset({errno.EEXIST})
GONE_ALREADY = frozenset({errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL})

_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBi")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")

FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


class Link(Struct, frozen=True):
    index: int
    name: str
    mac: str
    mtu: int
    up: bool
    peer: int
    """The index of the other end of a veth pair, in the other end's namespace; 0 for none."""
    master: int
    kind: str
    alias: str


class Route(Struct, frozen=True):
    destination: str
    """In CIDR form."""
    gateway: str | None
    oif: int
    priority: int
    protocol: int


def _mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def _header(*, index: int = 0, flags: int = 0, change: int = 0, family: int = 0) -> bytes:
    return _LINK.pack(family, 0, index, flags, change)


def _up(up: bool) -> int:
    return IFF_UP if up else 0


def veth(
    name: str,
    mac: str,
    mtu: int,
    *,
    peer: str,
    peer_mac: str,
    peer_ns: int,
    alias: str = "",
    up: bool = True,
    peer_up: bool = True,
) -> Message:
    """A pair, one end here and the other at once in the namespace behind the descriptor `peer_ns`."""
    other = (
        _header(flags=_up(peer_up), change=IFF_UP)
        + text(IFLA_IFNAME, peer)
        + attr(IFLA_ADDRESS, _mac_bytes(peer_mac))
        + u32(IFLA_MTU, mtu)
        + u32(IFLA_NET_NS_FD, peer_ns)
    )
    body = (
        _header(flags=_up(up), change=IFF_UP)
        + text(IFLA_IFNAME, name)
        + attr(IFLA_ADDRESS, _mac_bytes(mac))
        + u32(IFLA_MTU, mtu)
        + nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "veth"), nested(IFLA_INFO_DATA, nested(VETH_INFO_PEER, other)))
    )
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"add veth {name} ({alias or peer})")


def new_link(name: str, kind: str, mtu: int) -> bytes:
    """The body of a message that makes a device which needs no more than a kind, and is up at once."""
    head = _header(flags=IFF_UP, change=IFF_UP) + text(IFLA_IFNAME, name) + u32(IFLA_MTU, mtu)
    return head + nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, kind))


def bridge(name: str, mac: str, mtu: int) -> Message:
    """A bridge that does not snoop on multicast: neighbour discovery must pass where nobody queries."""
    body = (
        _header()
        + text(IFLA_IFNAME, name)
        + attr(IFLA_ADDRESS, _mac_bytes(mac))
        + u32(IFLA_MTU, mtu)
        + nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "bridge"), nested(IFLA_INFO_DATA, u8(IFLA_BR_MCAST_SNOOPING, 0)))
    )
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"add bridge {name}", THERE_ALREADY)


def vxlan(name: str, vni: int, local: str, mtu: int, namespace: int) -> Message:
    """A tunnel whose underlay socket stays in the calling namespace while the device is made in another one."""
    kind = IFLA_VXLAN_LOCAL if ":" not in local else IFLA_VXLAN_LOCAL6
    data = nested(
        IFLA_INFO_DATA,
        u32(IFLA_VXLAN_ID, vni),
        attr(kind, _packed(local)),
        u8(IFLA_VXLAN_LEARNING, 0),
        attr(IFLA_VXLAN_PORT, struct.pack("!H", VXLAN_PORT)),
    )
    body = _header() + text(IFLA_IFNAME, name) + u32(IFLA_MTU, mtu) + u32(IFLA_NET_NS_FD, namespace)
    body += nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "vxlan"), data)
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"add vxlan {name} (VNI {vni}, UDP port {VXLAN_PORT})")


def macvlan(name: str, device: int, mtu: int, namespace: int) -> Message:
    """All that comes and goes by a device (`passthru`), as a link in another namespace. The device bears nothing else then."""
    data = nested(IFLA_INFO_DATA, u32(IFLA_MACVLAN_MODE, MACVLAN_MODE_PASSTHRU))
    body = _header() + text(IFLA_IFNAME, name) + u32(IFLA_LINK, device) + u32(IFLA_MTU, mtu) + u32(IFLA_NET_NS_FD, namespace)
    body += nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "macvlan"), data)
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"add macvlan {name}")


def set_link(
    index: int, what: str, *, up: bool | None = None, mtu: int | None = None, mac: str | None = None, alias: str = ""
) -> Message:
    body = _header(index=index, flags=_up(bool(up)), change=0 if up is None else IFF_UP)
    if mtu is not None:
        body += u32(IFLA_MTU, mtu)
    if mac is not None:
        body += attr(IFLA_ADDRESS, _mac_bytes(mac))
    if alias:
        body += attr(IFLA_IFALIAS, alias.encode())
    return Message(RTM_SETLINK, 0, body, f"set link {what}")


def move_link(index: int, what: str, *, namespace: int, name: str, alias: str = "") -> Message:
    """Into the namespace behind the descriptor, under that name there, in one step. It is down then, and has lost its addresses."""
    body = _header(index=index) + u32(IFLA_NET_NS_FD, namespace) + text(IFLA_IFNAME, name)
    if alias:
        body += attr(IFLA_IFALIAS, alias.encode())
    return Message(RTM_NEWLINK, 0, body, f"move link {what} as {name}")


def enslave(index: int, master: int, what: str) -> Message:
    return Message(RTM_SETLINK, 0, _header(index=index) + u32(IFLA_MASTER, master), f"put {what} on its bridge")


def no_generated_address(index: int, what: str) -> Message:
    """We give the link-local address ourselves, without duplicate address detection, which would cost the guest a second."""
    spec = nested(IFLA_AF_SPEC, nested(socket.AF_INET6, u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE)))
    # A kernel without IPv6 has no such setting, and needs none.
    return Message(RTM_SETLINK, 0, _header(index=index) + spec, f"set link {what}", frozenset({errno.EAFNOSUPPORT, errno.EINVAL}))


def bridge_port(index: int, what: str, *, tunnel: bool = False) -> Message:
    """A port that learns nothing and is sent nothing but what is for it.

    A tunnel is not even sent broadcasts: the bridge answers for the other side.
    """
    data = nested(
        IFLA_INFO_SLAVE_DATA,
        u8(IFLA_BRPORT_LEARNING, 0),
        u8(IFLA_BRPORT_UNICAST_FLOOD, 0),
        u8(IFLA_BRPORT_MCAST_FLOOD, int(not tunnel)),
        u8(IFLA_BRPORT_BCAST_FLOOD, int(not tunnel)),
        u8(IFLA_BRPORT_NEIGH_SUPPRESS, int(tunnel)),
    )
    body = _header(index=index) + nested(IFLA_LINKINFO, text(IFLA_INFO_SLAVE_KIND, "bridge"), data)
    return Message(RTM_NEWLINK, 0, body, f"set bridge port {what}")


def delete_link(index: int, what: str) -> Message:
    return Message(RTM_DELLINK, 0, _header(index=index), f"delete link {what}", GONE_ALREADY)


def doom(index: int, what: str) -> Message:
    return Message(RTM_SETLINK, 0, _header(index=index) + u32(IFLA_GROUP, DOOMED_GROUP), f"delete link {what}", GONE_ALREADY)


def delete_doomed() -> Message:
    return Message(RTM_DELLINK, 0, _header() + u32(IFLA_GROUP, DOOMED_GROUP), "delete links", GONE_ALREADY)


def address(index: int, cidr: str, *, delete: bool = False, scope: int = SCOPE_UNIVERSE) -> Message:
    """Add (without duplicate address detection) or delete an address in CIDR form."""
    parsed = ipaddress.ip_interface(cidr)
    body = _ADDRESS.pack(FAMILY[parsed.version], parsed.network.prefixlen, IFA_F_NODAD, scope, index)
    body += attr(IFA_LOCAL, parsed.ip.packed) + attr(IFA_ADDRESS, parsed.ip.packed)
    if delete:
        return Message(RTM_DELADDR, 0, body, f"delete address {cidr}", GONE_ALREADY)
    return Message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, body, f"add address {cidr}", THERE_ALREADY)


def route(
    destination: str,
    index: int,
    *,
    gateway: str | None = None,
    priority: int = 0,
    delete: bool = False,
    ignore_other: bool = False,
) -> Message:
    """Add or delete a route of ours. Without a gateway the destination is on the link.

    `ignore_other`: leave a route for the same destination that is there.
    """
    network = ipaddress.ip_network(destination)
    scope = SCOPE_UNIVERSE if gateway or network.version == 6 else SCOPE_LINK
    body = _ROUTE.pack(FAMILY[network.version], network.prefixlen, 0, 0, RT_TABLE_MAIN, RTPROT_OURS, scope, RTN_UNICAST, 0)
    if network.prefixlen:
        body += attr(RTA_DST, network.network_address.packed)
    if gateway:
        body += attr(RTA_GATEWAY, _packed(gateway))
    body += u32(RTA_OIF, index)
    if priority:
        body += u32(RTA_PRIORITY, priority)
    via = f" via {gateway}" if gateway else ""
    if delete:
        return Message(RTM_DELROUTE, 0, body, f"delete route {destination}{via}", GONE_ALREADY)
    flags = NLM_F_CREATE | NLM_F_EXCL
    return Message(RTM_NEWROUTE, flags, body, f"add route {destination}{via}", THERE_ALREADY if ignore_other else frozenset())


def forwarding_entry(mac: str, index: int, *, delete: bool = False) -> Message:
    """A static entry of the bridge: frames for `mac` go to that port."""
    body = _NEIGHBOUR.pack(socket.AF_BRIDGE, index, NUD_NOARP, NTF_MASTER, 0) + attr(NDA_LLADDR, _mac_bytes(mac))
    if delete:
        return Message(RTM_DELNEIGH, 0, body, f"delete forwarding entry {mac}", GONE_ALREADY)
    return Message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body, f"add forwarding entry {mac}")


def tunnel_entry(mac: str, index: int, remote: str, *, delete: bool = False) -> Message:
    """An entry of a VXLAN device: frames for `mac` go to the host at `remote`."""
    body = _NEIGHBOUR.pack(socket.AF_BRIDGE, index, NUD_PERMANENT, NTF_SELF, 0)
    body += attr(NDA_LLADDR, _mac_bytes(mac)) + attr(NDA_DST, _packed(remote))
    if delete:
        return Message(RTM_DELNEIGH, 0, body, f"delete tunnel entry {mac}", GONE_ALREADY)
    return Message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body, f"add tunnel entry {mac} at {remote}")


def neighbour(ip: str, mac: str, index: int, *, delete: bool = False) -> Message:
    """A permanent neighbour of a link: nobody asks for it, nobody can claim it."""
    packed = ipaddress.ip_address(ip)
    body = _NEIGHBOUR.pack(FAMILY[packed.version], index, NUD_PERMANENT, 0, 0) + attr(NDA_DST, packed.packed)
    if delete:
        return Message(RTM_DELNEIGH, 0, body, f"delete neighbour {ip}", GONE_ALREADY)
    body += attr(NDA_LLADDR, _mac_bytes(mac))
    return Message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body, f"add neighbour {ip} at {mac}")


def _parse_link(body: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    found = attributes(body, 16)
    info = attributes(found.get(IFLA_LINKINFO, b""))

    def number(kind: int) -> int:
        return int.from_bytes(found.get(kind, b"\0\0\0\0")[:4], "little")

    def words(raw: bytes) -> str:
        return raw.rstrip(b"\0").decode(errors="replace")

    return Link(
        index=index,
        name=words(found.get(IFLA_IFNAME, b"")),
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=number(IFLA_MTU),
        up=bool(flags & IFF_UP),
        peer=number(IFLA_LINK),
        master=number(IFLA_MASTER),
        kind=words(info.get(IFLA_INFO_KIND, b"")),
        alias=words(found.get(IFLA_IFALIAS, b"")),
    )


def find_link(netlink: Netlink, name: str) -> Link | None:
    answer = netlink.get(RTM_GETLINK, _header() + text(IFLA_IFNAME, name), f"look up link {name}")
    return _parse_link(answer.body) if answer else None


def links(netlink: Netlink) -> dict[str, Link]:
    """All the links of the namespace by their name."""
    found = (_parse_link(answer.body) for answer in netlink.dump(RTM_GETLINK, _header(), "list links"))
    return {link.name: link for link in found}


def addresses(netlink: Netlink, index: int | None = None) -> set[tuple[int, str]]:
    """The addresses of the namespace (or of one link): index and CIDR form. Not the link-local ones that the kernel makes."""
    found: set[tuple[int, str]] = set()
    for answer in netlink.dump(RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0), "list addresses"):
        _, length, _, _, where = _ADDRESS.unpack_from(answer.body)
        values = attributes(answer.body, 8)
        raw = values.get(IFA_LOCAL) or values.get(IFA_ADDRESS)
        if raw is not None and index in (None, where):
            found.add((where, f"{ipaddress.ip_address(raw)}/{length}"))
    return found


def routes(netlink: Netlink, version: int) -> list[Route]:
    """The routes of the main table."""
    found: list[Route] = []
    for answer in netlink.dump(RTM_GETROUTE, _ROUTE.pack(FAMILY[version], 0, 0, 0, 0, 0, 0, 0, 0), "list routes"):
        _, length, _, _, table, protocol, _, kind, _ = _ROUTE.unpack_from(answer.body)
        values = attributes(answer.body, 12)
        if table != RT_TABLE_MAIN or kind != RTN_UNICAST:
            continue
        destination = ipaddress.ip_address(values.get(RTA_DST, bytes(4 if version == 4 else 16)))
        gateway = str(ipaddress.ip_address(values[RTA_GATEWAY])) if RTA_GATEWAY in values else None
        oif, priority = (int.from_bytes(values.get(kind, b"\0"), "little") for kind in (RTA_OIF, RTA_PRIORITY))
        found.append(Route(f"{destination}/{length}", gateway, oif, priority, protocol))
    return found


def neighbours(netlink: Netlink, index: int) -> set[tuple[str, str]]:
    """The permanent neighbours of a link: address and MAC."""
    found: set[tuple[str, str]] = set()
    for answer in netlink.dump(RTM_GETNEIGH, _NEIGHBOUR.pack(0, 0, 0, 0, 0), "list neighbours"):
        family, where, state, _, _ = _NEIGHBOUR.unpack_from(answer.body)
        values = attributes(answer.body, 12)
        if where == index and state & NUD_PERMANENT and family in FAMILY.values() and NDA_LLADDR in values:
            found.add((str(ipaddress.ip_address(values[NDA_DST])), values[NDA_LLADDR].hex(":")))
    return found


def forwarding_entries(netlink: Netlink) -> set[tuple[int, str, str | None]]:
    """The static forwarding entries of a namespace's bridge and tunnels: index, MAC, and for a tunnel's entry the remote host."""
    found: set[tuple[int, str, str | None]] = set()
    for answer in netlink.dump(RTM_GETNEIGH, _NEIGHBOUR.pack(socket.AF_BRIDGE, 0, 0, 0, 0), "list forwarding entries"):
        _, where, state, flags, _ = _NEIGHBOUR.unpack_from(answer.body)
        values = attributes(answer.body, 12)
        if NDA_LLADDR not in values or not state & (NUD_NOARP | NUD_PERMANENT):
            continue
        remote = str(ipaddress.ip_address(values[NDA_DST])) if flags & NTF_SELF and NDA_DST in values else None
        if flags & NTF_MASTER and state & NUD_PERMANENT:
            # The bridge's own entry for the address of each of its ports.
            continue
        found.add((where, values[NDA_LLADDR].hex(":"), remote))
    return found
