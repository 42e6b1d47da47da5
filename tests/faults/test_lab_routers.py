"""Routers on a lab's hosts: borne by any of them, moved when theirs is lost, never heard twice; and what need not pass them does not."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.faults.lab import Lab, Room, reaches, running
from tests.processes import wait_for
from tests.support import Client

pytestmark = pytest.mark.root
PINGS = 200
BACKGROUND_MAX = PINGS // 2
"""Frames that a host sends and gets meanwhile for other reasons: beats and facts of its node."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running(hosts=3) as made:
        yield made


def test_an_ha_router_moves_when_its_host_dies_and_is_not_doubled_when_it_returns(lab: Lab) -> None:
    client = lab.login()
    room = Room(lab, client, "ha", "10.9.0.0/24")
    room.open_doors()
    router = room.router(name="ha", ha=True)
    near, far = room.boot("h2"), room.boot("h3")
    floating = room.floating(near)
    wait_for(lambda: reaches(floating), "the floating IP where the router was first")
    room.place(router, "h1")
    wait_for(lambda: room.bearer(router) == "h1" and lab.left("h1", router), "the router to be on h1")
    wait_for(lambda: reaches(floating), "the floating IP by h1")
    assert not lab.left("api", router)
    guest = lab.inside("h3", far)
    gateway = client("GET", f"/network/v2.0/subnets/{room.subnet}").json["subnet"]["gateway_ip"]
    wait_for(lambda: reaches(gateway, *guest), "the router from within")
    outside = external_gateway(lab)
    wait_for(lambda: reaches(outside, *guest), "the outside from a guest, by h1")
    lab.audited(client)

    began = time.monotonic()
    lab.run("kill", "h1")
    wait_for(lambda: room.bearer(router) not in ("h1", ""), "the router to be moved")
    moved = time.monotonic() - began
    wait_for(lambda: reaches(floating), "the floating IP by another host")
    print(f"router moved {moved:.1f} s after the power cut, floating IP back after {time.monotonic() - began:.1f} s")
    wait_for(lambda: reaches(outside, *guest), "the outside from a guest, by another host")
    bearer = room.bearer(router)

    lab.run("start", "h1")
    wait_for(lambda: "h1" in lab.up(), "h1 to be back")
    lab.audited(client)
    assert not lab.left("h1", router)
    assert room.bearer(router) == bearer
    assert reaches(floating)


def test_a_router_is_not_heard_twice_when_its_host_is_cut_off(lab: Lab) -> None:
    """The segment outside is whole, the way to the API is not: the host falls silent before another one speaks, and stays so until it has
    heard that the router is no more its own."""
    client = lab.login()
    room = Room(lab, client, "split", "10.14.0.0/24")
    room.open_doors()
    router = room.router(name="split", ha=True)
    floating = room.floating(room.boot("h2"))
    room.place(router, "h1")
    wait_for(lambda: lab.left("h1", router) and reaches(floating), "the floating IP by h1")
    with heard(lab, client, router) as frames:
        wait_for(lambda: reaches(floating) and frames()["h1"] > 0, "h1 to be heard")
        lab.run("cut", "h1", "api")
        wait_for(lambda: room.bearer(router) not in ("h1", ""), "the router to be moved")
        assert lab.left("h1", router), "its host has not heard of it"
        wait_for(lambda: reaches(floating), "the floating IP by another host")
        silent = frames()["h1"]
        for _ in range(20):
            assert reaches(floating)
        assert frames()["h1"] == silent, "the former host is silent"
        lab.run("heal")
        wait_for(lambda: "h1" in lab.up(), "h1 to be back")
        wait_for(lambda: not lab.left("h1", router), "the stale copy to be gone")
        assert frames()["h1"] == silent, "it has not spoken once more"
    assert reaches(floating)
    lab.audited(client)


@contextmanager
def heard(lab: Lab, client: Client, router: str) -> Iterator[Callable[[], dict[str, int]]]:
    """How many frames from the router's own address outside have come by each host's cable of the external segment."""
    ports = client("GET", f"/network/v2.0/ports?device_id={router}&device_owner=network:router_gateway").json["ports"]
    enter = ("nsenter", f"--net=/run/netns/{lab.layout.switch}", "nft")
    ends = ("api", *lab.layout.names)
    rules = [f'ether saddr {ports[0]["mac_address"]} iifname "{lab.layout.outer(end)}" counter comment "{end}"' for end in ends]
    chain = "\n".join(("type filter hook prerouting priority -300; policy accept;", *rules))
    table = f"table bridge heard {{\nchain c {{\n{chain}\n}}\n}}\n"
    subprocess.run([*enter, "-f", "-"], input=table, text=True, check=True)

    def frames() -> dict[str, int]:
        shown = subprocess.run([*enter, "-j", "list", "table", "bridge", "heard"], capture_output=True, check=True).stdout
        rules = [each["rule"] for each in json.loads(shown)["nftables"] if "rule" in each]
        return {rule["comment"]: next(part["counter"]["packets"] for part in rule["expr"] if "counter" in part) for rule in rules}

    try:
        yield frames
    finally:
        subprocess.run([*enter, "delete table bridge heard"], check=True)


