"""QoS: what a port or a floating IP may send and get each second, measured in bytes that arrive."""

import sys

import pytest
from msgspec.structs import replace

from nacre.protocol.networks import BandwidthLimit
from tests.node.netlab import Lab, Machine, command, in_laboratory, network, open_group, port, router
from tests.node.test_network_routing import PUBLIC

pytestmark = pytest.mark.root

MEASURE_S = 2.0
LIMIT_KBPS = 20_000

SINK = """
import socket, sys, time
server = socket.create_server(("", 7000))
print("ready", flush=True)
while True:
    client, _ = server.accept()
    total, first = 0, None
    while data := client.recv(65536):
        total += len(data)
        first = first or time.monotonic()
    client.sendall(b"%d %f" % (total, time.monotonic() - first))
    client.close()
"""

SOURCE = """
import socket, sys, time
with socket.create_connection((sys.argv[1], 7000), timeout=60) as s:
    end = time.monotonic() + float(sys.argv[2])
    while time.monotonic() < end:
        s.sendall(bytes(65536))
    s.shutdown(socket.SHUT_WR)
    print(s.recv(100).decode())
"""


def sink(machine: Machine, *, outside: bool = False) -> None:
    """What counts the bytes that come, in the guest or on the host itself."""
    process = (machine.start_outside if outside else machine.start)(sys.executable, "-c", SINK)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"


def kbps(run: list[str]) -> float:
    """What arrived in a second, in units of 1,000 bits."""
    total, seconds = command(*run).split()
    return float(total) * 8 / 1000 / float(seconds)


def sent_by(machine: Machine, address: str) -> float:
    return kbps(["ip", "netns", "exec", machine.name, sys.executable, "-c", SOURCE, address, str(MEASURE_S)])


def near(measured: float, limit: int) -> bool:
    """Within a generous band: never much more than the limit, and not held back to a fraction of it either."""
    return 0.4 * limit < measured < 1.35 * limit


@in_laboratory
async def test_a_ports_limits_hold_in_both_directions_and_change_live(lab: Lab) -> None:
    net, group = network(), open_group()
    await lab.apply(net, group)
    mine = port(net, 11, group.id)
    one, two = await lab.guest(mine), await lab.guest(port(net, 12, group.id))
    sink(one)
    sink(two)
    assert sent_by(one, "10.0.0.12") > 5 * LIMIT_KBPS
    both = (BandwidthLimit("egress", LIMIT_KBPS, 0), BandwidthLimit("ingress", 2 * LIMIT_KBPS, 0))
    await lab.apply(replace(mine, limits=both))
    assert near(sent_by(one, "10.0.0.12"), LIMIT_KBPS)
    assert near(sent_by(two, "10.0.0.11"), 2 * LIMIT_KBPS)
    assert {o.state for o in await lab.restart()} == {"active"}
    assert near(sent_by(one, "10.0.0.12"), LIMIT_KBPS)
    # The other way round: one direction alone, at another rate.
    await lab.apply(replace(mine, limits=(BandwidthLimit("ingress", LIMIT_KBPS, 800),)))
    assert sent_by(one, "10.0.0.12") > 5 * LIMIT_KBPS
    assert near(sent_by(two, "10.0.0.11"), LIMIT_KBPS)
    name = f"n{lab.config.cloud_id}-network-{net.id}"
    # A limit that went while the node was away goes with the next full apply.
    unlimited = replace(mine, limits=())
    lab.items[mine.id] = replace(lab.items[mine.id], port=unlimited)
    await lab.restart()
    assert "tbf" not in command("ip", "netns", "exec", name, "tc", "qdisc")
    assert "ifb" not in command("ip", "-n", name, "-d", "link")
    await lab.apply(replace(mine, limits=both))
    assert "ifb" in command("ip", "-n", name, "-d", "link")
    await lab.gone(mine)
    assert "ifb" not in command("ip", "-n", name, "-d", "link")


@in_laboratory
async def test_a_floating_ips_limits_are_its_own(lab: Lab) -> None:
    public, net, group = network(PUBLIC, None, physical="public"), network(), open_group()
    way = router([net], public, 5, ("198.51.100.50", "10.0.0.11"), ("198.51.100.51", "10.0.0.12"))
    limits = (BandwidthLimit("egress", LIMIT_KBPS, 0), BandwidthLimit("ingress", LIMIT_KBPS, 0))
    first, second = way.floating_ips
    limited = replace(way, floating_ips=(replace(first, limits=limits), second))
    await lab.apply(public, net, group, limited)
    one, two = await lab.guest(port(net, 11, group.id)), await lab.guest(port(net, 12, group.id))
    sink(one)
    sink(two)
    to_first = [sys.executable, "-c", SOURCE, "198.51.100.50", str(MEASURE_S)]
    assert near(kbps(to_first), LIMIT_KBPS)
    assert kbps([*to_first[:3], "198.51.100.51", str(MEASURE_S)]) > 5 * LIMIT_KBPS
    sink(one, outside=True)
    assert near(sent_by(one, "198.51.100.1"), LIMIT_KBPS)
    assert sent_by(two, "198.51.100.1") > 5 * LIMIT_KBPS
    assert {o.state for o in await lab.restart()} == {"active"}
    assert near(kbps(to_first), LIMIT_KBPS)
    await lab.apply(way)
    assert kbps(to_first) > 5 * LIMIT_KBPS
    await lab.apply(limited)
    outside = ("ip", "-n", f"n{lab.config.cloud_id}-network-{public.id}", "-d", "link")
    assert "ifb" in command(*outside)
    await lab.gone(limited)
    assert "ifb" not in command(*outside)
