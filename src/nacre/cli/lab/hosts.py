"""A lab's hosts: joined by the product's own command, killed as a power cut would, started again."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import msgspec

from nacre.cli import processes, source
from nacre.cli.client import ApiError
from nacre.cli.host import ask, path_of
from nacre.cli.join import load_node
from nacre.cli.lab import wires
from nacre.cli.lab.layout import API, Lab, Place
from nacre.cli.state import State, write
from nacre.cli.up import locked

COMMAND_S = 240.0
"""Longer than `join` and `down --purge` wait themselves."""
GONE_S = 60.0
POLL_S = 0.1


def command(words: Iterable[str], namespace: str | None = None, *, content: str = "") -> str:
    """A command of ours in a process of its own, in a host's namespace where one is named. Raises ClickException with what it said."""
    enter = wires.entering(namespace) if namespace is not None and wires.has_namespace(namespace) else ()
    # It ends with us: whoever repeats a lab's command that was killed must not meet what that one began.
    line = ["setpriv", "--pdeathsig", "KILL", *enter, sys.executable, "-m", *words]
    try:
        done = subprocess.run(
            line, env=environment(), input=content, capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise click.ClickException(f"`{' '.join(words)}` did not end within {COMMAND_S:.0f} s") from error
    if done.returncode:
        raise click.ClickException(f"`{' '.join(words)}`:\n{(done.stderr or done.stdout).strip()}")
    return done.stdout


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(source.PACKAGE.parent)}


def together(work: Callable[[str], None], names: Iterable[str]) -> None:
    """The same for several hosts at once. Raises ClickException with every cause; what succeeded stays done."""
    with ThreadPoolExecutor(8, "lab") as pool:
        running = [(name, pool.submit(work, name)) for name in names]
    causes = [f"{name}: {error.format_message()}" for name, future in running if (error := _error(future.exception()))]
    if causes:
        raise click.ClickException("\n".join(causes))


def _error(found: BaseException | None) -> click.ClickException | None:
    if found is not None and not isinstance(found, click.ClickException):
        raise found
    return found


def ensure(lab: Lab, place: Place, name: str) -> None:
    """The host, up and accepted by the cloud: joined the first time, started again otherwise."""
    state = place.host(name)
    if state.dir.exists():
        with locked(state):  # A `join` of one's own hand may be under way.
            pass
    if state.node_config.exists():
        start(lab, place, name)
        return
    forget(place.cloud, name)
    token = ask(place.cloud, "POST", "/host-tokens", {"hosts": 1, "ttl_s": 3600})["token"]
    url = f"https://{lab.address(API)}:{place.cloud.require().nodes_port}"
    words = ("join", url, "--token", "-", "--name", name, "--tunnel-ip", lab.address(name), "--external", lab.outer(name))
    command(("nacre.cli", *words, "--state", str(state.dir)), lab.namespace(name), content=f"{token}\n")


def forget(cloud: State, name: str) -> None:
    """A `lab up` that was killed may have left a host in the cloud's books whose certificate nobody has."""
    try:
        ask(cloud, "DELETE", path_of(name))
    except ApiError as error:
        if error.status != 404:
            raise


def start(lab: Lab, place: Place, name: str) -> None:
    """The host's cable is in, its node runs, and the cloud has accepted it. One that was killed comes back as a machine that was started
    again. Raises ClickException, also for one that never joined."""
    state = place.host(name)
    if not state.node_config.exists():
        raise click.ClickException(f"{name} has not joined yet: nacre lab up{place.option}")
    wires.set_cable(lab, name, up=True)
    command(("nacre.cli", "join", "--state", str(state.dir)), lab.namespace(name))


def kill(lab: Lab, place: Place, name: str) -> None:
    """As a power cut would: the cable is dead first, then the node and all guests, at once; what was in the kernel goes, the disk stays."""
    state = place.host(name)
    wires.set_cable(lab, name, up=False)
    for process in ("supervisor", "node"):
        found = processes.find(state.pid_file(process))
        if found is not None:
            processes.signal_to(found, signal.SIGKILL)
            processes.await_end(found, GONE_S)
        state.pid_file(process).unlink(missing_ok=True)
    if not state.node_config.exists():
        return
    command(("nacre.node.poweroff", "--config", str(state.node_config)), lab.namespace(name))
    config = msgspec.structs.replace(load_node(state), boot_id=f"-{uuid.uuid4()}")
    write(state.node_config, msgspec.json.encode(config).decode(), mode=0o600)


def stop(place: Place, name: str) -> None:
    """The node's processes; guests run on."""
    if place.host(name).cloud_file.exists():
        command(("nacre.cli", "down", "--state", str(place.host(name).dir)))


def purge(lab: Lab, place: Place, name: str) -> None:
    """All of the host, but for its namespace and its cable. One that never got as far as its cloud.json has only its directory."""
    state = place.host(name)
    if state.dir.exists():
        command(("nacre.cli", "down", "--purge", "--state", str(state.dir)), lab.namespace(name))


def seen(cloud: State) -> dict[str, dict[str, Any]]:
    """The hosts as the cloud knows them, by name; none where its API does not answer."""
    try:
        return {row["hostname"]: row for row in ask(cloud, "GET", "/hosts")["hosts"]}
    except click.ClickException:
        return {}


def await_hosts(place: Place, names: Iterable[str]) -> None:
    """Until the cloud has a stream from each. Raises ClickException with those that it has none from."""
    end = time.monotonic() + GONE_S
    while missing := [name for name in names if not seen(place.cloud).get(name, {}).get("alive")]:
        if time.monotonic() > end:
            raise click.ClickException(
                f"the cloud has no stream from {', '.join(missing)}: see {place.host(missing[0]).log_file('node')}"
            )
        time.sleep(POLL_S)


def rows(lab: Lab, place: Place) -> list[dict[str, Any]]:
    """One for each end of a cable: the machine, then the hosts."""
    known = seen(place.cloud)
    plugged = wires.plugged(lab)
    found = [row(lab, place.cloud, API, known.get(own_name(place.cloud), {}), plugged)]
    return found + [row(lab, place.host(name), name, known.get(name, {}), plugged) for name in lab.names]


def row(lab: Lab, state: State, name: str, known: dict[str, Any], plugged: set[str]) -> dict[str, Any]:
    node = processes.find(state.pid_file("node"))
    return {
        "name": name,
        "host": known.get("hostname", ""),
        "address": lab.address(name),
        "cable": "in" if name in plugged else "out",
        "node": node.pid if node else None,
        "cloud": "up" if known.get("alive") else "down",
        "guests": known.get("guests", ""),
        "state": str(state.dir),
    }


def own_name(cloud: State) -> str:
    """What the cloud calls the machine itself."""
    try:
        return str(json.loads(Path(cloud.node_config).read_text())["hostname"])
    except (OSError, ValueError, KeyError):
        return ""
