"""The scheduler alone, without a cloud: planning in memory, and planning with the claim on a store of its own."""

import asyncio
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from nacre.cli.benchmarks.target import Figures, Target, summary
from nacre.cloud.compute.scheduling import Search
from nacre.cloud.hosts import fleet
from nacre.cloud.hosts.operations import register
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.scheduler import HostView, NoValidHost, Plan, Ratios, Request, Snapshot, Strategy
from nacre.cloud.schema import prepare
from nacre.protocol.messages import Capacity, Hello
from nacre.store import Store

CLOUDS = (1000, 10_000)
PLANS = 2000
CLAIM_HOSTS = 1000
ROOM = 4000
"""Guests that the hosts of the second part have room for."""
BEYOND = 200
"""Guests for which there is no room any more."""
AT_ONCE = 32
"""Claims that are under way together, as requests are."""
SIZE = {"vcpus": 1, "memory_mb": 512, "disk_gb": 5}
RUNTIMES = frozenset({"container"})
SLIM = Capacity(vcpus=8, memory_mb=2048, disk_gb=64)
"""Hosts that are soon full: then it shows whether one is overbooked."""


def scheduler(target: Target) -> Figures:
    """Planning alone on each of CLOUDS with each strategy; then ROOM guests and BEYOND more on CLAIM_HOSTS hosts, until each is full."""
    values: dict[str, float | str] = {}
    samples: list[float] = []
    for count in CLOUDS:
        for strategy in ("spread", "binpack", "random"):
            taken = planning(count, strategy)
            values[f"plans/s, {count} hosts, {strategy}"] = round(1000 * len(taken) / sum(taken))
            samples += taken
    values |= asyncio.run(_claiming())
    return Figures("planning alone, and planning with the claim", values | summary(samples), samples)


def planning(count: int, strategy: Strategy) -> list[float]:
    """Milliseconds of each plan, together with remembering what came of it."""
    snapshot = Snapshot(_host(number) for number in range(count))
    request = _request(strategy)
    taken = []
    for _ in range(PLANS):
        start = time.perf_counter()
        host = snapshot.plan(request).best[0]
        snapshot.put(
            replace(
                host,
                claimed_vcpus=host.claimed_vcpus + SIZE["vcpus"],
                claimed_memory_mb=host.claimed_memory_mb + SIZE["memory_mb"],
                claimed_disk_gb=host.claimed_disk_gb + SIZE["disk_gb"],
                guests=host.guests + 1,
            )
        )
        taken.append((time.perf_counter() - start) * 1000)
    return taken


def _request(strategy: Strategy) -> Request:
    return Request(SIZE["vcpus"], SIZE["memory_mb"], SIZE["disk_gb"], RUNTIMES, strategy=strategy)


def _host(number: int) -> HostView:
    """With guests already: no two hosts are alike."""
    return HostView(
        id=f"{number:08}",
        hostname=f"host-{number:05}",
        enabled=True,
        alive=True,
        availability_zone=f"zone-{number % 3}",
        runtimes=RUNTIMES,
        vcpus=64.0,
        memory_mb=262_144.0,
        disk_gb=8000.0,
        claimed_vcpus=number % 37,
        claimed_memory_mb=(number * 7919) % 131_072,
        claimed_disk_gb=number % 101,
        guests=number % 37,
    )


async def _claiming() -> dict[str, float | str]:
    with tempfile.TemporaryDirectory(prefix="nacre-bench-", dir="/var/tmp") as directory:
        store = Store(f"sqlite:///{Path(directory) / 'store.sqlite'}")
        try:
            await prepare(store)
            await store.write(_register)
            unfollow = fleet.follow(store)
            start = time.perf_counter()
            placed = await _claims(store, ROOM)
            seconds = time.perf_counter() - start
            refused = BEYOND - await _claims(store, BEYOND)
            unfollow()
            overbooked = store.read_now(_overbooked)
        finally:
            store.close()
    return {
        f"plan + claim/s, SQLite, {CLAIM_HOSTS} hosts": round(ROOM / seconds),
        "claims made": placed,
        "refused when all hosts were full": refused,
        "hosts overbooked": overbooked,
    }


def _register(conn: sa.Connection) -> None:
    for number in range(CLAIM_HOSTS):
        ident = f"{number:08}-0000-4000-8000-000000000000"
        register(conn, Hello(1, 1, ident, f"host-{number:05}", "boot", SLIM, tuple(RUNTIMES), "simulated", {}))


async def _claims(store: Store, count: int) -> int:
    """How many found a place."""
    left = iter(range(count))

    async def work() -> int:
        placed = 0
        for _ in left:
            try:
                await store.write(_place)
                placed += 1
            except NoValidHost:
                continue
        return placed

    return sum(await asyncio.gather(*(work() for _ in range(AT_ONCE))))


def _place(conn: sa.Connection) -> Plan:
    search = Search(conn, "project", alive=None, ratios=Ratios(vcpus=1.0, memory_mb=1.0, disk_gb=1.0), facts=None)
    return search.place(_request("spread"), _SERVER)


_SERVER: dict[str, Any] = {**SIZE, "id": "server"}


def _overbooked(conn: sa.Connection) -> int:
    wrong = [hosts.c[f"claimed_{name}"] > hosts.c[name] for name in SIZE]
    count = sa.select(sa.func.count()).select_from(hosts).where(sa.or_(*wrong))
    return int(conn.execute(count).scalar_one())
