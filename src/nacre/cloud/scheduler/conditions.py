"""Swarm's filters (docs of Docker Swarm, "Swarm filters"): each narrows the list of hosts, expression by expression, in a fixed order.

`STAGES` is that order. A stage lists what it was asked for in Swarm's words, for the text of a failure, and yields one step after another.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from nacre.cloud.scheduler.expressions import Expression, Matcher
from nacre.cloud.scheduler.snapshot import Conditions, HostView

Predicate = Callable[[HostView], bool]


class Step(NamedTuple):
    wanted: str
    """`that satisfies the constraint a==b`: ends the sentence "unable to find a node ..."."""
    lacking: str
    """Said of the hosts that it drops: `not satisfying the constraint a==b`."""
    passes: Predicate


BUILT_IN = {"storagedriver": "storagedriver", "kernelversion": "kernelrelease", "operatingsystem": "os.distro.description"}
"""Swarm's labels of every engine, and the fact that each comes from. `ostype` is linux everywhere. Host labels cannot override them."""
OS_TYPE = "linux"


def fact(facts: Mapping[str, Any], name: str) -> Any:
    """A fact by its flat name, or by a path of dots through the structured ones; None where there is none."""
    if name in facts:
        return facts[name]
    found: Any = facts
    rest = name
    while rest:
        if not isinstance(found, Mapping):
            return None
        # The longest key wins, as keys may hold dots themselves (an interface's name, a mount point).
        key = next((key for key in _prefixes(rest) if key in found), None)
        if key is None:
            return None
        found, rest = found[key], rest[len(key) + 1 :]
    return found


def _prefixes(path: str) -> Iterator[str]:
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        yield ".".join(parts[:count])


def texts_of(value: Any) -> tuple[str, ...]:
    """A fact as expressions see it: booleans true and false, numbers in decimals, a list's items each and all with commas between."""
    if value is None:
        return ()
    if isinstance(value, bool):
        return ("true" if value else "false",)
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Sequence):
        items = tuple(text for item in value for text in texts_of(item))
        return (*items, ",".join(items))
    if isinstance(value, Mapping):
        return (msgspec.json.encode(value).decode(),)
    return (str(value),)


def subjects(host: HostView, key: str) -> tuple[str, ...]:
    """What a constraint on `key` is held against. What a host lacks is the empty text, as Swarm has it."""
    if key == "node":
        return (host.id, host.hostname)
    if key == "ostype":
        return (OS_TYPE,)
    known = texts_of(fact(host.facts, key))
    if key in BUILT_IN:
        known = (*texts_of(fact(host.facts, BUILT_IN[key])), *known)
    elif key in host.labels:
        known = (host.labels[key],)
    return known or ("",)


def _constraint(expression: Expression) -> Predicate:
    matcher = Matcher(expression)
    return lambda host: matcher(subjects(host, expression.key))


def _affinity(expression: Expression) -> Predicate:
    matcher = Matcher(expression)
    match expression.key:
        case "container":
            return lambda host: matcher(text for other in host.neighbours for text in (*other.ids, other.name))
        case "image":
            return lambda host: matcher(text for other in host.neighbours for text in other.images)
        case label:
            return lambda host: matcher(other.labels.get(label, "") for other in host.neighbours)


def _whitelist(expression: Expression) -> Predicate:
    names = frozenset(expression.value.split("|"))
    return lambda host: host.hostname in names


def _expressions(
    kind: str, expressions: tuple[Expression, ...], predicate: Callable[[Expression], Predicate], soft: bool
) -> Iterator[Step]:
    for expression in expressions:
        if soft or not expression.soft:
            named = f"the {kind} {expression}"
            yield Step(f"that satisfies {named}", f"not satisfying {named}", predicate(expression))


def _ports(conditions: Conditions, soft: bool) -> Iterator[Step]:
    for port in conditions.exposed:
        yield Step(
            f"with port {port} available in the Host mode", f"with port {port} taken in the Host mode", _not_exposing(port)
        )


def _not_exposing(port: str) -> Predicate:
    return lambda host: not any(port in other.exposed for other in host.neighbours)


def _slots(conditions: Conditions, soft: bool) -> Iterator[Step]:
    yield SLOT


def has_slot(host: HostView) -> bool:
    """The label `containerslots` limits how many guests a host takes; anything but a number is no limit."""
    slots = slots_of(host)
    return slots is None or host.guests < slots


def slots_of(host: HostView) -> int | None:
    slots = host.labels.get("containerslots", "")
    return int(slots) if slots.isdecimal() else None


