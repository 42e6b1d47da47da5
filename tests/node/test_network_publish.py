"""Published ports: who calls the host's port is served by the guest, from wherever it calls, and nobody else's port is taken."""

import asyncio
import secrets
import socket
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from nacre.protocol.networks import Network, PortForward, Router
from tests.node.netlab import Lab, Machine, command, eventually, in_laboratory, network, new_id, open_group, port, router

pytestmark = pytest.mark.root

PUBLIC = "198.51.100.0/24"
ECHO_PEER = "import socket\ns=socket.create_server(('',80));print('ready',flush=True)\nwhile 1: c,a=s.accept();c.sendall(a[0].encode());c.close()"
UDP_ECHO = (
    "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.bind(('',53));print('ready',flush=True)\n"
    "while 1: d,a=s.recvfrom(2048);s.sendto(b'udp '+d,a)"
)


def free_port() -> int:
    """A port of the host that nobody has right now, outside of what the kernel gives out by itself."""
    while True:
        number = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as probe:
            try:
                probe.bind(("", number))
            except OSError:
                continue
            return number


def forward(external: int, internal: int = 80, to: str = "10.0.0.11", protocol: str = "tcp", **fields: str) -> PortForward:
    return PortForward(new_id(), protocol, external, to, internal, **fields)  # type: ignore[arg-type]


def fetch(address: str, number: int) -> str | None:
    """What the host itself hears there."""
    try:
        with socket.create_connection((address, number), timeout=2) as connection:
            return connection.makefile().readline().strip()
    except OSError:
        return None


def serve(machine: Machine, code: str) -> None:
    process = machine.start(sys.executable, "-c", code)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"


async def town(lab: Lab, *published: PortForward) -> tuple[Network, Network, Router, str]:
    """A network behind a router that publishes, and an open group."""
    public, net, group = network(PUBLIC, None, physical="public"), network(), open_group()
    way = replace(router([net], public, 5), forwards=published)
    await lab.apply(public, net, group, way)
    return public, net, way, group.id


@in_laboratory
async def test_a_published_port_is_served_on_every_address_of_the_host(lab: Lab) -> None:
    number = free_port()
    public, net, _, group = await town(lab, forward(number))
    serve(await lab.guest(port(net, 11, group)), ECHO_PEER)
    neighbour = await lab.guest(port(net, 12, group))
    outside = await lab.guest(port(public, 77, group))
    for address in ("127.0.0.1", "127.0.0.53", "198.51.100.1", own_address()):
        assert await asyncio.to_thread(fetch, address, number) is not None, address
    # A caller from elsewhere is seen by its own address.
    far = lab.machine()
    name = f"p{lab.config.cloud_id}"
    command("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", far.name)
    try:
        command("ip", "addr", "add", "203.0.113.1/24", "dev", name)
        command("ip", "link", "set", name, "up")
        far.run("ip", "addr", "add", "203.0.113.9/24", "dev", "eth0")
        far.run("ip", "link", "set", "eth0", "up")
        assert far.fetch("203.0.113.1", number) == "203.0.113.9"
    finally:
        command("ip", "link", "del", name)
    # From the guest's own network, and from the guest itself, it goes by way of the host and back.
    assert outside.fetch("198.51.100.1", number) == "198.51.100.1"
    assert neighbour.fetch("198.51.100.1", number) == "198.51.100.1"
    # Without the host's hand nothing leads in: not by the router's own address, which others can call too.
    assert outside.fetch("198.51.100.5", number) is None


def own_address() -> str:
    """An address that the host has besides the cloud's; its loopback's where it has none."""
    links = [line.split() for line in command("ip", "-4", "-o", "addr", "show", "scope", "global").splitlines()]
    return next((words[3].partition("/")[0] for words in links if words[1].startswith(("e", "w"))), "127.0.0.1")


@in_laboratory
async def test_two_tenants_meet_at_their_published_ports_only(lab: Lab) -> None:
    first, second = free_port(), free_port()
    public, group = network(PUBLIC, None, physical="public"), open_group()
    await lab.apply(public, group)
    guests = []
    for number, last, text in ((first, 5, "red"), (second, 6, "blue")):
        net = network()
        await lab.apply(net, replace(router([net], public, last), forwards=(forward(number),)))
        guest = await lab.guest(port(net, 11, group.id))
        guest.serve(80, text)
        guests.append(guest)
    red, blue = guests
    assert red.fetch("198.51.100.1", second) == "blue"
    assert blue.fetch("198.51.100.1", first) == "red"
    assert red.fetch("198.51.100.1", first) == "red"
    assert red.fetch("198.51.100.6", second) is None


@in_laboratory
async def test_one_address_of_the_host_and_datagrams(lab: Lab) -> None:
    number = free_port()
    only_here = forward(number, host_address="127.0.0.1")
    outward = forward(number, 81, host_address="198.51.100.1")
    public, net, _, group = await town(lab, only_here, outward, forward(number, 53, protocol="udp"))
    guest = await lab.guest(port(net, 11, group))
    guest.serve(80, "inner")
    guest.serve(81, "outer")
    serve(guest, UDP_ECHO)
    outside = await lab.guest(port(public, 77, group))
    assert await asyncio.to_thread(fetch, "127.0.0.1", number) == "inner"
    assert await asyncio.to_thread(fetch, "198.51.100.1", number) == "outer"
    assert outside.fetch("198.51.100.1", number) == "outer"
    assert outside.fetch("198.51.100.5", number) is None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.sendto(b"hello", ("127.0.0.1", number))
        assert await asyncio.to_thread(sock.recv, 100) == b"udp hello"


