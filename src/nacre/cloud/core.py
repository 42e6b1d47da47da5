"""The cloud as one object: what every operation and pane may need beyond a connection and a context."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nacre.cloud.context import Context
from nacre.cloud.hosts import fleet
from nacre.cloud.identity.compliance import SecurityCompliance
from nacre.cloud.image.sources import ImportRules
from nacre.cloud.scheduler import Ratios, Strategy
from nacre.protocol.streams import Channel, FromClient, Started
from nacre.store import Store
from nacre.store.schema import new_id


class GuestStream(Protocol):
    """One open dial-back (see nacre.protocol.streams): iterate for what comes, send what goes."""

    started: Started
    exit_code: int | None
    """Known at the end of the iteration, where a process ended."""

    def __aiter__(self) -> AsyncIterator[tuple[Channel, bytes]]:
        """STDOUT and STDERR payloads until the end. Raises NotFound, Conflict, Invalid or Unavailable where the node says Failure."""

    async def send(self, data: bytes) -> None:
        """To STDIN; waits while the node cannot take more. Nothing happens after the end."""

    async def control(self, message: FromClient) -> None: ...

    async def close(self) -> None:
        """The client has gone. May be called again."""


class Hosts(Protocol):
    """The way to the nodes, implemented by the gateway: bytes on demand. Desired state travels by the store, not by this."""

    def dial(self, host_id: str, kind: str, ident: str, params: dict[str, Any]) -> Awaitable[bytes]:
        """Ask the host's node for bytes at once (`streams.WHOLE`). Raises Unavailable when it has no stream or does not answer in time,
        NotFound, Conflict or Invalid where the node says so."""

    def open(self, host_id: str, kind: str, ident: str, params: dict[str, Any]) -> Awaitable[GuestStream]:
        """Open a stream (`streams.OPEN`); returns once the node has said `Started`. Raises as `dial`."""

    def facts(self, host_id: str) -> dict[str, Any]:
        """The host's facts, live ones included, a few seconds old at most; empty when nobody has heard of it."""

    def alive(self) -> frozenset[str]:
        """The ids of the hosts that give signs of life, or did until a moment ago: they may be given work."""

    def connected(self) -> frozenset[str]:
        """The ids of the hosts that have a stream to this process right now."""

    def renew(self, host_ids: Iterable[str]) -> None:
        """These hosts live, somebody else has seen it; or nobody could have seen it for a while, and their leases start anew."""

    def recorded(self, beats: Mapping[str, int]) -> None:
        """That the hosts have beaten so often is in the store: each may be told that its lease is renewed."""

    def tell_peers(self) -> None:
        """Hosts are told which API processes there are now."""

    def let_go(self) -> None:
        """What this process hears does not count for now: hosts had better speak to another one."""


@dataclass(frozen=True)
class Settings:
    base_url: str
    """Scheme, host and port under which clients reach this API, without a slash at its end; the catalog is made of it."""
    cloud_id: str
    state: Path
    host_id: str = ""
    """The host of this process's own machine; empty where there is none, or simulated ones."""
    region: str = "RegionOne"
    image_size_max_bytes: int = 1 << 40
    """The longest image data that is taken."""
    ratios: Ratios = field(default_factory=Ratios)
    """How far hosts may be promised beyond what they have."""
    strategy: Strategy = "spread"
    """Which of the hosts that can take a guest gets it."""
    lease_s: float = 15.0
    """How long a host that is silent keeps its lease (see docs/decisions/0030)."""
    password_cost: int = 14
    """log2 of scrypt's N; tests take less."""
    security: SecurityCompliance = field(default_factory=SecurityCompliance)
    """What is asked of passwords and logins."""
    imports: ImportRules = field(default_factory=ImportRules)
    """From where images may be fetched."""


class Ending:
    """Whether this process is about to end. What waits for clients' sake answers then at once, instead of holding up the end."""

    def __init__(self) -> None:
        self.has_begun = False
        self._wakes: set[Callable[[], None]] = set()

    def watch(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` in the loop when the end begins. Returns the call that ends the watch."""
        self._wakes.add(wake)
        return lambda: self._wakes.discard(wake)

    def begin(self) -> None:
        self.has_begun = True
        for wake in tuple(self._wakes):
            wake()


class Background:
    """Work that goes on after its request was answered. What is still at it when the process ends is cancelled, and undoes itself."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Cloud:
    """The cloud as one process holds it: what panes, gateway and sweepers are handed."""

    settings: Settings
    store: Store
    authenticate: Callable[[str, str], Context]
    """(token, request id) -> Context. Raises Unauthorized. Cached; called in the loop for each request."""
    hosts: Hosts
    blobs: Any = None
    """Image and object bytes by digest (store.blobs)."""
    identity: Any = None
    """Keys, tokens and password threads (cloud.identity.service.Identity)."""
    closing: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    """Called in reverse order when the process ends."""
    ending: Ending = field(default_factory=Ending)
    background: Background = field(default_factory=Background)
    process_id: str = field(default_factory=new_id)
    """This API process among those that serve over the store: the owner of what only it can bring to its end (cloud.processes)."""
    presence: Any = None
    """What this process and the others tell each other (cloud.processes.presence); None where there can be no others."""

    def __post_init__(self) -> None:
        self.closing.append(self.background.close)
        self.closing.append(self._forget_hosts)
        self._unfollow = fleet.follow(self.store)

    async def _forget_hosts(self) -> None:
        self._unfollow()
