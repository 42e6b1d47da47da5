"""Links that go with the namespaces of their guests.

To delete a link the kernel waits for its own grace periods, some 20 ms, and whoever asked for it waits too. A namespace that
nobody holds any more is dismantled by the kernel itself, behind everybody's back, with the links in it and their other ends: many in one
stroke. So a guest that is removed only has its forwarding entry taken away, after which no frame finds the way to it; then its namespace
is let go. That the link really went is looked at later, and one whose namespace somebody else holds open is deleted by hand.
"""

import time
from collections.abc import Mapping

from msgspec import Struct

from nacre.node.network import names, rtnl
from nacre.node.network.plane import NetworkPlane
from nacre.protocol.networks import Port

PATIENCE_S = 2.0
"""How long the kernel may take over a namespace before its link is deleted by hand."""


class _Parted(Struct):
    network_id: str
    since: float


class Parting:
    """The ports whose links are on their way out. Belongs to the network's worker thread."""

    def __init__(self, cloud_id: str, networks: Mapping[str, NetworkPlane]) -> None:
        self._cloud_id, self._networks = cloud_id, networks
        self._parted: dict[str, _Parted] = {}

    def __contains__(self, port_id: str) -> bool:
        return port_id in self._parted

    def __bool__(self) -> bool:
        return bool(self._parted)

    def part(self, port: Port) -> bool:
        """Let no frame reach the port's guest. False where its link is to be deleted by hand: it holds more than itself, or is not here."""
        plane = self._networks.get(port.network_id)
        if plane is None or plane.is_shaped(port.id):
            return False
        link = rtnl.find_link(plane.namespace.route, names.link(self._cloud_id, port.id))
        if link is not None:
            plane.namespace.route.request([rtnl.forwarding_entry(port.mac, link.index, delete=True)])
            self._parted[port.id] = _Parted(port.network_id, time.monotonic())
        return True

    def forget(self, port_id: str) -> None:
        """The port is plugged anew: its link stays."""
        self._parted.pop(port_id, None)

    def sweep(self, patience_s: float = PATIENCE_S) -> None:
        """Look which links are gone, and delete those that should long be. Raises OSError."""
        overdue: dict[str, list[str]] = {}
        for port_id, parted in list(self._parted.items()):
            plane, name = self._networks.get(parted.network_id), names.link(self._cloud_id, port_id)
            if plane is None or rtnl.find_link(plane.namespace.route, name) is None:
                del self._parted[port_id]
            elif time.monotonic() - parted.since >= patience_s:
                overdue.setdefault(parted.network_id, []).append(port_id)
        for network_id, port_ids in overdue.items():
            self._networks[network_id].detach([names.link(self._cloud_id, port_id) for port_id in port_ids])
            for port_id in port_ids:
                del self._parted[port_id]
