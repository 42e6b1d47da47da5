"""The network driver of Linux: netlink and nftables, a namespace for each tenant network and each router.

One worker thread does all that touches the kernel, so nothing races and the loop never waits for the kernel's locks.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from nacre.node.config import NodeConfig
from nacre.node.dns import NameService
from nacre.node.drivers import Plugged
from nacre.node.metadata import MetadataService
from nacre.node.network.applying import Applier
from nacre.node.network.listening import CATALOG_PORT, METADATA_PORT, listen, listen_for_names, open_inside
from nacre.node.network.namespaces import Namespace
from nacre.node.network.paths import too_narrow
from nacre.node.network.probing import probe
from nacre.node.network.survey import survey
from nacre.node.relay import RelayService
from nacre.protocol.messages import Gone, Holding, Item, Observation
from nacre.protocol.networks import Network, Port
from nacre.protocol.probes import Probe, Probed

PROBES_AT_ONCE_MAX = 64
"""Checks of services that this host asks at the same time; each has its own bound of time."""

SWEEP_EVERY_S = 0.25
"""How often it is looked whether the links of removed guests are gone."""
SWEEP_PAUSE_S_MAX = 60.0
SURVEY_SWEEPS_MAX = 20

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class LinuxNetworkDriver:
    """Implements nacre.node.drivers.NetworkDriver."""

    def __init__(
        self,
        config: NodeConfig,
        metadata: MetadataService | None = None,
        resolver: NameService | None = None,
        catalog: RelayService | None = None,
    ) -> None:
        self._config = config
        self._metadata = metadata
        self._catalog = catalog
        self._resolver = resolver
        self._applier = Applier(config)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="network")
        self._probing = asyncio.Semaphore(PROBES_AT_ONCE_MAX)
        self._waiting: dict[str, set[asyncio.Future[Port]]] = {}
        self._leaving: dict[str, asyncio.Future[None]] = {}
        """Ports to be unplugged: those that come while the worker is busy go together."""
        self._sweeping: asyncio.Task[None] | None = None
        if metadata is not None:
            metadata.ports = self
        if catalog is not None:
            catalog.ports = self
        if resolver is not None:
            resolver.known = self

    async def _run(self, do: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, lambda: do(*args, **kwargs))

    async def start(self) -> None:
        """Adopt what an earlier process left: its first full apply finds it, by difference. Nothing is touched before."""
        await self._run(self._applier.adopt)

    async def apply(self, items: list[Item], gone: list[Gone], *, full: bool) -> list[Observation]:
        observations = await self._run(self._applier.apply, items, gone, full=full)
        await self._serve_http(self._metadata, METADATA_PORT)
        await self._serve_http(self._catalog, CATALOG_PORT)
        await self._serve_names()
        for item in items:
            if item.port is not None and item.id in self._applier.ports:
                self.announce(item.port)
        return observations

    def announce(self, port: Port) -> None:
        """The port was applied, here or by another: who waits for it goes on."""
        for future in self._waiting.pop(port.id, ()):
            if not future.done():
                future.set_result(port)

    async def _serve_http(self, service: MetadataService | RelayService | None, port: int) -> None:
        """Listen in the networks that came, and no more in those that went."""
        if service is None:
            return
        for network_id in service.networks() - self._applier.networks.keys():
            await service.close_network(network_id)
        for network_id in self._applier.networks.keys() - service.networks():
            plane = self._applier.networks[network_id]
            sockets = await self._run(listen, plane.namespace.fileno(), port)
            await service.open_network(network_id, sockets)

    async def _serve_names(self) -> None:
        if self._resolver is None:
            return
        for network_id in self._resolver.networks() - self._applier.networks.keys():
            await self._resolver.close_network(network_id)
        for network_id in self._applier.networks.keys() - self._resolver.networks():
            namespace = self._applier.networks[network_id].namespace
            datagrams, listeners = await self._run(listen_for_names, namespace.fileno())

            async def opener(family: int, kind: int, namespace: Namespace = namespace) -> socket.socket:
                return await asyncio.to_thread(open_inside, namespace.fileno(), family, kind)

            await self._resolver.open_network(network_id, datagrams, listeners, opener)

    def names_of(self, network_id: str) -> tuple[Network, int, tuple[Port, ...]] | None:
        """A network with its ports wherever they are, and a number that changes with them: for the resolver."""
        plane = self._applier.networks.get(network_id)
        return None if plane is None else (plane.network, plane.version, tuple(plane.ports.values()))

    async def plug(self, port_id: str, netns: Path, interface: str) -> Plugged:
        """Besides LookupError raises OSError with the cause: a bridge that is full, a guest that went away."""
        return await self._run(self._applier.plug, port_id, netns, interface)

    async def unplug(self, port_id: str) -> None:
        waiting = self._leaving.get(port_id)
        if waiting is None:
            waiting = self._leaving[port_id] = asyncio.get_running_loop().create_future()
            if len(self._leaving) == 1:
                self._drain = asyncio.create_task(self._unplug_all())
        await asyncio.shield(waiting)

    async def part(self, port_id: str) -> None:
        await self._run(self._applier.part, port_id)
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._sweep())

    async def _sweep(self) -> None:
        """Until every link that was left to the kernel is gone."""
        pause_s = SWEEP_EVERY_S
        while self._applier.parting:
            await asyncio.sleep(pause_s)
            try:
                await self._run(self._applier.parting.sweep)
                pause_s = SWEEP_EVERY_S
            except OSError as error:
                log.warning("links of removed guests stay: %s", error)
                pause_s = min(pause_s * 2, SWEEP_PAUSE_S_MAX)

    async def _unplug_all(self) -> None:
        """Everything that asked to be unplugged by the time the worker is free goes in one stroke: the kernel waits once."""
        taken: dict[str, asyncio.Future[None]] = {}

        def take() -> None:
            taken.update(self._leaving)
            self._applier.unplug(taken)

        try:
            await self._run(take)
            error: BaseException | None = None
        except OSError as caught:
            error = caught
        for port_id, future in taken.items():
            if self._leaving.get(port_id) is future:
                del self._leaving[port_id]
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
        if self._leaving:
            self._drain = asyncio.create_task(self._unplug_all())

    async def await_port(self, port_id: str, timeout_s: float) -> Port:
        port = self._applier.ports.get(port_id)
        if port is not None:
            return port
        future: asyncio.Future[Port] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(port_id, set()).add(future)
        try:
            return await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            raise LookupError(f"port {port_id} was not applied on this host within {timeout_s:g} s") from None
        finally:
            waiting = self._waiting.get(port_id)
            if waiting is not None:
                waiting.discard(future)
                if not waiting:
                    del self._waiting[port_id]

    def port_at(self, network_id: str, address: str) -> Port | None:
        """The port with the address in the network (the link-local one counts), for who serves guests by their address."""
        return self._applier.port_at(network_id, address)

    def ports_of(self, device_id: str) -> list[tuple[Port, Network]]:
        """The ports of a guest here, with their networks."""
        planes = self._applier.networks
        found = [port for port in tuple(self._applier.by_device.get(device_id, {}).values()) if port.local]
        return [(port, planes[port.network_id].network) for port in found if port.network_id in planes]

    async def fence(self, port_ids: frozenset[str], until_s: float, cut: frozenset[str] = frozenset()) -> None:
        await self._run(self._applier.fence.set, self._applier.networks, port_ids, until_s, cut)

    async def probe(self, network_id: str, asked: Probe) -> Probed:
        plane = self._applier.networks.get(network_id)
        if plane is None:
            raise LookupError(f"network {network_id} is not on this host")

        async def opened(family: int, kind: int) -> socket.socket:
            return await asyncio.to_thread(open_inside, plane.namespace.fileno(), family, kind)

        async with self._probing:
            return await probe(asked, opened)

    async def meters(self, router_id: str) -> dict[str, tuple[int, int]]:
        plane = self._applier.routers.get(router_id)
        if plane is None:
            raise LookupError(f"router {router_id} is not on this host")
        return await self._run(plane.meters)

    async def survey(self) -> list[Holding]:
        for _ in range(SURVEY_SWEEPS_MAX):
            if not self._applier.parting:
                break
            await asyncio.sleep(SWEEP_EVERY_S)
            with contextlib.suppress(OSError):  # Then the survey shows them.
                await self._run(self._applier.parting.sweep)
        return await self._run(survey, self._config.cloud_id)

    async def narrow_paths(self) -> list[tuple[str, int]]:
        return await asyncio.to_thread(too_narrow, await self._run(self._applier.tunnel_sizes))

    async def close(self) -> None:
        if self._metadata is not None:
            await self._metadata.close()
        if self._catalog is not None:
            await self._catalog.close()
        if self._resolver is not None:
            await self._resolver.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        await self._run(self._applier.close)
        self._worker.shutdown()
