"""Planning with the claim on PostgreSQL, by one API process and by several at once, without a cloud.

The database is the one in NACRE_STORE, which must be empty and is so again afterwards. Each process is this module, run by itself.
"""

import asyncio
import os
import subprocess
import sys
import time

import click
import sqlalchemy as sa

from nacre.cli.benchmarks.target import Figures, Target
from nacre.cloud.compute.scheduling import Search
from nacre.cloud.hosts import fleet
from nacre.cloud.hosts.operations import register
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.scheduler import Ratios, Request
from nacre.cloud.schema import drop, prepare, tables_in
from nacre.protocol.messages import Capacity, Hello
from nacre.store import Store

PROCESSES = 4
CLAIMS = 12_000
HOSTS = 1000
AT_ONCE = 32
SIZE = {"vcpus": 1, "memory_mb": 512, "disk_gb": 5}
RUNTIMES = frozenset({"container"})
WIDE = Capacity(vcpus=100_000, memory_mb=64_000_000, disk_gb=1_000_000)


def on_postgresql(target: Target) -> Figures:
    """CLAIMS guests on HOSTS hosts, and on one host that all want, by one process and by PROCESSES."""
    url = os.environ.get("NACRE_STORE", "")
    if not url.startswith("postgres"):
        raise click.ClickException("claims: NACRE_STORE must name an empty PostgreSQL database")
    values: dict[str, float | str] = {}
    for count, what in ((HOSTS, "spread"), (1, "all on one host")):
        for processes in (1, PROCESSES):
            rate, claimed = _measured(url, count, processes)
            values[f"plan + claim/s, {what}, {processes} process{'es' if processes > 1 else ''}"] = rate
            assert claimed == CLAIMS, f"{CLAIMS} claims were answered, {claimed} are in the books"
    return Figures("planning with the claim on PostgreSQL", values, [])


def _measured(url: str, count: int, processes: int) -> tuple[int, int]:
    """Claims each second from the first to the last, and how many are in the hosts' books afterwards."""
    asyncio.run(_make(url, count))
    command = [sys.executable, "-m", "nacre.cli.benchmarks.claims", str(CLAIMS // processes)]
    workers = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "NACRE_STORE": url}
        )
        for _ in range(processes)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        start = time.perf_counter()
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.close()
        for worker in workers:
            worker.wait()
        seconds = time.perf_counter() - start
    finally:
        for worker in workers:
            worker.kill()
    return round(CLAIMS / seconds), asyncio.run(_ended(url))


async def _make(url: str, count: int) -> None:
    store = Store(url)
    assert not store.read_now(tables_in), "the database in NACRE_STORE is not empty"
    await prepare(store)
    await store.write(_register, count)
    store.close()


def _register(conn: sa.Connection, count: int) -> None:
    for number in range(count):
        ident = f"{number:08}-0000-4000-8000-000000000000"
        register(conn, Hello(1, 1, ident, f"host-{number:05}", "boot", WIDE, tuple(RUNTIMES), "simulated", {}))


async def _ended(url: str) -> int:
    store = Store(url)
    claimed = store.read_now(lambda conn: conn.execute(sa.select(sa.func.sum(hosts.c.guests))).scalar_one())
    await store.alone(drop)
    store.close()
    return int(claimed)


async def work(url: str, count: int) -> None:
    """One process's claims, once its standard input ends."""
    store = Store(url)
    unfollow = fleet.follow(store)
    store.read_now(lambda conn: fleet.of(conn).views(conn, None, Ratios()))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    left = iter(range(count))

    async def some() -> None:
        for _ in left:
            await store.write(_place)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    unfollow()
    store.close()


def _place(conn: sa.Connection) -> None:
    search = Search(conn, "project", alive=None, ratios=Ratios(), facts=None)
    search.place(Request(SIZE["vcpus"], SIZE["memory_mb"], SIZE["disk_gb"], RUNTIMES), {**SIZE, "id": "server"})


if __name__ == "__main__":
    sys.setswitchinterval(0.0005)
    asyncio.run(work(os.environ["NACRE_STORE"], int(sys.argv[1])))
