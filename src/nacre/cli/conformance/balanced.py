"""A cloud of several API processes with HAProxy in front of them, so that each of Tempest's requests may meet another one."""

import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from nacre.cli import balancing, packages, subnets
from nacre.cli.client import ApiError, send
from nacre.cli.host import ask
from nacre.cli.state import State

READY_S = 30.0
STOP_S = 10.0
LOOPBACK = "127.0.0.1"


def options(count: int) -> list[str]:
    """What `up` is asked for."""
    first = _free_ports(1 + count)
    return ["--processes", str(count), "--url", f"http://{LOOPBACK}:{first}", "--nodes", f"{LOOPBACK}:{first + 1}"]


@contextmanager
def balancer(state: State, folder: Path) -> Iterator[None]:
    """HAProxy, for as long as it is needed."""
    packages.ensure("test")
    public = state.require().public
    rows = ask(state, "GET", "/api-processes")["processes"]
    config = folder / "haproxy.cfg"
    config.write_text(balancing.haproxy(rows, public.removeprefix("http://"), None))
    running = subprocess.Popen(["/usr/sbin/haproxy", "-db", "-f", str(config)], start_new_session=True)
    try:
        _await(public)
        yield
    finally:
        running.terminate()
        running.wait(STOP_S)
        config.unlink()


def _await(url: str) -> None:
    """Raises ClickException."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        try:
            send("GET", f"{url}/healthz", timeout_s=2.0)
        except ApiError:
            time.sleep(0.1)
        else:
            return
    raise click.ClickException("HAProxy does not serve")


def _free_ports(count: int) -> int:
    """The first of so many in a row that are free, below those that the kernel gives to connections."""
    while True:
        first = random.randrange(20_000, 30_000)  # noqa: S311 - no secret
        if all(subnets.port_free(first + number) for number in range(count)):
            return first