SLOT = Step("with enough open slots", "without an open slot", has_slot)
SLOTS_STAGE = "containerslots"


def _dependencies(conditions: Conditions, soft: bool) -> Iterator[Step]:
    if not conditions.dependencies:
        return
    flags = " ".join(dependency.flag for dependency in conditions.dependencies)
    references = [dependency.container for dependency in conditions.dependencies]

    def has_all(host: HostView) -> bool:
        return all(any(other.answers_to(reference) for other in host.neighbours) for reference in references)

    yield Step(f"fulfilling all dependencies: {flags}", f"not fulfilling all dependencies: {flags}", has_all)


def _affinities(conditions: Conditions, soft: bool) -> Iterator[Step]:
    yield from _expressions("affinity", conditions.affinities, _affinity, soft)
    if conditions.same_host:
        words = "with any of the servers of same_host"
        yield Step(words, "with none of the servers of same_host", _bearing(frozenset(conditions.same_host)))
    if conditions.different_host:
        bearing = _bearing(frozenset(conditions.different_host))
        words = "without the servers of different_host"
        yield Step(words, "with a server of different_host", lambda host: not bearing(host))


def _bearing(ids: frozenset[str]) -> Predicate:
    return lambda host: any(not ids.isdisjoint(other.ids) for other in host.neighbours)


def _constraints(conditions: Conditions, soft: bool) -> Iterator[Step]:
    yield from _expressions("constraint", conditions.constraints, _constraint, soft)
    for name in conditions.network_drivers:
        yield Step(f"that has the network plugin {name}", f"without the network plugin {name}", _has_plugin(name))


def _has_plugin(name: str) -> Predicate:
    """A node lists every plugin that it finds, of whatever kind, as a driver of volumes."""
    return lambda host: name in (host.facts.get("volume_drivers") or ())


def _whitelists(conditions: Conditions, soft: bool) -> Iterator[Step]:
    yield from _expressions("whitelist", conditions.whitelists, _whitelist, soft)


def _with_soft(expressions: tuple[Expression, ...]) -> list[str]:
    return [f"{expression} (soft={'true' if expression.soft else 'false'})" for expression in expressions]


@dataclass(frozen=True, slots=True)
class Stage:
    name: str
    steps: Callable[[Conditions, bool], Iterator[Step]]
    listed: Callable[[Conditions], list[str]]


STAGES: tuple[Stage, ...] = (
    Stage("port", _ports, lambda conditions: [f"port {port} (Host mode)" for port in conditions.exposed]),
    Stage(SLOTS_STAGE, _slots, lambda conditions: ["available container slots"]),
    Stage("dependency", _dependencies, lambda conditions: [dependency.flag for dependency in conditions.dependencies]),
    Stage("affinity", _affinities, lambda conditions: _with_soft(conditions.affinities)),
    Stage(
        "constraint",
        _constraints,
        lambda conditions: [
            *(str(expression) for expression in conditions.constraints),
            *(f"network plugin {name}" for name in conditions.network_drivers),
        ],
    ),
    Stage("whitelist", _whitelists, lambda conditions: _with_soft(conditions.whitelists)),
)
FILTER_NAMES = ("health", *(stage.name for stage in STAGES))
"""As `docker info` shows them."""


@dataclass(frozen=True, slots=True)
class Unsatisfied:
    """The step at which no host was left."""

    stage: str
    wanted: str

    def text(self, conditions: Conditions) -> str:
        """Swarm's message, and after it the sentence that Swarm only logs: which of the conditions it is."""
        lines = []
        for stage in STAGES:
            if listed := stage.listed(conditions):
                lines.append(f"\n[{' '.join(listed)}]")
            if stage.name == self.stage:
                break
        listing = "".join(lines)
        return f"Unable to find a node that satisfies the following conditions {listing}\nunable to find a node {self.wanted}"


def narrow(
    hosts: list[HostView], conditions: Conditions, *, soft: bool, drop: Callable[[str, list[HostView]], None]
) -> tuple[list[HostView], Unsatisfied | None]:
    """The hosts that fulfil everything, and else the step that left none. `drop` is told which hosts each step took away, and why."""
    for stage in STAGES:
        for step in stage.steps(conditions, soft):
            left: list[HostView] = []
            lacking: list[HostView] = []
            for host in hosts:
                (left if step.passes(host) else lacking).append(host)
            drop(step.lacking, lacking)
            if hosts and not left:
                return [], Unsatisfied(stage.name, step.wanted)
            hosts = left
    return hosts, None
