"""Desired networks, security groups, ports and routers into the kernel, by difference. All of it runs in the driver's worker thread.

A thing that cannot be made now is remembered and tried again with each later apply: what it waited for may have come.
"""

import contextlib
import errno
import ipaddress
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from nacre.node.config import NodeConfig
from nacre.node.drivers import Plugged
from nacre.node.network import groups, names, namespaces, outside, plugging, rtnl
from nacre.node.network.fencing import Fence
from nacre.node.network.host import HostPlane
from nacre.node.network.parting import Parting
from nacre.node.network.paths import HEADERS_V4
from nacre.node.network.plane import BRIDGE_PORTS_MAX, NetworkPlane
from nacre.node.network.routing import RouterPlane, legs_of
from nacre.protocol.messages import KINDS, Gone, Item, Kind, Observation
from nacre.protocol.networks import Network, Port, Router, SecurityGroup

Key = tuple[Kind, str]

BRIDGE_FILTER = Path("/proc/sys/net/bridge")
MODPROBE_TIMEOUT_S = 10.0


class Applier:
    """What is known of this host's networks, and the planes that hold it in the kernel."""

    def __init__(self, config: NodeConfig) -> None:
        self.cloud_id = config.cloud_id
        self.tunnel_ip = config.tunnel_ip
        self.fence = Fence(config.cloud_id)
        self.external = config.external
        self.joined = bool(config.joined)
        self.networks: dict[str, NetworkPlane] = {}
        self.routers: dict[str, RouterPlane] = {}
        self.groups: dict[str, SecurityGroup] = {}
        self.ports: dict[str, Port] = {}
        self.by_device: dict[str, dict[str, Port]] = {}
        self.plugged: dict[str, tuple[Path, str]] = {}
        """Where this process plugged a port: the guest's namespace and the interface."""
        self.parting = Parting(config.cloud_id, self.networks)
        self.whole = False
        """Whether all that is desired is known: after a full apply, or when nothing was on the host at the start."""
        self._full = False
        self._failed: dict[Key, Item] = {}
        self._stuck: set[Key] = set()
        """What was to go and could not be undone yet."""
        self._host: HostPlane | None = None
        self._dirty_ports: dict[str, set[str]] = {}
        self._dirty_groups: set[str] = set()
        self._judged: dict[str, set[str]] = {}
        """By network the ports whose connections are to be judged anew, since their rules have changed."""
        self._departed: dict[str, set[str]] = {}
        """By network the addresses that went, whose connections are nobody's."""

    @property
    def host(self) -> HostPlane:
        if self._host is None:
            self._host = HostPlane(self.cloud_id)
        return self._host

    def adopt(self) -> None:
        namespaces.prepare_pins()
        _load_bridge_filter()
        self.whole = not namespaces.pinned(names.prefix(self.cloud_id))

    def apply(self, items: list[Item], gone: list[Gone], *, full: bool) -> list[Observation]:
        if not full and not self.whole:
            fault = "the node has not yet been told all that shall be on this host: a full apply must come first"
            keys = [(item.kind, item.id) for item in items] + [(thing.kind, thing.id) for thing in gone]
            return [Observation(kind, thing_id, "error", fault=fault) for kind, thing_id in keys if kind != "guest"]
        listed: dict[Key, Item] = {(item.kind, item.id): item for item in items if item.kind != "guest"}
        observed: dict[Key, Observation] = {}
        doomed: list[Key] = [(thing.kind, thing.id) for thing in gone if thing.kind != "guest"]
        doomed += [key for key in self._stuck if key not in doomed and key not in listed]
        self._full = full
        if full:
            self._failed.clear()
            self._distrust_kernel()
            self._forget_unlisted(listed, observed)
        with contextlib.suppress(OSError):
            # All at once; what this cannot do fails again below, where it is said of which port.
            self.unplug([thing_id for kind, thing_id in doomed if kind == "port"])
        for kind in reversed(KINDS):
            for key in [key for key in doomed if key[0] == kind]:
                observed[key] = self._guarded(key, self._undo, key)
        self._stuck = {key for key in doomed if observed[key].state == "error"}
        work = {key: item for key, item in self._failed.items() if key not in doomed} | listed
        self._make(work, observed, full=full)
        for key, observation in observed.items():
            if observation.state == "error" and key in work:
                self._failed[key] = work[key]
            else:
                self._failed.pop(key, None)
        self.whole = True
        return list(observed.values())

    def _distrust_kernel(self) -> None:
        """What this process wrote may have been changed by others: all of it is written again, in place."""
        for router in self.routers.values():
            router.distrust_kernel()
        if self._host is not None:
            self._host.distrust_kernel()

    def _make(self, work: dict[Key, Item], observed: dict[Key, Observation], *, full: bool) -> None:
        makers: dict[Kind, Callable[[Item], None]] = {
            "network": self._make_network,
            "security_group": self._make_group,
            "port": self._make_port,
            "router": self._make_router,
        }
        if full:
            self.host.expect(item.router for item in work.values() if item.router is not None)
        for kind, make in makers.items():
            chosen = [item for key, item in work.items() if key[0] == kind]
            for item in chosen:
                key = (item.kind, item.id)
                observed[key] = self._guarded(key, make, item)
            if kind == "port":
                self._expect_legs(work)
                self._flush(observed, full=full)
        if full:
            self.host.forget_stale_ways()

    def _expect_legs(self, work: dict[Key, Item]) -> None:
        """The legs of routers are trusted before the filters are written, so that a restart interrupts nothing that is routed."""
        for router in [item.router for item in work.values() if item.router is not None]:
            for leg in legs_of(router):
                if leg.network_id in self.networks:
                    with contextlib.suppress(OSError):
                        self.networks[leg.network_id].trust(names.link(self.cloud_id, leg.port_id))

    def _guarded(self, key: Key, do: Callable[..., Observation | None], *arguments: object) -> Observation:
        """A driver never raises for a thing that cannot be made: it says why."""
        try:
            return do(*arguments) or Observation(key[0], key[1], "active")
        except (OSError, ValueError, LookupError) as error:
            return Observation(
                key[0], key[1], "error", fault=str(error.strerror or error) if isinstance(error, OSError) else str(error)
            )

    def _make_network(self, item: Item) -> None:
        network = item.spec
        assert isinstance(network, Network)
        plane = self.networks.get(network.id)
        if plane is None:
            plane = NetworkPlane(self.cloud_id, self.tunnel_ip, network)
        elif plane.network == network and not self._full:
            return
        plane.ensure(network)
        if network.physical:
            self._lead_out(plane)
        self.networks[network.id] = plane
        for port in self.ports.values():
            if port.network_id == network.id:
                plane.put(port)
                self._dirty_ports.setdefault(network.id, set()).add(port.id)
        self._dirty_ports.setdefault(network.id, set())

    def _lead_out(self, plane: NetworkPlane) -> None:
        """The cloud's own machine bears the gateway addresses of an external network. Others reach it by their external device alone."""
        if not self.joined:
            self.host.ensure_uplink(plane)
            self.host.lead_elsewhere(plane.network)
        elif not self.external:
            raise OSError(
                f"network {plane.network.id} is an external one, and this host has no device that leads there: join with --external"
            )
        if self.external:
            outside.ensure(plane, self.external)

    def _make_group(self, item: Item) -> None:
        group = item.spec
        assert isinstance(group, SecurityGroup)
        for direction in ("ingress", "egress"):
            groups.compile_rules(group.rules, direction)
        for version in (4, 6):
            groups.members(group, version)
        before = self.groups.get(group.id)
        if before == group:
            return
        self.groups[group.id] = group
        users = self._users(group.id)
        self._dirty_groups |= users.keys()
        shrunk = before and (set(before.rules) - set(group.rules) or set(before.members) - set(group.members))
        for network_id, port_ids in users.items():
            if shrunk or self.networks[network_id].blocks:
                self._judged.setdefault(network_id, set()).update(port_ids)

    def _users(self, group_id: str) -> dict[str, set[str]]:
        """By network the ports that the group concerns, by itself or as a remote of theirs."""
        concerned = {group_id} | {other.id for other in self.groups.values() if group_id in groups.remote_groups(other)}
        found: dict[str, set[str]] = {}
        for port in self.ports.values():
            if port.local and not concerned.isdisjoint(port.security_groups) and port.network_id in self.networks:
                found.setdefault(port.network_id, set()).add(port.id)
        return found

    def _make_port(self, item: Item) -> None:
        port = item.spec
        assert isinstance(port, Port)
        plane = self.networks.get(port.network_id)
        if plane is None:
            raise LookupError(f"network {port.network_id} of port {port.id} is not on this host")
        before = self.ports.get(port.id)
        if before == port and port.id in plane.ports:
            return
        if before is not None and before.network_id != port.network_id:
            self._undo_port(port.id)
        if not port.local and None in (self.tunnel_ip, port.tunnel_ip):
            raise OSError(f"port {port.id} is on another host, and one of the two hosts has no tunnel address: set tunnel_ip")
        guest_port = port.local and not port.device_owner.startswith("network:")
        if guest_port:
            plane.contribution(port)
            if port.id not in plane.ports and plane.room() < 1:
                raise OSError(f"network {port.network_id} is full on this host: a bridge takes {BRIDGE_PORTS_MAX} ports (EXFULL)")
        self._know(port, plane)
        self._dirty_ports.setdefault(port.network_id, set()).add(port.id)
        if before is not None and guest_port:
            self._follow(plane, port, before)

    def _know(self, port: Port, plane: NetworkPlane) -> None:
        self._forget(port.id)
        self.ports[port.id] = port
        if port.device_id:
            self.by_device.setdefault(port.device_id, {})[port.id] = port
        plane.put(port)

    def _forget(self, port_id: str) -> Port | None:
        port = self.ports.pop(port_id, None)
        if port is not None and port.device_id in self.by_device:
            self.by_device[port.device_id].pop(port_id, None)
            if not self.by_device[port.device_id]:
                del self.by_device[port.device_id]
        return port

    def _follow(self, plane: NetworkPlane, port: Port, before: Port) -> None:
        """A port that may be plugged has changed."""
        if (before.security_groups, before.port_security) != (port.security_groups, port.port_security):
            self._judged.setdefault(port.network_id, set()).add(port.id)
        left = {ip.address for ip in before.fixed_ips} - {ip.address for ip in port.fixed_ips}
        self._departed.setdefault(port.network_id, set()).update(left)
        link = rtnl.find_link(plane.namespace.route, names.link(self.cloud_id, port.id))
        if link is None:
            return
        if port.limits != before.limits:
            plane.shape(port)
        if port.admin_state_up != link.up:
            plane.namespace.route.request([rtnl.set_link(link.index, link.name, up=port.admin_state_up)])
        where = self.plugged.get(port.id)
        if where is not None and port.fixed_ips != before.fixed_ips and where[0].exists():
            plugging.reconfigure(plane, port, before, *where)

    def _flush(self, observed: dict[Key, Observation], *, full: bool) -> None:
        """Filters, neighbours and forwarding entries of what changed. Each network stands for itself."""
        network_ids = set(self.networks) if full else self._dirty_ports.keys() | self._dirty_groups | self._departed.keys()
        for network_id in sorted(network_ids & self.networks.keys()):
            plane = self.networks[network_id]
            changed = self._dirty_ports.get(network_id, set())
            try:
                if full:
                    plane.rewrite(self.groups)
                elif changed or network_id in self._dirty_ports:
                    plane.refresh(changed, self.groups)
                else:
                    plane.regroup(self.groups)
                judged = plane.ports if full and plane.blocks else self._judged.get(network_id, ())
                plane.judge(judged, self._departed.get(network_id, ()), self.groups)
            except (OSError, ValueError) as error:
                fault = str(getattr(error, "strerror", None) or error)
                concerned: list[Key] = [("port", port_id) for port_id in changed] or [("network", network_id)]
                observed.update({key: Observation(key[0], key[1], "error", fault=fault) for key in concerned})
        self._dirty_ports.clear()
        self._dirty_groups.clear()
        self._judged.clear()
        self._departed.clear()

    def _make_router(self, item: Item) -> None:
        router = item.spec
        assert isinstance(router, Router)
        plane = self.routers.get(router.id)
        if plane is None:
            plane = self.routers[router.id] = RouterPlane(self.cloud_id, router.id)
        if router.gateway is not None and self.fence.watches(router.gateway.port_id):
            self.fence.renew(router.gateway.network_id, self.networks[router.gateway.network_id])
        plane.ensure(router, self.networks)
        self.host.route_back(router, router.id)
        self.host.publish(router, router.id)

    def tunnel_sizes(self) -> dict[str, int]:
        """By other hosts' tunnel addresses the size of the largest packet that a network here sends there."""
        found: dict[str, int] = {}
        for port in self.ports.values():
            if not port.local and port.tunnel_ip and port.network_id in self.networks:
                size = self.networks[port.network_id].network.mtu + HEADERS_V4
                found[port.tunnel_ip] = max(size, found.get(port.tunnel_ip, 0))
        return found

    def _undo(self, key: Key) -> Observation:
        kind, thing_id = key
        self._failed.pop(key, None)
        if kind == "port":
            self._undo_port(thing_id)
        elif kind == "router":
            self._undo_router(thing_id)
        elif kind == "network":
            self._undo_network(thing_id)
        elif kind == "security_group":
            self.groups.pop(thing_id, None)
            self._dirty_groups |= self._users(thing_id).keys()
        return Observation(kind, thing_id, "gone")

    def _undo_router(self, router_id: str) -> None:
        self.host.publish(None, router_id)
        self.host.route_back(None, router_id)
        plane = self.routers.pop(router_id, None)
        name = names.namespace(self.cloud_id, "router", router_id)
        if plane is None and name in namespaces.pinned(name):
            plane = RouterPlane(self.cloud_id, router_id)
        if plane is not None:
            plane.destroy(self.networks)

    def _undo_network(self, network_id: str) -> None:
        self.host.drop_uplink(network_id)
        plane = self.networks.pop(network_id, None)
        name = names.namespace(self.cloud_id, "network", network_id)
        if plane is None and name in namespaces.pinned(name):
            plane = NetworkPlane(self.cloud_id, self.tunnel_ip, Network(network_id, 0, 0))
        if plane is not None:
            plane.destroy()
        for port in [port for port in self.ports.values() if port.network_id == network_id]:
            self._forget(port.id)

    def _undo_port(self, port_id: str) -> None:
        self.unplug([port_id])
        port = self._forget(port_id)
        plane = self.networks.get(port.network_id) if port else None
        if port is not None and plane is not None:
            plane.drop(port_id)
            self._dirty_ports.setdefault(plane.network.id, set()).add(port_id)
            if port.local:
                self._departed.setdefault(plane.network.id, set()).update(ip.address for ip in port.fixed_ips)

    def _forget_unlisted(self, listed: dict[Key, Item], observed: dict[Key, Observation]) -> None:
        """Undo what is on the host and not listed, routers first; the links of ports that are not listed go too."""
        found = [
            parsed
            for name in namespaces.pinned(names.prefix(self.cloud_id))
            if (parsed := names.parse_namespace(self.cloud_id, name))
        ]
        kinds: tuple[Kind, ...] = ("router", "network")
        for kind in kinds:
            for key in [(kind, thing_id) for found_kind, thing_id in found if found_kind == kind]:
                if key not in listed:
                    observed[key] = self._guarded(key, self._undo, key)
        self.groups = {group_id: group for group_id, group in self.groups.items() if ("security_group", group_id) in listed}
        for port_id in [port_id for port_id in self.ports if ("port", port_id) not in listed]:
            self._undo_port(port_id)
        physical = {item.id for item in listed.values() if item.network and item.network.physical}
        with contextlib.suppress(OSError):
            self.host.forget_unlisted(physical)
        legs = [leg.port_id for item in listed.values() if item.router for leg in legs_of(item.router)]
        keep = {names.link(self.cloud_id, thing_id) for kind, thing_id in listed if kind == "port"}
        keep |= {names.link(self.cloud_id, thing_id) for thing_id in (*legs, *physical)}
        for found_kind, thing_id in found:
            if found_kind == "network" and ("network", thing_id) in listed:
                with contextlib.suppress(OSError):
                    self._drop_links(thing_id, keep)

    def _drop_links(self, network_id: str, keep: set[str]) -> None:
        namespace = namespaces.ensure(names.namespace(self.cloud_id, "network", network_id))
        with contextlib.closing(namespace):
            links = rtnl.links(namespace.route).values()
            veths = [link for link in links if link.kind == "veth" and link.name not in keep]
            if veths:
                namespace.route.request([*(rtnl.doom(link.index, link.name) for link in veths), rtnl.delete_doomed()])

    def plug(self, port_id: str, netns: Path, interface: str) -> Plugged:
        port = self.ports.get(port_id)
        plane = self.networks.get(port.network_id) if port else None
        if port is None or plane is None:
            raise LookupError(f"port {port_id} is not known on this host yet")
        if self.fence.watches(port_id):
            self.fence.renew(port.network_id, plane)
        self.parting.forget(port_id)
        try:
            plugged = plugging.plug(plane, port, netns, interface)
        except OSError as error:
            if error.errno != errno.EXFULL or not self.parting:
                raise
            # The bridge still bears links of guests that were removed.
            self.parting.sweep(patience_s=0.0)
            plugged = plugging.plug(plane, port, netns, interface)
        self.plugged[port_id] = (netns, interface)
        return plugged

    def part(self, port_id: str) -> None:
        """Take the port out of a guest whose namespace goes right after this."""
        port = self.ports.get(port_id)
        if port is None or not self.parting.part(port):
            self.unplug([port_id])
        self.plugged.pop(port_id, None)

    def unplug(self, port_ids: Iterable[str]) -> None:
        """Delete the ports' links, all of a network in one stroke. A port of an earlier process is searched for."""
        by_network: dict[str, list[str]] = {}
        unknown: list[str] = []
        for port_id in port_ids:
            self.plugged.pop(port_id, None)
            if port_id in self.parting:
                continue
            port = self.ports.get(port_id)
            name = names.link(self.cloud_id, port_id)
            if port is not None and port.network_id in self.networks:
                by_network.setdefault(port.network_id, []).append(name)
            else:
                unknown.append(name)
        for network_id, links in by_network.items():
            self.networks[network_id].detach(links)
        if unknown:
            for plane in self.networks.values():
                plane.detach(unknown)

    def port_at(self, network_id: str, address: str) -> Port | None:
        """The port that bears the address in a network, its link-local address included."""
        plane = self.networks.get(network_id)
        return plane.port_at(str(ipaddress.ip_address(address.partition("%")[0]))) if plane else None

    def close(self) -> None:
        for plane in self.networks.values():
            plane.close()
        for router in self.routers.values():
            router.close()
        if self._host is not None:
            self._host.close()


def _load_bridge_filter() -> None:
    """Security groups see bridged packets through br_netfilter, which no rule loads by itself.

    Loading it would send the frames of the host's own bridges through its firewall too, so that is switched off again:
    whoever wants it (Docker) switches it on.
    """
    if BRIDGE_FILTER.exists():
        return
    # Where it cannot be loaded each network says so, with the remedy.
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(["modprobe", "br_netfilter"], check=False, capture_output=True, timeout=MODPROBE_TIMEOUT_S)
    for setting in BRIDGE_FILTER.glob("bridge-nf-call-*"):
        setting.write_text("0")
