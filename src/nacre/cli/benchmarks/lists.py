"""Lists: 1,000 servers with detail, and what another request has of it meanwhile. Both clients leave the answers as they come: the figures
are the server's."""

import time
from concurrent.futures import ThreadPoolExecutor

from nacre.cli.benchmarks.load import wrk
from nacre.cli.benchmarks.target import Figures, Target, summary

SERVERS = 1000
SECONDS = 5
PAUSE_MS = 5
"""Of the client that GETs one server, between two of them."""


def thousand(target: Target) -> Figures:
    """GET /servers/detail of 1,000 servers, again and again, while another connection GETs one server."""
    target.prepare()
    for first in range(0, SERVERS, 100):
        last = target.boot(f"list-{first}", 100)
    target.wait(lambda: not target.call("GET", "/compute/v2.1/servers?status=BUILD&limit=1")["servers"], "them to be built", 0.1)
    headers = {"X-Auth-Token": target.client.token, "OpenStack-API-Version": "compute 2.37"}
    path = f"/compute/v2.1/servers/detail?limit={SERVERS}"
    listed = len(target.call("GET", path)["servers"])
    with ThreadPoolExecutor(1) as pool:
        one = f"{target.url}/compute/v2.1/servers/{last}"
        pause = f"delay = function() return {PAUSE_MS} end\n"
        other = pool.submit(wrk, one, headers, lua=pause, connections=1, seconds=SECONDS)
        samples = []
        while not other.done():
            start = time.perf_counter()
            target.raw("GET", path, headers)
            samples.append((time.perf_counter() - start) * 1000)
    target.delete_all()
    values = summary(samples)
    values |= {
        "servers listed": listed,
        "another GET, p50 ms": other.result()["p50 ms"],
        "another GET, p99 ms": other.result()["p99 ms"],
    }
    return Figures(f"list of {SERVERS} servers with detail", values, samples)
