"""Security groups as nftables rules: what each rule of the Networking API means, compiled and judged.

The same meaning stands here twice, side by side: as the kernel's rules (`compile_rules`) and as a function (`Judge`), which
decides what connections outlive a change.
"""

import ipaddress
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping

from nacre.node.network.conntrack import Flow
from nacre.protocol.networks import SecurityGroup, SecurityGroupRule

PROTOCOLS = {
    "ah": 51, "dccp": 33, "egp": 8, "esp": 50, "gre": 47, "icmp": 1, "icmpv6": 58, "ipv6-icmp": 58, "igmp": 2, "ipip": 4,
    "ipv6-encap": 41, "ipv6-frag": 44, "ipv6-nonxt": 59, "ipv6-opts": 60, "ipv6-route": 43, "ospf": 89, "pgm": 113, "rsvp": 46,
    "sctp": 132, "tcp": 6, "udp": 17, "udplite": 136, "vrrp": 112,
}  # fmt: skip
"""The names that the Networking API knows (security group rules, `protocol`), with IANA's numbers."""

ICMP, ICMPV6 = 1, 58
WITH_PORTS = frozenset({6, 17, 33, 132, 136})

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Ports = tuple[tuple[int, int], ...]


def protocol_number(rule: SecurityGroupRule) -> int | None:
    """IANA's number, or None for any. `icmp` in a rule for IPv6 means ICMPv6. Raises ValueError for a name that nobody knows."""
    if rule.protocol is None or rule.protocol.lower() == "any":
        return None
    name = rule.protocol.lower()
    number = int(name) if name.isdigit() else PROTOCOLS.get(name)
    if number is None or not 0 <= number <= 255:
        raise ValueError(f"security group rule {rule.id}: unknown protocol {rule.protocol!r}")
    return ICMPV6 if rule.version == 6 and number == ICMP else number


def member_set(group_id: str, version: int) -> str:
    return f"m{version}_{group_id.replace('-', '')}"


def _merge(ranges: Iterable[tuple[int, int]]) -> Ports:
    """The ranges as disjoint ones in order, since nftables refuses overlapping elements."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def _braces(items: Iterable[str]) -> str:
    return "{ " + ", ".join(items) + " }"


def _ports_text(ports: Ports) -> str:
    return _braces(str(low) if low == high else f"{low}-{high}" for low, high in ports)


def _service(number: int | None, version: int, ports: Ports) -> str:
    if number is None:
        return ""
    if number in (ICMP, ICMPV6) and ports:
        name = "icmp" if number == ICMP else "icmpv6"
        return " ".join(f"{name} {word} {value}" for word, value in zip(("type", "code"), ports[0], strict=True) if value >= 0)
    if number in WITH_PORTS and ports:
        return f"meta l4proto {number} th dport {_ports_text(ports)}"
    return f"meta l4proto {number}"


def _port_range(rule: SecurityGroupRule, number: int | None) -> tuple[int, int] | None:
    """For ICMP the type and the code (-1 for any), for the others the first and the last port; None for all."""
    if number in (ICMP, ICMPV6):
        if rule.port_min is None:
            return None
        return (rule.port_min, -1 if rule.port_max is None else rule.port_max)
    if rule.port_min is None and rule.port_max is None:
        return None
    low = rule.port_min if rule.port_min is not None else 0
    return (low, rule.port_max if rule.port_max is not None else 65535)


def wide_member_set(group_id: str, version: int) -> str:
    """The set of those members that are prefixes (address pairs of ports): few, and dearer to look up."""
    return f"w{version}_{group_id.replace('-', '')}"


def has_prefixes(group: SecurityGroup) -> bool:
    return any("/" in member for member in group.members)


def members(group: SecurityGroup | None, version: int) -> tuple[list[str], list[str]]:
    """The single addresses and the prefixes of a group's members. Raises ValueError for a member that is neither."""
    parsed = [ipaddress.ip_network(member, strict=False) for member in (group.members if group else ())]
    found = [network for network in parsed if network.version == version]
    wide = _collapse(str(network) for network in found if network.prefixlen < network.max_prefixlen)
    return sorted(str(network.network_address) for network in found if network.prefixlen == network.max_prefixlen), wide


