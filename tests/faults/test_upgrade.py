"""A lab of two hosts goes from the version before to this one, machine by machine, under load: guests run on, no packet of theirs is lost,
and nothing that was promised is."""

import io
import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import several
from tests.faults.lab import Lab, Room, reaches, running
from tests.faults.pinging import Pinging
from tests.faults.storm import Storm, delete_all, hold_against_promises, make_network, statuses
from tests.faults.test_simulated_kills import upload_image
from tests.postgres import Cluster
from tests.processes import wait_for
from tests.support import Balanced, Client

CLONE = Path(__file__).parents[2]
BEFORE = os.environ.get("NACRE_UPGRADE_FROM", "HEAD~1")
"""The commit whose version is upgraded: the one before, or what an operator runs."""
DONE_AT_LEAST = 5
"""Servers that come to be in each stage of the upgrade: it is one under load."""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the version before."""
    archive = subprocess.run(["git", "-C", str(CLONE), "archive", BEFORE, "src"], capture_output=True, check=False)
    if archive.returncode != 0:
        pytest.skip(f"the history of this clone has no {BEFORE}")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder)
    return folder / "src"


@pytest.fixture
def lab(before: Path) -> Iterator[Lab]:
    """All of it of the version before."""
    with running(hosts=2, code=before) as made:
        yield made


def busy(client: Client, storms: list[Storm]) -> None:
    """Until the storm has been through some more servers, from the request to the end."""
    gone = sum(len(storm.deleted) for storm in storms)
    made = sum(len(storm.promised) for storm in storms)
    wait_for(lambda: sum(len(storm.deleted) for storm in storms) >= gone + DONE_AT_LEAST, "servers to go")
    wait_for(lambda: sum(len(storm.promised) for storm in storms) >= made + DONE_AT_LEAST, "servers to come")
    wait_for(lambda: "ACTIVE" in [shown for ident, shown in statuses(client).items() if _new(ident, storms)], "one to be ACTIVE")


def _new(ident: str, storms: list[Storm]) -> bool:
    return any(ident in storm.promised for storm in storms)


def pid_of(lab: Lab, host: str, server: str) -> str:
    return (lab.host(host).node / f"guests/{server}/pid").read_text().strip()


@pytest.mark.root
def test_a_lab_is_upgraded_machine_by_machine_under_load(lab: Lab) -> None:
    client = lab.login()
    room = Room(lab, client, "stays", "10.50.0.0/24")
    room.open_doors()
    guests = {host: room.boot(host) for host in ("h1", "h2")}
    pids = {host: pid_of(lab, host, guest) for host, guest in guests.items()}
    inside, there = lab.inside("h1", guests["h1"]), room.address(guests["h2"])
    wait_for(lambda: reaches(there, *inside), "the guests to reach each other")
    pinging = Pinging(*inside, there)
    storms = [Storm(client, room.image, make_network(client), seed, servers_max=4) for seed in range(2)]
    for storm in storms:
        storm.start()
    busy(client, storms)
    lab.code = CLONE / "src"
    # The API first: it speaks with nodes of its own version and of the one before, never the other way round.
    for name in ("api", "h1", "h2"):
        lab.again(name)
        wait_for(lambda name=name: lab.up() >= {"h1", "h2"}, f"all hosts to be there after {name}")
        busy(client, storms)
    for storm in storms:
        storm.finish()
    assert pinging.lost() == 0
    assert {host: pid_of(lab, host, guest) for host, guest in guests.items()} == pids, "the guests are the same processes"
    assert {statuses(client)[ident] for ident in guests.values()} == {"ACTIVE"}
    hold_against_promises(client, storms, {"ACTIVE"})
    delete_all(client)
    lab.audited(client)


def test_two_versions_of_the_api_serve_over_one_store(before: Path, tmp_path: Path) -> None:
    """One process after the other is replaced, while requests go to both."""
    if not (before / "nacre/cloud/processes").is_dir():
        pytest.skip("the version before had one API process at a time")
    server = Cluster()
    old = {name: {"PYTHONPATH": str(before)} for name in (*several.APIS, "node")}
    try:
        with several.running(tmp_path, server.database(), old) as cloud:
            first = cloud.login()
            client = Balanced(first.base_url, first.token, (several.url_of(cloud, "api-2"),))
            storms = [Storm(client, upload_image(first), make_network(first), seed, servers_max=8) for seed in range(2)]
            for storm in storms:
                storm.start()
            for name in (*several.APIS, "node"):
                cloud.kill(name, signal.SIGTERM)
                del cloud.environment[name]
                cloud.start(name)
                wait_for(lambda: several.is_whole(cloud), f"every process to have a stream of every host, with the new {name}")
                busy(first, storms)
            for storm in storms:
                storm.finish()
            hold_against_promises(first, storms, {"ACTIVE"})
            delete_all(first)
    finally:
        server.close()
