"""A router on this host: a namespace with a leg in each of its networks, forwarding, SNAT, floating IPs and extra routes."""

import ipaddress
import socket
import struct
from collections.abc import Callable, Iterable, Mapping

from nacre.node.network import metering, names, namespaces, plugging, publishing, rtnl, shaping
from nacre.node.network.conntrack import DELETE, Flow
from nacre.node.network.netlink import Message
from nacre.node.network.nft import NftError
from nacre.node.network.plane import NetworkPlane
from nacre.node.network.standing import make
from nacre.node.network.tables import Chain, Collection, Table, difference, replace
from nacre.protocol.networks import Router, RouterGateway, RouterInterface

_SYSCTLS = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
    # An address answers on its own leg only.
    "ipv4/conf/all/arp_ignore": "1",
    "ipv6/conf/all/forwarding": "1",
    "ipv6/conf/default/accept_ra": "0",
    "ipv6/conf/default/accept_dad": "0",
}
ETH_P_ARP, ETH_P_IPV6 = 0x0806, 0x86DD

Leg = RouterInterface | RouterGateway


def legs_of(router: Router) -> list[Leg]:
    """All the legs of a router, that of its gateway last."""
    inner: list[Leg] = list(router.interfaces)
    return [*inner, router.gateway] if router.gateway else inner


def _version(address: str) -> int:
    return ipaddress.ip_interface(address).version


