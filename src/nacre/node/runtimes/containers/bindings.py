"""What ties a guest to others on its host: ports of networks, volumes, guests whose namespaces it shares.

What was taken is noted in the record before it is used, so that whoever comes after a crash gives it back.
"""

import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from nacre.node.drivers import VISIT, Attached, NetworkDriver, VolumeDriver
from nacre.node.runtimes.containers import consent, volumes
from nacre.node.runtimes.containers.container import Bound, Containers, Neighbour
from nacre.node.runtimes.containers.records import Record
from nacre.protocol.guests import Guest

PORT_WAIT_S = 20.0
"""How long a guest waits for a port that its network has yet to bring here."""
VOLUME_WAIT_S = 20.0


class Bindings:
    """Belongs to the driver's event loop; its callers hold the guest's lock."""

    def __init__(
        self,
        network: NetworkDriver,
        volume_driver: VolumeDriver | None,
        records: Callable[[], Mapping[str, Record]],
        save: Callable[[Record], None],
    ) -> None:
        self._network, self._volumes, self._records, self._save = network, volume_driver, records, save

    def home(self, guest: Guest) -> int | None:
        """The slot in whose user namespace the guest must live, when it shares namespaces of another. Raises LookupError."""
        container = guest.container
        shares = (container.network_of, container.pid_of, container.ipc_of) if container else ()
        first = next((other for other in shares if other), "")
        return self._other(guest, first).seat.home if first else None

    def _other(self, guest: Guest, guest_id: str) -> Record:
        other = self._records().get(guest_id)
        # The control plane has looked already; that one tenant enters another's guest must not hang on that alone.
        if other is None or other.guest.instance.project_id != guest.instance.project_id:
            raise LookupError(f"No such container: {guest_id}")
        return other

    async def bound(self, record: Record, guest: Guest) -> Bound:
        """Raises LookupError for what is not here, OSError where a volume's driver fails."""
        container, found = guest.container, Bound()
        if container is None:
            return found
        for kind, guest_id in (("network", container.network_of), ("pid", container.pid_of), ("ipc", container.ipc_of)):
            if guest_id:
                setattr(found, kind, self._neighbour(guest, guest_id))
        for volume_id in volumes.wanted(container):
            found.attached[volume_id] = await self._attach(record, volume_id)
        return found

    def _neighbour(self, guest: Guest, guest_id: str) -> Neighbour:
        """That guest, or the one whose network that one shares."""
        other = self._other(guest, guest_id)
        inner = other.guest.container.network_of if other.guest.container else ""
        network = self._other(guest, inner) if inner else other
        return Neighbour(guest_id, network.seat.slot, network.guest.id)

    async def _attach(self, record: Record, volume_id: str) -> Attached:
        if self._volumes is None:
            raise OSError(f"this host has no volumes: {volume_id}")
        if volume_id not in record.attached:
            record.attached = (*record.attached, volume_id)
            self._save(record)
        return await self._volumes.attach(volume_id, record.guest.id, VOLUME_WAIT_S)

    @contextlib.asynccontextmanager
    async def visit(self, record: Record) -> AsyncIterator[dict[str, Attached]]:
        """The volumes of a guest, for somebody who looks into them beside it: whatever becomes of the guest meanwhile, they stay so long.

        Raises LookupError, OSError.
        """
        visitor = f"{record.guest.id}{VISIT}{secrets.token_hex(4)}"
        found: dict[str, Attached] = {}
        volume_ids = volumes.wanted(record.guest.container)
        if self._volumes is None and volume_ids:
            raise OSError(f"this host has no volumes: {volume_ids[0]}")
        try:
            for volume_id in volume_ids:
                found[volume_id] = await self._volumes.attach(volume_id, visitor, VOLUME_WAIT_S)  # type: ignore[union-attr]
            yield found
        finally:
            for volume_id in volume_ids:
                await self._volumes.detach(volume_id, visitor)  # type: ignore[union-attr]

    @contextlib.asynccontextmanager
    async def trees(self, record: Record, parts: Containers) -> AsyncIterator[list[tuple[str, int]]]:
        """What a guest that does not run would see over its disk, see volumes.trees. Raises LookupError, OSError."""
        container = record.guest.container
        if container is None or not container.mounts:
            yield []
            return
        if any(mount.kind == "host" for mount in container.mounts):
            consent.check(parts.layout.state, record.guest.instance.project_id, container)
        async with self.visit(record) as attached:
            with volumes.trees(container, attached, parts.slots.user_namespace(record.seat.home)) as found:
                yield found

    async def let_go(self, record: Record) -> None:
        """The guest does not use its volumes any more. Raises OSError."""
        for volume_id in record.attached if self._volumes is not None else ():
            await self._volumes.detach(volume_id, record.guest.id)  # type: ignore[union-attr]
            record.attached = tuple(other for other in record.attached if other != volume_id)

    async def sync_ports(self, record: Record, guest: Guest, netns: Path, timings_ms: dict[str, float]) -> bool:
        """Unplug what is no longer wanted, plug what is missing, each under the lowest free name. Whether anything changed."""
        begun, before = time.monotonic(), record.plugged
        for port in [port for port in record.plugged if port.port_id not in guest.ports]:
            await self._network.unplug(port.port_id)
            record.plugged = tuple(other for other in record.plugged if other is not port)
            self._save(record)
        for port_id in guest.ports:
            if any(port.port_id == port_id for port in record.plugged):
                continue
            taken = {port.interface for port in record.plugged}
            name = next(name for name in (f"eth{index}" for index in range(len(taken) + 1)) if name not in taken)
            await self._network.await_port(port_id, PORT_WAIT_S)
            record.plugged = (*record.plugged, await self._network.plug(port_id, netns, name))
            self._save(record)
        timings_ms["network"] = (time.monotonic() - begun) * 1000
        return record.plugged != before

    async def unplug(self, record: Record, *, parting: bool) -> None:
        """`parting`: the guest's network namespace goes right after this, and takes the links along."""
        take = self._network.part if parting else self._network.unplug
        for port in record.plugged:
            with contextlib.suppress(LookupError):
                await take(port.port_id)
