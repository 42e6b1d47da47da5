"""Ports that may speak only as long as this host's lease lasts: the kernel itself takes their word when it is over.

In the namespace of each network one more nftables table of the bridge family: `watched` are the fenced ports' links, `leased` the same with a
timeout. A frame of a link that is watched and not leased any more is dropped, whichever way it goes. The node renews the elements; when it does
not, because it hangs, was killed or hears nothing of the API, they expire.
"""

import time
from collections.abc import Iterable

from nacre.node.network import names
from nacre.node.network.plane import NetworkPlane

TIMEOUT_MS_MIN = 1


def table(cloud_id: str) -> str:
    return f"{names.table(cloud_id)}_fence"


def left_ms(until_s: float) -> int:
    """What is left of the lease at this moment."""
    return int((until_s - time.clock_gettime(time.CLOCK_BOOTTIME)) * 1000)


def commands(cloud_id: str, port_ids: Iterable[str], milliseconds: int, cut: Iterable[str] = ()) -> str:
    """The table anew, in one transaction: there is no moment without it. Without ports there is none. What is `cut` has no lease."""
    name, leased_links = table(cloud_id), sorted(f'"{names.link(cloud_id, port_id)}"' for port_id in port_ids)
    links = sorted({*leased_links, *(f'"{names.link(cloud_id, port_id)}"' for port_id in cut)})
    away = f"add table bridge {name}\ndelete table bridge {name}\n"
    if not links:
        return away
    watched = f"elements = {{ {', '.join(links)} }}"
    leased = ", ".join(f"{link} timeout {milliseconds}ms" for link in leased_links)
    elements = f"elements = {{ {leased} }}" if leased and milliseconds >= TIMEOUT_MS_MIN else ""
    return (
        f"{away}table bridge {name} {{\n"
        f"set watched {{ type ifname; {watched}; }}\n"
        f"set leased {{ type ifname; flags timeout; {elements}; }}\n"
        "chain from { type filter hook prerouting priority -310; policy accept;"
        " iifname @watched iifname != @leased counter drop; }\n"
        "chain to { type filter hook postrouting priority 310; policy accept;"
        " oifname @watched oifname != @leased counter drop; }\n"
        "}\n"
    )


class Fence:
    """Belongs to the network driver's thread."""

    def __init__(self, cloud_id: str) -> None:
        self._cloud_id = cloud_id
        self._ports: frozenset[str] = frozenset()
        self._cut: frozenset[str] = frozenset()
        self._until_s = 0.0
        self._unknown = True
        """An earlier process may have left tables where nothing is to be fenced."""
        self._fenced: set[str] = set()
        """The networks in which there is a table."""

    def set(
        self, planes: dict[str, NetworkPlane], port_ids: frozenset[str], until_s: float, cut: frozenset[str] = frozenset()
    ) -> None:
        """In every network that has such ports, or had. Raises OSError."""
        self._ports, self._until_s, self._cut = port_ids, until_s, cut - port_ids
        for network_id, plane in planes.items():
            if self._unknown or network_id in self._fenced or not (port_ids | cut).isdisjoint(plane.ports):
                self.renew(network_id, plane)
        self._unknown = self._unknown and not planes
        self._fenced &= planes.keys()

    def renew(self, network_id: str, plane: NetworkPlane) -> None:
        """This network alone: before a port of it is plugged."""
        here = self._ports & plane.ports.keys()
        cut = self._cut & plane.ports.keys()
        plane.namespace.nft.run(commands(self._cloud_id, here, left_ms(self._until_s), cut))
        (self._fenced.add if here | cut else self._fenced.discard)(network_id)

    def watches(self, port_id: str) -> bool:
        return port_id in self._ports
