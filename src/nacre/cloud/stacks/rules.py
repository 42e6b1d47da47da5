"""What is to be done for a service, as a pure function of what is wanted and what is there. It is asked again after every change:
nothing here remembers, so a plan that was carried out by half is finished by the next one.

A service passes through its replicas by numbers. A container that is to be made anew (`revision`) is replaced under its own number; one
that somebody took away is replaced where `autorestart` says so, and otherwise missed.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from nacre.cloud.stacks.specs import Autodestroy, Autorestart, Strategy

Intent = Literal["created", "running", "stopped", "gone"]
Phase = Literal["", "starting", "scaling", "redeploying", "stopping"]
Status = Literal["created", "starting", "running", "stopping", "stopped", "failed", "gone", "leaving"]
"""Of one container. `failed`: it could not be started. `gone`: somebody else removed it. `leaving`: the service removed it."""

ACTIONS_MAX = 20
"""Of one plan: the next plan does the rest, and no transaction queue grows long."""
UP = frozenset(("starting", "running"))


class Member(Struct, frozen=True, kw_only=True):
    """One container of the service."""

    server_id: str
    number: int
    revision: int
    status: Status
    there: bool = True
    """Whether anything is left of it."""
    exit_code: int = 0
    by_user: bool = False
    """It was stopped by somebody's call, not by its own end."""
    due: bool = False
    """It is to be started once more, whyever it stopped."""
    destroyed: bool = False
    """It is gone because autodestroy wanted it so."""
    host_id: str = ""


class Wanted(Struct, frozen=True, kw_only=True):
    intent: Intent
    target: int
    revision: int
    strategy: Strategy = "EMPTIEST_NODE"
    sequential: bool = False
    autorestart: Autorestart = "OFF"
    autodestroy: Autodestroy = "OFF"


class Host(Struct, frozen=True, kw_only=True):
    """A host as placing sees it."""

    id: str
    hostname: str
    usable: bool
    """It is alive and enabled."""
    guests: int = 0
    labels: Mapping[str, str] = {}
    zone: str = ""


Verb = Literal["create", "start", "stop", "remove", "forget", "destroy"]


class Action(Struct, frozen=True, kw_only=True):
    """`number` for create, `server_id` for the others. `forget`: nothing is left, its row may go. `destroy`: it goes, and is not replaced."""

    verb: Verb
    number: int = 0
    server_id: str = ""
    host_id: str = ""
    """For create under EVERY_NODE."""


def plan(wanted: Wanted, members: Sequence[Member], hosts: Sequence[Host] = ()) -> list[Action]:
    """What to do now, in order. `hosts` are those that all tags allow; only EVERY_NODE looks at them. Empty when all is as wanted, or
    when a host has to finish something first."""
    actions = [Action(verb="forget", server_id=each.server_id) for each in members if each.status == "leaving" and not each.there]
    present = [each for each in members if each.status != "leaving"]
    match wanted.intent:
        case "gone":
            actions += [Action(verb="remove", server_id=each.server_id) for each in present]
        case "stopped":
            actions += [Action(verb="stop", server_id=each.server_id) for each in present if each.status in UP]
        case "running":
            actions += _running(wanted, present, hosts)
        case "created":
            pass
    return actions[:ACTIONS_MAX]


def _running(wanted: Wanted, present: list[Member], hosts: Sequence[Host]) -> list[Action]:
    if wanted.strategy == "EVERY_NODE":
        surplus, missing = _each_host(present, hosts)
    else:
        surplus, missing = _to_target(wanted.target, present)
    actions = [Action(verb="remove", server_id=each.server_id) for each in surplus]
    kept = [each for each in present if each not in surplus]
    changes = _renewals(wanted, kept) + [[Action(verb="create", number=number, host_id=host)] for number, host in missing]
    if wanted.sequential:
        # One by one: the next is touched when all the others run.
        waits = any(each.status in ("starting", "stopping") and each.revision == wanted.revision for each in kept)
        changes = [] if waits else changes[:1]
    return actions + [action for change in changes for action in change]


def _to_target(target: int, present: list[Member]) -> tuple[list[Member], list[tuple[int, str]]]:
    """(the highest numbers beyond the target, the lowest free numbers up to it)."""
    ordered = sorted(present, key=lambda each: each.number)
    taken = {each.number for each in ordered[:target]}
    free = (number for number in range(1, target + len(taken) + 1) if number not in taken)
    return ordered[target:], [(next(free), "") for _ in range(target - len(taken))]


def _each_host(present: list[Member], hosts: Sequence[Host]) -> tuple[list[Member], list[tuple[int, str]]]:
    """One on each host. A host that is only lost for a while keeps its own; one that is no more, or lost the tags, does not."""
    known = {host.id for host in hosts}
    seen: set[str] = set()
    surplus = []
    for each in sorted(present, key=lambda each: each.number):
        if each.host_id not in known or each.host_id in seen:
            surplus.append(each)
        seen.add(each.host_id)
    kept = {each.number for each in present if each not in surplus}
    bare = sorted(host.id for host in hosts if host.usable and host.id not in seen)
    free = (number for number in range(1, len(kept) + len(bare) + 1) if number not in kept)
    return surplus, [(next(free), host) for host in bare]


