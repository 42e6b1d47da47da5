"""Ranking: which of the hosts that can take a guest comes first (docs of Docker Swarm, "Docker Swarm strategies").

A host whose aggregates name a strategy goes by that one. Where hosts of several strategies are left, those that are to be packed come first,
as long as they have room, then those among which guests are spread, then those where chance decides: what Nova's weights come to, where
packing adds to a host's weight and spreading takes away from it.
"""

import random
from collections.abc import Iterable

from nacre.cloud.scheduler.snapshot import HostView, Request, Strategy

Key = tuple[float, int, str]

RANKED: tuple[Strategy, ...] = ("binpack", "spread", "random")
METADATA_KEY = "scheduler_strategy"
"""Of an aggregate, for its hosts."""
SOFT_POLICIES = {"soft-affinity": -1, "soft-anti-affinity": 1}
"""Of a server group: whether hosts with most of its members come first, or those with fewest."""


def used_share(host: HostView) -> float:
    """Of vCPUs and of memory, added up: what is promised of what may be. A host that passed the filters has some of both, or gives none."""
    return host.claimed_vcpus / (host.vcpus or 1) + host.claimed_memory_mb / (host.memory_mb or 1)


def key(host: HostView) -> Key:
    """Spread takes the host with the least key: the least used, then the one with fewer guests. Binpack takes the greatest, so that big
    hosts stay free for what is big."""
    return (used_share(host), host.guests, host.id)


def of_host(host: HostView, request: Request) -> Strategy:
    return host.strategy or request.strategy


def ordered(hosts: Iterable[HostView], request: Request) -> list[HostView]:
    """All of them, the best first."""
    found: dict[Strategy, list[HostView]] = {}
    for host in hosts:
        found.setdefault(of_host(host, request), []).append(host)
    result: list[HostView] = []
    for strategy in RANKED:
        if strategy in found:
            result += _sorted(found[strategy], strategy)
    if request.group_policy in SOFT_POLICIES:
        sign = SOFT_POLICIES[request.group_policy]
        result.sort(key=lambda host: sign * request.group_hosts.get(host.id, 0))
    return result


def _sorted(hosts: list[HostView], strategy: Strategy) -> list[HostView]:
    if strategy == "random":
        random.shuffle(hosts)
    else:
        hosts.sort(key=key, reverse=strategy == "binpack")
    return hosts
