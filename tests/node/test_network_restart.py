"""A node that goes and comes: nothing that carries packets is touched, what is not wanted goes, and nothing is left behind."""

import asyncio
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from nacre.node.network import purge
from nacre.protocol.messages import Gone
from nacre.protocol.networks import AddressPair
from tests.node.netlab import Lab, Pinging, command, in_laboratory, item, network, new_id, open_group, port, router
from tests.node.test_network_routing import PUBLIC, host_pings

pytestmark = pytest.mark.root


def traces(lab: Lab) -> str:
    """Everything of the cloud's that the host's own tools find."""
    name = f"n{lab.config.cloud_id}"
    found = [
        *(entry.name for entry in Path("/run/netns").iterdir()),
        *Path("/proc/mounts").read_text().splitlines(),
        *command("ip", "-o", "link").splitlines(),
        *command("nft", "list", "ruleset").splitlines(),
    ]
    return "\n".join(line for line in found if name in line)


@in_laboratory
async def test_restarting_the_node_loses_no_packet(lab: Lab) -> None:
    public, net, group = network(PUBLIC, None, physical="public"), network(), open_group()
    bound = [port(net, host, group.id) for host in (11, 12)]
    await lab.apply(public, net, group, router([net], public, 5, ("198.51.100.50", "10.0.0.11")))
    one, two = [await lab.guest(found) for found in bound]
    east = Pinging(one.start, "10.0.0.12")
    north = Pinging(two.start, "198.51.100.1")
    inward = Pinging(one.start_outside, "198.51.100.50")
    for _ in range(5):
        assert {o.state for o in await lab.restart()} == {"active"}
        for found, machine in zip(bound, (one, two), strict=True):
            await lab.driver.plug(found.id, machine.path, "eth0")
        await asyncio.sleep(0.1)
    assert [ping.lost() for ping in (east, north, inward)] == [0, 0, 0]


def handles(lab: Lab, *names: str) -> list[str]:
    """Everything that nftables has in these namespaces and the host's table, with its handle: what is made anew gets another."""
    shown = [command("ip", "netns", "exec", name, "nft", "-a", "list", "ruleset") for name in names]
    shown.append(command("nft", "-a", "list", "table", "inet", f"n{lab.config.cloud_id}"))
    return re.sub(r"packets \d+ bytes \d+|expires \w+", "", "\n".join(shown)).splitlines()


@in_laboratory
async def test_a_restart_replaces_no_filter(lab: Lab) -> None:
    """A packet that was in the guard's chain while a restart replaced the table found no mark and was lost."""
    public, net = network(PUBLIC, None, physical="public"), network()
    first, second = open_group(), open_group()
    way = router([net], public, 5, ("198.51.100.50", "10.0.0.11"))
    one, two, three = port(net, 11, first.id), port(net, 12, first.id, second.id), port(net, 13, second.id)
    two = replace(two, allowed_address_pairs=(AddressPair("10.9.0.0/16", two.mac), AddressPair("fd09::/64", two.mac)))
    await lab.apply(public, net, first, second, way, one, two, three)
    names = [f"n{lab.config.cloud_id}-network-{net.id}", f"n{lab.config.cloud_id}-router-{way.id}"]
    before = handles(lab, *names)
    # All is as it was, only told in another order.
    lab.items = {spec.id: item(spec) for spec in (public, net, second, first, way, three, two, one)}
    await lab.restart()
    assert handles(lab, *names) == before
    # One port has gone meanwhile: that is all that changes.
    del lab.items[one.id]
    await lab.restart()
    link = f"n{lab.config.cloud_id}-{one.id.replace('-', '')[:9]}"
    after = handles(lab, *names)
    assert not any(link in line for line in after)
    assert made_anew(before, after) == []


def made_anew(before: list[str], after: list[str]) -> list[str]:
    """The chains and sets of `before` that are not in `after` under the same handle."""
    lines = [line.strip() for line in before if line.rstrip().endswith(tuple("0123456789")) and "{ # handle" in line]
    there = {line.strip() for line in after}
    return [line for line in lines if line not in there and "gress" not in line]


@in_laboratory
async def test_a_restarted_node_wants_to_know_all_before_it_acts(lab: Lab) -> None:
    net = network()
    await lab.apply(net)
    await lab.driver.close()
    lab.driver = lab.new_driver()
    await lab.driver.start()
    observed = await lab.apply(network("10.1.0.0/24", None), ok=False)
    assert [(o.state, "full apply" in o.fault) for o in observed] == [("error", True)]


@in_laboratory
async def test_a_full_apply_undoes_what_is_not_listed(lab: Lab) -> None:
    public, net, other, group = network(PUBLIC, None, physical="public"), network(), network("10.1.0.0/24", None), open_group()
    kept, dropped = port(net, 11, group.id), port(net, 12, group.id)
    await lab.apply(public, net, other, group, router([net], public, 5, ("198.51.100.50", "10.0.0.11")))
    one, two = await lab.guest(kept), await lab.guest(dropped)
    assert one.pings("10.0.0.12")
    lab.items = {spec.id: item(spec) for spec in (net, group, kept)}
    observed = {(o.kind, o.id): o.state for o in await lab.restart()}
    assert observed[("network", other.id)] == observed[("network", public.id)] == "gone"
    assert "eth0" not in two.run("ip", "-o", "link").stdout
    assert "10.0.0.11" in one.run("ip", "-o", "addr").stdout
    assert {(h.kind, h.id) for h in await lab.driver.survey()} == {("network", net.id), ("port", kept.id)}
    again = await lab.guest(port(net, 13, group.id))
    assert again.pings("10.0.0.11")


