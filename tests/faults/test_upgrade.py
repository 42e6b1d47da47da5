"""From the version before to this one, one process after the other, under load: servers run on, and nothing that was promised is lost."""

import asyncio
import io
import os
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nacre.node.config import load
from nacre.node.purge import purge
from tests.cgroups import cgroups
from tests.faults.storm import HEADERS, Storm, delete_all, hold_against_promises, make_network, statuses
from tests.faults.test_real_kills import upload_busybox
from tests.processes import Processes, wait_for
from tests.support import Client

pytestmark = pytest.mark.root
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
def cloud(before: Path) -> Iterator[Processes]:
    """A real host, both processes of the version before."""
    with tempfile.TemporaryDirectory(prefix="nacre-upgrade-", dir="/var/tmp") as folder:
        state = Path(folder)
        state.chmod(0o755)
        old = {name: {"PYTHONPATH": str(before)} for name in ("api", "node")}
        cloud = Processes(state, simulate=0, cloud_id="0b9d", external="198.18.72", environment=old).up()
        yield cloud
        cloud.down()
        print(cloud.logs())
        asyncio.run(purge(load(state / "run/node.json")))
        assert str(state / "node") not in Path("/proc/self/mountinfo").read_text()
        assert not cgroups("nacre-0b9d*")


def server(client: Client, image: str, network: str) -> str:
    body = {"name": "stays", "imageRef": image, "flavorRef": "42", "networks": [{"uuid": network}]}
    ident = client("POST", "/compute/v2.1/servers", {"server": body}, HEADERS).json["server"]["id"]
    wait_for(lambda: statuses(client).get(ident) == "ACTIVE", "a server to be ACTIVE")
    return str(ident)


def address(client: Client, ident: str) -> str:
    shown = client("GET", f"/compute/v2.1/servers/{ident}").json["server"]
    return str(shown["addresses"]["storm"][0]["addr"])


def upgrade(cloud: Processes, name: str) -> None:
    """The process ends as an operator ends it, and starts with the code of this clone."""
    cloud.kill(name, signal.SIGTERM)
    del cloud.environment[name]
    cloud.start(name)


def busy(client: Client, storms: list[Storm]) -> None:
    """Until the storm has been through some more servers, from the request to the end."""
    gone = sum(len(storm.deleted) for storm in storms)
    made = sum(len(storm.promised) for storm in storms)
    wait_for(lambda: sum(len(storm.deleted) for storm in storms) >= gone + DONE_AT_LEAST, "servers to go")
    wait_for(lambda: sum(len(storm.promised) for storm in storms) >= made + DONE_AT_LEAST, "servers to come")
    wait_for(lambda: "ACTIVE" in [shown for ident, shown in statuses(client).items() if _new(ident, storms)], "one to be ACTIVE")


def _new(ident: str, storms: list[Storm]) -> bool:
    return any(ident in storm.promised for storm in storms)


def test_processes_are_upgraded_one_by_one_under_load(cloud: Processes) -> None:
    client = cloud.login()
    image, network = upload_busybox(client), make_network(client)
    one, two = server(client, image, network), server(client, image, network)
    pid = (cloud.state / f"node/guests/{one}/pid").read_text().strip()
    words = ["nsenter", "-t", pid, "-n", "ping", "-n", "-i", "0.1", address(client, two)]
    ping = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    storms = [Storm(client, image, network, seed, servers_max=4) for seed in range(2)]
    for storm in storms:
        storm.start()
    busy(client, storms)
    # The API first: it speaks with nodes of its own version and of the one before, never the other way round.
    for name in ("api", "node"):
        upgrade(cloud, name)
        wait_for(cloud.is_ready, f"the cloud to serve with the new {name}")
        busy(client, storms)
    for storm in storms:
        storm.finish()
    ping.send_signal(signal.SIGINT)
    said = ping.communicate(timeout=60)[0]
    assert " 0% packet loss" in said, said
    assert (cloud.state / f"node/guests/{one}/pid").read_text().strip() == pid, "the guest is the same process"
    assert {statuses(client)[ident] for ident in (one, two)} == {"ACTIVE"}
    hold_against_promises(client, storms, {"ACTIVE"})
    delete_all(client)
