"""The scheduler: a pure package. From a snapshot of hosts and a request it plans; the claim is made by who asked, in its transaction."""

from nacre.cloud.scheduler.conditions import FILTER_NAMES
from nacre.cloud.scheduler.demands import demands_of
from nacre.cloud.scheduler.expressions import Expression, ExpressionError, parse, parse_all
from nacre.cloud.scheduler.filters import FILTERS
from nacre.cloud.scheduler.index import Snapshot
from nacre.cloud.scheduler.plan import NoValidHost, Plan, plan, scan, why
from nacre.cloud.scheduler.snapshot import (
    NO_CONDITIONS,
    NO_DEMANDS,
    Aggregate,
    Conditions,
    Demands,
    Dependency,
    HostView,
    Neighbour,
    Ratios,
    Request,
    Strategy,
)

__all__ = [
    "FILTERS",
    "FILTER_NAMES",
    "NO_CONDITIONS",
    "NO_DEMANDS",
    "Aggregate",
    "Conditions",
    "Demands",
    "Dependency",
    "Expression",
    "ExpressionError",
    "HostView",
    "Neighbour",
    "NoValidHost",
    "Plan",
    "Ratios",
    "Request",
    "Snapshot",
    "Strategy",
    "demands_of",
    "parse",
    "parse_all",
    "plan",
    "scan",
    "why",
]