def _renewals(wanted: Wanted, kept: list[Member]) -> list[list[Action]]:
    """What is done to those that stay, each change by itself, in the order of their numbers."""
    changes = []
    for each in sorted(kept, key=lambda each: each.number):
        made = _renewal(wanted, each)
        if made:
            changes.append(made)
    return changes


def _renewal(wanted: Wanted, each: Member) -> list[Action]:
    anew = Action(verb="create", number=each.number, host_id=each.host_id if wanted.strategy == "EVERY_NODE" else "")
    if each.revision != wanted.revision:
        return [Action(verb="remove", server_id=each.server_id), anew]
    match each.status:
        case "gone" if wanted.autorestart != "OFF" and not each.destroyed:
            return [Action(verb="remove", server_id=each.server_id), anew]
        case "created" | "failed":
            return [Action(verb="start", server_id=each.server_id)]
        case "stopped" if each.due:
            return [Action(verb="start", server_id=each.server_id)]
        case "stopped" if not each.by_user:
            return _ended(wanted, each)
    return []


def _ended(wanted: Wanted, each: Member) -> list[Action]:
    """It ended by itself."""
    succeeded = each.exit_code == 0
    if wanted.autorestart == "ALWAYS" or (wanted.autorestart == "ON_FAILURE" and not succeeded):
        return [Action(verb="start", server_id=each.server_id)]
    if wanted.autodestroy == "ALWAYS" or (wanted.autodestroy == "ON_SUCCESS" and succeeded):
        return [Action(verb="destroy", server_id=each.server_id)]
    return []


def state_of(intent: Intent, phase: str, members: Collection[Member]) -> str:
    """A service's state, in Tutum's words."""
    present = [each for each in members if each.status != "leaving"]
    if intent == "gone":
        return "Terminating"
    if intent == "created":
        return "Not running"
    if phase:
        return {"starting": "Starting", "scaling": "Scaling", "redeploying": "Redeploying", "stopping": "Stopping"}[phase]
    running = sum(each.status == "running" for each in present)
    if intent == "stopped":
        return "Stopped"
    if present and running == len(present):
        return "Running"
    if running:
        return "Partly running"
    if any(each.status == "starting" for each in present):
        return "Starting"
    if present and all(each.status == "gone" for each in present):
        return "Terminated"
    return "Stopped"


def stack_state(states: Sequence[str]) -> str:
    """A stack's state of its services'."""
    if not states:
        return "Not running"
    for passing in ("Terminating", "Redeploying", "Stopping", "Starting"):
        if passing in states:
            return passing
    found = {"Running" if state == "Scaling" else state for state in states}
    if len(found) == 1:
        return found.pop()
    return "Partly running" if found & {"Running", "Partly running"} else "Stopped"


def is_settled(wanted: Wanted, members: Collection[Member], actions: Sequence[Action]) -> bool:
    """Whether nothing is left to be done or waited for: the phase is over."""
    return not actions and not any(each.status in ("starting", "stopping", "leaving") for each in members)


def allowed(hosts: Sequence[Host], tags: Sequence[str]) -> list[Host]:
    """The hosts that have all the tags. A tag is one of a host's label `tags` (web,ssd), a label's name, or NAME=VALUE; a host's own name
    and its zone are tags by themselves."""
    return [host for host in hosts if all(_has(host, tag) for tag in tags)]


def _has(host: Host, tag: str) -> bool:
    name, equals, value = tag.partition("=")
    if equals:
        return host.labels.get(name) == value
    return tag in (host.hostname, host.zone, *host.labels, *host.labels.get("tags", "").split(","))


def tiers(hosts: Sequence[Host], strategy: Strategy, own: Mapping[str, int]) -> list[list[str]]:
    """The names of the hosts in the order in which they are to be tried: those of one tier are equally good. `own` counts the service's
    containers by host."""
    ranked: dict[int, list[str]] = {}
    for host in hosts:
        if host.usable:
            rank = own.get(host.id, 0) if strategy == "HIGH_AVAILABILITY" else host.guests
            ranked.setdefault(rank, []).append(host.hostname)
    return [sorted(ranked[rank]) for rank in sorted(ranked)]


def in_link_order(links: Mapping[str, Sequence[str]]) -> list[str]:
    """The keys with what each leads to before it, so that a container that is made finds those it is linked to. Circles are cut somewhere."""
    found: dict[str, None] = {}
    for start in links:
        # One step into what a service is linked to per entry; what is on the way already is not gone into again.
        way = [(start, iter(links[start]))]
        on_way = {start}
        while way:
            key, left = way[-1]
            other = next((each for each in left if each in links and each not in found and each not in on_way), None)
            if other is None:
                found.setdefault(key)
                way.pop()
            else:
                on_way.add(other)
                way.append((other, iter(links[other])))
    return list(found)