def compile_rules(rules: Iterable[SecurityGroupRule], direction: str, wide: Container[str] = ()) -> tuple[str, ...]:
    """The rules of one direction as the body of a chain. Raises ValueError for what cannot be said.

    `wide` are the remote groups that have prefixes among their members.

    Rules that differ in their ports only become one with a set of ports, those that differ in their prefix only one with a set of
    prefixes: twenty, or two thousand, services cost a packet one look-up.
    """
    ports: dict[tuple[int, int | None, str, str], list[tuple[int, int]]] = defaultdict(list)
    whole: set[tuple[int, int | None, str, str]] = set()
    exact: set[tuple[int, int | None, str, str, Ports]] = set()
    for rule in rules:
        if rule.direction != direction:
            continue
        number = protocol_number(rule)
        span = _port_range(rule, number)
        for kind, remote in _remotes(rule, wide):
            key = (rule.version, number, kind, remote)
            if span is None:
                whole.add(key)
            elif number in (ICMP, ICMPV6):
                exact.add((*key, (span,)))
            else:
                ports[key].append(span)
    merged = {(*key, ()) for key in whole} | exact | {(*key, _merge(spans)) for key, spans in ports.items() if key not in whole}
    prefixes: dict[tuple[int, int | None, Ports], list[str]] = defaultdict(list)
    out: list[str] = []
    side = "saddr" if direction == "ingress" else "daddr"
    for version, number, kind, remote, spans in sorted(merged, key=repr):
        if kind == "prefix":
            prefixes[(version, number, spans)].append(remote)
            continue
        family = "ip" if version == 4 else "ip6"
        where = f"{family} {side} @{remote}" if kind == "group" else f"meta nfproto ipv{version}"
        out.append(" ".join(part for part in (where, _service(number, version, spans), "accept") if part))
    for (version, number, spans), found in sorted(prefixes.items(), key=repr):
        family = "ip" if version == 4 else "ip6"
        where = f"{family} {side} {_braces(_collapse(found))}"
        out.append(" ".join(part for part in (where, _service(number, version, spans), "accept") if part))
    return tuple(out)


def _collapse(prefixes: Iterable[str]) -> list[str]:
    """The prefixes without those that lie in others, since nftables refuses overlapping elements."""
    parsed = [ipaddress.ip_network(prefix, strict=False) for prefix in prefixes]
    v4 = [network for network in parsed if isinstance(network, ipaddress.IPv4Network)]
    v6 = [network for network in parsed if isinstance(network, ipaddress.IPv6Network)]
    return [str(network) for network in [*ipaddress.collapse_addresses(v4), *ipaddress.collapse_addresses(v6)]]


def _remotes(rule: SecurityGroupRule, wide: Container[str]) -> list[tuple[str, str]]:
    if rule.remote_group_id is not None:
        found = [("group", member_set(rule.remote_group_id, rule.version))]
        return [*found, ("group", wide_member_set(rule.remote_group_id, rule.version))] if rule.remote_group_id in wide else found
    if rule.remote_prefix is not None:
        network = ipaddress.ip_network(rule.remote_prefix, strict=False)
        if network.version != rule.version:
            raise ValueError(f"security group rule {rule.id}: {rule.remote_prefix} is no IPv{rule.version} prefix")
        if network.prefixlen:
            return [("prefix", str(network))]
    return [("any", "")]


def remote_groups(group: SecurityGroup) -> set[str]:
    return {rule.remote_group_id for rule in group.rules if rule.remote_group_id is not None}


class Judge:
    """Decides whether groups let a connection begin. The members' addresses are read once."""

    def __init__(self, known: Mapping[str, SecurityGroup]) -> None:
        self._known = known
        self._members: dict[str, tuple[frozenset[str], list[Network]]] = {}

    def allows(self, group_ids: Iterable[str], direction: str, flow: Flow) -> bool:
        bound = [self._known[group_id] for group_id in group_ids if group_id in self._known]
        return any(
            r.direction == direction and _matches(r, direction, flow, self._is_member) for group in bound for r in group.rules
        )

    def _is_member(self, group_id: str, address: str) -> bool:
        if group_id not in self._members:
            both = [members(self._known.get(group_id), version) for version in (4, 6)]
            single = frozenset(found for addresses, _ in both for found in addresses)
            self._members[group_id] = single, [ipaddress.ip_network(prefix) for _, prefixes in both for prefix in prefixes]
        single, wide = self._members[group_id]
        return address in single or any(ipaddress.ip_address(address) in network for network in wide)


def _matches(rule: SecurityGroupRule, direction: str, flow: Flow, is_member: Callable[[str, str], bool]) -> bool:
    number = protocol_number(rule)
    if rule.version != flow.version or number not in (None, flow.protocol):
        return False
    other = flow.source if direction == "ingress" else flow.destination
    if rule.remote_group_id is not None and not is_member(rule.remote_group_id, other):
        return False
    if rule.remote_prefix is not None and ipaddress.ip_address(other) not in ipaddress.ip_network(
        rule.remote_prefix, strict=False
    ):
        return False
    span = _port_range(rule, number)
    if span is None or number is None:
        return True
    if number in (ICMP, ICMPV6):
        return flow.icmp_type == span[0] and span[1] in (-1, flow.icmp_code)
    return number not in WITH_PORTS or span[0] <= flow.destination_port <= span[1]
