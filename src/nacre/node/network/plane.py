"""A network on this host: its namespace with the bridge, the tunnel to other hosts, the filters, and what is known of its ports."""

import ipaddress
from collections.abc import Iterable, Mapping

from nacre.node.network import filters, groups, names, namespaces, rtnl, shaping
from nacre.node.network.conntrack import DELETE, Flow
from nacre.node.network.netlink import Message
from nacre.node.network.nft import NftError
from nacre.node.network.standing import make
from nacre.node.network.tables import Table, difference
from nacre.protocol.networks import Network, Port, SecurityGroup

BRIDGE_PORTS_MAX = 1023
"""What a bridge of Linux takes (BR_MAX_PORTS less the bridge itself); one more is refused with EXFULL."""

LOOK_UPS_MAX = 16
"""More links than this are found by listing them all."""

_SYSCTLS = {
    "ipv4/ip_forward": "0",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv6/conf/all/forwarding": "0",
    # The bridge's ports speak no IPv6 themselves; the bridge does, for the metadata service.
    "ipv6/conf/default/disable_ipv6": "1",
    # A connection that nobody saw begin is none; sequence numbers are the guests' own affair.
    "netfilter/nf_conntrack_tcp_loose": "0",
    "netfilter/nf_conntrack_tcp_be_liberal": "1",
    "bridge/bridge-nf-call-iptables": "1",
    "bridge/bridge-nf-call-ip6tables": "1",
    "bridge/bridge-nf-call-arptables": "0",
}
_BRIDGE_SYSCTLS = {
    f"ipv6/conf/{names.BRIDGE}/addr_gen_mode": "1",
    f"ipv6/conf/{names.BRIDGE}/accept_ra": "0",
    f"ipv6/conf/{names.BRIDGE}/disable_ipv6": "0",
}

Entries = frozenset[tuple[str, str]]
"""Permanent neighbours of the bridge: address and MAC."""


def entries_of(port: Port) -> Entries:
    mac = port.mac.lower()
    return frozenset({(str(ipaddress.ip_address(ip.address)), mac) for ip in port.fixed_ips} | {(names.link_local(mac), mac)})


