"""Networks, ports, security groups and routers, as the host's data plane needs them."""

from typing import Any, Literal

from msgspec import Struct


class HostRoute(Struct, frozen=True):
    destination: str
    nexthop: str


class Subnet(Struct, frozen=True, omit_defaults=True):
    id: str
    cidr: str
    version: Literal[4, 6]
    gateway_ip: str | None = None
    dns_nameservers: tuple[str, ...] = ()
    host_routes: tuple[HostRoute, ...] = ()
    enable_dhcp: bool = True
    ipv6_address_mode: str | None = None
    ipv6_ra_mode: str | None = None


class Network(Struct, frozen=True, omit_defaults=True):
    """A tenant network as one namespace on each host that needs it, or (physical) a bridge of the host itself.

    Its ports are items of their own, so that a change of one does not repeat the others.
    """

    id: str
    vni: int
    mtu: int
    subnets: tuple[Subnet, ...] = ()
    physical: str | None = None
    """The name of a physical network (`public`): joined to the host, which bears the subnets' gateway addresses."""
    admin_state_up: bool = True
    dns_domain: str = ""
    domain: str = ""
    """PROJECT.nacre: where the names of the network's ports stand besides alone."""
    driver: str = ""
    """The name of a network plugin of Docker's (libnetwork's remote driver), which plugs the ports; empty: the data plane does."""
    driver_options: dict[str, Any] = {}
    """For the plugin: the `Options` of its CreateNetwork."""
    ways: tuple[HostRoute, ...] = ()
    """Of a physical network: what lies behind routers on other hosts and is not hidden behind their own addresses. The host that bears the
    subnets' gateway addresses leads there."""


class FixedIp(Struct, frozen=True):
    subnet_id: str
    address: str


class AddressPair(Struct, frozen=True):
    address: str
    """An address or a prefix in CIDR form."""
    mac: str


class BandwidthLimit(Struct, frozen=True):
    """What may pass in one direction, as the guest sees it: egress is what it sends."""

    direction: Literal["ingress", "egress"]
    max_kbps: int
    """In units of 1,000 bits each second."""
    burst_kbits: int
    """What may pass at once after a pause; 0 leaves it to the host."""


class Port(Struct, frozen=True, omit_defaults=True):
    """A port of a network on this host: bound here (plugged into a guest or router) or elsewhere (only its addresses count)."""

    id: str
    network_id: str
    mac: str
    fixed_ips: tuple[FixedIp, ...] = ()
    local: bool = True
    tunnel_ip: str | None = None
    """The underlay address of the host that bears the port, when it is not local."""
    device_id: str = ""
    device_owner: str = ""
    security_groups: tuple[str, ...] = ()
    port_security: bool = True
    allowed_address_pairs: tuple[AddressPair, ...] = ()
    admin_state_up: bool = True
    dns_name: str = ""
    aliases: tuple[str, ...] = ()
    """More names under which the network's resolver finds the port's addresses; several ports may share one."""
    links: tuple[tuple[str, str], ...] = ()
    """Names that this port alone uses, each with the name in the network that it stands for."""
    limits: tuple[BandwidthLimit, ...] = ()


class SecurityGroupRule(Struct, frozen=True, omit_defaults=True):
    id: str
    direction: Literal["ingress", "egress"]
    version: Literal[4, 6]
    protocol: str | None = None
    """A name of the Networking API (tcp, udp, icmp, ipv6-icmp, sctp, ...) or a number as text; None is any."""
    port_min: int | None = None
    port_max: int | None = None
    remote_prefix: str | None = None
    remote_group_id: str | None = None


class SecurityGroup(Struct, frozen=True, omit_defaults=True):
    """`members` holds the addresses of the group's ports in the whole cloud, when some rule names the group as its remote."""

    id: str
    rules: tuple[SecurityGroupRule, ...] = ()
    members: tuple[str, ...] = ()
    stateful: bool = True
    """Otherwise no connection is tracked: answers need rules of their own."""


class RouterInterface(Struct, frozen=True):
    """A router's leg in a tenant network. `addresses` are in CIDR form (10.0.0.1/24)."""

    port_id: str
    network_id: str
    mac: str
    addresses: tuple[str, ...]


class RouterGateway(Struct, frozen=True, omit_defaults=True):
    port_id: str
    network_id: str
    mac: str
    addresses: tuple[str, ...]
    nexthops: tuple[str, ...] = ()
    """The gateway of each of the external subnets that the addresses come from."""
    snat: bool = True


class FloatingIp(Struct, frozen=True, omit_defaults=True):
    id: str
    floating_address: str
    fixed_address: str
    limits: tuple[BandwidthLimit, ...] = ()


class PortForward(Struct, frozen=True, omit_defaults=True):
    """One published port: what comes to (protocol, external address and port) goes to the internal address and port."""

    id: str
    protocol: Literal["tcp", "udp", "sctp"]
    external_port: int
    internal_address: str
    internal_port: int
    external_address: str = ""
    """A floating address of the router; empty: the host's own addresses (docker run -p)."""
    host_address: str = ""
    """With an empty external address: the one address of the host that is meant, all of them when empty, and all of one version for
    `0.0.0.0` and `::`. By IPv6 TCP alone is published."""


class MeterRule(Struct, frozen=True, omit_defaults=True):
    """What crosses the gateway and is counted, or (excluded) is not. `remote` is the side beyond the gateway; prefixes, empty for any."""

    direction: Literal["ingress", "egress"]
    remote: str = ""
    source: str = ""
    destination: str = ""
    excluded: bool = False


class Meter(Struct, frozen=True):
    id: str
    rules: tuple[MeterRule, ...] = ()


class Router(Struct, frozen=True, omit_defaults=True):
    """One namespace on the host that bears it: forwarding, SNAT behind the gateway's address, floating IPs by DNAT and SNAT."""

    id: str
    interfaces: tuple[RouterInterface, ...] = ()
    gateway: RouterGateway | None = None
    routes: tuple[HostRoute, ...] = ()
    floating_ips: tuple[FloatingIp, ...] = ()
    forwards: tuple[PortForward, ...] = ()
    meters: tuple[Meter, ...] = ()
    admin_state_up: bool = True
    ha: bool = False
    """It is moved to another host when this one is lost: a node that has lost the control plane must not let it speak outside."""
