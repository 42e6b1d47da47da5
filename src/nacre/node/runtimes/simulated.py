"""The simulated runtime: guests, networks and volumes that are nothing but their state, behind the same drivers as real ones.

Thousands of hosts live in one process without root: scale tests, laptops, the CI of other projects. A `Faults` says how they misbehave.
"""

import asyncio
import io
import random
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from nacre.node import arriving
from nacre.node.drivers import Attached, DiskSource, Observe, Plugged, Talk
from nacre.protocol.guests import Guest
from nacre.protocol.messages import Gone, Holding, Item, Kind, Observation
from nacre.protocol.networks import Port
from nacre.protocol.probes import Probe, Probed
from nacre.protocol.streams import Channel, Exit, Started
from nacre.protocol.volumes import Volume, VolumeState

CONSOLE_BYTES_MAX = 1 << 16


@dataclass
class Faults:
    """The fault injector. Probabilities are per action; `seed` makes a run repeatable."""

    boot_s: float = 0.0
    fail: float = 0.0
    """A guest cannot be made."""
    die: float = 0.0
    """A guest ends by itself right after its start."""
    seed: int = 0
    dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)  # noqa: S311 - it decides about simulated faults only

    def strikes(self, probability: float) -> bool:
        return probability > 0 and self.dice.random() < probability


class SimulatedGuests:
    """Guests of one simulated host. They live as long as this object: a killed process is a host that lost its power."""

    def __init__(self, faults: Faults | None = None, disks: DiskSource | None = None) -> None:
        self._faults = faults or Faults()
        self._disks = disks
        self._guests: dict[str, Guest] = {}
        self._seen: dict[str, Observation] = {}
        self._consoles: dict[str, bytes] = {}
        self._observe: Observe = lambda observation: None

    async def start(self, observe: Observe) -> None:
        self._observe = observe

    async def apply(self, guest: Guest) -> Observation:
        known = self._guests.get(guest.id)
        if known is None and guest.origin is not None:
            try:
                await arriving.fetch(self._disks, guest.origin.migration, partial(self._take_disk, guest.id))
            except OSError as error:
                return Observation(
                    "guest", guest.id, "error", generation=guest.generation, fault=str(error), request_id=guest.request_id
                )
        goes_on = known is None and guest.origin is not None and guest.origin.live
        if not goes_on and (known is None or known.boots < guest.boots):
            await asyncio.sleep(self._faults.boot_s)
            if self._faults.strikes(self._faults.fail):
                return Observation(
                    "guest", guest.id, "error", generation=guest.generation, fault="simulated fault", request_id=guest.request_id
                )
            if guest.power != "stopped":
                before = self._consoles.get(guest.id, b"")[-CONSOLE_BYTES_MAX:]
                self._consoles[guest.id] = before + _words(guest)
        self._guests[guest.id] = guest
        seen = self._observation(guest)
        self._seen[guest.id] = seen
        if guest.power == "running" and self._faults.strikes(self._faults.die):
            asyncio.get_running_loop().call_soon(self._end, guest.id)
        return seen

    async def _take_disk(self, guest_id: str, disk: AsyncIterator[bytes]) -> None:
        self._consoles[guest_id] = b"".join([chunk async for chunk in disk])

    def disk(self, guest_id: str) -> bytes:
        """What a simulated guest has written: its console. Raises LookupError, and FileExistsError for one that runs."""
        if self.guest(guest_id).power not in ("stopped", "checkpointed"):
            raise FileExistsError(f"guest {guest_id} runs")
        return self._consoles.get(guest_id, b"")

    def _observation(self, guest: Guest) -> Observation:
        return Observation(
            "guest",
            guest.id,
            guest.power,
            generation=guest.generation,
            boots=guest.boots,
            timings_ms={"create": self._faults.boot_s * 1000},
            request_id=guest.request_id,
        )

    def _end(self, guest_id: str) -> None:
        guest = self._guests.get(guest_id)
        if guest is not None:
            seen = Observation("guest", guest_id, "stopped", generation=guest.generation, boots=guest.boots, exit_code=1)
            self._seen[guest_id] = seen
            self._observe(seen)

    async def remove(self, guest_id: str) -> Observation:
        await asyncio.sleep(0)
        self._guests.pop(guest_id, None)
        self._seen.pop(guest_id, None)
        self._consoles.pop(guest_id, None)
        return Observation("guest", guest_id, "gone")

    async def observe(self) -> list[Observation]:
        return list(self._seen.values())

    async def console(self, guest_id: str) -> bytes:
        self.guest(guest_id)
        return self._consoles.get(guest_id, b"")

    def guest(self, guest_id: str) -> Guest:
        """Raises LookupError for a guest that is not here."""
        if guest_id not in self._guests:
            raise LookupError(f"guest {guest_id} is not on this host")
        return self._guests[guest_id]

    def facts(self) -> dict[str, Any]:
        return {"live_migration": {"possible": True, "means": "simulated", "reason": ""}}

    async def survey(self) -> list[Holding]:
        return [Holding("guest", guest_id, "process", "simulated") for guest_id in self._guests]

    async def close(self) -> None:
        return None


