"""`nacre lab` itself: what it makes, what its knives cut, and that nothing of it is left."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nacre.cli import processes
from tests.faults.lab import Lab, ids_of, left_of, running
from tests.processes import wait_for

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running(hosts=3) as made:
        yield made


def pings(lab: Lab, one: str, other: str) -> bool:
    command = (*lab.enter(one), "ping", "-c", "1", "-W", "2", lab.layout.address(other))
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_it_is_there_and_up_again_changes_nothing(lab: Lab) -> None:
    before = json.loads(lab.run("status", "-f", "json"))
    assert {row["name"]: row["cloud"] for row in before["hosts"]} == dict.fromkeys(("api", "h1", "h2", "h3"), "up")
    assert "are up" in lab.run("up")
    assert json.loads(lab.run("status", "-f", "json")) == before
    lab.nacre("audit")


def test_a_cut_is_between_two_and_can_be_healed(lab: Lab) -> None:
    lab.run("cut", "h1", "h2")
    lab.run("cut", "h2", "h1")
    assert json.loads(lab.run("status", "-f", "json"))["cuts"] == [["h1", "h2"]]
    assert not pings(lab, "h1", "h2")
    assert pings(lab, "h1", "h3")
    assert pings(lab, "h2", "api")
    lab.run("cut", "h3", "api")
    assert not pings(lab, "h3", "api")
    lab.run("heal", "h2", "h1")
    wait_for(lambda: pings(lab, "h1", "h2"), "the healed cable to carry")
    assert not pings(lab, "h3", "api")
    lab.run("heal")
    wait_for(lambda: pings(lab, "h3", "api"), "the healed cable to carry")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("cut", "h1", "h9"), "h9 is not in this lab"),
        (("cut", "h1", "h1"), "two different ends"),
        (("heal", "h1"), "say two ends"),
        (("kill", "api"), "this machine itself"),
        (("up", "--hosts", "0"), "1<=x<=9"),
    ],
)
def test_bad_words_are_told(lab: Lab, words: tuple[str, ...], said: str) -> None:
    assert said in lab.run(*words, expect=2)


def test_a_smaller_lab_needs_another(lab: Lab) -> None:
    assert "needs `nacre lab down --purge" in lab.run("up", "--hosts", "2", expect=1)


def test_a_killed_host_is_dark_and_comes_back_with_its_servers(lab: Lab) -> None:
    client = lab.login()
    image = client("GET", "/image/v2/images?name=busybox").json["images"][0]["id"]
    network = client("POST", "/network/v2.0/networks", {"network": {"name": "kill"}}).json["network"]["id"]
    subnet = {"network_id": network, "cidr": "10.8.0.0/24", "ip_version": 4}
    assert client("POST", "/network/v2.0/subnets", {"subnet": subnet}).status == 201
    body = {
        "name": "victim",
        "imageRef": image,
        "flavorRef": "42",
        "networks": [{"uuid": network}],
        "availability_zone": "nova:h2",
    }
    server = client("POST", "/compute/v2.1/servers", {"server": body}).json["server"]["id"]
    path = f"/compute/v2.1/servers/{server}"
    wait_for(lambda: client("GET", path).json["server"]["status"] == "ACTIVE", "the server to run")
    pid = int((lab.host("h2").node / f"guests/{server}/pid").read_text())

    lab.run("kill", "h2")
    assert processes.start_of(pid) is None
    assert not pings(lab, "h1", "h2")
    assert left_of({lab.own_id("h2")}) == []
    wait_for(lambda: "h2" not in lab.up(), "the cloud to miss the host")
    assert client("GET", path).json["server"]["OS-EXT-SRV-ATTR:host"] == "h2"

    lab.run("start", "h2")
    wait_for(lambda: "h2" in lab.up(), "the host to be back")
    wait_for(lambda: (lab.host("h2").node / f"guests/{server}/pid").exists(), "the server to be back")
    wait_for(lambda: client("GET", path).json["server"]["status"] == "ACTIVE", "the server to run again")
    lab.nacre("audit")
    client("DELETE", path)
    wait_for(lambda: client("GET", path).status == 404, "the server to go")
    assert client("DELETE", f"/network/v2.0/networks/{network}").status == 204
    wait_for(lambda: not lab.left("h2", network), "the network to go")


def test_up_and_down_are_repeated_after_a_kill_in_their_midst(tmp_path_factory: pytest.TempPathFactory) -> None:
    """SIGKILL at five moments of `lab up` and of `lab down --purge`; what then is asked for again comes to be."""
    directory = Path("/var/tmp") / tmp_path_factory.mktemp("nacre-lab-killed").name
    lab = Lab(directory)
    ids: set[str] = set()
    try:
        for pause_s in (0.3, 0.9, 1.6, 2.4, 3.2):
            interrupted(lab, pause_s, "up", "--hosts", "2")
        lab.run("up", "--hosts", "2")
        assert {"h1", "h2"} <= lab.up()
        lab.nacre("audit")
        ids = ids_of(lab)
        for pause_s in (0.3, 0.6, 1.0):
            interrupted(lab, pause_s, "down", "--purge")
    finally:
        lab.run("down", "--purge")
    assert not directory.exists()
    assert left_of(ids) == []


def interrupted(lab: Lab, pause_s: float, *words: str) -> None:
    line = [sys.executable, "-m", "nacre.cli", "lab", *words, "--state", str(lab.dir)]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(pause_s)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
