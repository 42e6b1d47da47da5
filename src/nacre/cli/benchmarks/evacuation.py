"""A host of a lab dies with GUESTS real guests whose policy is to be evacuated: how long until all of them are ACTIVE elsewhere."""

import time
from typing import Any

import click

from nacre.cli.benchmarks.lab import place_of
from nacre.cli.benchmarks.target import Figures, Target
from nacre.cli.lab import hosts

GUESTS = 50
VICTIM = "h1"
PATIENCE_S = 0.1


def evacuation(target: Target) -> Figures:
    """Raises ClickException for a cloud that is no lab's. The host is switched on again."""
    place = place_of(target)
    if place is None or len(place.require().names) < 2:
        raise click.ClickException(
            "this cloud is no lab's of two hosts or more: nacre lab up, then nacre bench evacuation --state DIR/cloud"
        )
    target.prepare()
    target.lift_quotas()
    target.network_id = target.network("10.99.0.0/20")
    target.boot("evacuated", GUESTS, availability_zone=f"nova:{VICTIM}", metadata={"nacre:evacuate": "true"})
    try:
        target.wait(lambda: len(elsewhere(target, here=True)) == GUESTS, "all servers to be ACTIVE", PATIENCE_S)
        hosts.kill(place.require(), place, VICTIM)
        dead_s = time.perf_counter()
        first = target.wait(
            lambda: moving(target) and time.perf_counter(), "the first server to be given to another host", PATIENCE_S
        )
        last = target.wait(
            lambda: len(elsewhere(target)) == GUESTS and time.perf_counter(), "all servers to be ACTIVE again", PATIENCE_S
        )
    finally:
        hosts.start(place.require(), place, VICTIM)
        target.delete_all()
    values: dict[str, float | str] = {
        "guests": GUESTS,
        "lease, s": target.call("GET", "/nacre/v1/status")["lease_s"],
        "until the first was given to another host, s": round(first - dead_s, 2),
        "until all were ACTIVE elsewhere, s": round(last - dead_s, 2),
    }
    return Figures("a dead host's guests elsewhere", values, [])


def shown(target: Target) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = target.call("GET", "/compute/v2.1/servers/detail?limit=1000")["servers"]
    return found


def elsewhere(target: Target, *, here: bool = False) -> list[str]:
    """Those that are ACTIVE on another host than the victim, or on it."""
    return [
        server["id"]
        for server in shown(target)
        if server["status"] == "ACTIVE" and (server["OS-EXT-SRV-ATTR:host"] == VICTIM) is here
    ]


def moving(target: Target) -> bool:
    return any(server["OS-EXT-SRV-ATTR:host"] != VICTIM for server in shown(target))
