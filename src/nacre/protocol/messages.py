"""The messages of the stream between a node and an API process."""

from typing import Any, Literal

from msgspec import Struct

from nacre.protocol.containers import ContainerState
from nacre.protocol.guests import Guest
from nacre.protocol.networks import Network, Port, Router, SecurityGroup
from nacre.protocol.volumes import Volume, VolumeState

Kind = Literal["network", "security_group", "port", "router", "volume", "guest"]
"""The kinds of desired things, in the order in which a node makes them (and the reverse of that in which it undoes them)."""

KINDS: tuple[Kind, ...] = ("network", "security_group", "port", "router", "volume", "guest")

Spec = Guest | Network | Port | Router | SecurityGroup | Volume


class Capacity(Struct, frozen=True):
    vcpus: int
    memory_mb: int
    disk_gb: int


class Hello(Struct, tag="hello", frozen=True):
    """The first message of a stream."""

    protocol_min: int
    protocol_max: int
    host_id: str
    hostname: str
    boot_id: str
    """The kernel's boot id: another one than last time means that the host was restarted."""
    capacity: Capacity
    runtimes: tuple[str, ...]
    hypervisor_type: str
    facts: dict[str, Any]
    tunnel_ip: str | None = None
    external: bool = False
    """Whether a device of the host leads into the external network's segment: it can bear routers."""
    underlay_mtu: int = 0
    """Of the device that bears the tunnel address; 0: unknown, or there is none."""
    thin: bool = False
    """Another API process has the host's main stream. On this one go beats, with the host's facts, and dials alone."""


class Item(Struct, frozen=True, omit_defaults=True):
    """One desired thing. Exactly one of the specs is set, the one that bears the kind's name."""

    kind: Kind
    id: str
    revision: int
    guest: Guest | None = None
    network: Network | None = None
    port: Port | None = None
    security_group: SecurityGroup | None = None
    router: Router | None = None
    volume: Volume | None = None

    @property
    def spec(self) -> Spec:
        found: Spec | None = getattr(self, self.kind)
        if found is None:
            raise ValueError(f"an item of kind {self.kind} without its spec")
        return found


class Gone(Struct, frozen=True):
    """A thing that must not be on the host. It is repeated until the node observed that nothing of it is left."""

    kind: Kind
    id: str
    revision: int


class Fetch(Struct, tag="fetch", frozen=True):
    since: int


class Observation(Struct, frozen=True, omit_defaults=True):
    """What the node sees of one thing. States: guest running, stopped, paused, checkpointed, error, gone; all others active, error, gone.

    `gone` is said only when no process, namespace, link, mount, cgroup, rule or file of the thing is left.
    """

    kind: Kind
    id: str
    state: Literal["running", "stopped", "paused", "checkpointed", "active", "error", "gone"]
    generation: int = 0
    """The generation of the intent that was met (guests)."""
    boots: int = 0
    exit_code: int | None = None
    fault: str = ""
    """In state error, or with an unplanned stop: the cause, in words that an operator can act on."""
    timings_ms: dict[str, float] = {}
    """What each step took: image, network, create, start."""
    request_id: str = ""
    container: ContainerState | None = None
    """More of a guest's state, where the runtime knows it."""
    volume: VolumeState | None = None


class Report(Struct, tag="report", frozen=True):
    """What came to be since the last report; after a reconnect, everything that is on the host once more, and what went and is not
    known to be recorded."""

    observations: tuple[Observation, ...]
    number: int = 0
    """Counts up from 1 on each stream."""


class Beat(Struct, tag="beat", frozen=True):
    """A sign of life, and the live facts that changed; None stands for one that is gone."""

    counter: int
    facts: dict[str, Any] = {}


class Examined(Struct, tag="examined", frozen=True):
    """The node has tried whether its host can do the work."""

    cause: str = ""
    """What is against it, with the remedies; empty: nothing."""


class Welcome(Struct, tag="welcome", frozen=True):
    protocol: int
    cloud_id: str
    beat_every_s: float
    lease_s: float = 0.0
    """How long the host's lease lasts, from when a Beat that is answered by Renewed was sent; 0: nothing hangs on it."""
    renewed: bool = True
    """The lease lasts from when the Hello was sent. Otherwise that is said by Renewed(0), once all API processes can know of it."""
    examine: bool = False
    """The host has just joined and gets no work before the node has examined it."""
    process: str = ""
    """The id of the API process at the other end."""
    epoch: str = ""
    """Of the store. In another one than before (a standby has become the primary) revisions may have been lost: all is to be fetched anew."""


class Renewed(Struct, tag="renewed", frozen=True):
    """The beat of that number has come: the host's lease lasts from when it was sent."""

    counter: int


class Recorded(Struct, tag="recorded", frozen=True):
    """All reports of this stream up to this number are in the store. What is gone can be seen nowhere: only this tells the node that it
    need not be said again."""

    number: int


class Peer(Struct, frozen=True):
    """An API process, and where nodes reach it by TLS."""

    id: str
    url: str


class Peers(Struct, tag="peers", frozen=True):
    """All the API processes that live, on main streams: after the Welcome, and when they become others."""

    processes: tuple[Peer, ...]


class Refuse(Struct, tag="refuse", frozen=True):
    reason: str


class Changed(Struct, tag="changed", frozen=True):
    """The host's desired state has reached this revision: a hint to fetch."""

    revision: int


class Desired(Struct, tag="desired", frozen=True):
    """What must be on the host: all of it (`full`: whatever is not listed must go), or what changed since the revision that was asked for."""

    revision: int
    full: bool
    items: tuple[Item, ...]
    gone: tuple[Gone, ...] = ()


class Dial(Struct, tag="dial", frozen=True):
    """A request to bring bytes to this very API process, under a one-time id.

    To the kinds in `streams.WHOLE` the node answers by POST /streams/{stream} with all the bytes at once; to those in `streams.OPEN` by
    a WebSocket on GET /streams/{stream}, on which both sides speak in frames (see `streams`).
    """

    stream: str
    kind: str
    id: str
    params: dict[str, Any] = {}


FromNode = Hello | Fetch | Report | Beat | Examined
FromApi = Welcome | Peers | Refuse | Renewed | Recorded | Changed | Desired | Dial


class Holding(Struct, frozen=True):
    """One thing of this cloud that a survey found on the host. `audit` holds it against the books and the intent."""

    kind: Kind
    id: str
    what: str
    """process, namespace, link, mount, cgroup, rule, file or address."""
    name: str


class NarrowPath(Struct, frozen=True):
    """A way to another host that answers, but not to a packet as large as the networks' tunnels send."""

    tunnel_ip: str
    size: int
    """Bytes, with all headers."""


class Survey(Struct, frozen=True):
    """The body of a dial-back of kind survey."""

    holdings: tuple[Holding, ...]
    observations: tuple[Observation, ...]
    narrow: tuple[NarrowPath, ...] = ()
