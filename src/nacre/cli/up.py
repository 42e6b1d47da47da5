"""`nacre up`: from a bare machine to a cloud that serves. Idempotent at every step."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from nacre.cli import database, packages
from nacre.cli import processes as running
from nacre.cli.asked import Asked, check_running
from nacre.cli.client import ApiError, send
from nacre.cli.state import COMMAND, Cloud, State, opened, say, state_option

READY_WAIT_S = 90.0
"""How long the processes may take until both serve; the first start makes the database."""
POLL_S = 0.02
EXITS_MAX = 4
"""A process that ended this often before both served will not serve."""
LOG_TAIL_LINES = 15


@click.command()
@state_option
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Where the APIs serve (8080, or the next free one at the first start)."
)
@click.option(
    "--detach", is_flag=True, help="Return when both processes serve; a supervisor in the background keeps them running."
)
@click.option("--demo", is_flag=True, help="Detach, then boot a first server that serves a web page.")
@click.option(
    "--simulate", type=click.IntRange(1, 10_000), metavar="N", help="N simulated hosts instead of real guests; needs no root."
)
@click.option(
    "--docker-tcp",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Open the Docker pane of the project demo to everybody on this machine, on a port of loopback (0: no more).",
)
@click.option(
    "--docker-tls",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Serve every project's Docker pane on this port to clients with certificates (0: no more). Kept for the next start.",
)
@click.option(
    "--nodes",
    metavar="[ADDRESS:]PORT",
    help="Let other machines join as hosts, by TLS at this place (0: no more). Kept for the next start.",
)
@click.option(
    "--external",
    metavar="DEVICE",
    help="A network device that leads to the external network, given to it whole ('': none). Kept for the next start.",
)
@click.option(
    "--strategy",
    type=click.Choice(["spread", "binpack", "random"]),
    help="Which of the hosts that can take a guest gets it: the least used, the fullest, or any. Kept for the next start.",
)
@click.option(
    "--store",
    envvar="NACRE_STORE",
    metavar="URL",
    help="Keep everything in this PostgreSQL database (postgresql://USER@HOST/NAME), not in SQLite. For the first start; a URL with"
    " a password comes by the environment, as NACRE_STORE. See also `store move`.",
)
@click.option(
    "--url",
    metavar="URL",
    help="Where clients reach the cloud, where that is not this machine: what balances among several API processes ('': here)."
    " Kept for the next start.",
)
@click.option(
    "--bind",
    metavar="ADDRESS",
    help="An address of this machine at which the APIs serve, besides loopback ('': none). Kept for the next start.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 16),
    metavar="N",
    help="So many API processes on this machine, at the port and those after it; more than one needs PostgreSQL and --nodes. Kept for"
    " the next start.",
)
@click.option(
    "--blobs",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIRECTORY",
    help="Where image bytes lie, for a first start: a directory that the API processes of several machines share.",
)
@click.option(
    "--from",
    "peer",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="Be further API processes of the cloud that wrote FILE (`nacre api export`), for a first start.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="What passwords must be like and from where images may be fetched (docs/operations.md). Kept for the next start.",
)
def up(
    directory: Path | None,
    port: int | None,
    detach: bool,
    demo: bool,
    simulate: int | None,
    docker_tcp: int | None,
    docker_tls: int | None,
    nodes: str | None,
    external: str | None,
    strategy: str | None,
    store: str | None,
    url: str | None,
    bind: str | None,
    processes: int | None,
    blobs: Path | None,
    peer: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Start a cloud on this machine, or say that it runs.

    Installs missing Debian packages (as root), starts the API and node processes, waits until both serve, and says what to type next.
    Without --detach it stays in the foreground, and Ctrl-C stops the processes; servers run on either way.
    """
    state = opened(directory)
    os.umask(0o022)
    existing = state.load()
    if existing is not None and existing.joined:
        raise click.ClickException(
            f"{state.dir} is a host of the cloud at {existing.joined}: {COMMAND} join{state.option} starts its node"
        )
    database.check_given(store)
    simulated = bool(simulate or (existing and existing.simulated_hosts))
    if not simulated:
        require_root(state)
        packages.ensure("node")
    with locked(state):
        cloud, started = start(
            state,
            Asked(
                port=port,
                simulate=simulate,
                docker_tcp=docker_tcp,
                docker_tls=docker_tls,
                strategy=strategy,
                settings=settings,
                nodes=nodes,
                external=external,
                store=store,
                url=url,
                bind=bind,
                processes=processes,
                blobs=blobs,
                peer=peer,
            ),
        )
    if started:
        register_default_images(state, cloud)
    say(next_steps(state, cloud, started=started))
    if demo:
        from nacre.cli.demo import run_demo

        run_demo(state)
    elif started and not detach:
        follow(state)


def require_root(state: State) -> None:
    if os.geteuid() != 0:
        lines = [
            "real guests need root. Run: sudo ./nacre up",
            "Without root there are simulated hosts: ./nacre up --simulate 100",
        ]
        absent = packages.missing("node")
        if absent:
            lines.insert(1, f"Debian packages are missing too, which root's `up` installs: {' '.join(p.name for p in absent)}")
        raise click.ClickException("\n".join(lines))


