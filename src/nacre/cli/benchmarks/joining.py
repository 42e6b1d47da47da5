"""Joining: from the command on a prepared machine to the first server on it, ACTIVE."""

import json
import subprocess
import tempfile
import time
from pathlib import Path

import click

from nacre.cli.benchmarks.boot import POLL_S
from nacre.cli.benchmarks.startup import command_line
from nacre.cli.benchmarks.target import Figures, Target, summary

RUNS = 5
ENROLLED = 800


def join(target: Target) -> Figures:
    """A second host on this machine, real or simulated as the cloud's own, with a state directory of its own; it is removed and purged again.

    Its first image comes by TLS. Raises ClickException for a cloud that lets no hosts in.
    """
    cloud = target.state.require()
    if not cloud.nodes_port:
        raise click.ClickException("this cloud lets no other hosts in: start it with `up --nodes [ADDRESS:]PORT`")
    target.prepare()
    joins: list[float] = []
    samples: list[float] = []
    for number in range(RUNS):
        with tempfile.TemporaryDirectory(prefix="nacre-bench-", dir="/var/tmp") as directory:
            Path(directory).chmod(0o755)
            joined, active = _one(target, f"bench-{number}", Path(directory) / "host", simulated=cloud.simulated_hosts > 0)
            joins.append(joined * 1000)
            samples.append(active * 1000)
    values = summary(samples)
    values["the command join alone, p50 ms"] = summary(joins)["p50 ms"]
    return Figures("join of a prepared host, from the command to its first server ACTIVE", values, samples)


def _one(target: Target, name: str, place: Path, *, simulated: bool) -> tuple[float, float]:
    """Seconds until the command returned, and until the server was ACTIVE."""
    where = ["--state", str(target.state.dir)]
    made = json.loads(
        subprocess.run([*command_line(), "host", "token", "-f", "json", *where], check=True, capture_output=True).stdout
    )
    command = [*command_line(), "join", made["url"], "--token", made["token"], "--name", name, "--state", str(place)]
    host = f"{name}-0000" if simulated else name
    start = time.perf_counter()
    try:
        subprocess.run([*command, *(["--simulate", "1"] if simulated else [])], check=True, capture_output=True)
        joined = time.perf_counter() - start
        server = target.boot(name, availability_zone=f"nova:{host}")
        target.wait(lambda: target.status(server) == "ACTIVE", "the server to be ACTIVE", POLL_S)
        active = time.perf_counter() - start
        target.delete_all()
        target.wait(lambda: _removed(target, host), "the host to have nothing left", 0.05)
        return joined, active
    finally:
        if place.exists():
            subprocess.run([*command_line(), "down", "--purge", "--state", str(place)], check=True, capture_output=True)


def enrol(target: Target) -> Figures:
    """ENROLLED simulated hosts by one token, from the command until the cloud has accepted each; they are removed and purged again."""
    if not target.state.require().nodes_port:
        raise click.ClickException("this cloud lets no other hosts in: start it with `up --simulate N --nodes [ADDRESS:]PORT`")
    with tempfile.TemporaryDirectory(prefix="nacre-bench-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        place = Path(directory) / "hosts"
        token = [*command_line(), "host", "token", "--hosts", str(ENROLLED), "-f", "json", "--state", str(target.state.dir)]
        made = json.loads(subprocess.run(token, check=True, capture_output=True).stdout)
        command = [*command_line(), "join", made["url"], "--token", made["token"], "--name", "enrol", "--state", str(place)]
        start = time.perf_counter()
        try:
            subprocess.run([*command, "--simulate", str(ENROLLED)], check=True, capture_output=True)
            joined = time.perf_counter() - start
            target.wait(lambda: _accepted(target) == ENROLLED, "all of them to be accepted", 0.1)
            accepted = time.perf_counter() - start
        finally:
            if place.exists():
                subprocess.run([*command_line(), "down", "--purge", "--state", str(place)], check=True, capture_output=True)
            for number in range(ENROLLED):
                target.wait(lambda name=f"enrol-{number:04}": _removed(target, name), "a host to go", 0.05)  # type: ignore[misc]
    values: dict[str, float | str] = {
        "hosts": ENROLLED,
        "the command s": round(joined, 1),
        "all accepted after s": round(accepted, 1),
    }
    return Figures(f"{ENROLLED} simulated hosts enrol and are accepted", values)


def _accepted(target: Target) -> int:
    rows = target.call("GET", "/nacre/v1/hosts")["hosts"]
    return sum(row["hostname"].startswith("enrol-") and row["acceptance"] == "accepted" and row["alive"] for row in rows)


def _removed(target: Target, host: str) -> bool:
    """What is still being undone is a 409."""
    answer = target.call("DELETE", f"/nacre/v1/hosts/{host}", expect=(204, 409))
    return answer is None
