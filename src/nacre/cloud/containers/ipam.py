"""Docker's address plans (`IPAM.Config`): subnet, gateway, range and auxiliary addresses, checked and turned into allocation pools."""

import ipaddress
import itertools
from collections.abc import Iterable

from msgspec import Struct

from nacre.cloud.errors import Invalid

Cidr = ipaddress.IPv4Network | ipaddress.IPv6Network
CANDIDATES: tuple[tuple[str, int], ...] = (("172.16.0.0/12", 16), ("192.168.0.0/16", 20))
"""Where a subnet comes from when none was named, and how long its prefix is: Docker's own plan."""


class SubnetSpec(Struct, kw_only=True):
    """One subnet, checked: `gateway` is in it, `ip_range` too."""

    cidr: str
    gateway: str
    ip_range: str = ""
    auxiliary: dict[str, str] = {}

    @classmethod
    def of(cls, cidr: str, gateway: str = "", ip_range: str = "", auxiliary: dict[str, str] | None = None) -> "SubnetSpec":
        """Raises Invalid with Docker's words."""
        net = _parse(cidr)
        inner = _range(ip_range, net) if ip_range else None
        if gateway:
            _within("gateway", gateway, net)
        else:
            gateway = str(_first(inner or net))
        for name, address in (auxiliary or {}).items():
            _within(f"auxiliary address {name}", address, net)
        return cls(cidr=str(net), gateway=gateway, ip_range=ip_range, auxiliary=auxiliary or {})


def _bad(problem: str) -> Invalid:
    return Invalid(f"invalid network config:\n{problem}", field="IPAM")


def _parse(text: str) -> Cidr:
    try:
        exact = ipaddress.ip_interface(text) if "/" in text else None
    except ValueError:
        exact = None
    if exact is None:
        raise _bad(f"invalid subnet {text}: invalid CIDR block notation")
    if exact.ip != exact.network.network_address:
        raise _bad(f"invalid subnet {text}: it should be {exact.network}")
    if exact.network.num_addresses < 4:
        raise _bad(f"invalid subnet {text}: it has no room for a gateway and a container")
    return exact.network


def _range(text: str, net: Cidr) -> Cidr:
    try:
        inner = ipaddress.ip_network(text)
    except ValueError:
        raise _bad(f"invalid ip-range {text}: invalid CIDR block notation") from None
    if inner.version != net.version or not inner.subnet_of(net):  # type: ignore[arg-type]
        raise _bad(f"invalid ip-range {text}: parent subnet {net} doesn't contain ip-range")
    return inner


def _within(what: str, text: str, net: Cidr) -> None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise _bad(f"invalid {what} {text}: invalid address") from None
    if address.version != net.version or address not in net:
        raise _bad(f"invalid {what} {text}: parent subnet {net} doesn't contain this address")


def _first(net: Cidr) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return net[1] if net.num_addresses > 2 else net[0]


def pools_of(spec: SubnetSpec) -> list[dict[str, str]]:
    """The range (or the whole subnet) without its ends, the gateway and the auxiliary addresses."""
    net = ipaddress.ip_network(spec.cidr)
    inner = ipaddress.ip_network(spec.ip_range) if spec.ip_range else net
    first = max(int(inner.network_address), int(net.network_address) + 1)
    last = min(int(inner.broadcast_address), int(net.broadcast_address) - (1 if net.version == 4 else 0))
    kind = ipaddress.IPv4Address if net.version == 4 else ipaddress.IPv6Address
    holes = sorted({int(ipaddress.ip_address(text)) for text in (spec.gateway, *spec.auxiliary.values()) if text})
    edges = [first - 1, *(hole for hole in holes if first <= hole <= last), last + 1]
    return [
        {"start": str(kind(low + 1)), "end": str(kind(high - 1))} for low, high in itertools.pairwise(edges) if high - low > 1
    ]


def first_free(taken: Iterable[Cidr]) -> Cidr:
    """The first subnet of the plan that meets none of those. Raises Invalid when there is none left."""
    used = [net for net in taken if net.version == 4]
    for block, length in CANDIDATES:
        for candidate in ipaddress.ip_network(block).subnets(new_prefix=length):
            if candidate.network_address != ipaddress.ip_address("172.16.0.0") and not any(
                candidate.overlaps(net) for net in used
            ):
                return candidate
    raise Invalid("could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network")
