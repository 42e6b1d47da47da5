"""A cloud's life on one machine, by the commands that people type; its guests are simulated, so no root is needed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nacre.cli import processes
from nacre.cli.client import connect, send
from nacre.cli.state import State

CLONE = Path(__file__).resolve().parents[2]
WAIT_S = 120.0


def nacre(*arguments: str, code: int = 0, typed: str = "") -> str:
    """Runs the command; its output, both streams."""
    env = {**os.environ, "PYTHONPATH": f"{CLONE / 'src'}"}
    env.pop("NACRE_STATE", None)
    command = [sys.executable, "-m", "nacre.cli", *arguments]
    done = subprocess.run(
        command, env=env, input=typed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def directory() -> Iterator[Path]:
    """A place that the cloud's own user can reach, which pytest's own is not."""
    parent = Path(tempfile.mkdtemp(prefix="nacre-test-", dir="/var/tmp"))
    parent.chmod(0o755)
    yield parent / "cloud"
    nacre("down", "--purge", "--state", str(parent / "cloud"))
    assert not (parent / "cloud").exists()
    shutil.rmtree(parent)


def running(state: State, name: str) -> processes.Process | None:
    return processes.find(state.pid_file(name))


def await_other(state: State, name: str, former: processes.Process) -> None:
    deadline = time.monotonic() + WAIT_S
    while running(state, name) in (None, former):
        assert time.monotonic() < deadline, state.log_file(name).read_text()
        time.sleep(0.05)


def status(directory: Path, code: int = 0) -> dict[str, Any]:
    seen: dict[str, Any] = json.loads(nacre("status", "--state", str(directory), "-f", "json", code=code))
    return seen


def test_a_cloud_starts_serves_survives_and_leaves_no_trace(directory: Path) -> None:
    state, port = State(directory), str(free_port())
    started = nacre("up", "--state", str(directory), "--port", port, "--simulate", "3", "--detach")
    assert f"http://127.0.0.1:{port}" in started
    assert f"OS_CLIENT_CONFIG_FILE={state.clouds_yaml}" in started

    for cloud, user in (("nacre", "demo"), ("nacre-admin", "admin")):
        client = connect(state, cloud)
        client.authenticate()
        body = send(
            "GET", f"{client.auth['auth_url']}/auth/tokens", {"X-Auth-Token": client.token, "X-Subject-Token": client.token}
        ).body
        assert body["token"]["user"]["name"] == user

    images = connect(state, "nacre").get("image", "/images?name=busybox")["images"]
    assert [(image["status"], image["container_format"], image["visibility"]) for image in images] == [
        ("active", "docker", "public")
    ]

    before = {name: running(state, name) for name in ("supervisor", "api", "node")}
    assert "nothing to do" in nacre("up", "--state", str(directory), "--detach")
    assert {name: running(state, name) for name in ("supervisor", "api", "node")} == before
    assert status(directory)["hosts_up"] == 3
    assert "serving" in nacre("logs", "api", "--state", str(directory))

    nacre("down", "--state", str(directory))
    assert [running(state, name) for name in ("supervisor", "api", "node")] == [None, None, None]
    assert status(directory, code=1)["serves"] is False
    assert "nothing to do" in nacre("down", "--state", str(directory))
    nacre("up", "--state", str(directory), "--detach", "--strategy", "binpack")
    assert json.loads(state.api_config.read_text())["strategy"] == "binpack"
    assert "places by binpack" in nacre("up", "--state", str(directory), "--detach", "--strategy", "random", code=1)
    assert len(connect(state, "nacre").get("image", "/images?name=busybox")["images"]) == 1


def test_whatever_is_killed_runs_again(directory: Path) -> None:
    state = State(directory)
    nacre("up", "--state", str(directory), "--port", str(free_port()), "--simulate", "1", "--detach")
    for name in ("api", "node"):
        process = running(state, name)
        assert process is not None
        processes.signal_to(process, signal.SIGKILL)
        await_other(state, name, process)

    supervisor, api = running(state, "supervisor"), running(state, "api")
    assert supervisor is not None
    processes.signal_to(supervisor, signal.SIGKILL)
    processes.await_end(supervisor, WAIT_S)
    assert "serves at" in nacre("up", "--state", str(directory), "--detach")
    assert running(state, "api") == api, "a new supervisor takes over what runs"

    for name in ("supervisor", "api", "node"):
        process = running(state, name)
        assert process is not None
        processes.signal_to(process, signal.SIGKILL)
        processes.await_end(process, WAIT_S)
    assert "serves at" in nacre("up", "--state", str(directory), "--detach"), "as after a reboot: pid files without processes"


def test_in_the_foreground_a_signal_stops_the_processes(directory: Path) -> None:
    state = State(directory)
    command = [sys.executable, "-m", "nacre.cli", "up", "--state", str(directory), "--port", str(free_port()), "--simulate", "1"]
    env = {**os.environ, "PYTHONPATH": f"{CLONE / 'src'}"}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as foreground:
        assert foreground.stderr is not None
        for line in foreground.stderr:
            if "Ctrl-C" in line:
                break
        assert running(state, "api") is not None
        foreground.send_signal(signal.SIGINT)
        foreground.stderr.read()
        assert foreground.wait(WAIT_S) == 0
    assert [running(state, name) for name in ("supervisor", "api", "node")] == [None, None, None]


def test_a_taken_port_is_refused_with_the_remedy(directory: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = str(listener.getsockname()[1])
        said = nacre("up", "--state", str(directory), "--port", taken, "--simulate", "1", "--detach", code=1)
    assert "is in use on this machine: choose another with --port" in said