def _words(guest: Guest) -> bytes:
    """What a boot says on the console."""
    system = f" of image {guest.rescue.image.id}, to the rescue" if guest.rescue is not None else ""
    name = guest.instance.hostname
    return f"{name}: simulated boot {guest.boots}{system}\n{name}: {len(guest.ports)} interfaces\n{name}: ready\n".encode()


class SimulatedStreams:
    """Implements nacre.node.drivers.StreamServer: a simulated guest has changed no file, used nothing, and its terminal echoes."""

    def __init__(self, guests: SimulatedGuests) -> None:
        self._guests = guests

    async def whole(self, kind: str, ident: str, params: dict[str, Any]) -> bytes:
        raise LookupError(f"a simulated host does not serve {kind}")

    async def serve(self, kind: str, ident: str, params: dict[str, Any], talk: Talk) -> None:
        guest = self._guests.guest(ident)
        if kind == "disk":
            await self._send_disk(ident, talk)
            return
        if kind not in ("commit", "stats", "attach"):
            raise LookupError(f"a simulated host does not serve {kind}")
        await talk.control(Started(tty=kind == "attach"))
        if kind == "commit":
            await talk.send(Channel.STDOUT, _empty_tar())
        elif kind == "stats":
            await talk.send(Channel.STDOUT, msgspec.json.encode(_no_figures(guest)))
        else:
            await self._echo(guest, talk)
        await talk.control(Exit(0 if kind == "commit" else None))

    async def _send_disk(self, ident: str, talk: Talk) -> None:
        disk = self._guests.disk(ident)
        await talk.control(Started())
        await talk.send(Channel.STDOUT, disk)
        await talk.control(Exit(0))

    async def _echo(self, guest: Guest, talk: Talk) -> None:
        """What a terminal does with what is typed while nobody reads it."""
        while (typed := await talk.receive()) is not None:
            if isinstance(typed, bytes):
                await talk.send(Channel.STDOUT, typed.replace(b"\r", b"\r\n"))

    async def close(self) -> None:
        return None


def _empty_tar() -> bytes:
    with io.BytesIO() as out:
        tarfile.open(fileobj=out, mode="w").close()
        return out.getvalue()


def _no_figures(guest: Guest) -> dict[str, Any]:
    counters = dict.fromkeys((f"{way}_{what}" for way in ("rx", "tx") for what in ("bytes", "packets", "errors", "dropped")), 0)
    return {
        "read": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}000Z",
        "pids_stats": {"current": 0},
        "cpu_stats": {"cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0}},
        "memory_stats": {"usage": 0, "limit": guest.limits.memory_mb << 20},
        "blkio_stats": {},
        "networks": {f"eth{number}": counters for number in range(len(guest.ports))},
    }


