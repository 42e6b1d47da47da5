"""The shapes that the agent drives: a runtime for guests and a driver for networks. All are asynchronous and idempotent.

Every call may be repeated, and may come after a kill -9 at any point of an earlier one: it looks at what is there and goes on.
A driver never raises for a thing that cannot be made: it returns an observation in state error whose fault names the cause.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct

from nacre.protocol.guests import Guest
from nacre.protocol.messages import Gone, Holding, Item, Observation
from nacre.protocol.networks import Port
from nacre.protocol.probes import Probe, Probed
from nacre.protocol.streams import Channel, FromClient, FromGuest
from nacre.protocol.volumes import Volume

Observe = Callable[[Observation], None]
"""Called by a driver in the loop's thread when it sees something by itself (a guest that exited)."""


class ImageSource(Protocol):
    """Where the image cache gets bytes: the API process, by digest."""

    def fetch(self, digest: str, target: Path) -> Awaitable[None]:
        """Write the bytes to `target`, checked against the digest. Raises OSError when they cannot be had."""


class DiskRefused(OSError):
    """The disk is not to be had: the migration does not come here any more, the source has nothing of the guest, or this host cannot keep it."""


DiskSource = Callable[[str], AsyncIterator[bytes]]
"""A migration's id -> all that its guest has written on its last host, in the runtime's own form, by way of the API process.
Raises DiskRefused, or OSError where another try may have it."""


class Plugged(Struct, frozen=True):
    """What a guest needs to know of a port that was plugged into its namespace."""

    port_id: str
    interface: str
    mac: str
    mtu: int
    addresses: tuple[str, ...]
    """With the prefix length."""
    dns_nameservers: tuple[str, ...]
    dns_domain: str


class NetworkDriver(Protocol):
    """Makes networks, ports, groups and routers of one host."""

    async def start(self) -> None:
        """Adopt what an earlier process left. Nothing that carries packets is touched."""

    async def apply(self, items: list[Item], gone: list[Gone], *, full: bool) -> list[Observation]:
        """Make networks, security groups, ports and routers so, by difference; with `full`, undo whatever is not listed."""

    async def plug(self, port_id: str, netns: Path, interface: str) -> Plugged:
        """Put the port's link, addresses and routes into the namespace. Raises LookupError while the port is not known here."""

    async def unplug(self, port_id: str) -> None:
        """Take the port's link out of its guest; the port itself stays desired."""

    async def part(self, port_id: str) -> None:
        """The same for a guest whose namespace is let go of right after this, and the link with it: nothing reaches the guest any more,
        and for the link's end nobody waits. Where the namespace stays after all, the link is deleted a little later."""

    async def await_port(self, port_id: str, timeout_s: float) -> Port:
        """The port's spec as soon as it was applied. Raises LookupError after the timeout."""

    async def fence(self, port_ids: frozenset[str], until_s: float, cut: frozenset[str] = frozenset()) -> None:
        """These ports, and no others, carry packets until then only (CLOCK_BOOTTIME), whatever becomes of this process; ports that come
        later, too. Those that are `cut` carry none: what bears them is about to go. What was said before does not count any more."""

    async def probe(self, network_id: str, asked: Probe) -> Probed:
        """Ask a service in the network (nacre.protocol.probes). Raises LookupError for a network that is not here."""

    async def meters(self, router_id: str) -> dict[str, tuple[int, int]]:
        """What each of the router's meters has counted: packets and bytes. Raises LookupError for a router that is not here."""

    async def survey(self) -> list[Holding]:
        """Everything of this cloud's that is on the host, found by looking at the kernel, not at memory."""

    async def narrow_paths(self) -> list[tuple[str, int]]:
        """The other hosts' tunnel addresses that do not get a packet as large (bytes) as the networks here send, found by trying."""

    async def close(self) -> None:
        """Let go of sockets and threads. The data plane stays."""


@runtime_checkable
class Later(Protocol):
    """A driver of which something may take longer than the apply that asked for it."""

    observe: Observe
    """Set by the agent, and called then."""


class Attached(Struct, frozen=True):
    """A volume that is ready to be mounted into a guest. `path` lies in the host's mount namespace."""

    volume: Volume
    path: Path
    device: str = ""
    """MAJOR:MINOR of the block device that bears it, on which its rates are set (see nacre.node.volumes.throttle); empty where there is none."""


VISIT = ".visit-"
"""In a user's name as volume drivers know it: a guest's files are looked at by this process, and no longer than it lives."""


class VolumeDriver(Protocol):
    """Makes the volumes of one host."""

    async def start(self) -> None:
        """Adopt what an earlier process left."""

    async def apply(self, volume: Volume) -> Observation:
        """Make the volume so (kind volume; active or error)."""

    async def remove(self, volume_id: str) -> Observation:
        """Undo the volume with all that is in it; gone only when nothing is left."""

    async def attach(self, volume_id: str, guest_id: str, timeout_s: float) -> Attached:
        """The volume for this guest, waiting for it if it is still to come. Raises LookupError after the timeout, OSError where its driver fails."""

    async def detach(self, volume_id: str, guest_id: str) -> None:
        """The guest does not use it any more (again: no change). A guest that is removed detaches before it is forgotten."""

    async def usage(self, volume_id: str) -> int:
        """Bytes that it takes. Raises LookupError for a volume that is not here, OSError where its driver does not say."""

    def facts(self) -> dict[str, Any]:
        """`volume_drivers`: `local`, and the names of the plugins that this host has right now."""

    async def survey(self) -> list[Holding]: ...

    async def close(self) -> None: ...


class Talk(Protocol):
    """The node's end of an open stream (see nacre.protocol.streams)."""

    async def send(self, channel: Channel, data: bytes) -> None:
        """Waits while the other side cannot take more. Raises ConnectionError when it has gone."""

    async def control(self, message: FromGuest) -> None: ...

    async def receive(self) -> bytes | FromClient | None:
        """Bytes for stdin, or a word of the client; None when it has gone."""


class StreamServer(Protocol):
    """Answers dial-backs about guests. A runtime that has none of it answers with `Failure`."""

    async def whole(self, kind: str, ident: str, params: dict[str, Any]) -> bytes:
        """Raises LookupError (not found), OSError, ValueError (invalid)."""

    async def serve(self, kind: str, ident: str, params: dict[str, Any], talk: Talk) -> None:
        """Serve one open stream to its end. Raises the same before `Started` was said."""

    async def close(self) -> None:
        """Let go of every stream. What runs in guests goes on."""


class GuestDriver(Protocol):
    """Makes the guests of one host, of one runtime."""

    async def start(self, observe: Observe) -> None:
        """Adopt the guests that an earlier process left, watch them, and observe those that ended meanwhile."""

    async def apply(self, guest: Guest) -> Observation:
        """Make the guest so: create, start, stop, pause, reboot, plug and unplug ports, change its limits."""

    async def remove(self, guest_id: str) -> Observation:
        """Undo the guest, all of it. Says gone only when nothing is left; also for a guest that never was here."""

    async def observe(self) -> list[Observation]:
        """All guests that are on the host."""

    async def console(self, guest_id: str) -> bytes:
        """The console log, a megabyte at most. Raises LookupError for a guest that is not here."""

    def facts(self) -> dict[str, Any]:
        """`live_migration`: {possible, means, reason}; see docs/decisions/0033-live-migration.md."""

    async def survey(self) -> list[Holding]: ...

    async def close(self) -> None:
        """Let go. The guests run on."""
