"""The resolver of a network: guests find each other by name, nobody finds another tenant's, and others answer for the rest."""

import asyncio
import contextlib
import secrets
import sys
from collections.abc import AsyncIterator

import dns.message
import dns.rcode
import dns.rrset
import pytest
from msgspec.structs import replace

from nacre.protocol.names import NameAnswer, Record
from tests.node.netlab import Lab, Machine, eventually, in_laboratory, network, open_group, port, router

pytestmark = pytest.mark.root

RESOLVER, RESOLVER6 = "169.254.169.254", "fe80::a9fe:a9fe%eth0"


PATIENCE = ("+time=5", "+tries=4")
"""A busy machine may lose a question or be late with an answer: it is asked again, as guests' own resolvers do."""


async def said(machine: Machine, *words: str, at: str = RESOLVER) -> list[str]:
    """The answers' data, a line each, without what dig says of tries that came to nothing."""
    found = await asyncio.to_thread(machine.run, "dig", "+short", *PATIENCE, f"@{at}", *words, check=False)
    return [line for line in found.stdout.splitlines() if not line.startswith(";")]


async def dig(machine: Machine, *words: str, at: str = RESOLVER) -> list[str]:
    """The same in order of the alphabet."""
    return sorted(await said(machine, *words, at=at))


async def status(machine: Machine, *words: str, at: str = RESOLVER) -> str:
    found = await asyncio.to_thread(machine.run, "dig", *PATIENCE, f"@{at}", *words, check=False)
    return found.stdout.partition("status: ")[2].partition(",")[0]


@contextlib.asynccontextmanager
async def name_server(address: str, answers: dict[str, str]) -> AsyncIterator[list[str]]:
    """A name server on the host's port 53 of that address. Gives the names that it was asked for."""
    asked: list[str] = []

    def answer(wire: bytes) -> bytes:
        query = dns.message.from_wire(wire)
        name = query.question[0].name.to_text(omit_final_dot=True)
        asked.append(name)
        response = dns.message.make_response(query)
        if name in answers:
            response.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", answers[name]))
        else:
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response.to_wire()

    class Datagrams(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            self.transport.sendto(answer(data), addr)  # type: ignore[attr-defined]

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2))
        said = answer(await reader.readexactly(length))
        writer.write(len(said).to_bytes(2) + said)
        await writer.drain()
        writer.close()

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, local_addr=(address, 53))
    server = await asyncio.start_server(converse, address, 53)
    try:
        yield asked
    finally:
        transport.close()
        server.close()


def loopback() -> str:
    """An address of the host's loopback that no other test has."""
    return f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250)}.{secrets.randbelow(250) + 1}"


@in_laboratory
async def test_guests_find_each_other_by_every_name_they_have(lab: Lab) -> None:
    net, group = network(domain="demo.nacre", dns_domain="corp.example."), open_group()
    await lab.apply(net, group)
    one = await lab.guest(port(net, 11, group.id, dns_name="web", aliases=("app_web_1", "0123456789ab", "service")))
    two = await lab.guest(port(net, 12, group.id, dns_name="web-2", aliases=("service",)))
    for name in ("web", "WEB", "app_web_1", "0123456789ab", "web.demo.nacre", "web.corp.example"):
        assert await dig(two, name) == ["10.0.0.11"], name
    assert await dig(two, "web", "AAAA") == ["fd00:a::b"]
    assert await dig(two, "web", at=RESOLVER6) == ["10.0.0.11"]
    assert await dig(two, "+tcp", "web") == ["10.0.0.11"]
    # Several with one name: all are said, and they take turns.
    assert await dig(one, "service") == ["10.0.0.11", "10.0.0.12"]
    firsts = set()
    for _ in range(20):
        firsts.add((await said(one, "service"))[0])
    assert firsts == {"10.0.0.11", "10.0.0.12"}
    # And back from the address.
    assert await dig(one, "-x", "10.0.0.12") == ["web-2.demo.nacre."]
    assert await dig(one, "-x", "fd00:a::c") == ["web-2.demo.nacre."]
    assert await status(one, "nobody") == "NXDOMAIN"
    assert await status(one, "nobody.demo.nacre") == "NXDOMAIN"
    assert await status(one, "web", "MX") == "NOERROR"
    assert await status(one, "-x", "10.0.0.99") == "NXDOMAIN"


