"""An interface that a network plugin made: out of the host's namespace into a guest's, with its addresses and routes, and back."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from nacre.node.network import namespaces, plugging, rtnl
from nacre.node.network.netlink import Netlink, NetlinkError
from nacre.node.network.plugins import Joined


@contextlib.contextmanager
def _opened(netns: Path) -> Iterator[tuple[int, Netlink, namespaces.Namespace]]:
    """The guest's namespace, a socket in it, and the host's."""
    descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with namespaces.inside(descriptor):
            guest = Netlink(rtnl.NETLINK_ROUTE)
        with contextlib.closing(guest), contextlib.closing(namespaces.Namespace(None)) as host:
            yield descriptor, guest, host
    finally:
        os.close(descriptor)


def _own(guest: Netlink, port_id: str) -> rtnl.Link | None:
    return next((link for link in rtnl.links(guest).values() if link.alias == port_id), None)


def place(port_id: str, joined: Joined, mac: str, addresses: list[str], netns: Path) -> int:
    """Idempotent: the link bears the port's id as its alias from the moment that it is in the guest. Returns its MTU. Raises OSError."""
    with _opened(netns) as (descriptor, guest, host):
        link = _own(guest, port_id)
        if link is None:
            made = rtnl.find_link(host.route, joined.source)
            if made is None:
                raise OSError(f"there is no interface {joined.source} on this host, which the plugin's Join has named")
            if rtnl.find_link(guest, joined.name) is not None:
                raise OSError(f"the guest has an interface {joined.name} already")
            host.route.request([rtnl.move_link(made.index, joined.source, namespace=descriptor, name=joined.name, alias=port_id)])
            link = rtnl.find_link(guest, joined.name)
        if link is None:
            raise OSError(f"the interface {joined.name} vanished: its guest's namespace went away")
        if link.mac != mac.lower():
            guest.request([rtnl.set_link(link.index, joined.name, up=False), rtnl.set_link(link.index, joined.name, mac=mac)])
        guest.request(
            [
                rtnl.set_link(link.index, joined.name, up=True, alias=port_id),
                *(rtnl.address(link.index, cidr) for cidr in addresses),
            ]
        )
        _route(guest, link, joined)
        return link.mtu


def _route(guest: Netlink, link: rtnl.Link, joined: Joined) -> None:
    wanted = [(route.destination, route.nexthop) for route in sorted(joined.routes, key=lambda route: route.nexthop or "")]
    wanted += [("::/0" if ":" in gateway else "0.0.0.0/0", gateway) for gateway in joined.gateways]
    there = {(route.destination, route.gateway) for v in (4, 6) for route in rtnl.routes(guest, v) if route.oif == link.index}
    for destination, nexthop in wanted:
        if (destination, nexthop) not in there:
            plugging.add_route(guest, link, destination, nexthop)


def put_back(port_id: str, joined: Joined, netns: Path) -> None:
    """Into the host's namespace under the plugin's own name, so that it finds what it is to delete. Nothing to do where it is gone."""
    if not netns.exists():
        return
    with _opened(netns) as (_, guest, host):
        link = _own(guest, port_id)
        if link is None:
            return
        guest.request([rtnl.set_link(link.index, link.name, up=False)])
        try:
            guest.request([rtnl.move_link(link.index, link.name, namespace=host.fileno(), name=joined.source)])
        except NetlinkError:
            # Its name is another's by now: the plugin cannot mean this one any more.
            guest.request([rtnl.delete_link(link.index, link.name)])
