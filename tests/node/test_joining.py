"""A second real host: a network namespace of this machine with its own addresses and its own state directory, which joins by the command."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nacre.cli import processes
from nacre.cli.client import ApiError, send
from nacre.cli.state import State
from tests.node.test_first_steps import CLONE, COMMAND_S, Cloud, traces
from tests.processes import free_port, wait_for

pytestmark = pytest.mark.root

NAMESPACE = "nacre-join-test"
LINKS = ("nacrejoin0", "nacrejoin1")
HERE, THERE = "198.18.213.1", "198.18.213.2"
"""The ends of the wire between the two hosts, from what is set aside for such tests (RFC 2544)."""
ADDRESSES = ("10.3.0.11", "10.3.0.12")


def sh(command: str) -> None:
    subprocess.run(command.split(), check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def wire() -> Iterator[None]:
    """What a second machine would bring: a network stack of its own and a cable."""
    sh(f"ip netns add {NAMESPACE}")
    try:
        sh(f"ip link add {LINKS[0]} type veth peer name {LINKS[1]} netns {NAMESPACE}")
        sh(f"ip addr add {HERE}/30 dev {LINKS[0]}")
        sh(f"ip link set {LINKS[0]} up")
        for words in (f"addr add {THERE}/30 dev {LINKS[1]}", f"link set {LINKS[1]} up", "link set lo up"):
            sh(f"ip -n {NAMESPACE} {words}")
        yield
    finally:
        sh(f"ip netns del {NAMESPACE}")


class Far:
    """The second host: its commands run in its network namespace, with everything else as on the machine."""

    def __init__(self, cloud: Cloud, state: Path) -> None:
        self.cloud = cloud
        self.state = state
        self.ids: list[str] = []
        """What its names in the kernel carry, known once it has joined."""

    def nacre(self, *arguments: str) -> str:
        enter = ["nsenter", f"--net=/run/netns/{NAMESPACE}", sys.executable, "-m", "nacre.cli"]
        command = [*enter, *arguments, "--state", str(self.state)]
        done = subprocess.run(command, env=self.cloud.env, capture_output=True, text=True, timeout=COMMAND_S, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}{self.log()}"
        return done.stdout + done.stderr

    def ping(self, server_id: str, address: str) -> "subprocess.Popen[str]":
        """From the network namespace of a guest of this host, until it is interrupted."""
        pid = (self.state / f"node/guests/{server_id}/pid").read_text().strip()
        words = ["nsenter", "-t", pid, "-n", "ping", "-i", "0.1", address]
        return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    def log(self) -> str:
        log = self.state / "log/node.log"
        return log.read_text()[-4000:] if log.exists() else ""


@pytest.fixture(scope="module")
def pair(wire: None) -> Iterator[tuple[Cloud, Far]]:
    with tempfile.TemporaryDirectory(prefix="nacre-pair-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        cloud = Cloud(Path(directory))
        far = Far(cloud, Path(directory) / "far")
        try:
            cloud.nacre("up", "--detach", "--port", str(free_port()), "--nodes", f"{HERE}:{free_port()}")
            yield cloud, far
        finally:
            ids = [json.loads((cloud.state / "cloud.json").read_text())["cloud_id"], *far.ids]
            if far.state.exists():
                far.nacre("down", "--purge")
            cloud.nacre("down", "--purge")
        assert not cloud.state.exists()
        assert not far.state.exists()
        # Other clouds of this machine come and go meanwhile: what bears a name of ours is ours.
        assert len(ids) == 2
        assert [
            trace for trace in traces() | pinned() if any(f"n{each}" in trace or f"nacre-{each}" in trace for each in ids)
        ] == []
        assert far_traces() == ["lo", LINKS[1]]
        assert directory not in Path("/proc/self/mountinfo").read_text()


def pinned() -> set[str]:
    """The namespaces that have names."""
    return {f"namespace {path.name}" for path in Path("/run/netns").iterdir()}


def far_traces() -> list[str]:
    """The links of the second host; its nftables must be empty."""
    enter = ["nsenter", f"--net=/run/netns/{NAMESPACE}"]
    tables = subprocess.run([*enter, "nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert tables == ""
    links = subprocess.run([*enter, "ip", "-j", "link"], capture_output=True, text=True, check=True).stdout
    return sorted(link["ifname"] for link in json.loads(links))


def test_a_container_on_each_host_in_one_network(pair: tuple[Cloud, Far], tmp_path: Path) -> None:
    """From the pasted line to packets between the hosts, both ways, and no trace afterwards."""
    cloud, far = pair
    openstack = cloud.openstack
    openstack("network", "create", "wide")
    openstack("subnet", "create", "wide", "--network", "wide", "--subnet-range", "10.3.0.0/24")
    network = openstack("network", "show", "wide", "-f", "json")["id"]
    line = host(cloud, "token")
    token = json.loads(line)
    began = time.monotonic()
    said = far.nacre("join", token["url"], "--token", token["token"], "--name", "far")
    joined_s = time.monotonic() - began
    assert "far is a host of the cloud" in said
    far.ids.append(json.loads((far.state / "cloud.json").read_text())["cloud_id"])
    assert "already; nothing to do" in far.nacre("join")
    assert far.nacre("status")
    row = json.loads(host(cloud, "show", "far"))
    assert (row["tunnel_ip"], row["acceptance"], row["alive"]) == (THERE, "accepted", True)
    near = next(each["hostname"] for each in json.loads(host(cloud, "list")) if each["hostname"] != "far")

    servers = {}
    for where, own, other in ((near, *ADDRESSES), ("far", *reversed(ADDRESSES))):
        script = tmp_path / f"{where}.sh"
        script.write_text(
            f"#!/bin/sh\nuntil ping -c 1 -W 1 {other}; do sleep 0.2; done\necho {own} REACHED {other} > /dev/console\n"
        )
        began = time.monotonic()
        servers[where] = openstack(
            *("server", "create", f"on-{where}", "--image", "busybox", "--flavor", "m1.nano", "--user-data", str(script)),
            *("--nic", f"net-id={network},v4-fixed-ip={own}", "--availability-zone", f"nova:{where}", "--wait", "-f", "json"),
        )
        print(f"{where}: ACTIVE {time.monotonic() - began:.2f} s after `openstack server create --wait` began")
        assert servers[where]["status"] == "ACTIVE", far.log()
        assert servers[where]["OS-EXT-SRV-ATTR:host"] == where
    print(f"join: {joined_s:.2f} s")
    for where in servers:
        wait_for(lambda where=where: "REACHED" in openstack("console", "log", "show", f"on-{where}"), f"the ping from {where}")
    cloud.nacre("audit")

    survive_kills(cloud, far, servers["far"]["id"])
    reach_by_floating_ip(cloud)
    for where in servers:
        openstack("server", "delete", f"on-{where}", "--wait")
    openstack("network", "delete", "wide")
    wait_for(lambda: removed(cloud, "far"), "the host to have nothing left")
    cloud.nacre("audit")
    far.nacre("down", "--purge")
    assert not far.state.exists()


def survive_kills(cloud: Cloud, far: Far, server_id: str) -> None:
    """Kill the far node, then the API, under running guests: no packet between them is lost by it, and both come back."""
    pinging = far.ping(server_id, ADDRESSES[0])
    for state, name in ((far.state, "node"), (cloud.state, "api")):
        former = processes.find(state / f"run/{name}.pid")
        assert former is not None
        processes.signal_to(former, signal.SIGKILL)
        wait_for(
            lambda file=state / f"run/{name}.pid", former=former: processes.find(file) not in (None, former), f"a new {name}"
        )
    wait_for(lambda: both_up(cloud), "both hosts to be up again")
    pinging.send_signal(signal.SIGINT)
    assert " 0% packet loss" in pinging.communicate(timeout=60)[0]
    cloud.nacre("audit")


def reach_by_floating_ip(cloud: Cloud) -> None:
    """The router is on the cloud's own machine; what is on the far host comes and goes through it."""
    openstack = cloud.openstack
    openstack("router", "create", "way", "--external-gateway", "public")
    openstack("router", "add", "subnet", "way", "wide")
    group = openstack("security", "group", "list", "--project", "admin", "-f", "json")[0]["ID"]
    openstack("security", "group", "rule", "create", group, "--protocol", "icmp")
    address = openstack("floating", "ip", "create", "public", "-f", "json")["floating_ip_address"]
    openstack("server", "add", "floating", "ip", "on-far", address)
    wait_for(lambda: pings(address), "the far server to answer at its floating IP")
    cloud.nacre("audit")
    openstack("floating", "ip", "delete", address)
    openstack("router", "remove", "subnet", "way", "wide")
    openstack("router", "delete", "way")


def both_up(cloud: Cloud) -> bool:
    """Whether the API, which may be away just now, has a stream with either."""
    try:
        return bool(send("GET", f"{State(cloud.state).require().url}/healthz").body["hosts_up"] == 2)
    except ApiError:
        return False


def pings(address: str) -> bool:
    return subprocess.run(["ping", "-c", "1", "-W", "1", address], capture_output=True, check=False).returncode == 0


def host(cloud: Cloud, command: str, *arguments: str) -> str:
    """`nacre host ...` on the cloud's own machine."""
    words = [sys.executable, "-m", "nacre.cli", "host", command, *arguments, "--state", str(cloud.state), "-f", "json"]
    done: Any = subprocess.run(words, env=cloud.env, capture_output=True, text=True, timeout=COMMAND_S, check=False, cwd=CLONE)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def removed(cloud: Cloud, name: str) -> bool:
    words = [sys.executable, "-m", "nacre.cli", "host", "remove", name, "--state", str(cloud.state)]
    done = subprocess.run(words, env=cloud.env, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    assert done.returncode == 0 or "still undoes" in done.stderr, done.stderr
    return done.returncode == 0