@in_laboratory
async def test_names_come_and_go_with_their_ports(lab: Lab) -> None:
    net, group = network(), open_group()
    await lab.apply(net, group)
    asker = await lab.guest(port(net, 11, group.id, dns_name="asker"))
    web = port(net, 12, group.id, dns_name="web")
    assert await status(asker, "web") == "NXDOMAIN"
    await lab.apply(web)
    assert await dig(asker, "web") == ["10.0.0.12"]
    await lab.apply(replace(web, aliases=("renamed",)))
    assert await dig(asker, "renamed") == ["10.0.0.12"]
    await lab.gone(web)
    assert await status(asker, "web") == "NXDOMAIN"


@in_laboratory
async def test_nobody_hears_of_another_tenants_names(lab: Lab) -> None:
    group = open_group()
    await lab.apply(group)
    machines = {}
    for tenant in ("red", "blue"):
        net = network(domain=f"{tenant}.nacre")
        await lab.apply(net)
        machines[tenant] = await lab.guest(port(net, 11, group.id, dns_name=f"of-{tenant}", aliases=("db",)))
        await lab.apply(port(net, 12 if tenant == "red" else 13, group.id, aliases=("db2",)))
    assert await dig(machines["red"], "db2") == ["10.0.0.12"]
    assert await dig(machines["blue"], "db2") == ["10.0.0.13"]
    for name in ("of-red", "of-red.red.nacre", "db.red.nacre"):
        assert await status(machines["blue"], name) == "NXDOMAIN", name
    # Also over a router that joins both networks.
    nets = [item.network for item in lab.items.values() if item.network]
    lone = network("10.9.0.0/24", None, domain="red.nacre")
    await lab.apply(lone, router([lone], nets[0], 200))
    stranger = await lab.guest(port(lone, 11, group.id))
    assert await status(stranger, "of-red") == "NXDOMAIN"


@in_laboratory
async def test_everything_else_is_asked_of_the_hosts_servers(lab: Lab) -> None:
    dead, alive = loopback(), loopback()
    lab.resolv_conf.write_text(f"search example\nnameserver {dead}\nnameserver {alive}\n")
    net, group = network(), open_group()
    await lab.apply(net, group)
    guest = await lab.guest(port(net, 11, group.id, dns_name="web"))
    async with name_server(alive, {"www.example.org": "192.0.2.80"}) as asked:
        assert await dig(guest, "www.example.org") == ["192.0.2.80"]
        assert await dig(guest, "+tcp", "www.example.org") == ["192.0.2.80"]
        assert await status(guest, "nobody.example.org") == "NXDOMAIN"
        # What only the network itself can know goes nowhere.
        assert await status(guest, "lonely") == "NXDOMAIN"
        assert await status(guest, "a.b.nacre") == "NXDOMAIN"
        assert set(asked) == {"www.example.org", "nobody.example.org"}
    # With all of them away the guest hears so, and the local names are as they were.
    assert await status(guest, "www.example.org") == "SERVFAIL"
    assert await dig(guest, "web") == ["10.0.0.11"]


