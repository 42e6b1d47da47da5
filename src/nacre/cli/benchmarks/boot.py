"""Boot: one server after the other, and many at once."""

import time

from nacre.cli.benchmarks.target import Figures, Target, summary

SINGLE = 40
WARM_UP = 3
POLL_S = 0.004
"""Between two looks at a server: often enough for the figure, seldom enough not to take the CPU that is measured."""
BURST = 800


def single(target: Target, count: int = SINGLE) -> Figures:
    """POST to ACTIVE with its port, one by one, a GET every POLL_S until then; all are deleted at the end."""
    target.prepare()
    samples: list[float] = []
    answered: list[float] = []
    for number in range(count + WARM_UP):
        accepted_ms, active_ms = one(target, f"single-{number}")
        if number >= WARM_UP:
            samples.append(active_ms)
            answered.append(accepted_ms)
    target.delete_all()
    values = summary(samples)
    values["POST answered, p50 ms"] = summary(answered)["p50 ms"]
    return Figures("one server, POST to ACTIVE", values, samples)


def one(target: Target, name: str) -> tuple[float, float]:
    """A server that stays: milliseconds from its POST until that is answered, and until it is ACTIVE."""
    start = time.perf_counter()
    server = target.boot(name)
    accepted = time.perf_counter()
    target.wait(lambda: target.status(server) == "ACTIVE", "a server to be ACTIVE", POLL_S)
    return (accepted - start) * 1000, (time.perf_counter() - start) * 1000


def burst(target: Target, count: int = BURST) -> Figures:
    """`count` servers by POSTs of 100, until all are ACTIVE."""
    target.prepare()
    start = time.perf_counter()
    for first in range(0, count, 100):
        target.boot(f"burst-{first}", min(100, count - first))
    posted = time.perf_counter()

    def building() -> bool:
        return not target.call("GET", "/compute/v2.1/servers?status=BUILD&limit=1")["servers"]

    target.wait(building, "all servers to be built", 0.1)
    seconds = time.perf_counter() - start
    active = 0
    marker = ""
    while True:
        page = target.call("GET", f"/compute/v2.1/servers?status=ACTIVE&limit=1000{marker}")["servers"]
        active += len(page)
        if len(page) < 1000:
            break
        marker = f"&marker={page[-1]['id']}"
    deleting = time.perf_counter()
    target.delete_all()
    values: dict[str, float | str] = {
        "servers": count,
        "ACTIVE": active,
        "all ACTIVE after s": round(seconds, 2),
        "servers/s": round(count / seconds, 1),
        "POSTs answered after s": round(posted - start, 2),
        "all deleted after s": round(time.perf_counter() - deleting, 2),
    }
    return Figures(f"{count} servers with a port each", values)
