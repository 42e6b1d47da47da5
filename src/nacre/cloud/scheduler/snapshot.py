"""What the scheduler knows of a host, and what it is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nacre.cloud.scheduler.expressions import Expression

Strategy = Literal["spread", "binpack", "random"]


@dataclass(frozen=True, slots=True)
class Ratios:
    """How far a host's inventory may be promised beyond what it has (Placement's allocation_ratio).

    A container's vCPUs are a weight and a ceiling, not a share that is set aside: memory is what runs out first.
    """

    vcpus: float = 512.0
    memory_mb: float = 1.5
    disk_gb: float = 8.0


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A host aggregate, as the hosts in it bear it."""

    id: int
    name: str
    metadata: tuple[tuple[str, str], ...] = ()
    """Sorted."""

    def get(self, key: str) -> str | None:
        return next((value for name, value in self.metadata if name == key), None)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A container or server that is on a host, as affinities see it."""

    ids: tuple[str, ...]
    """The server's id, and Docker's."""
    name: str
    images: tuple[str, ...] = ()
    """Under every name that an affinity may use: id, repository:tag, repository."""
    labels: Mapping[str, str] = field(default_factory=dict)
    exposed: tuple[str, ...] = ()
    """Of a container in the host's own network: the ports it exposes (`80/tcp`)."""

    def answers_to(self, reference: str) -> bool:
        """Whether a reference of Docker's means it: a name, an id, or the beginning of one."""
        return reference.removeprefix("/") == self.name or any(ident.startswith(reference) for ident in self.ids if reference)


@dataclass(frozen=True, slots=True)
class HostView:
    id: str
    hostname: str
    enabled: bool
    alive: bool
    availability_zone: str
    runtimes: frozenset[str]
    vcpus: float
    memory_mb: float
    disk_gb: float
    """Inventories with the ratios applied."""
    claimed_vcpus: int
    claimed_memory_mb: int
    claimed_disk_gb: int
    guests: int
    labels: Mapping[str, str] = field(default_factory=dict)
    """What an operator wrote on it."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Under Facter's names; only where the request needs them."""
    neighbours: tuple[Neighbour, ...] = ()
    """What is on it already and may be seen by who asks; only where the request needs it."""
    accepted: bool = True
    """Whether its node has found that it can do the work."""
    hypervisor_type: str = ""
    architecture: str = ""
    """As `uname -m` has it; empty where the host has not said."""
    traits: frozenset[str] = frozenset()
    """As Placement shows them."""
    aggregates: tuple[Aggregate, ...] = ()
    """In the order of their ids."""
    ratios: Ratios = Ratios()
    """Those that were applied to its inventories."""
    strategy: Strategy | None = None
    """That of its aggregates; None: that of the request."""
    generation: int = 0
    """Of its row, when it was read."""


@dataclass(frozen=True, slots=True)
class Dependency:
    """Another container that must be on the same host. `flag` is how the client asked (`--link=db:db`)."""

    flag: str
    container: str


@dataclass(frozen=True, slots=True)
class Conditions:
    """What is asked of a host beyond room: Swarm's filters."""

    constraints: tuple[Expression, ...] = ()
    affinities: tuple[Expression, ...] = ()
    whitelists: tuple[Expression, ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    exposed: tuple[str, ...] = ()
    """Of a container that wants the host's own network."""
    same_host: tuple[str, ...] = ()
    """Nova's hint: any of these servers must be there."""
    different_host: tuple[str, ...] = ()
    """Nova's hint: none of these servers may be there."""
    network_drivers: tuple[str, ...] = ()
    """Plugins of Docker's that the host must have for the networks asked for."""

    @property
    def need_facts(self) -> bool:
        return bool(self.constraints or self.network_drivers)

    @property
    def need_neighbours(self) -> bool:
        return bool(self.affinities or self.dependencies or self.exposed or self.same_host or self.different_host)

    @property
    def have_soft(self) -> bool:
        return any(expression.soft for expression in (*self.constraints, *self.affinities, *self.whitelists))


NO_CONDITIONS = Conditions()


@dataclass(frozen=True, slots=True)
class Demands:
    """What a flavor's extra specs and an image's properties ask of a host (see `demands`)."""

    required_traits: frozenset[str] = frozenset()
    forbidden_traits: frozenset[str] = frozenset()
    resources: tuple[str, ...] = ()
    """Resource classes beyond vCPUs, memory and disk."""
    aggregate_specs: tuple[tuple[str, str], ...] = ()
    """(key of an aggregate's metadata, what its value must match)"""
    capabilities: tuple[tuple[str, str], ...] = ()
    """(name of something that a host has, what its value must match)"""
    architecture: str = ""
    hypervisor_type: str = ""


NO_DEMANDS = Demands()


@dataclass(frozen=True, slots=True)
class Request:
    vcpus: int
    memory_mb: int
    disk_gb: int
    runtimes: frozenset[str]
    """Any of these can run the image."""
    availability_zone: str | None = None
    host: str | None = None
    conditions: Conditions = NO_CONDITIONS
    strategy: Strategy = "spread"
    group_policy: str | None = None
    """affinity, anti-affinity, soft-affinity, soft-anti-affinity."""
    group_hosts: dict[str, int] = field(default_factory=dict)
    """host id -> members of the server's group that are there."""
    group_max_per_host: int = 1
    """How many members a host may bear under anti-affinity."""
    demands: Demands = NO_DEMANDS
    project_id: str | None = None
    without: frozenset[str] = frozenset()
    """Ids of hosts that it must leave or not come to."""
