"""The documents' two-container ping: an adapter of the Powerstrip protocol gives containers a network by a CIDR in their environment."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.node.dockercli import CLONE, Site, has_client, run, site
from tests.processes import free_port, wait_for

pytestmark = [pytest.mark.root, pytest.mark.skipif(not has_client("docker"), reason="there is no docker CLI on this machine")]

ADAPTER = CLONE / "examples" / "socketplane" / "adapter.py"
ADAPTERS = CLONE / "examples" / "socketplane" / "adapters.yml"
CIDR = 'SOCKETPLANE_CIDR="10.0.6.1/24"'
STOP_S = 20


@pytest.fixture(scope="module")
def cloud() -> Iterator[Site]:
    with site("nacre-socketplane-") as made:
        yield made


@contextmanager
def program(*command: str) -> Iterator[None]:
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        started.terminate()
        started.wait(STOP_S)


@contextmanager
def adapter(engine: str, port: int) -> Iterator[None]:
    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/ping", timeout=5) as answer:
                return bool(answer.read() == b"pong")
        except OSError:
            return False

    with program(sys.executable, str(ADAPTER), "--docker", engine, "--port", str(port)):
        wait_for(answers, "ping to be answered by pong")
        yield


def adapters_file(folder: Path, port: int) -> Path:
    file = folder / "adapters.yml"
    file.write_text(ADAPTERS.read_text().replace("6675", str(port)))
    file.chmod(0o644)
    return file


def ping_each_other(cloud: Site, host: str) -> None:
    env = {**cloud.env, "DOCKER_HOST": host}

    def say(*arguments: str) -> str:
        return cloud.good(["docker", *arguments], env).out.strip()

    say("run", "-d", "--name", "one", "-e", CIDR, "busybox", "sleep", "1000")
    say("run", "-d", "--name", "two", "-e", CIDR, "busybox", "sleep", "1000")
    assert "inet 10.0.6.2/24" in say("exec", "one", "ip", "-4", "addr")
    assert "inet 10.0.6.3/24" in say("exec", "two", "ip", "-4", "addr")
    for name, other in (("one", "10.0.6.3"), ("two", "10.0.6.2")):
        assert "0% packet loss" in say("exec", name, "ping", "-c", "2", "-W", "5", other)
    # A container that asks for nothing has the project's default network.
    assert "10.0.6." not in say("run", "--rm", "busybox", "ip", "-4", "addr")
    refused = run(["docker", "run", "--rm", "-e", "SOCKETPLANE_CIDR=nonsense", "busybox", "true"], env)
    assert (refused.code, "socketplane:" in refused.err) == (125, True), refused
    left = say("ps", "-aq").split()
    assert len(left) == 4, left  # Two containers, and a companion for each.
    say("rm", "-f", *left)
    say("network", "rm", "socketplane-10.0.6.0-24")


def test_in_front_of_an_engine_as_a_program_of_its_own(cloud: Site, tmp_path: Path) -> None:
    port, listen = free_port(), free_port()
    engine = cloud.host("demo")
    file = adapters_file(tmp_path, port)
    command = [
        sys.executable,
        "-m",
        "nacre.cli",
        "powerstrip",
        "--docker",
        engine,
        "--listen",
        f"tcp://127.0.0.1:{listen}",
        str(file),
    ]
    with adapter(engine, port), program("env", f"PYTHONPATH={CLONE / 'src'}", *command):
        host = f"tcp://127.0.0.1:{listen}"
        wait_for(lambda: run(["docker", "version"], {**cloud.env, "DOCKER_HOST": host}).code == 0, "the endpoint to serve")
        ping_each_other(cloud, host)


def test_in_front_of_the_clouds_own_sockets(cloud: Site) -> None:
    port = free_port()
    host = cloud.host("demo")
    sockets = cloud.state / "docker"
    file = adapters_file(sockets, port)
    cloud.nacre("down")
    cloud.nacre("up", options=("--detach",))
    engine = f"unix://{sockets / 'engine' / Path(host.removeprefix('unix://')).name}"
    with adapter(engine, port):
        ping_each_other(cloud, host)
        assert "hi" in cloud.say("run", "--rm", "busybox", "echo", "hi")
    file.unlink()
    assert json.loads(cloud.nacre("audit", options=("--format", "json")))["findings"] == []
