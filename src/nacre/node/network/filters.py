"""The two nftables tables of a network's namespace, computed from its ports and their security groups.

    bridge  prerouting (-300)  the guard: a frame leaves its port with the port's own addresses only; the mark names the
                               port's set of security groups
    inet    prerouting (-150)  what the sender's groups let out
    bridge  forward (-200)     the mark now names the receiver's set of groups
    inet    forward (0)        what the receiver's groups let in
    inet    input (0)          of the host itself, the metadata service, the resolver and the way to the catalog only

The inet chains see bridged packets through br_netfilter, where a connection's later packets pass at the first rule. Ports with the
same groups share their chains, so that a packet meets the same few look-ups on a network of a thousand ports.
"""

import hashlib
import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping

from nacre.node.network import groups, names
from nacre.node.network.tables import Chain, Collection, Table, element_changes, members
from nacre.protocol.networks import Port, SecurityGroup

ESTABLISHED = "ct state vmap { established : accept, related : accept, invalid : drop }"
BLOCKED = 1
"""The mark of a connection whose rule was revoked."""
MARK_MAX = 2**31 - 1
REVOKED = f'ct mark {BLOCKED} counter drop comment "revoked"'
DISCOVERY = "icmpv6 type { 130, 131, 132, 133, 134, 135, 136, 143 } accept"
"""Neighbour discovery (RFC 4861) and the reports of its multicast listeners (RFC 2710, 3810)."""


Contribution = Mapping[str, Mapping[str, str]]
"""What one link adds to the guard: for each of its sets the elements, by key."""


def _pairs(port: Port) -> set[tuple[str, str]]:
    """The MAC and the prefix of each source that the port may use."""
    mac = port.mac.lower()
    own = {(mac, fixed.address) for fixed in port.fixed_ips} | {(mac, names.link_local(mac))}
    for pair in port.allowed_address_pairs:
        theirs = (pair.mac or port.mac).lower()
        own |= {(theirs, pair.address), (theirs, names.link_local(theirs))}
    return {(mac, str(ipaddress.ip_network(address, strict=False))) for mac, address in own}


