"""The names of one network, out of its ports: pure data, made anew when the ports have changed."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import dns.name
import dns.reversename

from nacre.protocol.networks import Network, Port

ROOT = "nacre"
"""The top-level domain of the cloud's own names: NAME.PROJECT.nacre."""


@dataclass(frozen=True)
class Zone:
    """`by_name`: a name in lower case, without its domain, to the addresses; `by_address` the other way round."""

    domains: tuple[str, ...]
    """The domains under which the network's names stand, besides alone."""
    by_name: dict[str, tuple[str, ...]] = field(default_factory=dict)
    by_address: dict[str, str] = field(default_factory=dict)
    cidrs: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    def addresses(self, name: str) -> tuple[str, ...] | None:
        """The addresses of a full name without its last dot; None when it is none of the network's."""
        name = name.lower()
        for domain in self.domains:
            if name.endswith(f".{domain}"):
                return self.by_name.get(name[: -len(domain) - 1])
        return self.by_name.get(name)

    def owns(self, name: str) -> bool:
        """Whether nobody else can know the name: a single label, one of the cloud's own, or one under the network's domain."""
        name = name.lower()
        own = (ROOT, *self.domains)
        return "." not in name or any(name == domain or name.endswith(f".{domain}") for domain in own)

    def owns_address(self, address: str) -> bool:
        found = ipaddress.ip_address(address)
        return any(found.version == cidr.version and found in cidr for cidr in self.cidrs)


@dataclass(frozen=True)
class Sight:
    """What one guest sees: the zones of its networks, first the one in which it asks, each with the names that are its own there (links)."""

    zones: tuple[tuple[Zone, Mapping[str, str]], ...]

    def addresses(self, name: str) -> tuple[str, ...] | None:
        """Of the first network that knows the name."""
        found = (zone.addresses(links.get(name.lower(), name)) for zone, links in self.zones)
        return next((addresses for addresses in found if addresses is not None), None)

    def owns(self, name: str) -> bool:
        return any(zone.owns(name) for zone, _ in self.zones)

    def owns_address(self, address: str) -> bool:
        return any(zone.owns_address(address) for zone, _ in self.zones)

    def name_at(self, address: str) -> str | None:
        """The full name of whoever has the address."""
        found = ((zone, zone.by_address.get(address)) for zone, _ in self.zones)
        return next((".".join((name, *zone.domains[:1])) + "." for zone, name in found if name is not None), None)


def zone_of(network: Network, ports: Iterable[Port]) -> Zone:
    """Routers and the cloud's own ports bear no names."""
    by_name: dict[str, dict[str, None]] = {}
    by_address: dict[str, str] = {}
    for port in ports:
        if port.device_owner.startswith("network:") or not port.admin_state_up:
            continue
        names = dict.fromkeys(name.lower().rstrip(".") for name in (port.dns_name, *port.aliases) if name.strip("."))
        addresses = [str(ipaddress.ip_address(ip.address)) for ip in port.fixed_ips]
        for name in names:
            by_name.setdefault(name, {}).update(dict.fromkeys(addresses))
        if names:
            by_address.update(dict.fromkeys(addresses, next(iter(names))))
    domains = dict.fromkeys(domain.strip(".").lower() for domain in (network.domain, network.dns_domain) if domain.strip("."))
    return Zone(
        tuple(domains),
        {name: tuple(addresses) for name, addresses in by_name.items()},
        by_address,
        tuple(ipaddress.ip_network(subnet.cidr, strict=False) for subnet in network.subnets),
    )


def address_of_pointer(name: dns.name.Name) -> str | None:
    """The address that a name of in-addr.arpa or ip6.arpa asks for; None for any other, and for an incomplete one."""
    if not (name.is_subdomain(dns.reversename.ipv4_reverse_domain) or name.is_subdomain(dns.reversename.ipv6_reverse_domain)):
        return None
    try:
        return str(ipaddress.ip_address(dns.reversename.to_address(name)))
    except (ValueError, dns.exception.DNSException):
        return None
