"""Ports into guests: a veth pair whose one end is a port of the network's bridge and whose other end is the guest's interface."""

import errno
import ipaddress
import os
from pathlib import Path

from nacre.node.drivers import Plugged
from nacre.node.network import names, namespaces, rtnl
from nacre.node.network.netlink import Message, Netlink, NetlinkError
from nacre.node.network.plane import BRIDGE_PORTS_MAX, NetworkPlane
from nacre.protocol.networks import Network, Port, Subnet

SECOND_DEFAULT_PRIORITY = 1000
"""The metric of a default route where another port's has come first."""


def plug(plane: NetworkPlane, port: Port, netns: Path, interface: str) -> Plugged:
    """Idempotent: what is right stays, without a packet lost. Raises OSError with the cause."""
    descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with namespaces.inside(descriptor):
            guest = Netlink(rtnl.NETLINK_ROUTE)
        try:
            fresh = _ensure_pair(plane, port, descriptor, guest, interface)
            plane.shape(port)
            _configure(plane.network, port, guest, interface, fresh=fresh)
        finally:
            guest.close()
    finally:
        os.close(descriptor)
    subnets = _subnets(plane.network, port)
    return Plugged(
        port_id=port.id,
        interface=interface,
        mac=port.mac,
        mtu=plane.network.mtu,
        addresses=tuple(_addresses(port, subnets)),
        dns_nameservers=_nameservers(subnets, interface),
        dns_domain=plane.network.dns_domain,
    )


def _nameservers(subnets: dict[str, Subnet], interface: str) -> tuple[str, ...]:
    """The network's resolver, which asks the subnets' own servers; they stand behind it for the time that it is away."""
    if not subnets:
        return ()
    four = any(subnet.version == 4 for subnet in subnets.values())
    own = names.METADATA_V4 if four else f"{names.METADATA_V6}%{interface}"
    return tuple(dict.fromkeys((own, *(server for subnet in subnets.values() for server in subnet.dns_nameservers))))


def _ensure_pair(plane: NetworkPlane, port: Port, descriptor: int, guest: Netlink, interface: str) -> bool:
    """The pair and its place on the bridge. Whether it was made now."""
    host, name = plane.namespace.route, names.link(plane.cloud_id, port.id)
    link = rtnl.find_link(host, name)
    inner = rtnl.find_link(guest, interface) if link else None
    if link and not (inner and (link.peer, inner.peer) == (inner.index, link.index) and inner.mac == port.mac.lower()):
        # The port's link leads to a guest that was, or was made for another address.
        host.request([rtnl.delete_link(link.index, name)])
        link = None
    fresh = link is None
    if link is None:
        outer_mac = names.derived_mac(port.id, 1)
        host.request(
            [
                rtnl.veth(
                    name,
                    outer_mac,
                    plane.network.mtu,
                    peer=interface,
                    peer_mac=port.mac,
                    peer_ns=descriptor,
                    up=False,
                    peer_up=False,
                )
            ]
        )
        link = rtnl.find_link(host, name)
        if link is None:
            raise OSError(f"the link {name} of port {port.id} vanished: its guest's namespace went away")
    attach(plane, link, port.id, port.mac, up=port.admin_state_up)
    return fresh


def attach(plane: NetworkPlane, link: rtnl.Link, port_id: str, mac: str, *, up: bool) -> None:
    """Make a link a port of the bridge, with its forwarding entry. Raises OSError; then the link is gone."""
    host = plane.namespace.route
    messages: list[Message] = []
    if link.master != plane.bridge_index:
        messages += [rtnl.enslave(link.index, plane.bridge_index, link.name), rtnl.bridge_port(link.index, link.name)]
    if link.mtu != plane.network.mtu:
        messages.append(rtnl.set_link(link.index, link.name, mtu=plane.network.mtu))
    if link.up != up or link.alias != port_id:
        messages.append(rtnl.set_link(link.index, link.name, up=up, alias=port_id))
    messages.append(rtnl.forwarding_entry(mac, link.index))
    try:
        host.request(messages)
    except NetlinkError as error:
        host.request([rtnl.delete_link(link.index, link.name)])
        if error.errno == errno.EXFULL:
            raise OSError(
                errno.EXFULL,
                f"network {plane.network.id} is full on this host: a bridge takes {BRIDGE_PORTS_MAX} ports (EXFULL)",
            ) from error
        raise


def _subnets(network: Network, port: Port) -> dict[str, Subnet]:
    """The port's subnets in the order of its addresses."""
    known = {subnet.id: subnet for subnet in network.subnets}
    return {ip.subnet_id: known[ip.subnet_id] for ip in port.fixed_ips if ip.subnet_id in known}


