"""The types of Networking's attributes, as msgspec checks them."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Name = Annotated[str, Meta(max_length=255)]
Text = Annotated[str, Meta(max_length=255)]
Ident = Annotated[str, Meta(min_length=1, max_length=255)]
Integer = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Natural = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Mtu = Annotated[int, Meta(ge=0, le=65_535)]
Segment = Annotated[int, Meta(ge=1, le=16_777_215)]
IpVersion = Literal[4, 6]
Mode = Literal["slaac", "dhcpv6-stateful", "dhcpv6-stateless"]
Direction = Literal["ingress", "egress"]
RATE_MAX = 2**31 - 1
Rate = Annotated[int, Meta(ge=1, le=RATE_MAX)]
PortNumber = Annotated[int, Meta(ge=1, le=65_535)]
ForwardedProtocol = Literal["tcp", "udp", "sctp"]
Limit = Annotated[int, Meta(ge=-1, le=2**31 - 1)]


class Pool(Struct, forbid_unknown_fields=True):
    start: str
    end: str


class Route(Struct, forbid_unknown_fields=True):
    destination: str
    nexthop: str


class FixedIp(Struct, forbid_unknown_fields=True, omit_defaults=True):
    subnet_id: str | None = None
    ip_address: str | None = None


class AddressPair(Struct, forbid_unknown_fields=True, omit_defaults=True):
    ip_address: str
    mac_address: str | None = None


class DhcpOption(Struct, forbid_unknown_fields=True):
    opt_name: Ident
    opt_value: Text | None
    ip_version: IpVersion = 4


class GatewayInfo(Struct, forbid_unknown_fields=True, omit_defaults=True):
    network_id: str | None = None
    enable_snat: bool | None = None
    external_fixed_ips: list[FixedIp] | None = None
    qos_policy_id: None = None


Profile = dict[str, Any]
