"""The way of an external network to its segment: a device of the host, given to it whole, as a port of the network's bridge.

The device stays where it is. A macvlan takes all that it carries into the network's namespace and goes with that: nothing of the device is
to be put back, whatever becomes of the node. The segment is others' too: this one port of ours learns, and is sent what is for nobody here.
"""

from nacre.node.network import names, namespaces, rtnl
from nacre.node.network.netlink import NetlinkError
from nacre.node.network.plane import NetworkPlane


def ensure(plane: NetworkPlane, device: str) -> None:
    """Idempotent. Raises OSError with the cause."""
    name = names.outside(plane.cloud_id)
    inside = plane.namespace.route
    host = namespaces.Namespace(None)
    try:
        outer = rtnl.find_link(host.route, device)
        if outer is None:
            raise OSError(f"the device {device} of the external network is not on this host")
        if not outer.up:
            host.route.request([rtnl.set_link(outer.index, device, up=True)])
        link = rtnl.find_link(inside, name)
        if link is not None and link.peer != outer.index:
            # The device that it led to is gone; one of the same name has come.
            inside.request([rtnl.delete_link(link.index, name)])
            link = None
        if link is None:
            _make(plane, host, outer, name)
            link = rtnl.find_link(inside, name)
    finally:
        host.close()
    if link is None:
        raise OSError(f"the link {name} to the device {device} vanished while it was made")
    plane.trust(name)
    messages = [] if link.master == plane.bridge_index else [rtnl.enslave(link.index, plane.bridge_index, name)]
    if not link.up or link.mtu != plane.network.mtu:
        messages.append(rtnl.set_link(link.index, name, up=True, mtu=plane.network.mtu))
    inside.request(messages)


def _make(plane: NetworkPlane, host: namespaces.Namespace, outer: rtnl.Link, name: str) -> None:
    if outer.mtu < plane.network.mtu:
        raise OSError(
            f"the device {outer.name} has an MTU of {outer.mtu}, less than the {plane.network.mtu} of network {plane.network.id}: "
            "raise the one or lower the other"
        )
    try:
        host.route.request([rtnl.macvlan(name, outer.index, plane.network.mtu, plane.namespace.fileno())])
    except NetlinkError as error:
        raise OSError(
            f"the device {outer.name} cannot be given to network {plane.network.id}: {error}. Does something else use it?"
        ) from error
