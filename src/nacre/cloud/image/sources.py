"""From where the API process fetches images for its users: web servers, and none that only this machine or its network's edge can reach.

What is asked for by a tenant is fetched with the API process's own view of the network. So loopback, link-local addresses (where clouds
keep their metadata) and other addresses that are no web server's are refused, whatever name leads there, unless the operator allows them.
"""

import ipaddress
from dataclasses import dataclass

from yarl import URL

from nacre.cloud.errors import Invalid

SCHEMES = ("http", "https")
URL_CHARACTERS_MAX = 2048
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PRIVATE = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))
"""Not global, but a site's mirror may be there."""
_METADATA = tuple(map(ipaddress.ip_network, ("fd00:ec2::/32", "fd20:ce::/32")))
"""Metadata services of other clouds within the private ranges."""
_STANDING_FOR_V4 = tuple(map(ipaddress.ip_network, ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
"""IPv4-compatible and -translated addresses (RFC 4291, RFC 2765), NAT64 (RFC 6052): their last 32 bits are an IPv4 address."""
_OF_THE_SITE = tuple(map(ipaddress.ip_network, ("64:ff9b:1::/48", "fec0::/10")))
"""NAT64 of a site's own (RFC 8215), whatever address is in it; site-local addresses. Python takes them for global ones."""


class Refused(Invalid):
    """The place may not be asked."""


@dataclass(frozen=True)
class ImportRules:
    """`allowed_ports`: as Glance's import_filtering_opts; 0 in it stands for any. `allowed_networks`: CIDRs that are asked whatever they are."""

    allowed_ports: tuple[int, ...] = (80, 443)
    allowed_networks: tuple[str, ...] = ()
    show_locations: bool = False
    """Whether images show their locations, and their owners may set them: Glance's show_multiple_locations."""

    def __post_init__(self) -> None:
        """Raises ValueError for what is no network."""
        for network in self.allowed_networks:
            ipaddress.ip_network(network)

    def check_url(self, text: str, field: str = "uri") -> URL:
        """The URL, if its scheme, port and (where it is one) literal address may be asked. Raises Refused."""
        try:
            url = URL(text)
            host, port = url.host, url.port
        except ValueError:
            raise Refused(f"Invalid URI {text[:80]!r}.", field=field) from None
        if len(text) > URL_CHARACTERS_MAX or url.scheme not in SCHEMES or not host or not port or url.user or url.password:
            raise Refused(f"URI {text[:80]!r} does not pass filtering: it must be http or https, with a host.", field=field)
        if port not in self.allowed_ports and 0 not in self.allowed_ports:
            ports = ", ".join(map(str, self.allowed_ports))
            raise Refused(f"URI {text[:80]!r} does not pass filtering: its port must be one of {ports}.", field=field)
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            if host.rstrip(".").lower() == "localhost" or host.rstrip(".").lower().endswith(".localhost"):
                self.check_address("127.0.0.1", field)
        else:
            self.check_address(str(address), field)
        return url

    def check_address(self, text: str, field: str = "uri") -> None:
        """Raises Refused for an address that is not to be asked."""
        address = meant(ipaddress.ip_address(text.partition("%")[0]))
        if any(address in ipaddress.ip_network(network) for network in self.allowed_networks):
            return
        private = any(address in network for network in _PRIVATE) and not any(address in network for network in _METADATA)
        if not private and not is_public(address):
            raise Refused("The URI does not pass filtering: its address is none that images may be fetched from.", field=field)


def meant(address: Address) -> Address:
    """The IPv4 address that some IPv6 addresses stand for: mapped, 6to4 and those of _STANDING_FOR_V4."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if any(address in network for network in _STANDING_FOR_V4):
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether it is one server's of the public Internet, by the address that it stands for."""
    inner = meant(address)
    return inner.is_global and not inner.is_multicast and not any(inner in network for network in _OF_THE_SITE)
