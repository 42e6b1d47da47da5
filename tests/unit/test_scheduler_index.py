"""The index chooses what the plain scan would, whatever has become of the hosts before, and counts what that would count."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nacre.cloud.scheduler import Aggregate, Demands, HostView, NoValidHost, Plan, Request, Snapshot, scan
from nacre.cloud.scheduler.filters import FILTERS
from nacre.cloud.scheduler.plan import BEST_MAX

AGGREGATES = (
    Aggregate(1, "fast", (("disk", "ssd"),)),
    Aggregate(2, "theirs", (("filter_tenant_id", "p1"),)),
    Aggregate(3, "packed", (("scheduler_strategy", "binpack"),)),
)
SIZES = st.integers(0, 6)


@st.composite
def hosts(draw: st.DrawFn, number: int) -> HostView:
    aggregates = tuple(draw(st.sets(st.sampled_from(AGGREGATES), max_size=2)))
    strategies = [value for each in aggregates if (value := each.get("scheduler_strategy"))]
    return HostView(
        id=f"id-{number:03}",
        hostname=f"node-{number:03}",
        enabled=draw(st.integers(0, 9)) > 0,
        alive=draw(st.integers(0, 9)) > 0,
        accepted=draw(st.integers(0, 9)) > 0,
        availability_zone=draw(st.sampled_from(["nova", "east"])),
        runtimes=frozenset(draw(st.sampled_from([("container",), ("container", "machine")]))),
        vcpus=draw(st.sampled_from([4, 8, 8.8])),
        memory_mb=draw(st.sampled_from([4, 8.5])),
        disk_gb=8,
        claimed_vcpus=draw(SIZES),
        claimed_memory_mb=draw(SIZES),
        claimed_disk_gb=draw(SIZES),
        guests=draw(st.integers(0, 2)),
        labels={"containerslots": "2"} if draw(st.integers(0, 5)) == 0 else {},
        traits=frozenset(draw(st.sets(st.sampled_from(["CUSTOM_A", "CUSTOM_B"])))),
        aggregates=tuple(sorted(aggregates, key=lambda each: each.id)),
        strategy=strategies[0] if strategies else None,  # type: ignore[arg-type]
    )


@st.composite
def requests(draw: st.DrawFn) -> Request:
    idents = st.integers(0, 40).map(lambda number: f"id-{number:03}")
    return Request(
        vcpus=draw(st.integers(0, 3)),
        memory_mb=draw(st.integers(0, 3)),
        disk_gb=draw(st.integers(0, 3)),
        runtimes=frozenset({draw(st.sampled_from(["container", "machine"]))}),
        availability_zone=draw(st.sampled_from([None, None, "nova", "east"])),
        host=draw(st.one_of(st.none(), st.none(), st.none(), idents, st.just("node-001"))),
        strategy=draw(st.sampled_from(["spread", "binpack"])),
        group_policy=draw(st.sampled_from([None, "affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity"])),
        group_hosts=draw(st.dictionaries(idents, st.integers(1, 3), max_size=4)),
        group_max_per_host=draw(st.integers(1, 2)),
        project_id=draw(st.sampled_from(["p1", "p2"])),
        without=frozenset(draw(st.sets(idents, max_size=3))),
        demands=draw(
            st.sampled_from(
                [
                    Demands(),
                    Demands(required_traits=frozenset({"CUSTOM_A"}), forbidden_traits=frozenset({"CUSTOM_B"})),
                    Demands(aggregate_specs=(("disk", "ssd"),)),
                    Demands(capabilities=(("free_ram_mb", ">= 2"),)),
                    Demands(architecture="x86_64"),
                ]
            )
        ),
    )


def outcome(planned: Callable[[], Plan]) -> tuple[list[str], dict[str, int], str, str]:
    """The best few, what was dropped, and the words in which it gives up."""
    try:
        found = planned()
    except NoValidHost as error:
        return [], error.dropped, str(error), error.docker
    return [host.id for host in found.best[:BEST_MAX]], found.dropped.counts, "", ""


def changed(snapshot: Snapshot, every: dict[str, HostView], host: HostView) -> None:
    snapshot.put(host)
    every[host.id] = host


@given(st.data())
def test_the_index_chooses_as_the_scan_does(data: st.DataObject) -> None:
    every = {host.id: host for host in (data.draw(hosts(number)) for number in range(data.draw(st.integers(0, 12))))}
    snapshot = Snapshot(every.values())
    for _ in range(data.draw(st.integers(1, 6))):
        request = data.draw(requests())
        expected = outcome(lambda request=request: scan(tuple(every.values()), request))  # type: ignore[misc]
        assert outcome(lambda request=request: snapshot.plan(request)) == expected  # type: ignore[misc]
        if expected[0]:
            taken = every[expected[0][0]]
            claimed: dict[str, Any] = {
                "claimed_vcpus": taken.claimed_vcpus + request.vcpus,
                "claimed_memory_mb": taken.claimed_memory_mb + request.memory_mb,
                "guests": taken.guests + 1,
            }
            changed(snapshot, every, replace(taken, **claimed))
        if data.draw(st.booleans()):
            changed(snapshot, every, data.draw(hosts(data.draw(st.integers(0, 15)))))
        elif every and data.draw(st.booleans()):
            gone = data.draw(st.sampled_from(sorted(every)))
            del every[gone]
            snapshot.drop(gone)


@given(st.data())
def test_hosts_that_are_named_as_dropped_were_dropped_by_that_filter(data: st.DataObject) -> None:
    every = [data.draw(hosts(number)) for number in range(8)]
    request = data.draw(requests())
    try:
        dropped = Snapshot(every).plan(request).dropped
    except NoValidHost as error:
        dropped = error.plan.dropped
    for name, named in dropped.named.items():
        assert 0 < len(named) <= dropped.counts[name]
        assert name not in FILTERS or not any(FILTERS[name][1](host, request) for host in named)


def host(number: int, **values: Any) -> HostView:
    known: dict[str, Any] = {"claimed_vcpus": 0, "claimed_memory_mb": 0, "claimed_disk_gb": 0, "guests": 0}
    known |= {
        "vcpus": 64.0,
        "memory_mb": 64_000.0,
        "disk_gb": 1000.0,
        "availability_zone": "nova",
        "enabled": True,
        "alive": True,
    }
    return HostView(id=f"id-{number:05}", hostname=f"node-{number}", runtimes=frozenset({"container"}), **{**known, **values})


@pytest.mark.parametrize("strategy", ["spread", "binpack"])
def test_a_large_cloud_is_filled_in_the_same_order_until_nothing_fits(strategy: Any) -> None:
    """Blocks are split, emptied and passed over on the way."""
    chance = random.Random(7)
    every = {each.id: each for each in (host(number, vcpus=chance.choice([2.0, 3.0])) for number in range(300))}
    snapshot = Snapshot(every.values())
    for _ in range(1000):
        request = Request(chance.choice([1, 1, 2]), 10, 0, frozenset({"container"}), strategy=strategy)
        expected = outcome(lambda request=request: scan(tuple(every.values()), request))  # type: ignore[misc]
        assert outcome(lambda request=request: snapshot.plan(request)) == expected  # type: ignore[misc]
        if expected[0]:
            taken = every[expected[0][0]]
            more: dict[str, Any] = {"claimed_vcpus": taken.claimed_vcpus + request.vcpus, "guests": taken.guests + 1}
            changed(snapshot, every, replace(taken, claimed_memory_mb=taken.claimed_memory_mb + 10, **more))
    assert outcome(lambda: snapshot.plan(Request(3, 10, 0, frozenset({"container"}))))[0] == []


def test_chance_takes_any_host_that_fits_and_no_other() -> None:
    """Among a thousand full hosts the few with room are found, and each of them is chosen."""
    every = [host(number, claimed_vcpus=0 if number % 250 == 0 else 64) for number in range(1000)]
    snapshot = Snapshot(every)
    request = Request(1, 10, 0, frozenset({"container"}), strategy="random")
    plans = [snapshot.plan(request) for _ in range(200)]
    assert all(len({each.id for each in found.best}) == 4 for found in plans)
    assert {found.best[0].id for found in plans} == {"id-00000", "id-00250", "id-00500", "id-00750"}
    assert plans[0].dropped.counts == {"vcpus": 996}