class RouterPlane:
    """One router. All methods run in the driver's worker thread and raise OSError with the cause."""

    def __init__(self, cloud_id: str, router_id: str) -> None:
        self.cloud_id = cloud_id
        self.router_id = router_id
        self.name = names.namespace(cloud_id, "router", router_id)
        self.namespace = namespaces.ensure(self.name)
        self.router: Router | None = None
        self._table: Table | None = None
        """As the kernel has it; None until this process wrote it."""
        self._nats: dict[str, str] = {}
        self._targets: set[publishing.Target] = set()
        self._legs: dict[str, str] = {}
        """Link name to network id, of the legs that this process knows."""

    def ensure(self, router: Router, networks: Mapping[str, NetworkPlane]) -> None:
        self.namespace.sysctl(_SYSCTLS)
        legs = legs_of(router)
        missing = [leg.network_id for leg in legs if leg.network_id not in networks]
        if missing:
            raise OSError(f"router {router.id} has a leg in network {missing[0]}, which is not on this host")
        if router.floating_ips and router.gateway is None:
            raise OSError(f"router {router.id} has floating IPs and no gateway")
        self._drop_legs({names.link(self.cloud_id, leg.port_id) for leg in legs}, networks)
        for leg in legs:
            self._ensure_leg(leg, networks[leg.network_id], up=router.admin_state_up)
        found = rtnl.links(self.namespace.route)
        indexes = {leg.port_id: found[names.link(self.cloud_id, leg.port_id)].index for leg in legs}
        self._translate(router)
        fresh = self._ensure_addresses(router, legs, indexes)
        self._shape(router, networks)
        if router.admin_state_up:
            self._ensure_routes(router, indexes)
            self._announce(legs, indexes, fresh)
        self.router = router

    def _drop_legs(self, wanted: set[str], networks: Mapping[str, NetworkPlane]) -> None:
        host = self.namespace.route
        stale = [
            link
            for name, link in rtnl.links(host).items()
            if link.kind == "veth" and name.startswith(names.prefix(self.cloud_id)) and name not in wanted
        ]
        host.request([rtnl.delete_link(link.index, link.name) for link in stale])
        for link in stale:
            plane = networks.get(self._legs.pop(link.name, ""))
            if plane is not None:
                plane.distrust(link.name)
                shaping.sweep(plane.namespace.route)

    def _ensure_leg(self, leg: Leg, plane: NetworkPlane, *, up: bool) -> None:
        """The veth pair of a leg, by the same name at both of its ends."""
        name = names.link(self.cloud_id, leg.port_id)
        outer, inner = rtnl.find_link(plane.namespace.route, name), rtnl.find_link(self.namespace.route, name)
        paired = outer and inner and (outer.peer, inner.peer) == (inner.index, outer.index) and inner.mac == leg.mac.lower()
        if not paired:
            for netlink, link in ((plane.namespace.route, outer), (self.namespace.route, inner)):
                if link is not None:
                    netlink.request([rtnl.delete_link(link.index, name)])
            mac, mtu, peer_ns = names.derived_mac(leg.port_id, 1), plane.network.mtu, self.namespace.fileno()
            plane.namespace.route.request(
                [rtnl.veth(name, mac, mtu, peer=name, peer_mac=leg.mac, peer_ns=peer_ns, up=False, peer_up=False)]
            )
            outer, inner = rtnl.find_link(plane.namespace.route, name), rtnl.find_link(self.namespace.route, name)
        if outer is None or inner is None:
            raise OSError(f"the leg {name} of router {self.router_id} vanished while it was made")
        plane.trust(name)
        plugging.attach(plane, outer, leg.port_id, leg.mac, up=True)
        messages = [] if paired else [rtnl.no_generated_address(inner.index, name)]
        if inner.mtu != plane.network.mtu or inner.up != up:
            messages.append(rtnl.set_link(inner.index, name, up=up, mtu=plane.network.mtu))
        self.namespace.route.request(messages)
        self._legs[name] = leg.network_id

    def _ensure_addresses(self, router: Router, legs: Iterable[Leg], indexes: Mapping[str, int]) -> set[tuple[int, str]]:
        """The addresses of the legs and the floating ones; those that are new."""
        if not router.admin_state_up:
            return set()
        wanted = {(indexes[leg.port_id], str(ipaddress.ip_interface(a))) for leg in legs for a in leg.addresses}
        wanted |= {(indexes[leg.port_id], f"{names.link_local(leg.mac)}/64") for leg in legs}
        if router.gateway:
            outside = {fip.floating_address for fip in router.floating_ips}
            outside |= {each.external_address for each in publishing.of_floating(router)}
            wanted |= {(indexes[router.gateway.port_id], f"{address}/32") for address in outside}
        host = self.namespace.route
        there = {(index, cidr) for index, cidr in rtnl.addresses(host) if index in indexes.values()}
        host.request([rtnl.address(index, cidr, delete=True) for index, cidr in sorted(there - wanted)])
        # A second look, since an address takes its secondaries along when it goes.
        there = {(index, cidr) for index, cidr in rtnl.addresses(host) if index in indexes.values()}
        fresh = wanted - there
        host.request([rtnl.address(index, cidr) for index, cidr in sorted(fresh)])
        return fresh

    def _ensure_routes(self, router: Router, indexes: Mapping[str, int]) -> None:
        """Default routes by the gateway's next hops and the extra routes, told from others by their protocol number."""
        wanted: set[tuple[str, str]] = {
            (str(ipaddress.ip_network(route.destination, strict=False)), str(ipaddress.ip_address(route.nexthop)))
            for route in router.routes
        }
        for nexthop in router.gateway.nexthops if router.gateway else ():
            wanted.add(("0.0.0.0/0" if _version(nexthop) == 4 else "::/0", str(ipaddress.ip_address(nexthop))))
        on_link = {
            ipaddress.ip_interface(address).network: indexes[leg.port_id] for leg in legs_of(router) for address in leg.addresses
        }
        host = self.namespace.route
        there = {
            (r.destination, r.gateway): r.oif
            for v in (4, 6)
            for r in rtnl.routes(host, v)
            if r.protocol == rtnl.RTPROT_OURS and r.gateway
        }
        messages: list[Message] = []
        for (destination, gateway), oif in there.items():
            if gateway and (destination, gateway) not in wanted:
                messages.append(rtnl.route(destination, oif, gateway=gateway, delete=True))
        for destination, gateway in sorted(wanted - set(there)):
            oif = next((index for network, index in on_link.items() if ipaddress.ip_address(gateway) in network), 0)
            if not oif:
                raise OSError(f"router {router.id}: the next hop {gateway} of {destination} is in none of its networks")
            messages.append(rtnl.route(destination, oif, gateway=gateway))
        host.request(messages)

    def _translate(self, router: Router) -> None:
        """Bring the address translation into the kernel, and cut the connections of floating IPs that went or moved."""
        table = nat_table(names.table(self.cloud_id), self.cloud_id, router)
        try:
            if self._table is None:
                make(self.namespace.nft, table)
            elif commands := difference(self._table, table):
                self.namespace.nft.run(commands)
        except NftError:
            self.namespace.nft.run(replace(table))
        self._table = table
        nats = {fip.floating_address: fip.fixed_address for fip in router.floating_ips}
        moved = {floating: fixed for floating, fixed in self._nats.items() if nats.get(floating) != fixed}
        self._nats = nats
        if moved:
            self.namespace.conntrack.judge({*moved, *moved.values()}, _through(moved))
        targets = publishing.targets_of_router(router)
        gone, self._targets = self._targets - targets, targets
        if gone:
            outside = {each.external_address for each in (self.router.forwards if self.router else ())} - {""}
            self.namespace.conntrack.judge({publishing.own_address(router), *outside} - {""}, publishing.cut(gone))

    def _shape(self, router: Router, networks: Mapping[str, NetworkPlane]) -> None:
        """Limits of floating IPs: what comes in waits at the router's end of the gateway's leg, what goes out at the network's end."""
        if router.gateway is None:
            return
        name = names.link(self.cloud_id, router.gateway.port_id)
        outside = networks[router.gateway.network_id].namespace.route
        for direction, host, side in (("ingress", self.namespace.route, "destination"), ("egress", outside, "source")):
            link = rtnl.find_link(host, name)
            if link is None:
                continue
            wanted = {
                names.shaper(self.cloud_id, fip.id, direction): shaping.Queue(limit, side, fip.floating_address)
                for fip in router.floating_ips
                for limit in fip.limits
                if limit.direction == direction
            }
            shaping.hold(host, link, wanted)

    def _announce(self, legs: Iterable[Leg], indexes: Mapping[str, int], fresh: set[tuple[int, str]]) -> None:
        """Tell the neighbours of new addresses: gratuitous ARP (RFC 5227) and unsolicited advertisements (RFC 4861, 7.2.6)."""
        by_index = {indexes[leg.port_id]: leg for leg in legs}
        frames = [(by_index[index], _announcement(by_index[index].mac, cidr)) for index, cidr in sorted(fresh)]
        if not frames:
            return
        with namespaces.inside(self.namespace.fileno()), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            for leg, frame in frames:
                wire.sendto(frame, (names.link(self.cloud_id, leg.port_id), 0))

    def meters(self) -> dict[str, tuple[int, int]]:
        return metering.read(self.namespace.nft, names.table(self.cloud_id))

    def distrust_kernel(self) -> None:
        """Somebody may have changed what we wrote: the next `ensure` writes it all."""
        self._table = None

    def destroy(self, networks: Mapping[str, NetworkPlane]) -> None:
        """Undo all of it. The legs go first, so that their other ends are gone when this returns."""
        self._drop_legs(set(), networks)
        self.close()
        namespaces.remove(self.name)

    def close(self) -> None:
        self.namespace.close()