@contextmanager
def locked(state: State) -> Iterator[None]:
    """One `up` or `down` of a cloud at a time; another waits."""
    try:
        state.dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(state.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise click.ClickException(f"cannot use {state.dir} as state directory: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def start(state: State, asked: Asked) -> tuple[Cloud, bool]:
    """The cloud, serving, and whether this call started it."""
    supervisor = running.find(state.pid_file("supervisor"))
    cloud = state.load()
    if supervisor is not None and cloud is not None:
        check_running(state, cloud, asked)
        await_ready(state, cloud)
        return cloud, False
    # These imports cost more than a no-op `up` should.
    from nacre.cli import provision, source

    cloud = provision.settle(state, asked)
    code = source.prepare(state, shared=os.geteuid() == 0)
    provision.write_configs(state, cloud, code)
    start_supervisor(state, code)
    try:
        await_ready(state, cloud)
    except click.ClickException:
        stop_processes(state)
        raise
    return cloud, True


def start_supervisor(state: State, code: Path) -> None:
    """A session of its own, so that it outlives this command."""
    env = {**os.environ, "PYTHONPATH": str(code)}
    env.pop("NACRE_STORE", None)
    with state.log_file("supervisor").open("ab") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "nacre.cli.supervisor", str(state.supervisor_config)],
            env=env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    # The next `up` must find it, whatever becomes of this one; it writes the same again when it starts.
    running.note(state.pid_file("supervisor"), supervisor.pid)


def health(cloud: Cloud, number: int = 0) -> dict[str, Any] | None:
    """What GET /healthz says at one of this machine's API processes, or None while nobody answers."""
    try:
        body = send("GET", f"http://127.0.0.1:{cloud.port + number}/healthz", timeout_s=5.0).body
    except ApiError:
        return None
    return body if isinstance(body, dict) and body.get("api") == "ok" else None


def await_ready(state: State, cloud: Cloud) -> None:
    """Until each API process serves and has a stream of this machine's host. Raises ClickException, with the ends of the logs, after READY_WAIT_S or
    EXITS_MAX exits."""
    deadline = time.monotonic() + READY_WAIT_S
    log_start = state.log_file("supervisor").stat().st_size
    seen: dict[str, Any] | None = None
    while time.monotonic() < deadline:
        answers = [health(cloud, number) for number in range(cloud.processes)]
        seen = next((answer for answer in answers if answer is not None), None)
        if all(answer is not None and answer.get("hosts_up", 0) >= 1 and answer.get("host_up", True) for answer in answers):
            return
        if running.find(state.pid_file("supervisor")) is None or exits(state, log_start) >= EXITS_MAX:
            break
        time.sleep(POLL_S)
    what = "the API does not answer" if seen is None else "the API serves, but no host is up"
    tails = [f"--- {state.log_file(name)}\n{tail(state.log_file(name))}" for name in ("supervisor", *cloud.api_names, "node")]
    raise click.ClickException(f"{what}; the ends of the logs:\n" + "\n".join(tails))


def exits(state: State, log_start: int) -> int:
    """How often a process ended since the supervisor's log had that length."""
    with state.log_file("supervisor").open("rb") as log:
        log.seek(log_start)
        return log.read().count(b" it starts again ")


def tail(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return "(none)"
    return "\n".join(lines[-LOG_TAIL_LINES:])


def register_default_images(state: State, cloud: Cloud) -> None:
    """The image `busybox`, once: one that an operator deleted does not come back."""
    if "busybox" in cloud.images:
        return
    from nacre.cli.images import register_busybox

    register_busybox(state, simulated=cloud.simulated_hosts > 0)
    cloud.images.append("busybox")
    state.save(cloud)


def next_steps(state: State, cloud: Cloud, *, started: bool) -> str:
    first = f"The cloud serves at {cloud.public}." if started else f"The cloud runs already, at {cloud.public}; nothing to do."
    return "\n".join(
        (
            first,
            f"  export OS_CLIENT_CONFIG_FILE={state.clouds_yaml} OS_CLOUD=nacre",
            "  openstack image list             (as the administrator: OS_CLOUD=nacre-admin)",
            f"  {COMMAND} up --demo{state.option}             boots a first server",
            f"  {COMMAND} status{state.option}, {COMMAND} logs{state.option}, {COMMAND} down{state.option}",
        )
    )


def follow(state: State) -> None:
    """Stays in the foreground: shows what the supervisor says, until Ctrl-C, SIGTERM or its end; then the processes are stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    log = state.log_file("supervisor")
    try:
        say("Ctrl-C stops the processes (servers run on).")
        with log.open() as lines:
            lines.seek(0, os.SEEK_END)
            while running.find(state.pid_file("supervisor")) is not None:
                for line in lines:
                    say(line.rstrip())
                time.sleep(0.2)
    except KeyboardInterrupt:
        say("stopping")
    finally:
        with locked(state):
            stop_processes(state)


def stop_processes(state: State) -> bool:
    """Ends the supervisor (which ends node and API), and whatever a killed supervisor left. False when nothing ran."""
    stopped = [running.stop(state.pid_file("supervisor"), wait_s=3 * running.TERM_WAIT_S)]
    names = ["node", *sorted(path.stem for path in state.run.glob("api*.pid"))]
    stopped += [running.stop(state.pid_file(name)) for name in names]
    return any(stopped)
