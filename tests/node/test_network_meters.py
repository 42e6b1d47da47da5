"""Metering labels: what crosses a router's gateway is counted, packet by packet."""

import pytest
from msgspec.structs import replace

from nacre.protocol.networks import Meter, MeterRule
from tests.node.netlab import Lab, Machine, in_laboratory, network, new_id, open_group, port, router
from tests.node.test_network_routing import PUBLIC

pytestmark = pytest.mark.root

PING_BYTES = 84
"""An echo request with 56 bytes of data, and its IPv4 header."""


def pings(machine: Machine, count: int) -> None:
    said = machine.run("ping", "-n", "-c", str(count), "-i", "0.01", "-W", "5", "198.51.100.1").stdout
    assert f"{count} received" in said, said


@in_laboratory
async def test_a_meter_counts_each_packet_and_goes_on_counting(lab: Lab) -> None:
    public, net, group = network(PUBLIC, None, physical="public"), network(), open_group()
    out, inward, all_but_one = new_id(), new_id(), new_id()
    meters = (
        Meter(out, (MeterRule("egress", source="10.0.0.0/24"),)),
        Meter(inward, (MeterRule("ingress", remote="198.51.100.0/24"),)),
        Meter(all_but_one, (MeterRule("egress", remote="0.0.0.0/0"), MeterRule("egress", source="10.0.0.12/32", excluded=True))),
    )
    way = replace(router([net], public, 5), meters=meters)
    await lab.apply(public, net, group, way)
    one, two = [await lab.guest(port(net, host, group.id)) for host in (11, 12)]
    assert await lab.driver.meters(way.id) == dict.fromkeys((out, inward, all_but_one), (0, 0))
    pings(one, 10)
    pings(two, 5)
    ten, fifteen = (10, 10 * PING_BYTES), (15, 15 * PING_BYTES)
    assert await lab.driver.meters(way.id) == {out: fifteen, inward: fifteen, all_but_one: ten}
    # Another process, other rules: what was counted stays, and a label that goes takes its count along.
    await lab.restart()
    assert (await lab.driver.meters(way.id))[out] == fifteen
    await lab.apply(replace(way, meters=(Meter(out, (MeterRule("egress", source="10.0.0.11/32"),)),)))
    pings(one, 5)
    pings(two, 5)
    assert await lab.driver.meters(way.id) == {out: (20, 20 * PING_BYTES)}
    await lab.apply(replace(way, meters=()))
    assert await lab.driver.meters(way.id) == {}
    with pytest.raises(LookupError, match="not on this host"):
        await lab.driver.meters(new_id())
