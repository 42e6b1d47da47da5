"""Classic Swarm's published test: many simulated hosts that hold many containers, and a steady load on top of them.

The load is open: each request has its time, and its latency counts from that time on, whether the client came round to it or not. So a
server that stalls is charged for every request of that while.
"""

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import click

from nacre.cli.benchmarks.target import Figures, Target, quantile
from nacre.cli.status import process_rows

PER_HOST = 30
FILL = 100
"""Containers of one request while the cloud is filled."""
BOOTS_PER_S = 50
GETS_PER_S = 50
SECONDS = 60
CONNECTIONS = 12
"""For each of the two kinds of request."""
POLL_S = 1.0


def swarm(target: Target) -> Figures:
    """PER_HOST containers on each host of the cloud, then BOOTS_PER_S boots and GETS_PER_S GETs a second for SECONDS. All are deleted again.

    A boot is one POST of a server of a container image without a network, on whichever host the scheduler takes; it is answered when its
    host is chosen and claimed. Raises ClickException on a cloud of real hosts.
    """
    cloud = target.state.require()
    if not cloud.simulated_hosts:
        raise click.ClickException("this benchmark is for simulated hosts: `nacre up --simulate 1000`, with a --state of its own")
    target.lift_quotas()
    target.image_id, target.flavor_id = target.image(), target.flavor()
    wanted = PER_HOST * cloud.simulated_hosts
    filled_s = fill(target, wanted)
    held = memory_mb(target)
    known = [server["id"] for server in target.call("GET", "/compute/v2.1/servers?limit=1000")["servers"]]
    boots, gets = load(target, known)
    target.wait(lambda: _none_building(target), "the last servers to be built", POLL_S)
    after = {server["status"] for server in target.call("GET", "/compute/v2.1/servers/detail?limit=1000")["servers"]}
    values: dict[str, float | str] = {
        "hosts": cloud.simulated_hosts,
        "containers before the load": wanted,
        "filled in s": round(filled_s, 1),
        "boots": len(boots),
        "GETs": len(gets),
        **_quantiles("scheduling delay (POST to the claimed host), ", boots),
        **_quantiles("GET of a server, ", gets),
        "status of the latest 1000": ", ".join(sorted(after)),
        **{f"{name}'s memory (PSS) with all containers, MB": value for name, value in held.items()},
    }
    deleting = time.perf_counter()
    target.delete_all()
    values["all deleted after s"] = round(time.perf_counter() - deleting, 1)
    return Figures(f"{wanted} containers on {cloud.simulated_hosts} simulated hosts, under load", values, boots)


def fill(target: Target, wanted: int) -> float:
    """Boot until there are so many. Seconds until all are built."""
    start = time.perf_counter()
    for first in range(0, wanted, FILL):
        target.boot(f"fill-{first}", min(FILL, wanted - first), networks="none")
    target.wait(lambda: _none_building(target), "all servers to be built", POLL_S)
    return time.perf_counter() - start


def _none_building(target: Target) -> bool:
    return not target.call("GET", "/compute/v2.1/servers?status=BUILD&limit=1")["servers"]


def load(target: Target, known: list[str]) -> tuple[list[float], list[float]]:
    """Latencies in ms: of boots, and of GETs of servers that are known."""
    names = itertools.count()
    turns = itertools.cycle(known)

    def boot(own: Target) -> None:
        own.boot(f"load-{next(names)}", networks="none")

    def get(own: Target) -> None:
        own.call("GET", f"/compute/v2.1/servers/{next(turns)}")

    start = time.perf_counter() + 1
    with ThreadPoolExecutor(2) as pool:
        boots = pool.submit(_paced, target, boot, BOOTS_PER_S, start)
        gets = pool.submit(_paced, target, get, GETS_PER_S, start)
        return boots.result(), gets.result()


def _paced(target: Target, request: Callable[[Target], None], per_s: int, start: float) -> list[float]:
    """The request at its times, over CONNECTIONS connections."""
    times = iter([start + number / per_s for number in range(per_s * SECONDS)])
    lock = threading.Lock()
    samples: list[float] = []

    def work(own: Target) -> None:
        while True:
            with lock:
                due = next(times, None)
            if due is None:
                return
            time.sleep(max(0.0, due - time.perf_counter()))
            request(own)
            samples.append((time.perf_counter() - due) * 1000)

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for done in [pool.submit(work, _ready(target)) for _ in range(CONNECTIONS)]:
            done.result()
    return samples


def _ready(target: Target) -> Target:
    """Over a connection of its own."""
    own = target.clone()
    own.image_id, own.flavor_id = target.image_id, target.flavor_id
    own.call("GET", "/compute/v2.1/flavors?limit=1")
    return own


def memory_mb(target: Target) -> dict[str, float]:
    """PSS of the API and the node process, in MB."""
    return {row["name"]: row["pss_mb"] for row in process_rows(target.state) if row["name"] in ("api", "node")}


def _quantiles(what: str, samples: list[float]) -> dict[str, float | str]:
    if not samples:
        return {}
    return {f"{what}p{share} ms": round(quantile(samples, share / 100), 1) for share in (50, 99)}
