"""Across hosts: throughput between two guests on two hosts of a lab beside the bare VXLAN between the same two, and packets lost at restarts."""

import contextlib
import json
import re
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence

import click

from nacre.cli import packages, processes
from nacre.cli.benchmarks.target import Figures, Target
from nacre.cli.lab import wires
from nacre.cli.lab.layout import Lab, Place
from nacre.cli.state import State

HOSTS = ("h1", "h2")
RUNS = 5
RUN_S = 3
LISTENS_S = 10.0
PING_S = 0.05
RESTARTS = 3
BARE_LINK, BARE_VNI, BARE_PORT = "bare0", 16_777_001, 4790
BARE_ADDRESSES = ("198.18.255.1", "198.18.255.2")
MTU = 1450


def place_of(target: Target) -> Place | None:
    """The lab that the cloud is of."""
    place = Place(target.state.dir.parent)
    return place if place.file.exists() and place.cloud.dir == target.state.dir else None


def lab(target: Target) -> Figures:
    """Raises ClickException for a cloud that is no lab's."""
    place = place_of(target)
    if place is None:
        raise click.ClickException("this cloud is no lab's: nacre lab up, then nacre bench lab --state DIR/cloud")
    packages.ensure("bench")
    target.prepare()
    target.network_id = target.network("10.99.0.0/20")
    servers = [target.boot(f"lab-{host}", availability_zone=f"nova:{host}") for host in HOSTS]
    try:
        for server in servers:
            target.wait(lambda server=server: target.status(server) == "ACTIVE", "a server to be ACTIVE", 0.05)  # type: ignore[misc]
        guests = [guest_of(place.host(host), server) for host, server in zip(HOSTS, servers, strict=True)]
        address = str(target.call("GET", f"/network/v2.0/ports?device_id={servers[0]}")["ports"][0]["fixed_ips"][0]["ip_address"])
        values, ratios = throughput(place.require(), guests, address)
        values |= {
            "packets lost at node restarts": lost(place.host(HOSTS[0]), "node", guests, address),
            "packets lost at API restarts": lost(place.cloud, "api", guests, address),
        }
    finally:
        target = Target.open(target.state).prepare()
        target.delete_all()
    return Figures(
        "between two guests on two hosts", values, [ratio * 100 for ratio in ratios], "The plot shows the ratio of each run in %."
    )


def guest_of(state: State, server: str) -> tuple[str, ...]:
    """What to put before a command that shall run in the guest's network."""
    return ("nsenter", "-t", (state.node / f"guests/{server}/pid").read_text().strip(), "-n")


def throughput(lab: Lab, guests: Sequence[tuple[str, ...]], address: str) -> tuple[dict[str, float | str], list[float]]:
    """One TCP stream, by turns over the bare VXLAN and between the guests, and the ratio of each pair of runs."""
    ends = [wires.entering(lab.namespace(host)) for host in HOSTS]
    bare: list[float] = []
    guest: list[float] = []
    with bare_vxlan(lab):
        for _ in range(RUNS):
            bare.append(stream(ends[0], ends[1], BARE_ADDRESSES[0]))
            guest.append(stream(guests[0], guests[1], address))
    ratios = [mine / theirs for mine, theirs in zip(guest, bare, strict=True)]
    values: dict[str, float | str] = {
        "bare VXLAN, p50 Gbit/s": round(statistics.median(bare), 2),
        "between guests, p50 Gbit/s": round(statistics.median(guest), 2),
        "between guests, % of the bare VXLAN (medians)": round(100 * statistics.median(guest) / statistics.median(bare), 1),
        "the same, median of the pairs of runs": round(100 * statistics.median(ratios), 1),
        "runs": RUNS,
    }
    return values, ratios


@contextlib.contextmanager
def bare_vxlan(lab: Lab) -> Iterator[None]:
    """A tunnel between the two hosts' namespaces with nothing else on it."""
    try:
        for host, other, address in zip(HOSTS, reversed(HOSTS), BARE_ADDRESSES, strict=True):
            ends = f"local {lab.address(host)} remote {lab.address(other)}"
            lines = [f"link add {BARE_LINK} mtu {MTU} type vxlan id {BARE_VNI} {ends} dstport {BARE_PORT}"]
            lines += [f"addr add {address}/30 dev {BARE_LINK}", f"link set {BARE_LINK} up"]
            wires.batch(lab.namespace(host), lines)
        yield
    finally:
        for host in HOSTS:
            if BARE_LINK in wires.links(lab.namespace(host)):
                wires.batch(lab.namespace(host), [f"link del {BARE_LINK}"])


def stream(server: tuple[str, ...], client: tuple[str, ...], address: str) -> float:
    """Gbit/s of one TCP stream of RUN_S seconds, as the receiver counts."""
    listening = subprocess.Popen([*server, "iperf3", "-s", "-1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + LISTENS_S
        while True:
            done = subprocess.run(
                [*client, "iperf3", "-c", address, "-t", str(RUN_S), "-J"], capture_output=True, text=True, check=False
            )
            said = json.loads(done.stdout or "{}")
            if "sum_received" in said.get("end", {}):
                return float(said["end"]["sum_received"]["bits_per_second"]) / 1e9
            if time.monotonic() > end:
                raise click.ClickException(f"iperf3: {said.get('error') or done.stderr}")
            time.sleep(0.1)
    finally:
        listening.kill()
        listening.wait()


def lost(state: State, name: str, guests: Sequence[tuple[str, ...]], address: str) -> int:
    """Packets of a ping between the guests that found no answer while a process was killed and came back, RESTARTS times."""
    pinging = subprocess.Popen([*guests[1], "ping", "-n", "-i", str(PING_S), address], stdout=subprocess.PIPE, text=True)
    for _ in range(RESTARTS):
        time.sleep(1)
        kill(state, name)
    time.sleep(2)
    pinging.send_signal(signal.SIGINT)
    said = pinging.communicate(timeout=60)[0]
    found = re.search(r"(\d+) packets transmitted, (\d+) received", said)
    if found is None:
        raise click.ClickException(f"ping said: {said[-300:]}")
    # One may be on its way when it ends.
    return max(0, int(found[1]) - int(found[2]) - 1)


def kill(state: State, name: str) -> None:
    """SIGKILL, and until the supervisor has started another."""
    former = processes.find(state.pid_file(name))
    if former is None:
        raise click.ClickException(f"the process {name} of {state.dir} does not run")
    processes.signal_to(former, signal.SIGKILL)
    end = time.monotonic() + LISTENS_S
    while processes.find(state.pid_file(name)) in (None, former):
        if time.monotonic() > end:
            raise click.ClickException(f"the process {name} of {state.dir} did not come back")
        time.sleep(0.05)
