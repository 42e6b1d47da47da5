"""Docker's networks by Docker's own client: made, listed, looked into, pruned and removed; Neutron sees the same ones."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support import Client, RunningCloud

CLI_TIMEOUT_S = 60.0


class Docker:
    """The docker CLI for one actor's project, by the API's port and a token."""

    def __init__(self, cloud: RunningCloud, actor: str, home: Path) -> None:
        home.mkdir()
        (home / "config.json").write_text(json.dumps({"HttpHeaders": {"X-Auth-Token": cloud.tokens[actor]}}))
        host = cloud.base_url.replace("http://", "tcp://") + "/docker"
        self._command = ["docker", "--config", str(home), "--host", host]

    def fails(self, *words: str) -> str:
        """What the client says of the error."""
        done = subprocess.run([*self._command, *words], capture_output=True, text=True, timeout=CLI_TIMEOUT_S)
        assert done.returncode != 0, done.stdout
        return done.stderr.strip()

    def __call__(self, *words: str) -> str:
        done = subprocess.run([*self._command, *words], capture_output=True, text=True, timeout=CLI_TIMEOUT_S)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def docker(cloud: RunningCloud, tmp_path: Path) -> Docker:
    return Docker(cloud, "member", tmp_path / "docker")


@pytest.fixture
def stranger(cloud: RunningCloud, tmp_path: Path) -> Docker:
    return Docker(cloud, "other", tmp_path / "stranger")


def test_a_network_is_made_by_docker_and_seen_by_neutron(docker: Docker, member: Client, stranger: Docker) -> None:
    ident = docker(
        *("network", "create", "--subnet", "10.20.0.0/16", "--ip-range", "10.20.5.0/24", "--gateway", "10.20.0.1"),
        *("--aux-address", "printer=10.20.5.7", "--label", "tier=web", "-o", "com.docker.network.driver.mtu=1400", "front"),
    )
    assert len(ident) == 64
    (shown,) = json.loads(docker("network", "inspect", "front"))
    assert shown["Id"] == ident
    assert shown["Driver"] == "bridge"
    assert shown["Labels"] == {"tier": "web"}
    assert shown["IPAM"]["Config"] == [
        {
            "Subnet": "10.20.0.0/16",
            "IPRange": "10.20.5.0/24",
            "Gateway": "10.20.0.1",
            "AuxiliaryAddresses": {"printer": "10.20.5.7"},
        }
    ]
    network = next(each for each in member("GET", "/network/v2.0/networks").json["networks"] if each["name"] == "front")
    assert ident.startswith(network["id"].replace("-", ""))
    assert network["mtu"] == 1400
    subnet = member("GET", f"/network/v2.0/subnets/{network['subnets'][0]}").json["subnet"]
    assert subnet["allocation_pools"] == [
        {"start": "10.20.5.0", "end": "10.20.5.6"},
        {"start": "10.20.5.8", "end": "10.20.5.255"},
    ]
    # By its id's beginning, too; and it does not exist for another project.
    assert json.loads(docker("network", "inspect", ident[:12]))[0]["Name"] == "front"
    assert stranger.fails("network", "inspect", "front") == "Error response from daemon: network front not found"
    docker("network", "rm", "front")
    assert docker.fails("network", "inspect", "front") == "Error response from daemon: network front not found"
    assert member("GET", f"/network/v2.0/networks/{network['id']}").status == 404


def test_the_default_networks_are_there_and_stay(docker: Docker) -> None:
    names = docker("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}").splitlines()
    assert {"bridge bridge local", "host host local", "none null local"} <= set(names)
    assert "bridge is a pre-defined network and cannot be removed" in docker.fails("network", "rm", "bridge")
    assert "operation is not permitted on predefined bridge network" in docker.fails("network", "create", "bridge")


def test_names_and_pools_that_meet_others_are_refused(docker: Docker) -> None:
    docker("network", "create", "--subnet", "10.30.0.0/24", "taken")
    assert "network with name taken already exists" in docker.fails("network", "create", "taken")
    assert "Pool overlaps with other one on this address space" in docker.fails(
        "network", "create", "--subnet", "10.30.0.0/16", "wide"
    )
    assert 'plugin "weave" not found' in docker.fails("network", "create", "-d", "weave", "woven")
    assert "it should be 10.31.0.0/24" in docker.fails("network", "create", "--subnet", "10.31.0.9/24", "odd")
    for option, words in (
        ("com.docker.network.bridge.enable_icc=false", "can only be 'true' or '1' or '' in this cloud, not 'false'"),
        ("com.docker.network.driver.mtu=many", "invalid value for option com.docker.network.driver.mtu: many"),
        ("encrypted=true", "option encrypted is not available in this cloud"),
    ):
        assert words in docker.fails("network", "create", "-o", option, "odd")
    docker("network", "rm", "taken")


def test_a_network_of_neutrons_is_dockers_and_two_of_one_name_are_ambiguous(docker: Docker, member: Client) -> None:
    made = [member("POST", "/network/v2.0/networks", {"network": {"name": "twin"}}).json["network"]["id"] for _ in range(2)]
    member("POST", "/network/v2.0/subnets", {"subnet": {"network_id": made[0], "ip_version": 4, "cidr": "10.40.0.0/24"}})
    assert "network twin is ambiguous (2 matches found on name)" in docker.fails("network", "inspect", "twin")
    (shown,) = json.loads(docker("network", "inspect", made[0].replace("-", "")))
    assert (shown["Driver"], shown["IPAM"]["Config"][0]["Subnet"]) == ("nacre", "10.40.0.0/24")
    for ident in made:
        docker("network", "rm", ident.replace("-", "")[:20])
    assert "twin" not in docker("network", "ls", "--format", "{{.Name}}")


def test_lists_are_filtered_and_pruning_spares_what_others_made(docker: Docker, member: Client) -> None:
    docker("network", "create", "--label", "kind=a", "one")
    docker("network", "create", "--label", "kind=b", "--internal", "--ipv6", "two")
    neutrons = member("POST", "/network/v2.0/networks", {"network": {"name": "neutrons"}}).json["network"]["id"]
    names = ["network", "ls", "--format", "{{.Name}}"]
    assert docker(*names, "--filter", "label=kind=a") == "one"
    assert docker(*names, "--filter", "type=custom", "--filter", "name=tw") == "two"
    assert set(docker(*names, "--filter", "type=builtin").split()) == {"bridge", "host", "none"}
    assert "invalid filter" in docker.fails(*names, "--filter", "colour=red")
    (two,) = json.loads(docker("network", "inspect", "two"))
    assert (two["Internal"], two["EnableIPv6"], len(two["IPAM"]["Config"])) == (True, True, 2)
    assert docker("network", "prune", "-f", "--filter", "label=kind=b").split() == ["Deleted", "Networks:", "two"]
    assert docker("network", "prune", "-f").split() == ["Deleted", "Networks:", "one"]
    assert member("GET", f"/network/v2.0/networks/{neutrons}").status == 200
    member("DELETE", f"/network/v2.0/networks/{neutrons}")
    assert "bridge" in docker(*names).split()
