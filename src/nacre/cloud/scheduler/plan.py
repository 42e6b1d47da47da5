"""Planning: filter, narrow by what was asked for, rank.

Expressions are tried twice: with the soft ones, and when that leaves no host for whatever reason, without any of them.
"""

from collections.abc import Sequence

from nacre.cloud.scheduler.conditions import Unsatisfied, narrow
from nacre.cloud.scheduler.filters import FILTERS, FITNESS, HEALTH, ROOM
from nacre.cloud.scheduler.snapshot import NO_CONDITIONS, HostView, Request
from nacre.cloud.scheduler.strategies import STRATEGIES

SOFT_POLICIES = {"soft-affinity": -1, "soft-anti-affinity": 1}
"""Of a server group: whether hosts with most of its members come first, or those with fewest."""
_CHECKS = tuple((name, passes) for name, (_, passes) in FILTERS.items())


class NoValidHost(Exception):
    """No host can take it. `dropped` counts the hosts that each filter (or step of the conditions) dropped.

    The message says it in words, as Nova would; `docker` is the same in Swarm's.
    """

    def __init__(self, dropped: dict[str, int], hosts: int, request: Request, unsatisfied: Unsatisfied | None = None) -> None:
        reasons = ", ".join(f"{count} {FILTERS[name][0] if name in FILTERS else name}" for name, count in dropped.items())
        super().__init__(f"No valid host was found. Of {hosts} hosts: {reasons or 'none there'}.")
        self.dropped = dropped
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


def plan(hosts: Sequence[HostView], request: Request) -> list[HostView]:
    """The hosts that can take it, best first. Raises NoValidHost, and ExpressionError where an expression costs too much."""
    if request.conditions.have_soft:
        try:
            return _plan(hosts, request, soft=True)
        except NoValidHost:
            return _plan(hosts, request, soft=False)
    return _plan(hosts, request, soft=False)


def _plan(hosts: Sequence[HostView], request: Request, *, soft: bool) -> list[HostView]:
    dropped: dict[str, int] = {}
    fitting: list[HostView] = []
    for host in hosts:
        for name, passes in _CHECKS:
            if not passes(host, request):
                dropped[name] = dropped.get(name, 0) + 1
                break
        else:
            fitting.append(host)
    unsatisfied = None
    # Labels may limit the slots of a host, whatever is asked.
    if request.conditions is not NO_CONDITIONS or any(host.labels for host in fitting):
        fitting, unsatisfied = narrow(fitting, request.conditions, soft=soft, dropped=dropped)
    if not fitting:
        raise NoValidHost(dropped, len(hosts), request, unsatisfied)
    STRATEGIES[request.strategy](fitting)
    if request.group_policy in SOFT_POLICIES:
        sign = SOFT_POLICIES[request.group_policy]
        fitting.sort(key=lambda host: sign * request.group_hosts.get(host.id, 0))
    return fitting
