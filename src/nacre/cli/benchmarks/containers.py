"""Docker's own client on this cloud and, in the same run, on an engine of our own start where dockerd is installed.

Every figure is of whole commands or requests, so the client's own time is in it on both sides.
"""

import contextlib
import http.client
import json
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from nacre.cli.benchmarks import builds, compose
from nacre.cli.benchmarks.peers import engine
from nacre.cli.benchmarks.sides import COMMAND_WAIT_S, LABEL, Side, alternately
from nacre.cli.benchmarks.target import Figures, Target, quantile

RUNS = 40
MANY = 100
STREAM_BYTES = 200_000_000
STREAM_RUNS = 3
LINE = "0123456789" * 10
SPEAKS = f"yes {LINE} | head -c {STREAM_BYTES}"
NOTE = "Whole commands of Docker's client; the engine beside it is started for the run. This cloud keeps the end of a log, dockerd all of it."
API = "/v1.41"
"""The newest version that Debian's dockerd speaks, too."""


def beside_dockerd(target: Target) -> Figures:
    """`run --rm` with a port on the default network, `exec`, streams, builds, and many containers: by the API, and by docker-compose."""
    if not shutil.which("docker"):
        raise click.ClickException("no docker here: the client is what is measured with")
    socket_path = target.state.dir / "docker" / f"{target.client.project_id}.sock"
    target.lift_quotas()
    sides = [Side("nacre", str(socket_path), "busybox")]
    with contextlib.ExitStack() as stack:
        if shutil.which("dockerd"):
            host = stack.enter_context(engine())["DOCKER_HOST"]
            sides.append(Side("dockerd", host.removeprefix("unix://"), "bench"))
        for side in sides:
            stack.callback(_clean_up, side)
        told: set[str] = set()
        for measure in (_runs, _execs, _streams, builds.measure, _many, compose.measure):
            measure(sides)
            click.echo(f"measured: {', '.join(name for name in sides[0].values if name not in told)}", err=True)
            told.update(sides[0].values)
    return Figures("docker run, exec, streams, builds, compose", _compared(sides), sides[0].samples, NOTE + _of_cgroups())


def _of_cgroups() -> str:
    """A mount option that makes the first write to cgroup.procs cheap, for whoever makes containers (cgroups(7))."""
    if "favordynmods" in Path("/proc/self/mountinfo").read_text():
        return " cgroup2 was mounted with favordynmods: the first write to cgroup.procs is cheap, for both sides."
    return ""


def _compared(sides: list[Side]) -> dict[str, float | str]:
    """Each figure of both sides, and by how much this cloud is faster."""
    found: dict[str, float | str] = {}
    for name, ours in sides[0].values.items():
        for side in sides:
            found[f"{name}: {side.name}"] = round(side.values[name], 2)
        if len(sides) > 1:
            theirs = sides[1].values[name]
            found[f"{name}: times as fast"] = round(ours / theirs if name.endswith("/s") else theirs / ours, 2)
    return found


def _runs(sides: list[Side]) -> None:
    samples = alternately(sides, lambda side: side.docker("run", "--rm", "--label", LABEL, side.image, "/bin/true"), RUNS)
    for side in sides:
        side.samples = samples[side.name]
        side.values |= {"run --rm, p50 ms": quantile(side.samples, 0.5), "run --rm, p95 ms": quantile(side.samples, 0.95)}


def _execs(sides: list[Side]) -> None:
    idents = {side.name: side.docker("run", "-d", "--label", LABEL, side.image, "/bin/sleep", "10000") for side in sides}
    samples = alternately(sides, lambda side: side.docker("exec", idents[side.name], "/bin/true"), RUNS)
    alone = alternately(sides, lambda side: side.docker("--version"), RUNS)
    for side in sides:
        side.values |= {
            "exec, p50 ms": quantile(samples[side.name], 0.5),
            "exec, p95 ms": quantile(samples[side.name], 0.95),
            "the client alone (docker --version), p50 ms": quantile(alone[side.name], 0.5),
        }
        side.docker("rm", "-f", idents[side.name])


def _streams(sides: list[Side]) -> None:
    for side in sides:
        speak = ("--label", LABEL, side.image, "/bin/sh", "-c", SPEAKS)
        rates = [side.streamed("run", "--rm", *speak) for _ in range(STREAM_RUNS)]
        side.values["attached output of 200 MB, MB/s"] = quantile(rates, 0.5)
        ident = side.docker("run", "-d", *speak)
        side.docker("wait", ident)
        side.values["logs of it, MB/s"] = quantile([side.streamed("logs", ident) for _ in range(STREAM_RUNS)], 0.5)
        side.docker("rm", ident)


def _many(sides: list[Side]) -> None:
    """A create and a start for each over one connection, one container after the other."""
    for side in sides:
        body = {"Image": side.image, "Cmd": ["/bin/sleep", "10000"], "Labels": {LABEL: ""}}
        begun, idents = time.perf_counter(), []
        with _connection(side) as ask:
            for _ in range(MANY):
                idents.append(ask("POST", "/containers/create", body)["Id"])
                ask("POST", f"/containers/{idents[-1]}/start", None)
            side.values[f"{MANY} containers created and started, s"] = time.perf_counter() - begun
            begun = time.perf_counter()
            for ident in idents:
                ask("DELETE", f"/containers/{ident}?force=1&v=1", None)
            side.values[f"{MANY} containers removed by force, s"] = time.perf_counter() - begun


@contextlib.contextmanager
def _connection(side: Side) -> Iterator[Callable[[str, str, Any], Any]]:
    connection = http.client.HTTPConnection("docker", timeout=COMMAND_WAIT_S)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(side.socket)

    def ask(method: str, path: str, body: Any) -> Any:
        payload = None if body is None else json.dumps(body)
        connection.request(method, API + path, payload, {"Content-Type": "application/json"} if payload else {})
        answer = connection.getresponse()
        data = answer.read()
        if answer.status >= 300:
            raise click.ClickException(f"{method} {path} on {side.name}: {answer.status} {data[:500].decode(errors='replace')}")
        return json.loads(data) if data else None

    with contextlib.closing(connection):
        yield ask


def _clean_up(side: Side) -> None:
    """What a run that broke off has left."""
    left = side.docker("ps", "-aq", "--filter", f"label={LABEL}").split()
    if left:
        side.docker("rm", "-fv", *left)