def _addresses(port: Port, subnets: dict[str, Subnet]) -> list[str]:
    """The fixed addresses with the prefix lengths of their subnets."""
    return [
        f"{ipaddress.ip_address(ip.address)}/{ipaddress.ip_network(subnets[ip.subnet_id].cidr, strict=False).prefixlen}"
        for ip in port.fixed_ips
        if ip.subnet_id in subnets
    ]


def _routes(port: Port, subnets: dict[str, Subnet]) -> list[tuple[str, str | None]]:
    """Destination and gateway: the metadata service's on the link, the subnets' own host routes, their gateways as the default."""
    found: list[tuple[str, str | None]] = []
    if any(subnet.version == 4 for subnet in subnets.values()):
        found.append((f"{names.METADATA_V4}/32", None))
    own = {str(ipaddress.ip_address(ip.address)) for ip in port.fixed_ips}
    for subnet in subnets.values():
        found += [(str(ipaddress.ip_network(r.destination, strict=False)), r.nexthop) for r in subnet.host_routes]
        if subnet.gateway_ip and str(ipaddress.ip_address(subnet.gateway_ip)) not in own:
            found.append(("0.0.0.0/0" if subnet.version == 4 else "::/0", subnet.gateway_ip))
    return list(dict.fromkeys(route for route in found if route[1] not in own))


def _configure(network: Network, port: Port, guest: Netlink, interface: str, *, fresh: bool) -> None:
    """Addresses and routes in the guest's namespace. The guest's own additions stay."""
    link = rtnl.find_link(guest, interface)
    if link is None:
        raise OSError(f"the interface {interface} of port {port.id} vanished: its guest's namespace went away")
    subnets = _subnets(network, port)
    wanted = {*_addresses(port, subnets), f"{names.link_local(port.mac)}/64"}
    there = set() if fresh else {cidr for index, cidr in rtnl.addresses(guest) if index == link.index}
    messages: list[Message] = []
    if fresh:
        messages.append(rtnl.no_generated_address(link.index, interface))
    if not link.up or link.mtu != network.mtu:
        messages.append(rtnl.set_link(link.index, interface, up=True, mtu=network.mtu))
    for cidr in sorted(wanted - there):
        scope = rtnl.SCOPE_LINK if cidr.startswith("fe80:") else rtnl.SCOPE_UNIVERSE
        messages.append(rtnl.address(link.index, cidr, scope=scope))
    guest.request(_bearable(messages, subnets))
    routed = (
        set() if fresh else {(r.destination, r.gateway) for v in (4, 6) for r in rtnl.routes(guest, v) if r.oif == link.index}
    )
    for destination, gateway in _routes(port, subnets):
        if (destination, gateway) not in routed:
            add_route(guest, link, destination, gateway)


def _bearable(messages: list[Message], subnets: dict[str, Subnet]) -> list[Message]:
    """Without an IPv6 subnet a guest whose namespace has no IPv6 is no error."""
    if any(subnet.version == 6 for subnet in subnets.values()):
        return messages
    off = frozenset({errno.EACCES, errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL})
    return [m._replace(ignore=m.ignore | off) if "fe80:" in m.what else m for m in messages]


def add_route(guest: Netlink, link: rtnl.Link, destination: str, gateway: str | None) -> None:
    default = destination in ("0.0.0.0/0", "::/0")
    try:
        guest.request([rtnl.route(destination, link.index, gateway=gateway, ignore_other=not default)])
    except NetlinkError as error:
        if error.errno != errno.EEXIST:
            raise
        # Another port has the default route: this one's stands behind it.
        priority = SECOND_DEFAULT_PRIORITY + link.index % 1000
        guest.request([rtnl.route(destination, link.index, gateway=gateway, priority=priority, ignore_other=True)])


def reconfigure(plane: NetworkPlane, port: Port, before: Port, netns: Path, interface: str) -> None:
    """Follow a change of a plugged port's addresses."""
    descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with namespaces.inside(descriptor):
            guest = Netlink(rtnl.NETLINK_ROUTE)
        try:
            link = rtnl.find_link(guest, interface)
            if link is None:
                return
            stale = set(_addresses(before, _subnets(plane.network, before))) - set(
                _addresses(port, _subnets(plane.network, port))
            )
            guest.request([rtnl.address(link.index, cidr, delete=True) for cidr in sorted(stale)])
            _configure(plane.network, port, guest, interface, fresh=False)
        finally:
            guest.close()
    finally:
        os.close(descriptor)