def _single(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    return network.prefixlen == network.max_prefixlen


def trusted(link: str) -> Contribution:
    """A link that may bear any address: a router's leg, a tunnel, an uplink, a port without port security."""
    return {"trusted": members([f'"{link}"'])}


def guarded(link: str, port: Port, mark: int) -> Contribution:
    """A guest's port: single addresses go to hash sets, prefixes (rare) to interval sets. Raises ValueError for a bad address pair."""
    if not port.port_security:
        return trusted(link)
    found: dict[str, list[str]] = defaultdict(list)
    wide: dict[tuple[str, int], list[ipaddress.IPv4Network | ipaddress.IPv6Network]] = defaultdict(list)
    pairs = sorted(_pairs(port))
    found["macs"] = [f'"{link}" . {mac}' for mac in sorted({mac for mac, _ in pairs})]
    for mac, prefix in pairs:
        network = ipaddress.ip_network(prefix)
        if not _single(network):
            wide[(mac, network.version)].append(network)
            continue
        found[f"v{network.version}"].append(f'"{link}" . {mac} . {network.network_address}')
        if network.version == 6:
            found["targets"].append(f'"{link}" . 0x{int(network.network_address):032x}')
    for (mac, version), networks in wide.items():
        # Overlapping elements are refused, so nested prefixes become one.
        for network in ipaddress.collapse_addresses(networks):  # type: ignore[type-var]
            found[f"v{version}wide"].append(f'"{link}" . {mac} . {network}')
            if version == 6:
                found["targetswide"].append(f'"{link}" . 0x{int(network[0]):032x}-0x{int(network[-1]):032x}')
    marks = {f'"{link}"': f'"{link}" comment "{port.id}" : {mark}'}
    return {**{name: members(list(dict.fromkeys(keys))) for name, keys in found.items()}, "marks": marks}


_TYPES = {
    "trusted": "type ifname",
    "marks": "type ifname : mark",
    "macs": "type ifname . ether_addr",
    "v4": "type ifname . ether_addr . ipv4_addr",
    "v6": "type ifname . ether_addr . ipv6_addr",
    "v4wide": "type ifname . ether_addr . ipv4_addr; flags interval",
    "v6wide": "type ifname . ether_addr . ipv6_addr; flags interval",
    "targets": "typeof iifname . @th,64,128",
    "targetswide": "typeof iifname . @th,64,128; flags interval",
}

_GUARD = (
    "meta mark set 0",
    "iifname @trusted accept",
    # What only routers and DHCP servers may say is never a guest's to say.
    "ether type ip udp sport 67 udp dport 68 drop",
    "ether type ip6 icmpv6 type { 134, 137 } drop",
    "ether type ip6 udp sport 547 udp dport 546 drop",
    # A neighbour advertisement may speak for the port's own addresses only: its target is the proof, not its source.
    "ether type ip6 icmpv6 type 136 iifname . @th,64,128 != @targets iifname . @th,64,128 != @targetswide counter drop comment \"antispoof\"",
    "ether type ip iifname . ether saddr . ip saddr @v4 meta mark set iifname map @marks accept",
    "ether type ip6 iifname . ether saddr . ip6 saddr @v6 meta mark set iifname map @marks accept",
    "ether type arp iifname . ether saddr . arp saddr ip @v4 iifname . arp saddr ether . arp saddr ip @v4 accept",
    "ether type ip iifname . ether saddr . ip saddr @v4wide meta mark set iifname map @marks accept",
    "ether type ip6 iifname . ether saddr . ip6 saddr @v6wide meta mark set iifname map @marks accept",
    "ether type arp iifname . ether saddr . arp saddr ip @v4wide iifname . arp saddr ether . arp saddr ip @v4wide accept",
    # A guest without an address yet: ARP probes (RFC 5227), DHCP, duplicate address detection (RFC 4862).
    "ether type arp arp saddr ip 0.0.0.0 iifname . ether saddr @macs accept",
    "ether type ip ip saddr 0.0.0.0 udp sport 68 udp dport 67 iifname . ether saddr @macs meta mark set iifname map @marks accept",
    "ether type ip6 ip6 saddr :: icmpv6 type { 131, 132, 133, 135, 143 } iifname . ether saddr @macs"
    " meta mark set iifname map @marks accept",
    'counter drop comment "antispoof"',
)  # fmt: skip


def guard_table(name: str, contributions: Iterable[Contribution]) -> Table:
    """The bridge family's table."""
    gathered: dict[str, dict[str, str]] = {kind: {} for kind in _TYPES}
    for contribution in contributions:
        for kind, elements in contribution.items():
            gathered[kind].update(elements)
    collections = {
        kind: Collection("map" if kind == "marks" else "set", declared, gathered[kind]) for kind, declared in _TYPES.items()
    }
    chains = {
        "guard": Chain(_GUARD, "type filter hook prerouting priority -300; policy accept;"),
        "receiver": Chain(
            ("meta mark set 0", "meta mark set oifname map @marks"), "type filter hook forward priority -200; policy accept;"
        ),
    }
    return Table("bridge", name, collections, chains)


def guard_change(name: str, before: Contribution, after: Contribution) -> str:
    """The commands for the change of one link, without a look at the others."""
    kinds = [kind for kind in _TYPES if before.get(kind) != after.get(kind)]
    return "".join(element_changes(f"bridge {name} {kind}", before.get(kind, {}), after.get(kind, {})) for kind in kinds)


class Profiles:
    """Numbers for the sets of security groups that ports bear. A port's number is its packets' mark; it stays while it is used."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, ...], int] = {}
        self._taken: set[int] = set()

    def number(self, group_ids: Iterable[str]) -> int:
        """It follows from the groups, so that the next process finds in the kernel what it would write itself."""
        groups = tuple(sorted(set(group_ids)))
        if groups not in self._numbers:
            number = int.from_bytes(hashlib.sha256("\n".join(groups).encode()).digest()[:4], "big") & MARK_MAX or 1
            while number in self._taken:
                number = number % MARK_MAX + 1
            self._numbers[groups] = number
            self._taken.add(number)
        return self._numbers[groups]


def _chain_name(direction: str, group_id: str) -> str:
    return f"{direction}_{group_id.replace('-', '')}"


def is_stateless(group_ids: Iterable[str], known: Mapping[str, SecurityGroup]) -> bool:
    """Whether none of the groups tracks connections. Where only some do, all of the port's are tracked, as Neutron's drivers have it."""
    found = [known[group_id] for group_id in group_ids if group_id in known]
    return bool(found) and not any(group.stateful for group in found)


def groups_table(
    name: str, profiles: Mapping[int, tuple[str, ...]], known: Mapping[str, SecurityGroup], untracked: Iterable[str] = ()
) -> Table:
    """The inet family's table. `profiles`: for each mark in use the groups behind it. A group that is not known lets nothing pass.

    `untracked` are the addresses of ports whose groups are stateless: what goes to them and what comes from them meets the rules packet by
    packet.
    """
    used = {group_id: known[group_id] for ids in profiles.values() for group_id in ids if group_id in known}
    chains: dict[str, Chain] = {}
    collections: dict[str, Collection] = {}
    remotes = sorted({remote for group in used.values() for remote in groups.remote_groups(group)})
    wide = {group_id for group_id in remotes if group_id in known and groups.has_prefixes(known[group_id])}
    for group_id in remotes:
        for version in (4, 6):
            single, prefixes = groups.members(known.get(group_id), version)
            kind = f"type ipv{version}_addr"
            collections[groups.member_set(group_id, version)] = Collection("set", kind, members(single))
            if group_id in wide:
                name_of_wide = groups.wide_member_set(group_id, version)
                collections[name_of_wide] = Collection("set", f"{kind}; flags interval", members(prefixes))
    for direction in ("ingress", "egress"):
        for group_id, group in sorted(used.items()):
            chains[_chain_name(direction, group_id)] = Chain(groups.compile_rules(group.rules, direction, wide))
        for mark, ids in sorted(profiles.items()):
            jumps = [f"jump {_chain_name(direction, group_id)}" for group_id in ids if group_id in used]
            chains[f"{direction}{mark}"] = Chain((*jumps, 'counter drop comment "default deny"'))
        elements = {str(mark): f"{mark} : goto {direction}{mark}" for mark in sorted(profiles)}
        collections[f"{direction}_profiles"] = Collection("map", "type mark : verdict", elements)
    for version in (4, 6):
        collections[f"askers{version}"] = Collection(
            "set", f"type ipv{version}_addr; flags dynamic,timeout; timeout 10s; size 4096"
        )
    plain = sorted({str(ipaddress.ip_address(address)) for address in untracked})
    if plain:
        for version in (4, 6):
            found = members([address for address in plain if (":" in address) == (version == 6)])
            collections[f"untracked{version}"] = Collection("set", f"type ipv{version}_addr", found)
        chains["untracked"] = Chain(_UNTRACKED, "type filter hook prerouting priority -300; policy accept;")
    return Table("inet", name, collections, {**chains, **_base_chains()})


_UNTRACKED = (
    # The services of the host itself answer whom they were asked by, whatever the guest's rules are.
    f"ip daddr {names.METADATA_V4} return",
    f"ip6 daddr {names.METADATA_V6} return",
    "ip saddr @untracked4 notrack",
    "ip daddr @untracked4 notrack",
    "ip6 saddr @untracked6 notrack",
    "ip6 daddr @untracked6 notrack",
)


def _base_chains() -> dict[str, Chain]:
    to_metadata = (
        f"ip daddr {names.METADATA_V4} tcp dport {{ 53, 80, 8500 }} accept",
        f"ip6 daddr {names.METADATA_V6} tcp dport {{ 53, 80, 8500 }} accept",
        f"ip daddr {names.METADATA_V4} udp dport 53 accept",
        f"ip6 daddr {names.METADATA_V6} udp dport 53 accept",
    )
    flood = 'limit rate over 500/second burst 200 packets } counter drop comment "too many questions"'
    return {
        "sender": Chain(
            (
                REVOKED,
                ESTABLISHED,
                DISCOVERY,
                "udp sport 68 udp dport 67 accept",
                *to_metadata,
                "meta mark vmap @egress_profiles",
            ),
            "type filter hook prerouting priority -150; policy accept;",
        ),
        "receiver": Chain(
            (REVOKED, ESTABLISHED, DISCOVERY, "udp sport 67 udp dport 68 accept", "meta mark vmap @ingress_profiles"),
            "type filter hook forward priority 0; policy accept;",
        ),
        "host": Chain(
            (
                # Before all else: a guest that floods the resolver is held back here, the node never hears of it.
                f"udp dport 53 update @askers4 {{ ip saddr {flood}",
                f"udp dport 53 update @askers6 {{ ip6 saddr {flood}",
                ESTABLISHED,
                'iifname "lo" accept',
                DISCOVERY,
                *to_metadata,
                "icmp type 8 accept",
                "icmpv6 type 128 accept",
                "counter drop",
            ),
            "type filter hook input priority 0; policy accept;",
        ),
    }
