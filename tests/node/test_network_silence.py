"""Routers that may have been moved to another host while nobody tells this one anything: not heard outside, and back without a loss."""

import asyncio

import pytest

from tests.node.netlab import Lab, eventually, in_laboratory, network, open_group, port, router
from tests.node.test_network_routing import PUBLIC, PUBLIC6, host_pings

pytestmark = pytest.mark.root


@in_laboratory
async def test_a_silent_router_is_heard_within_and_not_outside(lab: Lab) -> None:
    public, net, group = network(PUBLIC, PUBLIC6, physical="public"), network(), open_group()
    movable = router([net], public, 5, ("198.51.100.50", "10.0.0.11"), ha=True)
    standing_net = network("10.1.0.0/24", "fd00:b::/64")
    standing = router([standing_net], public, 6, ("198.51.100.60", "10.1.0.11"))
    await lab.apply(public, net, standing_net, group, movable, standing)
    guest, other = await lab.guest(port(net, 11, group.id)), await lab.guest(port(standing_net, 11, group.id))
    for address in ("198.51.100.50", "198.51.100.5", "198.51.100.60", "fd00:7b::5"):
        await eventually(lambda address=address: asyncio.to_thread(host_pings, address), f"{address} to answer")

    await lab.driver.silence()
    await lab.driver.silence()
    for address in ("198.51.100.50", "198.51.100.5", "fd00:7b::5"):
        assert not await asyncio.to_thread(host_pings, address)
    assert await asyncio.to_thread(host_pings, "198.51.100.60"), "what is not ha stays"
    assert await asyncio.to_thread(guest.pings, "10.0.0.1"), "its guests still have their gateway"
    # What is applied meanwhile does not make it speak.
    await lab.apply(movable, standing)
    assert not await asyncio.to_thread(host_pings, "198.51.100.50")

    await lab.driver.speak()
    for address in ("198.51.100.50", "198.51.100.5", "fd00:7b::5"):
        await eventually(lambda address=address: asyncio.to_thread(host_pings, address), f"{address} to answer again")
    assert await asyncio.to_thread(guest.pings, "198.51.100.1"), "the way out is back"
    assert await asyncio.to_thread(other.pings, "198.51.100.1")


@in_laboratory
async def test_a_node_that_was_told_nothing_yet_silences_what_an_earlier_one_left(lab: Lab) -> None:
    public, net, group = network(PUBLIC, None, physical="public"), network(cidr6=None), open_group()
    movable = router([net], public, 5, ("198.51.100.50", "10.0.0.11"), ha=True)
    await lab.apply(public, net, group, movable)
    await lab.guest(port(net, 11, group.id))
    await eventually(lambda: asyncio.to_thread(host_pings, "198.51.100.50"), "the floating IP to answer")
    await lab.driver.close()
    lab.driver = lab.new_driver()
    await lab.driver.start()
    assert await asyncio.to_thread(host_pings, "198.51.100.50"), "a restart alone touches nothing"
    await lab.driver.silence()
    assert not await asyncio.to_thread(host_pings, "198.51.100.50")
    # The router was moved meanwhile: it goes before anything speaks again.
    listed = [found for found in lab.items.values() if found.id != movable.id]
    await lab.driver.apply(listed, [], full=True)
    await lab.driver.speak()
    assert not await asyncio.to_thread(host_pings, "198.51.100.50")
