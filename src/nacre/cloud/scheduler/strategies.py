"""Ranking: which of the hosts that can take a guest comes first (docs of Docker Swarm, "Docker Swarm strategies")."""

import random
from collections.abc import Callable

from nacre.cloud.scheduler.snapshot import HostView, Strategy

Order = Callable[[list[HostView]], None]


def _used_share(host: HostView) -> float:
    """Of vCPUs and of memory, added up: what is promised of what may be. A host that passed the filters has some of both, or gives none."""
    return host.claimed_vcpus / (host.vcpus or 1) + host.claimed_memory_mb / (host.memory_mb or 1)


def _spread(hosts: list[HostView]) -> None:
    """The least used first, then the one with fewer guests."""
    hosts.sort(key=lambda host: (_used_share(host), host.guests, host.id))


def _binpack(hosts: list[HostView]) -> None:
    """The fullest first, then the one with more guests: big hosts stay free for what is big."""
    hosts.sort(key=lambda host: (-_used_share(host), -host.guests, host.id))


STRATEGIES: dict[Strategy, Order] = {
    "spread": _spread,
    "binpack": _binpack,
    "random": random.shuffle,
}
