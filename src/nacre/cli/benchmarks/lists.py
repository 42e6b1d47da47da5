"""Lists: 1,000 servers with detail, and what another request has of it meanwhile."""

import threading
import time

from nacre.cli.benchmarks.target import Figures, Target, quantile, summary

SERVERS = 1000
LISTS = 30


def thousand(target: Target) -> Figures:
    """GET /servers/detail of 1,000 servers, again and again, while another connection GETs one server."""
    target.prepare()
    for first in range(0, SERVERS, 100):
        last = target.boot(f"list-{first}", 100)
    target.wait(lambda: not target.call("GET", "/compute/v2.1/servers?status=BUILD&limit=1")["servers"], "them to be built", 0.1)
    others: list[float] = []
    done = threading.Event()

    def another() -> None:
        other = target.clone()
        while not done.is_set():
            start = time.perf_counter()
            other.call("GET", f"/compute/v2.1/servers/{last}")
            others.append((time.perf_counter() - start) * 1000)
            time.sleep(0.005)

    thread = threading.Thread(target=another)
    samples = []
    for number in range(LISTS + 2):
        if number == 2:
            thread.start()
        start = time.perf_counter()
        found = target.call("GET", f"/compute/v2.1/servers/detail?limit={SERVERS}")["servers"]
        if number >= 2:
            samples.append((time.perf_counter() - start) * 1000)
    done.set()
    thread.join()
    target.delete_all()
    values = summary(samples)
    values |= {"servers listed": len(found), "another GET, p50 ms": round(quantile(others, 0.5), 2)}
    values["another GET, p99 ms"] = round(quantile(others, 0.99), 2)
    return Figures(f"list of {SERVERS} servers with detail", values, samples)
