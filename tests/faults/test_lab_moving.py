"""Real guests between real hosts of a lab: they move with their files while nodes are killed, and one that was replaced does not speak."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.lab import HEADERS, Lab, Room, reaches, running
from tests.processes import wait_for
from tests.support import Client

pytestmark = pytest.mark.root
MEGABYTES = 200


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running(hosts=3) as made:
        yield made


def _act(client: Client, server: str, action: str, body: Any = None) -> None:
    answer = client("POST", f"/compute/v2.1/servers/{server}/action", {action: body}, HEADERS)
    assert answer.status in (202, 204), answer.body


def _host_of(client: Client, server: str) -> str:
    return str(client("GET", f"/compute/v2.1/servers/{server}", None, HEADERS).json["server"]["OS-EXT-SRV-ATTR:host"])


def _guest(lab: Lab, host: str, server: str) -> Path:
    return lab.host(host).node / "guests" / server


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.parametrize("killed", ["h1", "h2"])
def test_a_guest_moves_with_its_files_though_a_node_is_killed_on_the_way(lab: Lab, killed: str) -> None:
    client = lab.login()
    room = Room(lab, client, f"moving-{killed}", "10.40.0.0/24")
    room.open_doors()
    server, other = room.boot("h1"), room.boot("h3")
    address, here, there = room.address(server), _guest(lab, "h1", server), _guest(lab, "h2", server)
    pid = (here / "pid").read_text().strip()
    fill = ("dd", "if=/dev/urandom", "of=/big", "bs=1M", f"count={MEGABYTES}")
    subprocess.run(["nsenter", "-t", pid, "-a", "/bin/busybox", *fill], check=True, capture_output=True)
    before = _sum(here / "rootfs/big")
    _act(client, server, "migrate", {"host": "h2"})
    wait_for(lambda: (there / "disk/upper/big").exists() or room.status(server) == "VERIFY_RESIZE", "the disk to be on its way")
    lab.ends(killed, "node")
    wait_for(lambda: room.status(server) == "VERIFY_RESIZE", "the server to have arrived")
    assert (_host_of(client, server), room.address(server)) == ("h2", address)
    assert _sum(there / "rootfs/big") == before
    wait_for(lambda: reaches(address, *lab.inside("h3", other)), "it to answer from where it is")
    lab.audited(client)
    _act(client, server, "revertResize")
    wait_for(lambda: room.status(server) == "ACTIVE", "the server to be back")
    assert _host_of(client, server) == "h1"
    assert not there.exists()
    wait_for(lambda: reaches(address, *lab.inside("h3", other)), "it to answer from where it was")
    lab.audited(client)
    for ident in (server, other):
        client("DELETE", f"/compute/v2.1/servers/{ident}")


def test_a_guest_of_a_host_without_the_api_is_silent_by_the_time_there_is_another(lab: Lab) -> None:
    client = lab.login()
    room = Room(lab, client, "fenced", "10.41.0.0/24")
    room.open_doors()
    server, other, plain = room.boot("h1"), room.boot("h3"), room.boot("h1", "plain")
    kept = {"metadata": {"nacre:evacuate": "true"}}
    assert client("POST", f"/compute/v2.1/servers/{server}/metadata", kept).status == 200
    address, ask = room.address(server), lab.inside("h3", other)
    inside = lab.inside("h1", server)
    wait_for(lambda: reaches(address, *ask), "the guest to answer")
    lab.run("cut", "h1", "api")
    wait_for(lambda: _host_of(client, server) != "h1" and room.status(server) == "ACTIVE", "another to be there")
    # The old one runs, and nobody hears it: its neighbours on the host do not, nor does it hear them.
    assert not reaches(room.address(plain), *inside)
    wait_for(lambda: reaches(address, *ask), "the new one to answer")
    assert reaches(room.address(plain), *ask), "what is not to be moved runs on"
    lab.run("heal")
    wait_for(lambda: not _guest(lab, "h1", server).exists(), "the stale one to be removed")
    lab.audited(client)


def test_containers_of_dockers_leave_a_host_that_is_drained(lab: Lab) -> None:
    """By Docker's own client: the one with a published port and a name answers from where it went; the one with a volume stays, and it is
    said why."""
    client = lab.login("nacre")
    project = client("GET", "/identity/v3/auth/tokens", headers={"X-Subject-Token": client.token}).json["token"]["project"]["id"]
    environment = {**os.environ, "DOCKER_HOST": f"unix://{lab.state.docker}/{project}.sock"}

    def docker(*words: str) -> str:
        done = subprocess.run(["docker", *words], env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
        return done.stdout.strip()

    def host_of(name: str) -> str:
        return docker("inspect", "-f", "{{.Node.Name}}", name)

    serve = "mkdir -p /www; echo from $COLOR > /www/index.html; exec httpd -f -p 80 -h /www"
    docker("network", "create", "web")
    docker("volume", "create", "data")
    here = ("-e", "constraint:node==h1")
    docker(
        "run",
        "-d",
        "--name",
        "moves",
        "--network",
        "web",
        "-p",
        "80",
        "-e",
        "COLOR=blue",
        "--label",
        "tier=front",
        *here,
        "busybox",
        "sh",
        "-c",
        serve,
    )
    docker("run", "-d", "--name", "stays", "-v", "data:/data", *here, "busybox", "sleep", "9999")
    docker("run", "-d", "--name", "asks", "--network", "web", "-e", "constraint:node==h2", "busybox", "sleep", "9999")
    assert [host_of(name) for name in ("moves", "stays", "asks")] == ["h1", "h1", "h2"]
    address = docker("inspect", "-f", "{{.NetworkSettings.Networks.web.IPAddress}}", "moves")
    lab.nacre("host", "drain", "h1")
    wait_for(
        lambda: host_of("moves") != "h1" and docker("ps", "-q", "-f", "name=moves", "-f", "status=running"),
        "the container to be elsewhere",
    )
    wait_for(
        lambda: docker("exec", "asks", "sh", "-c", "wget -qO- http://moves/ || true") == "from blue", "it to answer by its name"
    )
    assert docker("inspect", "-f", "{{.NetworkSettings.Networks.web.IPAddress}}", "moves") == address
    assert docker("inspect", "-f", "{{.Config.Labels.tier}}", "moves") == "front"
    assert docker("port", "moves", "80")
    shown = wait_for(
        lambda: lab.nacre("host", "show", "h1") if "stays" in lab.nacre("host", "show", "h1") else "",
        "the drain to say what stays",
    )
    assert "volume" in shown
    assert host_of("stays") == "h1"
    lab.nacre("host", "uncordon", "h1")
    docker("rm", "-f", "moves", "stays", "asks")
    docker("volume", "rm", "data")
    docker("network", "rm", "web")
    lab.audited(lab.login())