@in_laboratory
async def test_a_subnets_own_server_comes_first_and_is_asked_where_it_stands(lab: Lab) -> None:
    net, group = network(cidr6=None), open_group()
    # One in the network itself; and the host's loopback, which no tenant may name.
    forbidden = loopback()
    net = replace(net, subnets=(replace(net.subnets[0], dns_nameservers=(forbidden, "10.0.0.53")),))
    await lab.apply(net, group)
    server = await lab.guest(port(net, 53, group.id))
    code = (
        "import socket,dns.message,dns.rrset\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.bind(('10.0.0.53',53));print('ready',flush=True)\n"
        "while 1:\n w,a=s.recvfrom(4096);q=dns.message.from_wire(w);r=dns.message.make_response(q)\n"
        " r.answer.append(dns.rrset.from_text(q.question[0].name,60,'IN','A','192.0.2.53'));s.sendto(r.to_wire(),a)\n"
    )
    process = server.start(sys.executable, "-c", code)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    guest = await lab.guest(port(net, 11, group.id))
    async with name_server(forbidden, {"intra.example.org": "192.0.2.66"}) as asked:
        assert await dig(guest, "intra.example.org") == ["192.0.2.53"]
        assert asked == []


@in_laboratory
async def test_the_control_planes_names_and_its_absence(lab: Lab) -> None:
    net, group = network(), open_group()
    await lab.apply(net, group)
    mine = port(net, 11, group.id, dns_name="web")
    guest = await lab.guest(mine)
    name = "db.service.consul"
    records = (Record(name, "SRV", 0, "1 1 5432 one.node.dc1.consul."),)
    more = (Record("one.node.dc1.consul", "A", 0, "10.0.0.77"),)
    lab.control[mine.id, name, "SRV"] = NameAnswer(True, records, more)
    lab.control[mine.id, name, "A"] = NameAnswer(True, tuple(Record(name, "A", 0, f"10.0.1.{n}") for n in range(1, 61)))
    lab.control[mine.id, "no.service.consul", "A"] = NameAnswer(False)
    assert await dig(guest, name, "SRV") == ["1 1 5432 one.node.dc1.consul."]
    # An answer that is too long for a datagram comes by TCP.
    assert len(await dig(guest, "+noedns", name)) == 60
    assert await status(guest, "no.service.consul") == "NXDOMAIN"
    assert await status(guest, "away.service.consul") == "SERVFAIL"
    assert await dig(guest, "web") == ["10.0.0.11"]


FLOOD_S = 120
"""Longer than a neighbour on the slowest machine needs: it is killed before."""
FLOOD = """
import os, socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("169.254.169.254", 53))
question = os.urandom(2) + bytes.fromhex("01000001000000000000") + b"\\x04slow\\x07example\\x00" + bytes.fromhex("00010001")
print("ready", flush=True)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    for _ in range(200):
        try:
            s.send(question)
        except OSError:
            pass
"""


@in_laboratory
async def test_a_guest_that_floods_the_resolver_does_not_silence_its_neighbours(lab: Lab) -> None:
    lab.resolv_conf.write_text(f"nameserver {loopback()}\n")
    net, group = network(), open_group()
    await lab.apply(net, group)
    rude = await lab.guest(port(net, 11, group.id))
    polite = await lab.guest(port(net, 12, group.id, dns_name="polite"))
    process = rude.start(sys.executable, "-c", FLOOD, str(FLOOD_S))
    assert process.stdout is not None
    process.stdout.readline()
    for _ in range(10):
        assert await dig(polite, "polite") == ["10.0.0.12"]
    assert process.poll() is None, "the flood ended before the neighbour had asked"
    process.kill()
    # And when it is over the rude one is served again.
    await eventually(lambda: _says(rude, "polite", ["10.0.0.12"]), "the flooder is answered again")


async def _says(machine: Machine, name: str, wanted: list[str]) -> bool:
    return await dig(machine, name) == wanted


NONSENSE = """
import os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range(150):
    s.sendto(os.urandom(n % 80), ("169.254.169.254", 53))
"""


@in_laboratory
async def test_a_restarted_node_answers_again_and_nonsense_is_no_question(lab: Lab) -> None:
    net, group = network(), open_group()
    await lab.apply(net, group)
    guest = await lab.guest(port(net, 11, group.id, dns_name="web"))
    guest.run(sys.executable, "-c", NONSENSE)
    assert await dig(guest, "web") == ["10.0.0.11"]
    await lab.restart()
    assert await dig(guest, "web") == ["10.0.0.11"]
