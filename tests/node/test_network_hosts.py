"""Nodes as processes: killed at any moment, and two of them with a tunnel between."""

import asyncio
import json
import multiprocessing
import random
import secrets
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from nacre.node.network import purge, sysctls
from nacre.protocol.messages import Gone
from tests.node.netlab import Lab, Machine, in_laboratory, item, network, open_group, port, router
from tests.node.network_child import Orders, carry_out
from tests.node.test_network_restart import traces
from tests.node.test_network_routing import PUBLIC, host_pings

pytestmark = pytest.mark.root

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["tests.node.network_child"])

KILLS = 60
KILL_WITHIN_S = 0.06
"""What a whole apply takes here, more or less; on a slower machine the kills come earlier in it, on a faster one some come after."""


class Child:
    def __init__(self, orders: Orders, file: Path, *, netns: str | None = None) -> None:
        file.write_bytes(msgspec.msgpack.encode(orders))
        enter = ["nsenter", f"--net=/run/netns/{netns}"] if netns else []
        words = [*enter, sys.executable, "-m", "tests.node.network_child", str(file)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await asyncio.wait_for(asyncio.to_thread(self.process.stdout.readline), 60)).decode().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def run_and_kill(orders: Orders, after_s: float) -> None:
    """Let a node carry the orders out, and kill it."""
    ours, theirs = FORK.Pipe(duplex=False)
    process = FORK.Process(target=carry_out, args=(msgspec.msgpack.encode(orders), theirs))
    process.start()
    try:
        assert ours.poll(60)
        time.sleep(after_s)
    finally:
        process.kill()
        process.join()
        ours.close()
        theirs.close()


@in_laboratory
async def test_a_node_that_is_killed_at_any_moment_is_made_whole_by_the_next(lab: Lab) -> None:
    """Networks come and go under the kills; in the end all is as it was asked for last, and then nothing is left."""
    chance = random.Random(int.from_bytes(secrets.token_bytes(4), "big"))
    public, net, group = network(PUBLIC, None, physical="public"), network(), open_group()
    other, bound = network("10.1.0.0/24", None), [port(net, host, group.id) for host in (11, 12)]
    way = router([net], public, 5, ("198.51.100.50", "10.0.0.11"))
    wide = replace(router([net, other], public, 5, ("198.51.100.50", "10.0.0.11")), id=way.id)
    small, large = [item(group), item(net), item(bound[0])], [item(spec) for spec in (public, net, other, group, *bound, way)]
    others = [item(spec) for spec in (public, net, other, group, *bound, wide)]
    one, two = lab.machine(), lab.machine()
    plugs = {bound[0].id: str(one.path), bound[1].id: str(two.path)}
    for _ in range(KILLS):
        items = chance.choice((small, large, others, []))
        there = {found.id for found in items}
        orders = Orders(lab.config, items, [], {port_id: path for port_id, path in plugs.items() if port_id in there})
        await asyncio.to_thread(run_and_kill, orders, chance.random() * KILL_WITHIN_S)
    lab.items = {found.id: found for found in large}
    assert {o.state for o in await lab.restart()} <= {"active", "gone"}
    for port_id, machine in ((bound[0].id, one), (bound[1].id, two)):
        await lab.driver.plug(port_id, machine.path, "eth0")
    assert one.pings("10.0.0.12")
    assert two.pings("198.51.100.1")
    assert host_pings("198.51.100.50")
    await lab.gone(*(found.spec for found in large))  # type: ignore[arg-type]
    assert await lab.driver.survey() == []
    assert traces(lab) == ""


