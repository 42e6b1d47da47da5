"""Networks whose driver is a plugin of Docker's: the plugin makes each port's interface, the node brings it into the guest.

Around the data plane, which never hears of these networks. What the plugin is asked is on disk before it is asked, and what it answered
after: a node that was killed between the two, or got no answer, undoes what may have been done and asks again. A refusal in words is an
answer, so nothing was done. A network is made with its first endpoint here, and undone when nothing of the host's is in it any more.
"""

import asyncio
import contextlib
import logging
import re
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from nacre.node.config import NodeConfig
from nacre.node.drivers import Observe, Plugged
from nacre.node.network import moving
from nacre.node.network.driver import LinuxNetworkDriver
from nacre.node.network.plugins import Joined, NetworkPlugins, addresses
from nacre.node.runtimes.containers import kernel
from nacre.node.runtimes.containers.slots import write_whole
from nacre.node.volumes.plugins import Refused
from nacre.protocol.messages import Gone, Holding, Item, Kind, Observation
from nacre.protocol.networks import Network, Port
from nacre.protocol.probes import Probe, Probed

RETRY_MIN_S = 1.0
RETRY_MAX_S = 60.0
FOLDER = "network-plugins"

T = TypeVar("T")

log = logging.getLogger("nacre.node")


class NetworkRecord(Struct):
    """A network as the plugin was asked for it. Making and deleting: the answer is not known."""

    network: Network
    boot_id: str
    phase: Literal["making", "made", "deleting"] = "making"


class EndpointRecord(Struct):
    """A port as the plugin was asked for it. Phases that end in -ing: the answer is not known."""

    port: Port
    network: Network
    netns: str
    boot_id: str
    phase: Literal["making", "made", "joining", "joined", "leaving", "deleting"] = "making"
    joined: Joined | None = None


