"""Hosts are lost: containers that ask for it are made anew elsewhere, the others stay, and a host that returns keeps nothing that is not its own."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.storm import sound
from tests.images import config, docker_archive, layer
from tests.processes import Processes, wait_for
from tests.support import Client

LOST = "sim-0003"
POLICY = "reschedule:on-node-failure"
LAYER = layer({"serve": "nothing"})
HOSTNAME = "OS-EXT-SRV-ATTR:hypervisor_hostname"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Processes]:
    """Three hosts in one process, the one that is to be lost in another."""
    cloud = Processes(tmp_path, simulate=3).up_with_one_away()
    yield cloud
    if "node-away" in cloud.running:
        cloud.running["node-away"].send_signal(signal.SIGCONT)
    cloud.down()
    print(cloud.logs())


class Containers:
    """By Docker's API, in the admin's project."""

    def __init__(self, client: Client) -> None:
        self.client = client
        archive = docker_archive([(["empty:latest"], config(LAYER), [LAYER])])
        answer = client("POST", "/docker/images/load", archive, {"Content-Type": "application/x-tar"})
        assert answer.status == 200, answer.body

    def create(self, name: str, *env: str, start: bool = True, **host_config: Any) -> None:
        body = {"Image": "empty", "Cmd": ["serve"], "Env": list(env), "HostConfig": host_config}
        answer = self.client("POST", f"/docker/containers/create?name={name}", body)
        assert answer.status == 201, answer.body
        if start:
            answer = self.client("POST", f"/docker/containers/{name}/start")
            assert answer.status == 204, answer.body

    def inspect(self, name: str) -> dict[str, Any]:
        answer = self.client("GET", f"/docker/containers/{name}/json")
        assert answer.status == 200, answer.body
        found: dict[str, Any] = answer.json
        return found

    def host(self, name: str) -> str:
        """Where it is: both panes say the same, but for one that moves between the two questions."""

        def look() -> str | None:
            seen = self.inspect(name)
            servers = self.client("GET", f"/compute/v2.1/servers/detail?name=^{name}$").json["servers"]
            (server,) = (each for each in servers if seen["Id"].startswith(each["id"].replace("-", "")))
            return str(server[HOSTNAME]) if seen["Node"]["Name"] == server[HOSTNAME] else None

        return str(wait_for(look, f"both panes to say where {name} is"))

    def nodes(self) -> dict[str, dict[str, str]]:
        """The table of `docker info`."""
        pairs = self.client("GET", "/docker/info").json["SystemStatus"]
        assert [name for name, _ in pairs[:4]] == ["Role", "Strategy", "Filters", "Nodes"]
        found: dict[str, dict[str, str]] = {}
        host = ""
        for name, text in pairs[4:]:
            if name.startswith("  └ "):
                found[host][name.removeprefix("  └ ")] = text
            else:
                host = text
                found[host] = {}
        return found

    def hosts(self, *names: str) -> dict[str, str]:
        return {name: self.host(name) for name in names}


def test_containers_leave_a_lost_host_and_it_forgets_them(cloud: Processes) -> None:
    client = cloud.login()
    containers = Containers(client)
    there = f"constraint:node==~{LOST}"
    containers.create("web", there, POLICY)
    containers.create("beside", "affinity:container==web", POLICY)
    containers.create("idle", there, POLICY, start=False)
    containers.create("plain", there)
    containers.create("bound", f"constraint:node=={LOST}", POLICY)
    every = ("web", "beside", "idle", "plain", "bound")
    assert set(containers.hosts(*every).values()) == {LOST}
    before = {name: containers.inspect(name) for name in every}

    wait_for(lambda: containers.nodes()[LOST]["Containers"] == "5 (4 Running, 0 Paused, 1 Stopped)", "docker info to show them")
    assert list(containers.nodes()) == ["sim-0000", "sim-0001", "sim-0002", LOST]
    assert {node["Status"] for node in containers.nodes().values()} == {"Healthy"}
    stranger = Containers(cloud.login("demo", "demo"))
    assert stranger.nodes()[LOST]["Containers"] == "0 (0 Running, 0 Paused, 0 Stopped)"
    assert stranger.nodes()[LOST]["Reserved Memory"].startswith("0 B / ")
    assert stranger.nodes()[LOST]["ID"] != containers.nodes()[LOST]["ID"]

    # The host does not answer any more, but what is on it runs on.
    cloud.running["node-away"].send_signal(signal.SIGSTOP)
    wait_for(lambda: LOST not in containers.hosts("web", "beside", "idle").values(), "the containers to be made elsewhere")
    wait_for(lambda: all(containers.inspect(name)["State"]["Running"] for name in ("web", "beside")), "them to run")
    assert containers.host("web") == containers.host("beside")
    assert containers.inspect("idle")["State"]["Status"] == "created"
    for name in ("web", "beside", "idle"):
        after = containers.inspect(name)
        assert after["Id"] == before[name]["Id"]
        assert after["Config"] == before[name]["Config"]
        assert after["Config"]["Labels"]["com.docker.swarm.id"]
    assert containers.hosts("plain", "bound") == {"plain": LOST, "bound": LOST}
    assert containers.nodes()[LOST]["Status"] == "Unhealthy"
    assert containers.nodes()[LOST]["Containers"] == "2"

    # It returns with all that it had, and keeps what is still its own.
    cloud.running["node-away"].send_signal(signal.SIGCONT)
    wait_for(cloud.is_ready, "the lost host to return")
    report = wait_for(lambda: sound(client), "nothing to be pending")
    assert report["findings"] == [], report
    assert containers.inspect("plain")["State"]["Running"]
    assert containers.host("web") != LOST

    # Three of four hosts are gone at once: it is not they who are ill.
    places = containers.hosts(*every)
    cloud.kill("node")
    log = cloud.state / "log/api.log"
    wait_for(lambda: "3 of 4 hosts are missing at once" in log.read_text(), "the log to say that nobody is moved")
    assert containers.hosts(*every) == places
    # An API that begins anew gives every host its time, too.
    cloud.kill("api")
    cloud.start("api")
    cloud.start("node")
    wait_for(cloud.is_ready, "the cloud to come back")
    assert containers.hosts(*every) == places
    for name in every:
        assert client("DELETE", f"/docker/containers/{name}?force=1").status == 204
    report = wait_for(lambda: sound(client), "nothing to be pending")
    assert report["findings"] == [], report