@in_laboratory
async def test_purge_leaves_no_trace(lab: Lab) -> None:
    settings = [Path("/proc/sys/net/ipv4/ip_forward"), Path("/proc/sys/net/ipv6/conf/all/forwarding")]
    before = [setting.read_text() for setting in settings]
    public, net, group = network(PUBLIC, "fd00:7b::/64", physical="public"), network(), open_group()
    await lab.apply(public, net, group, router([net], public, 5, ("198.51.100.50", "10.0.0.11")))
    await lab.guest(port(net, 11, group.id))
    assert settings[0].read_text() == "1\n"
    assert traces(lab)
    await purge(lab.config)
    assert traces(lab) == ""
    assert await lab.driver.survey() == []
    assert [setting.read_text() for setting in settings] == before
    await purge(lab.config)


@in_laboratory
async def test_what_is_gone_is_gone(lab: Lab) -> None:
    public, net, group = network(PUBLIC, None, physical="public"), network(), open_group()
    way, mine = router([net], public, 5, ("198.51.100.50", "10.0.0.11")), port(net, 11, group.id)
    await lab.apply(public, net, group, way)
    await lab.guest(mine)
    assert host_pings("198.51.100.50")
    await lab.gone(way, mine, group, net, public)
    assert await lab.driver.survey() == []
    assert traces(lab) == ""
    observed = await lab.driver.apply([], [Gone("network", new_id(), 1), Gone("router", new_id(), 1)], full=False)
    assert {o.state for o in observed} == {"gone"}


@in_laboratory
async def test_a_half_made_network_is_made_whole(lab: Lab) -> None:
    net, group = network(), open_group()
    name = f"n{lab.config.cloud_id}-network-{net.id}"
    # A node that was killed before it could pin the namespace leaves an empty file.
    Path("/run/netns", name).touch()
    assert {o.state for o in await lab.driver.apply([item(net), item(group)], [], full=True)} == {"active"}
    lab.items = {spec.id: item(spec) for spec in (net, group)}
    bound = [port(net, host, group.id) for host in (11, 12)]
    one, _ = [await lab.guest(found) for found in bound]
    # Somebody, or a kill, takes things away one after the other: each time a full apply puts them back.
    for damage in ("nft flush ruleset", "ip neigh flush all nud permanent", "ip addr flush dev br0", "ip link set br0 down"):
        command("ip", "netns", "exec", name, *damage.split())
        assert {o.state for o in await lab.restart()} == {"active"}
        for found in bound:
            await lab.driver.plug(found.id, lab.plugs[found.id][0].path, "eth0")
        assert one.pings("10.0.0.12")
        assert (await asyncio.to_thread(one.get, "http://169.254.169.254/openstack"))[0] == 404
    # A link that was made and not yet put on the bridge.
    link = f"n{lab.config.cloud_id}-{bound[0].id.replace('-', '')[:9]}"
    command("ip", "-n", name, "link", "set", link, "nomaster")
    await lab.driver.plug(bound[0].id, one.path, "eth0")
    assert one.pings("10.0.0.12")


@in_laboratory
async def test_a_tunnel_is_there_only_while_a_port_is_on_another_host(lab: Lab) -> None:
    net, group = network("10.0.0.0/24", None), open_group()
    name = f"n{lab.config.cloud_id}-network-{net.id}"
    await lab.apply(net, group)
    one = await lab.guest(port(net, 11, group.id))
    assert "vxlan" not in command("ip", "-n", name, "-d", "link")
    far = replace(port(net, 21, group.id), local=False, tunnel_ip="127.0.0.2")
    await lab.apply(far)
    shown = command("ip", "netns", "exec", name, "bridge", "fdb")
    assert f"{far.mac} dev n{lab.config.cloud_id}-x{net.vni} dst 127.0.0.2" in shown
    # The bridge answers for the far guest itself: the question is never sent.
    one.run("ping", "-n", "-c", "1", "-W", "1", "10.0.0.21", check=False)
    assert far.mac in one.run("ip", "neigh").stdout
    await lab.gone(far)
    assert "vxlan" not in command("ip", "-n", name, "-d", "link")


@in_laboratory
async def test_a_full_bridge_is_an_error_that_says_so(lab: Lab) -> None:
    net, group = network("10.0.0.0/16", None), open_group()
    await lab.apply(net, group)
    many = [replace(port(net, 1, group.id), fixed_ips=()) for _ in range(1024)]
    observed = await lab.driver.apply([item(found) for found in many], [], full=False)
    faults = [o.fault for o in observed if o.state == "error"]
    assert len(faults) == 1
    assert "EXFULL" in faults[0]