def external_gateway(lab: Lab) -> str:
    """The address that the cloud's own machine bears in the external network."""
    return str(json.loads(lab.state.api_config.read_text())["external"]["gateway"])


def test_a_router_that_is_not_ha_stays_with_its_host(lab: Lab) -> None:
    client = lab.login()
    room = Room(lab, client, "standing", "10.10.0.0/24")
    room.open_doors()
    router = room.router(name="standing")
    assert client("GET", f"/network/v2.0/routers/{router}").json["router"]["ha"] is False
    floating = room.floating(room.boot("h2"))
    room.place(router, "h3")
    wait_for(lambda: reaches(floating), "the floating IP by h3")
    lab.run("kill", "h3")
    wait_for(lambda: "h3" not in lab.up(), "the cloud to miss h3")
    path = f"/nacre/v1/hosts/{lab.host_id(client, 'h3')}"
    wait_for(lambda: client("GET", path).json["host"]["lost"], "h3 to be taken for lost")
    assert room.bearer(router) == "h3"
    assert not reaches(floating)
    # A new one goes elsewhere.
    other = Room(lab, client, "other", "10.11.0.0/24")
    routers = [other.router(name="other")] + [
        str(room.post("network/v2.0/routers", "router", name="more")["id"]) for _ in range(2)
    ]
    assert other.bearer(routers[0]) != "h3"
    lab.run("start", "h3")
    wait_for(lambda: reaches(floating), "the floating IP to be back with its host")
    lab.audited(client)


def test_what_snat_does_not_hide_is_found_behind_a_router_elsewhere(lab: Lab) -> None:
    """The cloud's own machine leads there, and to the router's next host."""
    client = lab.login()
    room = Room(lab, client, "plain", "10.12.0.0/24")
    room.open_doors()
    router = room.router(name="plain", gateway={"enable_snat": False})
    address = room.address(room.boot("h2"))
    for host in ("h1", "h3", "api", "h2"):
        if room.bearer(router) != own_name(lab, host):
            room.place(router, host)
        wait_for(lambda: reaches(address), f"the guest's own address by way of {host}")
    lab.audited(client)
    room.client("PUT", f"/network/v2.0/routers/{router}/remove_router_interface", {"subnet_id": room.subnet})
    wait_for(
        lambda: "10.12.0.0/24" not in subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout, "no way"
    )


def own_name(lab: Lab, host: str) -> str:
    return str(json.loads(lab.state.node_config.read_text())["hostname"]) if host == "api" else host


def test_two_guests_of_one_network_speak_directly(lab: Lab) -> None:
    """Not by the router's host, nor by the cloud's own: the switch counts what comes and goes by each cable."""
    client = lab.login()
    room = Room(lab, client, "direct", "10.13.0.0/24")
    room.open_doors()
    router = room.router(name="direct")
    one, other = room.boot("h2"), room.boot("h3")
    room.place(router, "h1")
    wait_for(lambda: lab.left("h1", router), "the router to be on h1")
    address = room.address(other)
    wait_for(lambda: reaches(address, *lab.inside("h2", one)), "the two to reach each other")
    before = frames(lab)
    flood = lab.inside("h2", one, "ping", "-i", "0.01", "-c", str(PINGS), address)
    said = subprocess.run(flood, capture_output=True, text=True, check=False).stdout
    spent = {end: frames(lab)[end] - before[end] for end in before}
    assert f"{PINGS} packets transmitted, {PINGS} received" in said
    assert spent["h2"] >= 2 * PINGS, spent
    assert spent["h3"] >= 2 * PINGS, spent
    assert spent["h1"] < BACKGROUND_MAX, spent
    assert spent["api"] < 2 * BACKGROUND_MAX, spent


def frames(lab: Lab) -> dict[str, int]:
    """What the switch got and sent by each cable of the underlay."""
    shown = json.loads(
        subprocess.run(["ip", "-n", lab.layout.switch, "-j", "-s", "link"], capture_output=True, check=True).stdout
    )
    stats = {link["ifname"]: link["stats64"] for link in shown}
    ends = ("api", *lab.layout.names)
    return {end: sum(stats[lab.layout.link(end)][side]["packets"] for side in ("rx", "tx")) for end in ends}