class NetworkPlane:
    """One network. All methods run in the driver's worker thread and raise OSError (NetlinkError, NftError) with the cause."""

    def __init__(self, cloud_id: str, tunnel_ip: str | None, network: Network) -> None:
        self.cloud_id = cloud_id
        self.tunnel_ip = tunnel_ip
        self.network = network
        self.version = 0
        """Changes with the network and its ports."""
        self.name = names.namespace(cloud_id, "network", network.id)
        self.table = names.table(cloud_id)
        self.blocks = self.name in namespaces.pinned(self.name)
        """Whether connections may be blocked: an earlier process may have left some."""
        self.namespace = namespaces.ensure(self.name)
        self.ports: dict[str, Port] = {}
        self._at: dict[str, str] = {}
        """The port that bears an address."""
        self.bridge_index = 0
        self.tunnel_index = 0
        self._trusted: set[str] = set()
        self._contributions: dict[str, filters.Contribution] = {}
        """By link, as the kernel has them."""
        self._profiles = filters.Profiles()
        self._groups: Table | None = None
        """As the kernel has it; None until this process wrote it."""
        self._entries: dict[str, Entries] = {}
        """By port, as the kernel has them."""
        self._shaped: set[str] = set()
        """The ports whose links are held to limits."""
        self._remotes: dict[str, tuple[str, str]] = {}
        """The remote ports whose forwarding entries the kernel has: MAC and host."""

    def ensure(self, network: Network) -> None:
        """The namespace and the bridge, whatever there is of them."""
        self.network = network
        self.version += 1
        self.namespace.require(
            "bridge/bridge-nf-call-iptables", "security groups need the kernel module br_netfilter: modprobe br_netfilter"
        )
        host = self.namespace.route
        found = rtnl.links(host)
        if names.BRIDGE not in found:
            self.namespace.sysctl(_SYSCTLS)
            host.request([rtnl.bridge(names.BRIDGE, names.derived_mac(network.id, 0), network.mtu)])
            found = rtnl.links(host)
        bridge = found[names.BRIDGE]
        self.bridge_index = bridge.index
        messages = [rtnl.set_link(found["lo"].index, "lo", up=True)]
        if bridge.mtu != network.mtu:
            for link in sorted(found.values(), key=lambda link: link.name == names.BRIDGE):
                if link.name != "lo":
                    messages.append(rtnl.set_link(link.index, link.name, mtu=network.mtu))
        messages.append(rtnl.set_link(bridge.index, names.BRIDGE, up=network.admin_state_up))
        host.request(messages)
        if network.admin_state_up:
            self._ensure_addresses()
        tunnel = found.get(names.tunnel(self.cloud_id, network.vni))
        self.tunnel_index = tunnel.index if tunnel else 0
        if tunnel:
            self._trusted.add(tunnel.name)

    def _ensure_addresses(self) -> None:
        """The metadata service's addresses, and the way from them to the guests."""
        self.namespace.sysctl(_BRIDGE_SYSCTLS)
        host, bridge = self.namespace.route, self.bridge_index
        wanted = {f"{names.METADATA_V4}/32", f"{names.METADATA_V6}/64"}
        there = {cidr for index, cidr in rtnl.addresses(host) if index == bridge}
        messages = [
            rtnl.address(bridge, cidr, scope=rtnl.SCOPE_LINK if ":" in cidr else rtnl.SCOPE_UNIVERSE)
            for cidr in sorted(wanted - there)
        ]
        subnets = {str(ipaddress.ip_network(subnet.cidr, strict=False)) for subnet in self.network.subnets if subnet.version == 4}
        routed = {route.destination for route in rtnl.routes(host, 4) if route.protocol == rtnl.RTPROT_OURS}
        messages += [rtnl.route(cidr, bridge, ignore_other=True) for cidr in sorted(subnets - routed)]
        messages += [rtnl.route(cidr, bridge, delete=True) for cidr in sorted(routed - subnets)]
        host.request(messages)

    def trust(self, link: str) -> None:
        """A link that is no guest's: a router's leg or an uplink."""
        if link not in self._trusted:
            self._trusted.add(link)
            self._guard({link: filters.trusted(link)})

    def distrust(self, link: str) -> None:
        if link in self._trusted:
            self._trusted.discard(link)
            self._guard({link: {}})

    def put(self, port: Port) -> None:
        """Know the port; `refresh` brings it into the kernel."""
        self.drop(port.id)
        self.ports[port.id] = port
        self.version += 1
        self._at.update(dict.fromkeys((ip for ip, _ in entries_of(port)), port.id))

    def drop(self, port_id: str) -> None:
        port = self.ports.pop(port_id, None)
        self.version += 1
        for ip, _ in entries_of(port) if port else ():
            if self._at.get(ip) == port_id:
                del self._at[ip]

    def port_at(self, address: str) -> Port | None:
        """The port that bears the address, its link-local address included."""
        return self.ports.get(self._at.get(address, ""))

    def local_ports(self) -> list[Port]:
        """The ports of guests here: those of routers have legs, which are not plugged."""
        return [port for port in self.ports.values() if port.local and not port.device_owner.startswith("network:")]

    def room(self) -> int:
        """How many more ports the bridge takes."""
        return BRIDGE_PORTS_MAX - len(self.local_ports()) - len(self._trusted)

    def mark(self, port: Port) -> int:
        return self._profiles.number(port.security_groups)

    def contribution(self, port: Port) -> filters.Contribution:
        """Raises ValueError for an address pair that is none."""
        return filters.guarded(names.link(self.cloud_id, port.id), port, self.mark(port))

    def refresh(self, changed: Iterable[str], known: Mapping[str, SecurityGroup]) -> None:
        """Bring filters and neighbours of the changed ports into the kernel: one transaction for each table."""
        changed = list(changed)
        local = {port.id: port for port in self.local_ports()}
        # New groups come before the ports that bear them, groups in use no more go after.
        wanted: dict[str, filters.Contribution] = {}
        for port_id in changed:
            link = names.link(self.cloud_id, port_id)
            if port_id in local:
                wanted[link] = self.contribution(local[port_id])
            elif link in self._contributions and link not in self._trusted:
                wanted[link] = {}
        self.regroup(known)
        self._guard(wanted)
        self._ensure_entries(changed)

    def regroup(self, known: Mapping[str, SecurityGroup]) -> None:
        """Bring the security groups of all the ports into the kernel, by difference."""
        guests = [port for port in self.local_ports() if port.port_security]
        borne = {port.security_groups for port in guests}
        profiles = {self._profiles.number(ids): tuple(sorted(set(ids))) for ids in borne}
        untracked = {ids for ids in borne if filters.is_stateless(ids, known)}
        addresses = [ip.address for port in guests if port.security_groups in untracked for ip in port.fixed_ips]
        table = filters.groups_table(self.table, profiles, known, addresses)
        if self._groups is None:
            self._rewrite(table)
            return
        commands = difference(self._groups, table)
        if commands:
            try:
                self.namespace.nft.run(commands)
            except NftError:
                # Somebody else changed our tables: the difference was against what is no more.
                self._rewrite(table)
        self._groups = table

    def _rewrite(self, table: Table) -> None:
        """Both tables as they are to be, whatever is there, in one transaction: no packet sees one without the other.

        What an earlier process left is changed where it differs, since a table that is replaced costs packets on their way through it.
        """
        contributions = {names.link(self.cloud_id, port.id): self.contribution(port) for port in self.local_ports()}
        contributions |= {link: filters.trusted(link) for link in self._trusted}
        guard = filters.guard_table(self.table, contributions.values())
        make(self.namespace.nft, guard, table)
        self._contributions, self._groups = contributions, table

    def rewrite(self, known: Mapping[str, SecurityGroup]) -> None:
        """Make filters, forwarding entries and neighbours anew from what is known: the answer to a full apply."""
        self._groups = None
        self.regroup(known)
        self._forget_stale()
        self._ensure_entries(list(self.ports))
        self.reshape()

    def _guard(self, wanted: Mapping[str, filters.Contribution]) -> None:
        if self._groups is None:
            return
        commands = "".join(
            filters.guard_change(self.table, self._contributions.get(link, {}), contribution)
            for link, contribution in wanted.items()
        )
        if commands:
            self.namespace.nft.run(commands)
        for link, contribution in wanted.items():
            if contribution:
                self._contributions[link] = contribution
            else:
                self._contributions.pop(link, None)

    def _ensure_entries(self, changed: Iterable[str]) -> None:
        """The neighbours of the bridge for all ports, and the forwarding entries of remote ones. Local ones get theirs when they are plugged."""
        messages: list[Message] = []
        for port_id in changed:
            port = self.ports.get(port_id)
            before, after = self._entries.get(port_id, frozenset()), entries_of(port) if port else frozenset()
            messages += [rtnl.neighbour(ip, mac, self.bridge_index, delete=True) for ip, mac in before - after]
            messages += [rtnl.neighbour(ip, mac, self.bridge_index) for ip, mac in after - before]
            if after:
                self._entries[port_id] = after
            else:
                self._entries.pop(port_id, None)
            messages += self._remote_changes(port_id, port)
        self.namespace.route.request(messages)
        self._ensure_tunnel_gone()

    def _remote_changes(self, port_id: str, port: Port | None) -> list[Message]:
        before = self._remotes.pop(port_id, None)
        after = (port.mac.lower(), port.tunnel_ip) if port and not port.local and port.tunnel_ip else None
        messages: list[Message] = []
        if before and before != after:
            messages.append(rtnl.tunnel_entry(before[0], self.tunnel_index, before[1], delete=True))
            messages.append(rtnl.forwarding_entry(before[0], self.tunnel_index, delete=True))
        if after:
            self._ensure_tunnel()
            messages.append(rtnl.forwarding_entry(after[0], self.tunnel_index))
            messages.append(rtnl.tunnel_entry(after[0], self.tunnel_index, after[1]))
            self._remotes[port_id] = after
        return messages

    def _ensure_tunnel(self) -> None:
        """The VXLAN device. It is there only while some port of the network is on another host."""
        if self.tunnel_index:
            return
        if self.tunnel_ip is None:
            raise OSError("this host has no tunnel address, and a port of the network is on another host: set tunnel_ip")
        name = names.tunnel(self.cloud_id, self.network.vni)
        host = namespaces.Namespace(None)
        try:
            host.route.request([rtnl.vxlan(name, self.network.vni, self.tunnel_ip, self.network.mtu, self.namespace.fileno())])
        finally:
            host.close()
        link = rtnl.find_link(self.namespace.route, name)
        if link is None:
            raise OSError(f"the tunnel {name} vanished while it was made")
        self.tunnel_index = link.index
        self.trust(name)
        self.namespace.route.request(
            [
                rtnl.enslave(link.index, self.bridge_index, name),
                rtnl.bridge_port(link.index, name, tunnel=True),
                rtnl.set_link(link.index, name, up=True, alias=self.network.id),
            ]
        )

    def _ensure_tunnel_gone(self) -> None:
        if self.tunnel_index and not self._remotes:
            name = names.tunnel(self.cloud_id, self.network.vni)
            self.namespace.route.request([rtnl.delete_link(self.tunnel_index, name)])
            self.tunnel_index = 0
            self.distrust(name)

    def _forget_stale(self) -> None:
        """Delete the neighbours and remote forwarding entries in the kernel that no known port has, and learn the rest."""
        host = self.namespace.route
        there = rtnl.neighbours(host, self.bridge_index)
        wanted = {port.id: entries_of(port) for port in self.ports.values()}
        every = {entry for entries in wanted.values() for entry in entries}
        messages = [rtnl.neighbour(ip, mac, self.bridge_index, delete=True) for ip, mac in sorted(there - every)]
        self._entries = {port_id: frozenset(entries & there) for port_id, entries in wanted.items()}
        remotes = {port.mac.lower(): port.tunnel_ip for port in self.ports.values() if not port.local}
        for index, mac, remote in rtnl.forwarding_entries(host):
            if index == self.tunnel_index and remote is not None and remotes.get(mac) != remote:
                messages.append(rtnl.tunnel_entry(mac, index, remote, delete=True))
                if mac not in remotes:
                    messages.append(rtnl.forwarding_entry(mac, index, delete=True))
        host.request(messages)

    def judge(self, port_ids: Iterable[str], departed: Iterable[str], known: Mapping[str, SecurityGroup]) -> None:
        """Judge the open connections anew, where the rules that let these ports' connections begin have changed.

        One that is no more allowed is blocked by a mark, both ways, and not just forgotten: the next packet of the other side would
        begin it again in its own name. One that is allowed again goes on. Those of departed addresses are deleted.
        """
        chosen, guests = set(port_ids), self.local_ports()
        concerned = {ip.address: port for port in guests if port.id in chosen for ip in port.fixed_ips if port.port_security}
        left = set(departed)
        if not concerned and not left:
            return
        judged = groups.Judge(known)
        blocked = 0

        def verdict(flow: Flow) -> int | None:
            nonlocal blocked
            if flow.destination in left or flow.source in left:
                return DELETE
            if flow.destination not in concerned and flow.source not in concerned:
                return None
            said = filters.BLOCKED if self._forbidden(flow, judged) else 0
            blocked += said == filters.BLOCKED
            return said

        everyone = len(concerned) == sum(len(port.fixed_ips) for port in guests if port.port_security)
        self.namespace.conntrack.judge({*concerned, *left}, verdict)
        self.blocks = blocked > 0 or (self.blocks and not everyone)

    def _forbidden(self, flow: Flow, judged: groups.Judge) -> bool:
        """Whether the groups of the sender or of the receiver would not let this connection begin today."""
        if not {flow.destination, flow.source}.isdisjoint((names.METADATA_V4, names.METADATA_V6)):
            return False  # The host's own services, and its checks of the guests'.
        for port, direction in ((self.port_at(flow.destination), "ingress"), (self.port_at(flow.source), "egress")):
            if (
                port
                and port.local
                and not port.device_owner.startswith("network:")
                and port.port_security
                and not judged.allows(port.security_groups, direction, flow)
            ):
                return True
        return False

    def shape(self, port: Port) -> None:
        """Hold the port's link, if it is plugged, to its limits; live, without a packet lost."""
        if not port.limits and port.id not in self._shaped:
            return
        host = self.namespace.route
        link = rtnl.find_link(host, names.link(self.cloud_id, port.id))
        if link is None:
            return
        of = {limit.direction: limit for limit in port.limits}
        sent = of.get("egress")
        shaping.hold(host, link, {names.shaper(self.cloud_id, port.id, "egress"): shaping.Queue(sent)} if sent else {})
        shaping.limit_sending(host, link, of.get("ingress"))
        if port.limits:
            self._shaped.add(port.id)
        else:
            self._shaped.discard(port.id)

    def is_shaped(self, port_id: str) -> bool:
        """Whether the port's link is held to limits, by devices of its own."""
        return port_id in self._shaped

    def reshape(self) -> None:
        """The same for all ports, whatever an earlier process left."""
        shaping.sweep(self.namespace.route)
        limited = shaping.limited(self.namespace.route)
        for port in self.local_ports():
            if names.link(self.cloud_id, port.id) in limited:
                self._shaped.add(port.id)
            self.shape(port)

    def detach(self, links: Iterable[str]) -> None:
        """Delete links of the namespace (with their other ends, wherever those are), all in one stroke."""
        host, wanted = self.namespace.route, list(links)
        if len(wanted) <= LOOK_UPS_MAX:
            doomed = [link for name in wanted if (link := rtnl.find_link(host, name)) is not None]
        else:
            every = rtnl.links(host)
            doomed = [every[name] for name in wanted if name in every]
        if len(doomed) == 1:
            host.request([rtnl.delete_link(doomed[0].index, doomed[0].name)])
        elif doomed:
            host.request([*(rtnl.doom(link.index, link.name) for link in doomed), rtnl.delete_doomed()])
        limited = {port_id for port_id in self._shaped if names.link(self.cloud_id, port_id) in set(wanted)}
        if limited:
            self._shaped -= limited
            shaping.sweep(host)

    def destroy(self) -> None:
        """Undo all of it. The links go first and at once, since others wait for their other ends and for the tunnel's number."""
        self.detach([link for link in rtnl.links(self.namespace.route) if link != "lo"])
        self.close()
        namespaces.remove(self.name)

    def close(self) -> None:
        self.namespace.close()
