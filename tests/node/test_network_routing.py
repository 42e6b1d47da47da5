"""Routers: networks meet in them, guests go out behind their gateway, and floating IPs lead in."""

import asyncio
import secrets
import socket
import subprocess
import urllib.request

import pytest
from msgspec.structs import replace

from nacre.protocol.networks import HostRoute
from tests.node.netlab import Lab, command, eventually, in_laboratory, network, open_group, port, router

pytestmark = pytest.mark.root

PUBLIC, PUBLIC6 = "198.51.100.0/24", "fd00:7b::/64"


def host_pings(address: str) -> bool:
    return subprocess.run(["ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", address], capture_output=True).returncode == 0


def host_fetches(address: str, service: int) -> str | None:
    try:
        with socket.create_connection((address, service), timeout=1.5) as connection:
            return connection.makefile().readline().strip()
    except OSError:
        return None


@in_laboratory
async def test_a_floating_ip_leads_the_host_to_a_guests_web_server(lab: Lab) -> None:
    public, net, group = network(PUBLIC, PUBLIC6, physical="public"), network(), open_group()
    way = router([net], public, 5, ("198.51.100.50", "10.0.0.11"))
    await lab.apply(public, net, group, way)
    guest = await lab.guest(port(net, 11, group.id))
    guest.start("python3", "-m", "http.server", "8080", "--directory", "/usr/share/doc/base-files")
    guest.start("python3", "-m", "http.server", "-b", "::", "8081", "--directory", "/usr/share/doc/base-files")
    url = "http://198.51.100.50:8080/copyright"

    def fetched() -> bool:
        try:
            return b"Debian" in urllib.request.urlopen(url, timeout=2).read()
        except OSError:
            return False

    await eventually(lambda: asyncio.to_thread(fetched), "the page through the floating IP")
    # And gone when it is taken away, also for a connection that is open.
    await lab.apply(replace(way, floating_ips=()))
    assert not fetched()


@in_laboratory
async def test_guests_go_out_behind_the_gateway_or_their_floating_ip(lab: Lab) -> None:
    public, net, group = network(PUBLIC, None, physical="public"), network(), open_group()
    await lab.apply(public, net, group, router([net], public, 5, ("198.51.100.50", "10.0.0.11")))
    named, plain = await lab.guest(port(net, 11, group.id)), await lab.guest(port(net, 12, group.id))
    outside = await lab.guest(port(public, 77, group.id))
    asked = "import socket;s=socket.create_server(('',8000));print('ready',flush=True)\nwhile 1: c,a=s.accept();c.sendall(a[0].encode());c.close()"
    server = outside.start("python3", "-c", asked)
    assert server.stdout is not None
    server.stdout.readline()
    assert named.fetch("198.51.100.77", 8000) == "198.51.100.50"
    assert plain.fetch("198.51.100.77", 8000) == "198.51.100.5"
    # The host is the way to the rest of the world.
    assert plain.pings("198.51.100.1")


@in_laboratory
async def test_guests_call_their_neighbours_floating_ip(lab: Lab) -> None:
    public, net, other, group = (
        network(PUBLIC, None, physical="public"),
        network(),
        network("10.1.0.0/24", "fd00:b::/64"),
        open_group(),
    )
    await lab.apply(public, net, other, group, router([net, other], public, 5, ("198.51.100.50", "10.0.0.11")))
    server, neighbour, far = [await lab.guest(port(on, host, group.id)) for on, host in ((net, 11), (net, 12), (other, 13))]
    server.serve(8000)
    assert neighbour.fetch("198.51.100.50", 8000) == "hello"
    assert far.fetch("198.51.100.50", 8000) == "hello"
    assert server.fetch("198.51.100.50", 8000) == "hello"
    # Networks of one router meet without translation.
    assert far.fetch("10.0.0.11", 8000) == "hello"
    assert far.pings("fd00:a::b")