@in_laboratory
async def test_a_port_that_goes_takes_its_connections_along_and_no_others(lab: Lab) -> None:
    first, second = free_port(), free_port()
    going, staying = forward(first), forward(second)
    _, net, way, group = await town(lab, going, staying)
    (await lab.guest(port(net, 11, group))).serve(80)
    doomed = socket.create_connection(("127.0.0.1", first), timeout=5)
    kept = socket.create_connection(("127.0.0.1", second), timeout=5)
    with doomed, kept:
        assert await asyncio.to_thread(doomed.recv, 100) == b"hello\n"
        assert await asyncio.to_thread(kept.recv, 100) == b"hello\n"
        await lab.apply(replace(way, forwards=(staying,)))
        assert await asyncio.to_thread(fetch, "127.0.0.1", first) is None
        kept.sendall(b"still here\n")
        assert await asyncio.to_thread(kept.recv, 100) == b"still here\n"
        # The node restarts and is told all anew: what is open stays open, and the port is served.
        await lab.restart()
        kept.sendall(b"and now\n")
        assert await asyncio.to_thread(kept.recv, 100) == b"and now\n"
        assert await asyncio.to_thread(fetch, "127.0.0.1", second) == "hello"


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(100) == b""
    except ConnectionResetError:
        return True


def free_port_of_both() -> int:
    while True:
        number = free_port()
        with socket.socket(socket.AF_INET6) as probe:
            try:
                probe.bind(("::", number))
            except OSError:
                continue
            return number


@in_laboratory
@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this host has no IPv6")
async def test_whoever_comes_by_ipv6_is_carried_to_the_port(lab: Lab) -> None:
    both, six, four = free_port_of_both(), free_port_of_both(), free_port_of_both()
    published = (forward(both), forward(six, host_address="::1"), forward(four, host_address="0.0.0.0"))
    _, net, way, group = await town(lab, *published)
    guest = await lab.guest(port(net, 11, group))
    guest.serve(80)
    for address, number, said in (
        *(("127.0.0.1", both, "hello"), ("::1", both, "hello")),
        *(("127.0.0.1", six, None), ("::1", six, "hello")),
        *(("127.0.0.1", four, "hello"), ("::1", four, None)),
    ):
        assert await asyncio.to_thread(fetch, address, number) == said, (address, number)
    with pytest.raises(OSError, match="in use"), socket.socket(socket.AF_INET6) as thief:
        thief.bind(("::", both))
    with socket.create_connection(("::1", both), timeout=5) as kept, socket.create_connection(("::1", six), timeout=5) as doomed:
        for one in (kept, doomed):
            assert await asyncio.to_thread(one.recv, 100) == b"hello\n"
        await lab.apply(replace(way, forwards=(published[0], published[2])))
        assert await asyncio.to_thread(ended, doomed), "what is published no more is cut"
        assert await asyncio.to_thread(fetch, "::1", six) is None
        await lab.restart()
        kept.sendall(b"still here\n")
        assert await asyncio.to_thread(kept.recv, 100) == b"still here\n"
        assert await asyncio.to_thread(fetch, "::1", both) == "hello"


@in_laboratory
async def test_a_port_that_another_program_has_stays_its_own(lab: Lab) -> None:
    with socket.create_server(("", 0)) as busy:
        taken, free = busy.getsockname()[1], free_port()
        public, net, group = network(PUBLIC, None, physical="public"), network(), open_group()
        await lab.apply(public, net, group)
        way = replace(router([net], public, 5), forwards=(forward(taken), forward(free)))
        observed = await lab.apply(way, ok=False)
        said = next(seen for seen in observed if seen.id == way.id)
        assert said.state == "error"
        assert f":{taken}: Address already in use" in said.fault
        (await lab.guest_despite(port(net, 11, group.id))).serve(80)
        assert await asyncio.to_thread(fetch, "127.0.0.1", free) == "hello"
        # Whoever calls the taken port meets the program that has it.
        with socket.create_connection(("127.0.0.1", taken), timeout=5):
            assert busy.accept()
    # And as soon as it is given back, it is published.
    await lab.apply(way)
    assert await asyncio.to_thread(fetch, "127.0.0.1", taken) == "hello"
    # Nobody else can take what is published.
    with pytest.raises(OSError, match="in use"), socket.socket() as thief:
        thief.bind(("", free))
    await lab.gone(way)
    await eventually(lambda: fetch("127.0.0.1", free) is None, "the port is free")


@in_laboratory
async def test_ports_of_a_floating_ip_lead_to_different_guests(lab: Lab) -> None:
    floating = "198.51.100.60"
    ssh = forward(2201, 80, external_address=floating)
    web = forward(2202, 80, to="10.0.0.12", external_address=floating)
    public, net, group = network(PUBLIC, None, physical="public"), network(), open_group()
    way = replace(router([net], public, 5), forwards=(ssh, web))
    await lab.apply(public, net, group, way)
    one, two = [await lab.guest(port(net, host, group.id)) for host in (11, 12)]
    one.serve(80, "one")
    two.serve(80, "two")
    assert await asyncio.to_thread(fetch, floating, 2201) == "one"
    assert await asyncio.to_thread(fetch, floating, 2202) == "two"
    assert await asyncio.to_thread(fetch, floating, 80) is None
    # A guest of the same router calls by the floating address, too.
    assert (one.fetch(floating, 2202) or "").startswith("two")
    await lab.restart()
    assert await asyncio.to_thread(fetch, floating, 2201) == "one"
    await lab.apply(replace(way, forwards=(replace(web, external_port=2203),)))
    assert await asyncio.to_thread(fetch, floating, 2201) is None
    assert await asyncio.to_thread(fetch, floating, 2203) == "two"
