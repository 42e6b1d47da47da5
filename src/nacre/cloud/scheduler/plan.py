"""Planning by a plain scan: filter, narrow by what was asked for, rank. `index.Snapshot` chooses the same without looking at each host.

Expressions are tried twice: with the soft ones, and when that leaves no host for whatever reason, without any of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from nacre.cloud.scheduler.conditions import Unsatisfied, narrow
from nacre.cloud.scheduler.filters import FILTERS, FITNESS, HEALTH, ROOM
from nacre.cloud.scheduler.snapshot import NO_CONDITIONS, HostView, Request
from nacre.cloud.scheduler.strategies import ordered

NAMED_MAX = 5
"""So many of the hosts that a filter drops are named."""
BEST_MAX = 5
"""So many of those that are left are kept for the explanation."""
_CHECKS = tuple((name, passes) for name, (_, passes) in FILTERS.items())


@dataclass(slots=True)
class Dropped:
    """By name of the filter, or by step of the conditions, in the order in which they are tried."""

    counts: dict[str, int] = field(default_factory=dict)
    named: dict[str, list[HostView]] = field(default_factory=dict)
    """The first few of each."""

    def add(self, name: str, hosts: Sequence[HostView]) -> None:
        self.count(name, len(hosts), hosts)

    def count(self, name: str, number: int, some: Sequence[HostView]) -> None:
        """`number` hosts, of which these are some."""
        if number:
            self.counts[name] = self.counts.get(name, 0) + number
            named = self.named.setdefault(name, [])
            named += some[: NAMED_MAX - len(named)]

    def in_order(self) -> "Dropped":
        names = [name for name in FILTERS if name in self.counts] + [name for name in self.counts if name not in FILTERS]
        return Dropped({name: self.counts[name] for name in names}, {name: self.named[name] for name in names})


@dataclass(frozen=True, slots=True)
class Plan:
    """What was found: `best[0]` is the host to take."""

    best: list[HostView]
    hosts: int
    """How many there were in all."""
    dropped: Dropped


class NoValidHost(Exception):
    """No host can take it. `dropped` counts the hosts that each filter (or step of the conditions) dropped.

    The message says it in words, as Nova would; `docker` is the same in Swarm's.
    """

    def __init__(self, dropped: Dropped, hosts: int, request: Request, unsatisfied: Unsatisfied | None = None) -> None:
        dropped = dropped.in_order()
        reasons = ", ".join(f"{count} {why(name)}" for name, count in dropped.counts.items())
        super().__init__(f"No valid host was found. Of {hosts} hosts: {reasons or 'none there'}.")
        self.plan = Plan([], hosts, dropped)
        self.dropped = dropped.counts
        self.unsatisfied = unsatisfied
        self.docker = self._in_swarms_words(hosts, request)

    def _in_swarms_words(self, hosts: int, request: Request) -> str:
        if not hosts:
            return "No nodes available in the cluster"
        if sum(self.dropped.get(name, 0) for name in HEALTH) == hosts:
            return "No healthy node available in the cluster"
        if self.unsatisfied is not None:
            return self.unsatisfied.text(request.conditions)
        if any(name in self.dropped for name in FITNESS) and not any(name in self.dropped for name in ROOM):
            return str(self)
        return "no resources available to schedule container"


def why(name: str) -> str:
    """What is wrong with the hosts that a filter, or a step of the conditions, dropped."""
    return FILTERS[name][0] if name in FILTERS else name


def plan(hosts: Sequence[HostView], request: Request) -> list[HostView]:
    """The hosts that can take it, best first. Raises NoValidHost, and ExpressionError where an expression costs too much."""
    return scan(hosts, request).best


def scan(hosts: Sequence[HostView], request: Request) -> Plan:
    """The same with what was dropped."""
    if request.conditions.have_soft:
        try:
            return _scan(hosts, request, soft=True)
        except NoValidHost:
            return _scan(hosts, request, soft=False)
    return _scan(hosts, request, soft=False)


def _scan(hosts: Sequence[HostView], request: Request, *, soft: bool) -> Plan:
    dropped = Dropped()
    fitting: list[HostView] = []
    for host in hosts:
        for name, passes in _CHECKS:
            if not passes(host, request):
                dropped.add(name, (host,))
                break
        else:
            fitting.append(host)
    unsatisfied = None
    # Labels may limit the slots of a host, whatever is asked.
    if request.conditions is not NO_CONDITIONS or any(host.labels for host in fitting):
        fitting, unsatisfied = narrow(fitting, request.conditions, soft=soft, drop=dropped.add)
    if not fitting:
        raise NoValidHost(dropped, len(hosts), request, unsatisfied)
    return Plan(ordered(fitting, request), len(hosts), dropped.in_order())