@in_laboratory
async def test_tenants_with_the_same_addresses_each_have_a_floating_ip(lab: Lab) -> None:
    public, group = network(PUBLIC, None, physical="public"), open_group()
    await lab.apply(public, group)
    for tenant, last in (("red", 50), ("blue", 60)):
        net = network()
        await lab.apply(net, router([net], public, last + 1, (f"198.51.100.{last}", "10.0.0.11")))
        (await lab.guest(port(net, 11, group.id))).serve(8000, tenant)
    assert host_fetches("198.51.100.50", 8000) == "red"
    assert host_fetches("198.51.100.60", 8000) == "blue"


@in_laboratory
async def test_a_router_that_is_down_routes_nothing_and_comes_back(lab: Lab) -> None:
    public, net, group = network(PUBLIC, None, physical="public"), network(), open_group()
    way = router([net], public, 5, ("198.51.100.50", "10.0.0.11"))
    await lab.apply(public, net, group, way)
    guest = await lab.guest(port(net, 11, group.id))
    assert host_pings("198.51.100.50")
    await lab.apply(replace(way, admin_state_up=False))
    assert not guest.pings("198.51.100.1")
    await lab.apply(way)
    await eventually(lambda: guest.pings("198.51.100.1"), "the router routes again")
    assert host_pings("198.51.100.50")


@in_laboratory
async def test_extra_routes_lead_to_a_guest_that_routes_itself(lab: Lab) -> None:
    net, other, public, group = network(), network("10.1.0.0/24", None), network(PUBLIC, None, physical="public"), open_group()
    way = router([net, other], public, 5)
    await lab.apply(net, other, public, group, replace(way, routes=(HostRoute("10.9.0.0/24", "10.0.0.11"),)))
    gate, asking = await lab.guest(port(net, 11, port_security=False)), await lab.guest(port(other, 12, group.id))
    gate.run("ip", "addr", "add", "10.9.0.1/32", "dev", "lo")
    assert asking.pings("10.9.0.1")
    await lab.apply(way)
    assert not asking.pings("10.9.0.1")
    wrong = {o.id: o for o in await lab.apply(replace(way, routes=(HostRoute("10.9.0.0/24", "172.16.0.1"),)), ok=False)}
    assert (wrong[way.id].state, "172.16.0.1" in wrong[way.id].fault) == ("error", True)


@in_laboratory
async def test_a_router_waits_for_its_network_and_is_made_when_it_comes(lab: Lab) -> None:
    public, net = network(PUBLIC, None, physical="public"), network()
    way = router([net], public, 5)
    observed = {o.id: o for o in await lab.apply(public, way, ok=False)}
    assert (observed[way.id].state, net.id in observed[way.id].fault) == ("error", True)
    assert {o.id: o.state for o in await lab.apply(net)} == {net.id: "active", way.id: "active"}
    assert host_pings("198.51.100.5")


@in_laboratory
async def test_ipv6_is_routed_to_the_outside_and_back(lab: Lab) -> None:
    public, net, group = network(PUBLIC, PUBLIC6, physical="public"), network(), open_group()
    await lab.apply(public, net, group, router([net], public, 5))
    guest = await lab.guest(port(net, 11, group.id))
    assert guest.pings("fd00:7b::1")
    assert host_pings("fd00:a::b")


@in_laboratory
async def test_a_firewall_that_drops_what_is_forwarded_lets_our_links_pass(lab: Lab) -> None:
    # A chain as Docker leaves it, in a table of its own name so that nobody else's is touched.
    other = f"t{secrets.token_hex(4)}"
    chain = f"table ip {other} {{\n chain FORWARD {{ type filter hook forward priority 10; policy drop;\n }}\n}}\n"
    command("nft", "-f", "-", stdin=chain)
    try:
        public = network(PUBLIC, None, physical="public")
        await lab.apply(public)
        rules = command("nft", "list", "table", "ip", other)
        assert rules.count(f'comment "n{lab.config.cloud_id} ') == 2
        await lab.gone(public)
        rules = command("nft", "list", "table", "ip", other)
        assert "comment" not in rules
    finally:
        command("nft", "delete", "table", "ip", other)