class RemoteNetworks:
    """Implements nacre.node.drivers.NetworkDriver. Belongs to one event loop; what blocks runs in threads."""

    def __init__(self, config: NodeConfig, inner: LinuxNetworkDriver, plugins: NetworkPlugins | None = None) -> None:
        self._inner, self._plugins = inner, plugins or NetworkPlugins()
        self._folder = config.state / FOLDER
        self._boot_id = kernel.boot_id() + config.boot_id
        self._networks: dict[str, NetworkRecord] = {}
        self._endpoints: dict[str, EndpointRecord] = {}
        self._wanted: dict[str, Network] = {}
        self._ports: dict[str, Port] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._undoing: dict[tuple[Kind, str], asyncio.Task[None]] = {}
        self.observe: Observe = lambda observation: None
        """Told of what is gone later than it was to go."""

    async def start(self) -> None:
        await self._inner.start()
        self._networks = {one.network.id: one for one in await asyncio.to_thread(_load, self._folder / "network", NetworkRecord)}
        self._endpoints = {one.port.id: one for one in await asyncio.to_thread(_load, self._folder / "port", EndpointRecord)}

    async def apply(self, items: list[Item], gone: list[Gone], *, full: bool) -> list[Observation]:
        for item in items:
            if item.network is not None and item.network.driver:
                self._wanted[item.id] = item.network
        if not (self._wanted or self._networks or self._endpoints):
            return await self._inner.apply(items, gone, full=full)
        own = [item for item in items if self._is_own(item)]
        theirs = [item for item in items if item not in own]
        doomed = {(thing.kind, thing.id) for thing in gone} & self._known()
        if full:
            doomed |= self._known() - {(item.kind, item.id) for item in own}
        observed = [self._take(item) for item in own]
        for kind, ident in doomed:
            (self._ports if kind == "port" else self._wanted).pop(ident, None)
        observed += [seen for key in sorted(doomed) if (seen := self._undo(*key)) is not None]
        left = [thing for thing in gone if (thing.kind, thing.id) not in doomed]
        return [*await self._inner.apply(theirs, left, full=full), *observed]

    def _is_own(self, item: Item) -> bool:
        return item.id in self._wanted if item.network else item.port is not None and item.port.network_id in self._wanted

    def _known(self) -> set[tuple[Kind, str]]:
        known: set[tuple[Kind, str]] = {("network", ident) for ident in (*self._wanted, *self._networks)}
        return known | {("port", ident) for ident in (*self._ports, *self._endpoints)}

    def _take(self, item: Item) -> Observation:
        if item.port is not None:
            self._ports[item.id] = item.port
            self._inner.announce(item.port)
        return Observation(item.kind, item.id, "active")

    def _undo(self, kind: Kind, ident: str) -> Observation | None:
        """Gone at once where the plugin knows nothing of it; else it is a task's, until the plugin has done it."""
        if ident not in (self._endpoints if kind == "port" else self._networks):
            return Observation(kind, ident, "gone")
        key = (kind, ident)
        if key not in self._undoing:
            self._undoing[key] = asyncio.create_task(self._undo_through(kind, ident))
            self._undoing[key].add_done_callback(lambda _: self._undoing.pop(key, None))
        return None

    async def _undo_through(self, kind: Kind, ident: str) -> None:
        pause_s = RETRY_MIN_S
        wanted: dict[str, Any] = self._ports if kind == "port" else self._wanted
        while ident not in wanted:
            try:
                await (self._detach(ident) if kind == "port" else self._delete_network(ident))
            except (OSError, ValueError) as error:
                log.warning("%s %s is not removed yet: %s", kind, ident, error)
                self.observe(Observation(kind, ident, "error", fault=f"not removed yet: {error}"))
            else:
                self.observe(Observation(kind, ident, "gone"))
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RETRY_MAX_S)

    async def fence(self, port_ids: frozenset[str], until_s: float, cut: frozenset[str] = frozenset()) -> None:
        """Of ports that a plugin has made, nothing is known that could be cut: the data plane's own are."""
        await self._inner.fence(port_ids, until_s, cut)

    async def plug(self, port_id: str, netns: Path, interface: str) -> Plugged:
        port = self._ports.get(port_id)
        if port is None:
            return await self._inner.plug(port_id, netns, interface)
        async with self._lock(port_id):
            network = self._wanted.get(port.network_id)
            if network is None or not port.local:
                raise LookupError(f"port {port_id} is not known on this host yet")
            await self._make_network(network)
            record = await self._endpoint(port, network, netns)
            joined, fresh = await self._join(record, interface)
            try:
                mtu = await asyncio.to_thread(moving.place, port_id, joined, port.mac, list(addresses(network, port)), netns)
            except OSError as error:
                await self._leave(record)
                raise OSError(f"network plugin {network.driver}: {error}") from error
            if fresh:
                await self._plugins.look(network, port)
        servers = tuple(dict.fromkeys(server for subnet in network.subnets for server in subnet.dns_nameservers))
        held = tuple(addresses(network, port))
        return Plugged(port_id, joined.name, port.mac, mtu, held, servers, network.dns_domain)

    async def unplug(self, port_id: str) -> None:
        if port_id in self._endpoints:
            await self._detach(port_id)
        elif port_id not in self._ports:
            await self._inner.unplug(port_id)

    async def part(self, port_id: str) -> None:
        if port_id in self._endpoints:
            await self._detach(port_id)
        elif port_id not in self._ports:
            await self._inner.part(port_id)

    async def _make_network(self, network: Network) -> None:
        async with self._lock(network.id):
            record = self._networks.get(network.id)
            if record is not None and record.phase == "made" and record.boot_id == self._boot_id:
                return
            if record is not None:
                await self._tolerant(self._plugins.delete_network(record.network))
            record = self._networks[network.id] = NetworkRecord(network, self._boot_id)
            self._save(record)
            try:
                await self._plugins.create_network(network)
            except Refused:
                self._forget(record)
                raise
            record.phase = "made"
            self._save(record)

    async def _delete_network(self, network_id: str) -> None:
        """With what is left in it of ports that are not wanted. Raises OSError."""
        for port_id in [one.port.id for one in self._endpoints.values() if one.network.id == network_id]:
            await self._detach(port_id)
        async with self._lock(network_id):
            record = self._networks.get(network_id)
            if record is not None:
                await self._delete(record, "made", lambda: self._plugins.delete_network(record.network))
        self._locks.pop(network_id, None)

    async def _endpoint(self, port: Port, network: Network, netns: Path) -> EndpointRecord:
        record = self._endpoints.get(port.id)
        same = record is not None and (record.netns, record.boot_id) == (str(netns), self._boot_id)
        if record is not None and same and record.phase in ("made", "joining", "joined"):
            return record
        if record is not None:
            await self._take_down(record)
        record = self._endpoints[port.id] = EndpointRecord(port, network, str(netns), self._boot_id)
        self._save(record)
        try:
            await self._plugins.create_endpoint(network, port)
        except Refused:
            self._forget(record)
            raise
        except ValueError as error:
            await self._take_down(record)
            raise OSError(str(error)) from error
        record.phase = "made"
        self._save(record)
        return record

    async def _join(self, record: EndpointRecord, interface: str) -> tuple[Joined, bool]:
        """What it said, and whether it said it now. Of the names eth0, eth1 ... those before `interface` are taken."""
        if record.phase == "joined" and record.joined is not None:
            return record.joined, False
        if record.phase == "joining":
            await self._leave(record)
        taken = {one.joined.name for one in self._endpoints.values() if one.joined is not None and one.netns == record.netns}
        taken |= {f"eth{number}" for number in range(int(interface.removeprefix("eth")))}
        record.phase = "joining"
        self._save(record)
        try:
            record.joined = await self._plugins.join(record.network, record.port, record.netns, taken)
        except Refused:
            record.phase = "made"
            self._save(record)
            raise
        except ValueError as error:
            await self._leave(record)
            raise OSError(str(error)) from error
        record.phase = "joined"
        self._save(record)
        return record.joined, True

    async def _leave(self, record: EndpointRecord) -> None:
        record.phase = "leaving"
        self._save(record)
        await self._tolerant(self._plugins.leave(record.network, record.port))
        if record.joined is not None:
            await asyncio.to_thread(moving.put_back, record.port.id, record.joined, Path(record.netns))
        record.phase, record.joined = "made", None
        self._save(record)

    async def _detach(self, port_id: str) -> None:
        """Raises OSError as long as the plugin does not do it."""
        async with self._lock(port_id):
            record = self._endpoints.get(port_id)
            if record is not None:
                await self._take_down(record)
        self._locks.pop(port_id, None)

    async def _take_down(self, record: EndpointRecord) -> None:
        if record.phase in ("joining", "joined", "leaving"):
            await self._leave(record)
        await self._delete(record, "made", lambda: self._plugins.delete_endpoint(record.network, record.port))

    async def _delete(
        self, record: NetworkRecord | EndpointRecord, standing: Literal["made"], call: Callable[[], Awaitable[None]]
    ) -> None:
        """Where an earlier answer was lost, or the host restarted since, a refusal says that there is nothing to delete."""
        sure = record.phase == standing and record.boot_id == self._boot_id
        record.phase = "deleting"
        self._save(record)
        try:
            await call()
        except Refused as error:
            if sure:
                record.phase = standing
                self._save(record)
                raise
            log.info("%s", error)
        self._forget(record)

    async def _tolerant(self, call: Awaitable[None]) -> None:
        """As the engine does: what the plugin will not undo, or does not know, is no reason to stop."""
        try:
            await call
        except Refused as error:
            log.info("%s", error)

    def _lock(self, ident: str) -> asyncio.Lock:
        return self._locks.setdefault(ident, asyncio.Lock())

    def _path(self, record: NetworkRecord | EndpointRecord) -> Path:
        if isinstance(record, NetworkRecord):
            return self._folder / "network" / f"{record.network.id}.json"
        return self._folder / "port" / f"{record.port.id}.json"

    def _save(self, record: NetworkRecord | EndpointRecord) -> None:
        path = self._path(record)
        if not re.fullmatch(r"[0-9A-Za-z-]+\.json", path.name):
            raise ValueError("an id has letters, digits and dashes only")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, msgspec.json.encode(record))

    def _forget(self, record: NetworkRecord | EndpointRecord) -> None:
        self._path(record).unlink(missing_ok=True)
        if isinstance(record, NetworkRecord):
            self._networks.pop(record.network.id, None)
        else:
            self._endpoints.pop(record.port.id, None)

    async def await_port(self, port_id: str, timeout_s: float) -> Port:
        return self._ports.get(port_id) or await self._inner.await_port(port_id, timeout_s)

    async def probe(self, network_id: str, asked: Probe) -> Probed:
        return await self._inner.probe(network_id, asked)

    async def meters(self, router_id: str) -> dict[str, tuple[int, int]]:
        return await self._inner.meters(router_id)

    async def narrow_paths(self) -> list[tuple[str, int]]:
        return await self._inner.narrow_paths()

    async def survey(self) -> list[Holding]:
        """What plugins hold for this cloud is what is on record: each record is written before the plugin is asked."""
        found = [Holding("network", ident, "file", str(self._path(one))) for ident, one in self._networks.items()]
        found += [Holding("port", ident, "file", str(self._path(one))) for ident, one in self._endpoints.items()]
        return [*await self._inner.survey(), *found]

    async def close(self) -> None:
        tasks = list(self._undoing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._inner.close()


def _load(folder: Path, kind: type[T]) -> list[T]:
    return [msgspec.json.decode(path.read_bytes(), type=kind) for path in folder.glob("*.json")]


async def purge(config: NodeConfig) -> None:
    """Ask the plugins to undo what they hold for this cloud; those that are not there any more hold nothing of ours.

    It comes before the guests go: their namespaces hold the plugins' interfaces, which are given back.
    """
    folder, plugins = config.state / FOLDER, NetworkPlugins(retry_for_s=0)
    for endpoint in await asyncio.to_thread(_load, folder / "port", EndpointRecord):
        with contextlib.suppress(OSError):
            if endpoint.phase in ("joining", "joined", "leaving"):
                await plugins.leave(endpoint.network, endpoint.port)
        with contextlib.suppress(OSError):
            if endpoint.joined is not None:
                await asyncio.to_thread(moving.put_back, endpoint.port.id, endpoint.joined, Path(endpoint.netns))
        with contextlib.suppress(OSError):
            await plugins.delete_endpoint(endpoint.network, endpoint.port)
    for record in await asyncio.to_thread(_load, folder / "network", NetworkRecord):
        with contextlib.suppress(OSError):
            await plugins.delete_network(record.network)
    await asyncio.to_thread(shutil.rmtree, folder, True)