def _through(moved: Mapping[str, str]) -> Callable[[Flow], int | None]:
    return lambda flow: DELETE if flow.destination in moved or flow.reply_destination in moved else None


def nat_table(name: str, cloud_id: str, router: Router) -> Table:
    """Floating IPs both ways, SNAT behind the gateway's address, and the way back through us for guests who call a floating IP
    from a network of the same router (which would answer each other directly otherwise)."""
    gateway = router.gateway
    link = names.link(cloud_id, gateway.port_id) if gateway else ""
    own = next((str(ipaddress.ip_interface(a).ip) for a in gateway.addresses if _version(a) == 4), "") if gateway else ""
    inward = {fip.floating_address: f"{fip.floating_address} : {fip.fixed_address}" for fip in router.floating_ips}
    outward = {fip.fixed_address: f"{fip.fixed_address} : {fip.floating_address}" for fip in router.floating_ips}
    post: list[str] = []
    if gateway:
        post.append(f'oifname "{link}" snat ip to ip saddr map @floating_of')
        post.append(f'iifname != "{link}" ct status dnat snat ip to ip saddr map @floating_of')
    if gateway and own:
        post.append(f'iifname != "{link}" oifname != "{link}" ct status dnat snat ip to {own}')
        if gateway.snat:
            post.append(f'iifname != "{link}" oifname "{link}" snat ip to {own}')
    inward_rules: list[str] = []
    if gateway:
        by_host = f'iifname "{link}" ether saddr {names.derived_mac(gateway.network_id, 2)}'
        inward_rules = [
            f"{by_host} dnat ip to ip daddr . meta l4proto . th dport map @published",
            "dnat ip to ip daddr . meta l4proto . th dport map @forwarded",
            "dnat ip to ip daddr map @fixed_of",
        ]
    chains = {
        "inward": Chain(tuple(inward_rules), "type nat hook prerouting priority dstnat; policy accept;"),
        "outward": Chain(tuple(post), "type nat hook postrouting priority srcnat; policy accept;"),
    }
    published, forwarded = publishing.router_elements(router)
    to_port = f"type {publishing.ADDRESS_AND_PORT} : {publishing.TO}"
    counters: dict[str, Collection] = {}
    metering.add(chains, counters, link, router)
    collections = {
        **counters,
        "published": Collection("map", to_port, published),
        "forwarded": Collection("map", to_port, forwarded),
        "fixed_of": Collection("map", "type ipv4_addr : ipv4_addr", inward),
        "floating_of": Collection("map", "type ipv4_addr : ipv4_addr", outward),
    }
    return Table("inet", name, collections, chains)


def _announcement(mac: str, cidr: str) -> bytes:
    address, raw = ipaddress.ip_interface(cidr).ip, bytes.fromhex(mac.replace(":", ""))
    if isinstance(address, ipaddress.IPv4Address):
        arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + raw + address.packed + bytes(6) + address.packed
        return b"\xff" * 6 + raw + struct.pack("!H", ETH_P_ARP) + arp
    everyone = ipaddress.IPv6Address("ff02::1").packed
    advertisement = struct.pack("!BBHI", 136, 0, 0, 0xA0000000) + address.packed + b"\x02\x01" + raw
    pseudo = address.packed + everyone + struct.pack("!II", len(advertisement), socket.IPPROTO_ICMPV6)
    advertisement = advertisement[:2] + struct.pack("!H", checksum(pseudo + advertisement)) + advertisement[4:]
    ip = struct.pack("!IHBB", 6 << 28, len(advertisement), socket.IPPROTO_ICMPV6, 255) + address.packed + everyone
    return b"\x33\x33\0\0\0\x01" + raw + struct.pack("!H", ETH_P_IPV6) + ip + advertisement


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total
