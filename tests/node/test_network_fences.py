"""Fenced ports speak as long as the host's lease lasts, by the kernel's own clock; all others always do."""

import pytest

from nacre.node.lease import boottime_s
from nacre.protocol.networks import Port
from tests.node.netlab import Lab, eventually, in_laboratory, network, open_group, port, router
from tests.node.test_network_routing import PUBLIC, PUBLIC6, host_pings

pytestmark = pytest.mark.root

AGES_S = 3600.0


@in_laboratory
async def test_a_fenced_port_falls_silent_by_itself_and_speaks_again_when_it_is_renewed(lab: Lab) -> None:
    net, clients = network(), open_group()
    await lab.apply(net, clients)
    fenced = port(net, 11, clients.id)
    await lab.driver.fence(frozenset({fenced.id}), boottime_s() + AGES_S)
    one, two = await lab.guest(fenced), await lab.guest(port(net, 12, clients.id))
    three = await lab.guest(port(net, 13, clients.id))
    assert one.pings("10.0.0.12")
    await lab.driver.fence(frozenset({fenced.id}), boottime_s() + 1.0)
    await eventually(lambda: not one.pings("10.0.0.12", count=1), "the lease to run out with nobody doing anything")
    assert not two.pings("10.0.0.11", count=1)
    assert not two.pings("fd00:a::b", count=1)
    assert two.pings("10.0.0.13"), "the others run on"
    await lab.restart()
    assert not two.pings("10.0.0.11", count=1), "another node lets nobody speak who was silent"
    await lab.driver.fence(frozenset({fenced.id}), boottime_s() + AGES_S)
    assert one.pings("10.0.0.12")
    await lab.driver.fence(frozenset({fenced.id}), 0.0)
    assert not three.pings("10.0.0.11", count=1)
    await lab.driver.fence(frozenset(), 0.0)
    assert three.pings("10.0.0.11"), "one that is fenced no more speaks"


@in_laboratory
async def test_a_port_that_comes_while_the_lease_is_out_is_silent_from_its_first_packet(lab: Lab) -> None:
    net, clients = network(), open_group()
    await lab.apply(net, clients)
    late = port(net, 11, clients.id)
    await lab.driver.fence(frozenset({late.id}), boottime_s() - 1.0)
    two = await lab.guest(port(net, 12, clients.id))
    one = await lab.guest(late)
    assert not one.pings("10.0.0.12", count=1)
    assert not two.pings("10.0.0.11", count=1)


@in_laboratory
async def test_an_ha_router_is_not_heard_outside_while_the_lease_is_out(lab: Lab) -> None:
    public, net, group = network(PUBLIC, PUBLIC6, physical="public"), network(), open_group()
    movable = router([net], public, 5, ("198.51.100.50", "10.0.0.11"), ha=True)
    assert movable.gateway is not None
    gateway = Port(
        movable.gateway.port_id, public.id, movable.gateway.mac, device_id=movable.id, device_owner="network:router_gateway"
    )
    await lab.driver.fence(frozenset({gateway.id}), boottime_s() + AGES_S)
    await lab.apply(public, net, group, gateway, movable)
    guest = await lab.guest(port(net, 11, group.id))
    outside = ("198.51.100.50", "198.51.100.5", "fd00:7b::5")
    for address in outside:
        await eventually(lambda address=address: host_pings(address), f"{address} to answer")
    await lab.driver.fence(frozenset({gateway.id}), boottime_s() + 1.0)
    await eventually(lambda: not host_pings(outside[0]), "the lease to run out with nobody doing anything")
    for address in outside:
        assert not host_pings(address)
    assert guest.pings("10.0.0.1"), "its guests still have their gateway"
    await lab.restart()
    assert not host_pings(outside[0]), "another node does not let it speak by itself"
    await lab.driver.fence(frozenset({gateway.id}), boottime_s() + AGES_S)
    for address in outside:
        await eventually(lambda address=address: host_pings(address), f"{address} to answer again")
    assert guest.pings("198.51.100.1"), "the way out is back"
    # It was moved meanwhile: from now on it is not heard, and then it goes.
    await lab.driver.fence(frozenset(), boottime_s() + AGES_S, frozenset({gateway.id}))
    assert not host_pings(outside[0])
    await lab.gone(movable, gateway)
    assert not host_pings(outside[0])
