"""What the host's own namespace bears: the uplinks of physical networks, masquerading to the outside, and a way past other firewalls."""

import ipaddress
from collections.abc import Iterable
from pathlib import Path

from nacre.node.network import names, plugging, publishing, rtnl, sysctls
from nacre.node.network.namespaces import Namespace
from nacre.node.network.nft import NftError
from nacre.node.network.plane import NetworkPlane
from nacre.node.network.standing import make, model_name
from nacre.node.network.tables import Chain, Collection, Table, delete, difference, replace
from nacre.node.network.versions import Crossings
from nacre.protocol.networks import Network, Router

FORWARDING_V4 = {"net/ipv4/ip_forward": "1"}
FORWARDING_V6 = {"net/ipv6/conf/all/forwarding": "1"}
_OTHER_FIREWALLS = ("ip", "ip6", "inet")


class HostPlane:
    """The host. All methods run in the driver's worker thread and raise OSError with the cause."""

    def __init__(self, cloud_id: str) -> None:
        self.cloud_id = cloud_id
        self.namespace = Namespace(None)
        self.table = names.table(cloud_id)
        self._physical: dict[str, Network] = {}
        self._ways: dict[str, dict[str, tuple[str, str]]] = {}
        """By router, and by physical network for routers on other hosts, the prefixes that it leads to, each with its address and the link."""
        self._written: Table | None = None
        self._routers: dict[str, Router] = {}
        """The routers that publish ports of the host."""
        self._reservations = publishing.Reservations()
        self._crossings = Crossings()
        self._refused: dict[str, str] = {}

    def ensure_uplink(self, plane: NetworkPlane) -> None:
        """The host's leg in a physical network: a veth pair whose host end bears the subnets' gateway addresses."""
        network = plane.network
        name, mac = names.link(self.cloud_id, network.id), names.derived_mac(network.id, 2)
        host, inside = self.namespace.route, plane.namespace.route
        outer, inner = rtnl.find_link(host, name), rtnl.find_link(inside, name)
        if not (outer and inner and (outer.peer, inner.peer) == (inner.index, outer.index)):
            for netlink, link in ((host, outer), (inside, inner)):
                if link is not None:
                    netlink.request([rtnl.delete_link(link.index, name)])
            pair = rtnl.veth(
                name,
                mac,
                network.mtu,
                peer=name,
                peer_mac=names.derived_mac(network.id, 3),
                peer_ns=plane.namespace.fileno(),
                alias=network.id,
                peer_up=False,
                up=False,
            )
            host.request([pair])
            outer, inner = rtnl.find_link(host, name), rtnl.find_link(inside, name)
        if outer is None or inner is None:
            raise OSError(f"the uplink {name} of network {network.id} vanished while it was made")
        plane.trust(name)
        plugging.attach(plane, inner, network.id, mac, up=True)
        if not outer.up or outer.mtu != network.mtu or outer.alias != network.id:
            host.request([rtnl.set_link(outer.index, name, up=True, mtu=network.mtu, alias=network.id)])
        self._ensure_addresses(network, outer)
        self.namespace.sysctl({f"ipv4/conf/{name}/route_localnet": "1"})
        self._physical[network.id] = network
        self.ensure_forwarding()

    def _ensure_addresses(self, network: Network, link: rtnl.Link) -> None:
        host = self.namespace.route
        wanted = {
            f"{ipaddress.ip_address(subnet.gateway_ip)}/{ipaddress.ip_network(subnet.cidr, strict=False).prefixlen}"
            for subnet in network.subnets
            if subnet.gateway_ip
        }
        every = rtnl.addresses(host)
        by_index = {found.index: found.name for found in rtnl.links(host).values()}
        for index, cidr in every:
            if index != link.index and cidr.partition("/")[0] in {w.partition("/")[0] for w in wanted}:
                raise OSError(
                    f"the address {cidr} of network {network.id} is in use by link {by_index.get(index, index)} of this host"
                )
        there = {cidr for index, cidr in every if index == link.index and not cidr.startswith("fe80:")}
        messages = [rtnl.address(link.index, cidr, delete=True) for cidr in sorted(there - wanted)]
        messages += [rtnl.address(link.index, cidr) for cidr in sorted(wanted - there)]
        host.request(messages)

    def ensure_forwarding(self) -> None:
        """Forwarding, masquerading, and accept rules where another firewall drops what is forwarded."""
        subnets = [subnet for network in self._physical.values() for subnet in network.subnets]
        sysctls.claim(self.cloud_id, FORWARDING_V4)
        if any(subnet.version == 6 for subnet in subnets):
            sysctls.claim(self.cloud_id, {**_keep_router_advertisements(), **FORWARDING_V6})
        self._write()
        self.pass_firewalls()

    def _write(self) -> None:
        """The host's table as it is to be: a change of published ports is a change of elements."""
        table = self._table()
        if table == self._written:
            return
        try:
            if self._written is None:
                make(self.namespace.nft, table)
            else:
                self.namespace.nft.run(difference(self._written, table))
        except NftError:
            if self._written is None:
                raise
            # Somebody else changed our table: the difference was against what is no more.
            self.namespace.nft.run(replace(table))
        self._written = table

    def expect(self, routers: Iterable[Router]) -> None:
        """All routers there will be: what an earlier process published for them stays published while they are gone over one by one."""
        self._routers = {router.id: router for router in routers if publishing.of_host(router)}
        self._reserve()

    def _reserve(self) -> None:
        self._refused = self._reservations.hold(
            {
                each.id: (each.protocol, each.host_address, each.external_port)
                for router in self._routers.values()
                for each in publishing.by_v4(router)
            }
        )
        wanted = {ident: listen for router in self._routers.values() for ident, listen in publishing.by_v6(router).items()}
        self._refused |= self._crossings.hold({ident: each for ident, each in wanted.items() if ident not in self._refused})

    def publish(self, router: Router | None, router_id: str) -> None:
        """The host's ports that lead to a router, by difference; connections of those that went are ended.

        Raises OSError where a port is another program's; the others are published all the same.
        """
        before = self._routers.pop(router_id, None)
        if router is not None and publishing.of_host(router):
            self._routers[router_id] = router
        if before is None and router_id not in self._routers:
            return
        self._reserve()
        self._write()
        gone = publishing.targets_of_host(before) - publishing.targets_of_host(router)
        if gone:
            own = {cidr.partition("/")[0] for _, cidr in rtnl.addresses(self.namespace.route)}
            self.namespace.conntrack.judge(own, publishing.cut(gone))
        mine = [each.id for each in publishing.of_host(router)] if router else []
        refused = [self._refused[ident] for ident in mine if ident in self._refused]
        if refused:
            raise OSError(f"failed to bind host port: {'; '.join(refused)}")

    def _table(self) -> Table:
        """Masquerading to the outside; the host's published ports, for those who call from outside, from here and from a guest."""
        rules: list[str] = []
        loopback: list[str] = []
        for network in sorted(self._physical.values(), key=lambda network: network.id):
            link = names.link(self.cloud_id, network.id)
            for subnet in network.subnets:
                family = "ip" if subnet.version == 4 else "ip6"
                cidr = ipaddress.ip_network(subnet.cidr, strict=False)
                rules.append(f'oifname != "{link}" {family} saddr {cidr} {family} daddr != {cidr} masquerade')
            # Whoever called the host's loopback, or from behind a router like ours, must be answered by way of the host.
            rules.append(f'oifname "{link}" ip saddr 127.0.0.0/8 masquerade')
            rules.append(f'iifname "{link}" oifname "{link}" ct status dnat masquerade')
            # Since the loopback's addresses may leave by this link, none may come in by it.
            loopback += [f'iifname "{link}" ip daddr 127.0.0.0/8 drop', f'iifname "{link}" ip saddr 127.0.0.0/8 drop']
        every, single = publishing.host_elements(self._routers.values(), self._refused)
        collections = {
            "published": Collection("map", f"type inet_proto . inet_service : {publishing.TO}", every),
            "published_at": Collection("map", f"type {publishing.ADDRESS_AND_PORT} : {publishing.TO}", single),
        }
        inward = (
            "fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @published_at",
            "fib daddr type local dnat ip to meta l4proto . th dport map @published",
        )
        chains = {
            "outward": Chain(tuple(rules), "type nat hook postrouting priority srcnat; policy accept;"),
            "inward": Chain(inward, "type nat hook prerouting priority dstnat; policy accept;"),
            "here": Chain(inward, "type nat hook output priority -100; policy accept;"),
            "loopback": Chain(tuple(loopback), "type filter hook prerouting priority -300; policy accept;"),
        }
        return Table("inet", self.table, collections, chains)

    def pass_firewalls(self) -> None:
        """Where a chain of another firewall (Docker's FORWARD) drops by its policy what is forwarded, our links pass at its head."""
        links = [names.link(self.cloud_id, network_id) for network_id in sorted(self._physical)]
        for family, table, chain in self._dropping_chains():
            there = {comment for comment, _ in self._our_rules(family, table, chain)}
            commands = [
                f'insert rule {family} {table} {chain} {side} "{link}" counter accept comment "{self.table} {link} {side}"'
                for link in links
                for side in ("iifname", "oifname")
                if f"{self.table} {link} {side}" not in there
            ]
            if commands:
                self.namespace.nft.run("\n".join(commands))

    def _dropping_chains(self) -> list[tuple[str, str, str]]:
        found = [item["chain"] for item in self.namespace.nft.read("list chains") if "chain" in item]
        return [
            (chain["family"], chain["table"], chain["name"])
            for chain in found
            if chain.get("hook") == "forward" and chain.get("policy") == "drop" and chain["family"] in _OTHER_FIREWALLS
        ]

    def _our_rules(self, family: str, table: str, chain: str) -> list[tuple[str, int]]:
        """The comment and the handle of each rule of ours in another firewall's chain."""
        try:
            found = [item["rule"] for item in self.namespace.nft.read(f"list chain {family} {table} {chain}") if "rule" in item]
        except NftError:
            if any(each.get("chain", {}).get("name") == chain for each in self.namespace.nft.read(f"list chains {family}")):
                raise  # It is there: whoever asks must not believe that nothing of ours is in it.
            return []
        return [(rule["comment"], rule["handle"]) for rule in found if rule.get("comment", "").startswith(f"{self.table} ")]

    def route_back(self, router: Router | None, router_id: str) -> None:
        """The way from the host to what a router does not hide behind its own address: IPv6, and IPv4 without SNAT.

        Where two tenants use the same prefix the first one has it.
        """
        there = router is not None and router.gateway is not None and router.gateway.network_id in self._physical
        self._lead(router_id, _ways(self.cloud_id, router) if router and there else {})

    def lead_elsewhere(self, network: Network) -> None:
        """The same for routers on other hosts: a physical network says what is behind them."""
        link = names.link(self.cloud_id, network.id)
        self._lead(network.id, {way.destination: (way.nexthop, link) for way in network.ways})

    def _lead(self, key: str, after: dict[str, tuple[str, str]]) -> None:
        before = self._ways.pop(key, {})
        for prefix, (via, link) in before.items():
            if after.get(prefix) != (via, link):
                self._change_way(prefix, via, link, delete=True)
        for prefix, (via, link) in after.items():
            self._change_way(prefix, via, link)
        if after:
            self._ways[key] = after

    def _change_way(self, prefix: str, via: str, link: str, *, delete: bool = False) -> None:
        found = rtnl.find_link(self.namespace.route, link)
        if found is not None:
            self.namespace.route.request([rtnl.route(prefix, found.index, gateway=via, delete=delete, ignore_other=True)])

    def forget_stale_ways(self) -> None:
        """Delete the routes of ours on our uplinks that no known router wants."""
        wanted = {(prefix, via) for ways in self._ways.values() for prefix, (via, _) in ways.items()}
        indexes = {
            link.index for name, link in rtnl.links(self.namespace.route).items() if name.startswith(names.prefix(self.cloud_id))
        }
        for version in (4, 6):
            for way in rtnl.routes(self.namespace.route, version):
                ours = way.protocol == rtnl.RTPROT_OURS and way.oif in indexes and way.gateway
                if ours and (way.destination, way.gateway) not in wanted:
                    self.namespace.route.request([rtnl.route(way.destination, way.oif, gateway=way.gateway, delete=True)])

    def drop_uplink(self, network_id: str) -> None:
        link = rtnl.find_link(self.namespace.route, names.link(self.cloud_id, network_id))
        if link is not None:
            self.namespace.route.request([rtnl.delete_link(link.index, link.name)])
        self._lead(network_id, {})
        self._leave_firewalls([names.link(self.cloud_id, network_id)])
        if self._physical.pop(network_id, None) is not None and self._physical:
            self.ensure_forwarding()
        elif not self._physical:
            self.release()

    def _leave_firewalls(self, links: Iterable[str] | None) -> None:
        """Take our rules out of other firewalls' chains: those of the links, or (None) all."""
        for item in self.namespace.nft.read("list chains"):
            chain = item.get("chain", {})
            if chain.get("hook") != "forward" or chain["family"] not in _OTHER_FIREWALLS or chain["table"] == self.table:
                continue
            where = f"{chain['family']} {chain['table']} {chain['name']}"
            for comment, handle in self._our_rules(chain["family"], chain["table"], chain["name"]):
                if links is None or comment.split(" ")[1] in links:
                    self.namespace.nft.run(f"delete rule {where} handle {handle}")

    def release(self) -> None:
        """No physical network is here any more: the host is as it was."""
        self._leave_firewalls(None)
        self.namespace.nft.run(delete("inet", self.table) + delete("inet", model_name(self.table)))
        self._written = None
        sysctls.release(self.cloud_id)

    def distrust_kernel(self) -> None:
        """Somebody may have changed what we wrote: the next `ensure_forwarding` writes it all."""
        self._written = None

    def forget_unlisted(self, wanted: Iterable[str]) -> None:
        """Take away uplinks that an earlier process left and nobody wants."""
        prefix = names.prefix(self.cloud_id)
        keep = {names.link(self.cloud_id, network_id) for network_id in wanted}
        stale = [link for name, link in rtnl.links(self.namespace.route).items() if name.startswith(prefix) and name not in keep]
        self.namespace.route.request([rtnl.delete_link(link.index, link.name) for link in stale])

    def close(self) -> None:
        self._reservations.close()
        self._crossings.close()
        self.namespace.close()


def _ways(cloud_id: str, router: Router) -> dict[str, tuple[str, str]]:
    gateway = router.gateway
    if gateway is None or not router.admin_state_up:
        return {}
    own = {ipaddress.ip_interface(address).version: str(ipaddress.ip_interface(address).ip) for address in gateway.addresses}
    link = names.link(cloud_id, gateway.network_id)
    inner = [ipaddress.ip_interface(address).network for leg in router.interfaces for address in leg.addresses]
    open_versions = {6} if gateway.snat else {4, 6}
    return {str(net): (own[net.version], link) for net in inner if net.version in own and net.version in open_versions}


def _keep_router_advertisements() -> dict[str, str]:
    """A link that learns its addresses from a router must go on doing so when the host itself forwards (accept_ra 2)."""
    settings = Path("/proc/sys/net/ipv6/conf").glob("*/accept_ra")
    learning = [path.parent.name for path in settings if path.read_text().strip() == "1"]
    return {f"net/ipv6/conf/{name}/accept_ra": "2" for name in sorted(learning) if name not in ("all", "default", "lo")}