class SimulatedNetwork:
    """The networks of one simulated host: what was applied, and nothing else."""

    def __init__(self) -> None:
        self._items: dict[tuple[Kind, str], Item] = {}
        self.fenced: tuple[frozenset[str], float] = (frozenset(), 0.0)
        """The ports that were fenced, and until when they may speak."""

    async def start(self) -> None:
        return None

    async def fence(self, port_ids: frozenset[str], until_s: float, cut: frozenset[str] = frozenset()) -> None:
        self.fenced = (port_ids, until_s)

    async def apply(self, items: list[Item], gone: list[Gone], *, full: bool) -> list[Observation]:
        listed = {(item.kind, item.id) for item in items}
        undone = [(one.kind, one.id) for one in gone]
        if full:
            undone += [key for key in self._items if key not in listed]
        self._items.update({(item.kind, item.id): item for item in items})
        for key in undone:
            self._items.pop(key, None)
        return [Observation(item.kind, item.id, "active") for item in items] + [
            Observation(kind, ident, "gone") for kind, ident in undone
        ]

    async def plug(self, port_id: str, netns: Path, interface: str) -> Plugged:
        port = await self.await_port(port_id, 0)
        addresses = tuple(fixed.address for fixed in port.fixed_ips)
        return Plugged(port_id, interface, port.mac, 1500, addresses, (), "")

    async def unplug(self, port_id: str) -> None:
        return None

    async def part(self, port_id: str) -> None:
        return None

    async def await_port(self, port_id: str, timeout_s: float) -> Port:
        item = self._items.get(("port", port_id))
        if item is None or item.port is None:
            raise LookupError(f"port {port_id} is not known on this host")
        return item.port

    async def probe(self, network_id: str, asked: Probe) -> Probed:
        return Probed("critical", "nothing listens in a simulated network")

    async def meters(self, router_id: str) -> dict[str, tuple[int, int]]:
        item = self._items.get(("router", router_id))
        if item is None or item.router is None:
            raise LookupError(f"router {router_id} is not on this host")
        return {meter.id: (0, 0) for meter in item.router.meters}

    async def narrow_paths(self) -> list[tuple[str, int]]:
        return []

    async def survey(self) -> list[Holding]:
        return [Holding(kind, ident, "simulated", ident) for kind, ident in self._items]

    async def close(self) -> None:
        return None


class SimulatedVolumes:
    """The volumes of one simulated host: their specs."""

    def __init__(self) -> None:
        self._volumes: dict[str, Volume] = {}

    async def start(self) -> None:
        return None

    async def apply(self, volume: Volume) -> Observation:
        if volume.driver != "local":
            return Observation("volume", volume.id, "error", fault=f"a simulated host has no volume plugin {volume.driver}")
        self._volumes[volume.id] = volume
        return Observation("volume", volume.id, "active", volume=VolumeState("simulated"))

    async def remove(self, volume_id: str) -> Observation:
        self._volumes.pop(volume_id, None)
        return Observation("volume", volume_id, "gone")

    async def attach(self, volume_id: str, guest_id: str, timeout_s: float) -> Attached:
        if volume_id not in self._volumes:
            raise LookupError(f"volume {volume_id} is not known on this host")
        return Attached(self._volumes[volume_id], Path("/nonexistent", volume_id))

    async def detach(self, volume_id: str, guest_id: str) -> None:
        return None

    async def usage(self, volume_id: str) -> int:
        if volume_id not in self._volumes:
            raise LookupError(f"volume {volume_id} is not on this host")
        return 0

    def facts(self) -> dict[str, Any]:
        return {}

    async def survey(self) -> list[Holding]:
        return [Holding("volume", volume_id, "simulated", volume_id) for volume_id in self._volumes]

    async def close(self) -> None:
        return None