@in_laboratory
async def test_purge_after_a_kill_at_any_moment_leaves_no_trace(lab: Lab) -> None:
    chance = random.Random(int.from_bytes(secrets.token_bytes(4), "big"))
    forward = Path("/proc/sys/net/ipv4/ip_forward")
    before = forward.read_text()
    public, net, group = network(PUBLIC, None, physical="public"), network(), open_group()
    items = [item(spec) for spec in (public, net, group, router([net], public, 5))]
    for _ in range(KILLS // 4):
        await asyncio.to_thread(run_and_kill, Orders(lab.config, items, [], {}), chance.random() * KILL_WITHIN_S)
        await purge(lab.config)
        assert (traces(lab), forward.read_text()) == ("", before)


HARMLESS = Path("/proc/sys/net/ipv4/conf/lo/log_martians")


def claim_again_and_again(number: int) -> None:
    while True:
        sysctls.claim(f"test{number}", {"net/ipv4/conf/lo/log_martians": "1"})
        sysctls.release(f"test{number}")


def test_a_sysctl_is_put_back_by_the_last_cloud_that_needs_it_whoever_is_killed() -> None:
    """A setting that means nothing here stands for those that do."""
    before = HARMLESS.read_text()
    HARMLESS.write_text("0\n")
    setting = {"net/ipv4/conf/lo/log_martians": "1"}
    try:
        sysctls.claim("test-a", setting)
        sysctls.claim("test-b", setting)
        sysctls.release("test-a")
        assert HARMLESS.read_text() == "1\n"
        sysctls.release("test-b")
        assert HARMLESS.read_text() == "0\n"
        for _ in range(KILLS // 4):
            claimers = [FORK.Process(target=claim_again_and_again, args=(number,)) for number in range(2)]
            for process in claimers:
                process.start()
            time.sleep(random.Random(time.monotonic_ns()).random() * KILL_WITHIN_S)
            for process in claimers:
                process.kill()
                process.join()
            for number in range(2):
                sysctls.release(f"test{number}")
            assert HARMLESS.read_text() == "0\n"
    finally:
        HARMLESS.write_text(before)


@in_laboratory
async def test_guests_on_two_hosts_reach_each_other_through_the_tunnel(lab: Lab) -> None:
    """Each host is a namespace with a node of its own; a wire between them is the underlay."""
    first, second = lab.machine(), lab.machine()
    wire(first, second)
    net, group = network(), open_group()
    bound = [port(net, 11, group.id), port(net, 21, group.id)]
    configs = [replace(lab.config, cloud_id=secrets.token_hex(2), tunnel_ip=f"172.31.0.{n}") for n in (1, 2)]
    guests = [lab.machine(), lab.machine()]
    children = []
    try:
        for n, host in enumerate((first, second)):
            far = replace(bound[1 - n], local=False, tunnel_ip=f"172.31.0.{2 - n}", security_groups=())
            items = [item(spec) for spec in (net, group, bound[n], far)]
            orders = Orders(configs[n], items, [Gone("port", "nobody", 1)], {bound[n].id: str(guests[n].path)})
            children.append(Child(orders, Path(lab.config.state_dir, f"host{n}"), netns=host.name))
        for child in children:
            assert await child.line() == "done"
        assert guests[0].pings("10.0.0.21")
        assert guests[1].pings("fd00:a::b")
        guests[1].serve(8000, "far")
        assert guests[0].fetch("10.0.0.21", 8000) == "far"
        # Nothing floods: what nobody has asks nobody on the wire.
        sent = wire_packets(first)
        assert sent > 0
        assert not guests[0].pings("10.0.0.99")
        assert wire_packets(first) == sent
    finally:
        for child in children:
            child.kill()
        for config in configs:
            await purge(config)


COUNT_TUNNELLED = """
table inet wire {
 counter tunnelled {
 }
 chain out { type filter hook output priority 0;
  udp dport 4789 counter name tunnelled
 }
}
"""


def wire(first: Machine, second: Machine) -> None:
    first.run("ip", "link", "add", "wire", "mtu", "1600", "type", "veth", "peer", "name", "wire", "netns", second.name)
    for n, host in enumerate((first, second)):
        host.run("sysctl", "-qw", "net.ipv6.conf.wire.disable_ipv6=1")
        host.run("ip", "addr", "add", f"172.31.0.{n + 1}/24", "dev", "wire")
        host.run("ip", "link", "set", "wire", "mtu", "1600", "up")
        host.run("nft", COUNT_TUNNELLED)


def wire_packets(host: Machine) -> int:
    """How many tunnelled packets the host has sent."""
    shown = json.loads(host.run("nft", "-j", "list", "counter", "inet", "wire", "tunnelled").stdout)
    return int(next(found["counter"]["packets"] for found in shown["nftables"] if "counter" in found))
