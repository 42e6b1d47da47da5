"""A removed guest's link goes with its namespace, behind the answer: nothing reaches it, its address is free, and it goes in any case."""

import pytest

from tests.node.netlab import Lab, in_laboratory, network, open_group, port

pytestmark = pytest.mark.root


def _links(lab: Lab, held: list[object], port_id: str) -> bool:
    return any(getattr(holding, "id", "") == port_id and getattr(holding, "what", "") == "link" for holding in held)


@in_laboratory
async def test_what_is_parted_is_reached_by_nobody_and_its_address_serves_another_at_once(lab: Lab) -> None:
    net, group = network(), open_group()
    await lab.apply(net, group)
    mine = port(net, 11, group.id)
    one, two = await lab.guest(mine), await lab.guest(port(net, 12, group.id))
    assert two.pings("10.0.0.11")
    await lab.driver.part(mine.id)
    assert not two.pings("10.0.0.11"), "its namespace is still here, and no frame finds the way"
    one.close()
    lab.machines.remove(one)
    await lab.gone(mine)
    successor = await lab.guest(port(net, 11, group.id))
    two.run("ip", "neigh", "flush", "all")  # The successor has another MAC address, as every port has its own.
    assert two.pings("10.0.0.11")
    assert successor.pings("10.0.0.12")
    assert not _links(lab, list(await lab.driver.survey()), mine.id)


@in_laboratory
async def test_a_link_whose_namespace_somebody_holds_goes_all_the_same(lab: Lab) -> None:
    net, group = network(), open_group()
    await lab.apply(net, group)
    mine = port(net, 11, group.id)
    one = await lab.guest(mine)
    await lab.driver.part(mine.id)
    assert not _links(lab, list(await lab.driver.survey()), mine.id), "the survey waits for what is on its way"
    assert "eth0" not in one.run("ip", "-o", "link").stdout


@in_laboratory
async def test_a_port_that_is_plugged_anew_after_it_was_parted_stays(lab: Lab) -> None:
    net, group = network(), open_group()
    await lab.apply(net, group)
    mine = port(net, 11, group.id)
    await lab.guest(mine)
    two = await lab.guest(port(net, 12, group.id))
    await lab.driver.part(mine.id)
    other = await lab.plug(mine)
    assert _links(lab, list(await lab.driver.survey()), mine.id)
    assert other.pings("10.0.0.12")
    assert two.pings("10.0.0.11")


@in_laboratory
async def test_connections_are_judged_by_one_look_for_both_protocols(lab: Lab) -> None:
    """The first packet's family used to be asked for by itself."""
    net, group = network(), open_group()
    await lab.apply(net, group)
    one, two = await lab.guest(port(net, 11, group.id)), await lab.guest(port(net, 12, group.id))
    two.serve(8000, "over four")
    two.serve(8001, "over six", v6=True)
    for address, number in (("10.0.0.12", 8000), ("fd00:a::c", 8001)):
        assert (one.fetch(address, number) or "").startswith("over")
    plane = lab.driver._applier.networks[net.id]
    seen: set[int] = set()
    await lab.driver._run(plane.namespace.conntrack.judge, ["10.0.0.12", "fd00:a::c"], lambda flow: seen.add(flow.version))
    assert seen == {4, 6}
