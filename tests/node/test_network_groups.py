"""Security groups: what they allow passes, what they do not does not, and what is revoked ends, for real packets."""

import asyncio

import pytest
from msgspec.structs import replace

from nacre.protocol.networks import SecurityGroup, SecurityGroupRule
from tests.node.netlab import (
    Lab,
    Machine,
    Pinging,
    command,
    egress,
    eventually,
    in_laboratory,
    network,
    new_id,
    open_group,
    port,
    rule,
)

pytestmark = pytest.mark.root

TALK = """
import socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)
s.settimeout(1.0)
s.recv(100)
while True:
    s.sendall(b"x")
    try:
        print("alive" if s.recv(10) else "closed", flush=True)
    except TimeoutError:
        print("silent", flush=True)
    time.sleep(0.05)
"""


class Conversation:
    """A connection that says every moment whether the other side still answers."""

    def __init__(self, machine: Machine, address: str, service: int) -> None:
        self.process = machine.start("python3", "-c", TALK, address, str(service))

    async def next(self) -> str:
        assert self.process.stdout is not None
        line: bytes = await asyncio.wait_for(asyncio.to_thread(self.process.stdout.readline), 20)
        return line.decode().strip()

    async def says(self, word: str) -> bool:
        return await self.next() == word


def group(*rules: SecurityGroupRule) -> SecurityGroup:
    return SecurityGroup(new_id(), (*egress(), *rules))


@in_laboratory
async def test_only_what_a_rule_allows_comes_in(lab: Lab) -> None:
    net, clients = network(), open_group()
    web = group(
        rule("ingress", 4, protocol="tcp", port_min=8000, port_max=8001),
        rule("ingress", 6, protocol="6", port_min=8002, port_max=8002),
        rule("ingress", 4, protocol="tcp", port_min=9000, port_max=9000, remote_prefix="10.0.0.13/32"),
        rule("ingress", 4, protocol="icmp", port_min=8, port_max=0),
    )
    await lab.apply(net, clients, web)
    server = await lab.guest(port(net, 11, web.id))
    one, two = await lab.guest(port(net, 12, clients.id)), await lab.guest(port(net, 13, clients.id))
    for service in (8000, 8001, 8003, 9000):
        server.serve(service)
    server.serve(8002, v6=True)
    server.serve(8004, v6=True)
    assert one.fetch("10.0.0.11", 8000) == "hello"
    assert one.fetch("10.0.0.11", 8001) == "hello"
    assert one.fetch("10.0.0.11", 8003) is None
    assert one.fetch("fd00:a::b", 8002) == "hello"
    assert one.fetch("fd00:a::b", 8004) is None
    assert (one.fetch("10.0.0.11", 9000), two.fetch("10.0.0.11", 9000)) == (None, "hello")
    assert one.pings("10.0.0.11")
    assert not one.pings("fd00:a::b")
    # What the server itself begins gets its answers.
    one.serve(8000, "back")
    assert server.fetch("10.0.0.12", 8000) == "back"


@in_laboratory
async def test_a_port_without_groups_lets_nothing_in_or_out(lab: Lab) -> None:
    net, others = network(), open_group()
    await lab.apply(net, others)
    shut, other = await lab.guest(port(net, 11)), await lab.guest(port(net, 12, others.id))
    other.serve(8000)
    shut.serve(8000)
    assert shut.fetch("10.0.0.12", 8000) is None
    assert other.fetch("10.0.0.11", 8000) is None


@in_laboratory
async def test_egress_is_a_matter_of_rules_too(lab: Lab) -> None:
    net, others = network(), open_group()
    narrow = SecurityGroup(
        new_id(), (rule("egress", 4, protocol="tcp", port_min=8000, port_max=8000, remote_prefix="10.0.0.0/24"),)
    )
    await lab.apply(net, others, narrow)
    one, other = await lab.guest(port(net, 11, narrow.id)), await lab.guest(port(net, 12, others.id))
    other.serve(8000)
    other.serve(8001)
    assert one.fetch("10.0.0.12", 8000) == "hello"
    assert one.fetch("10.0.0.12", 8001) is None
    assert not one.pings("10.0.0.12")


@in_laboratory
async def test_a_remote_group_lets_its_members_in_and_no_one_else(lab: Lab) -> None:
    net, friends, others = network(), open_group(), open_group()
    inside = group(rule("ingress", 4, remote_group_id=friends.id), rule("ingress", 6, remote_group_id=friends.id))
    friends = replace(friends, members=("10.0.0.12", "fd00:a::c"))
    await lab.apply(net, friends, others, inside)
    server = await lab.guest(port(net, 11, inside.id))
    friend, stranger = await lab.guest(port(net, 12, friends.id)), await lab.guest(port(net, 13, others.id))
    server.serve(8000)
    server.serve(8001, v6=True)
    assert friend.fetch("10.0.0.11", 8000) == "hello"
    assert friend.fetch("fd00:a::b", 8001) == "hello"
    assert stranger.fetch("10.0.0.11", 8000) is None
    talk = Conversation(friend, "10.0.0.11", 8000)
    await eventually(lambda: talk.says("alive"), "the member's connection")
    # The members change: who leaves is cut off, also where a connection is open; who joins comes in.
    await lab.apply(replace(friends, members=("10.0.0.13",)))
    await eventually(lambda: talk.says("silent"), "the end of the former member's connection")
    assert friend.fetch("10.0.0.11", 8000) is None
    assert stranger.fetch("10.0.0.11", 8000) == "hello"


@in_laboratory
async def test_revoking_a_rule_ends_its_connection_and_no_other(lab: Lab) -> None:
    net, clients = network(), open_group()
    keep = rule("ingress", 4, protocol="tcp", port_min=8001, port_max=8001)
    take = rule("ingress", 4, protocol="tcp", port_min=8000, port_max=8000)
    web = group(keep, take)
    await lab.apply(net, clients, web)
    server, client = await lab.guest(port(net, 11, web.id)), await lab.guest(port(net, 12, clients.id))
    server.serve(8000)
    server.serve(8001)
    doomed, other = Conversation(client, "10.0.0.11", 8000), Conversation(client, "10.0.0.11", 8001)
    await eventually(lambda: doomed.says("alive"), "the connection that is to end")
    await eventually(lambda: other.says("alive"), "the connection that is to stay")
    await lab.apply(replace(web, rules=(*egress(), keep)))
    await eventually(lambda: doomed.says("silent"), "the end of the connection whose rule was revoked")
    for _ in range(20):
        assert await other.next() == "alive"
    # The rule comes back: the connection, which TCP still repeats, goes on.
    await lab.apply(web)
    await eventually(lambda: doomed.says("alive"), "the connection goes on")


@in_laboratory
async def test_twenty_rules_one_by_one_lose_no_packet_of_another_flow(lab: Lab) -> None:
    net, clients = network(), open_group()
    web = group(rule("ingress", 4, protocol="icmp"))
    await lab.apply(net, clients, web)
    server, client = await lab.guest(port(net, 11, web.id)), await lab.guest(port(net, 12, clients.id))
    flood = Pinging(client.start, "10.0.0.11")
    for number in range(20):
        web = replace(
            web, rules=(*web.rules, rule("ingress", 4, protocol="tcp", port_min=8000 + 2 * number, port_max=8000 + 2 * number))
        )
        await lab.apply(web)
    server.serve(8038)
    assert client.fetch("10.0.0.11", 8038) == "hello"
    for number in range(20):
        web = replace(web, rules=web.rules[:-1])
        await lab.apply(web)
        assert len(web.rules) == 22 - number
    assert flood.lost() == 0
    assert client.fetch("10.0.0.11", 8038) is None


@in_laboratory
async def test_a_rule_that_cannot_be_said_is_an_error_and_closes_its_group(lab: Lab) -> None:
    net, clients = network(), open_group()
    await lab.apply(net, clients)
    broken = group(rule("ingress", 4, protocol="carrier-pigeon"), rule("ingress", 4))
    observed = {o.id: o for o in await lab.apply(broken, ok=False)}
    assert (observed[broken.id].state, "carrier-pigeon" in observed[broken.id].fault) == ("error", True)
    _, client = await lab.guest_despite(port(net, 11, broken.id)), await lab.guest_despite(port(net, 12, clients.id))
    assert not client.pings("10.0.0.11")


@in_laboratory
async def test_overlapping_rules_are_no_trouble(lab: Lab) -> None:
    net, clients = network(), open_group()
    many = group(
        *[rule("ingress", 4, protocol="tcp", port_min=8000, port_max=8000 + n) for n in range(5)],
        *[rule("ingress", 4, protocol="udp", port_min=1, port_max=65535, remote_prefix=f"10.0.0.0/{n}") for n in range(8, 25)],
        rule("ingress", 4, protocol="tcp", port_min=8000, port_max=8000, remote_prefix="0.0.0.0/0"),
        rule("ingress", 6, protocol="icmp"),
        rule("ingress", 6, protocol="ipv6-icmp", port_min=128),
        rule("ingress", 4, protocol="132", port_min=80, port_max=80),
        rule("ingress", 4, protocol="112"),
    )
    await lab.apply(net, clients, many)
    server, client = await lab.guest(port(net, 11, many.id)), await lab.guest(port(net, 12, clients.id))
    server.serve(8004)
    assert client.fetch("10.0.0.11", 8004) == "hello"
    assert client.pings("fd00:a::b")
    assert not client.pings("10.0.0.11")


@in_laboratory
async def test_another_group_for_a_port_in_use(lab: Lab) -> None:
    net, clients, tcp, icmp = (
        network(),
        open_group(),
        group(rule("ingress", 4, protocol="tcp")),
        group(rule("ingress", 4, protocol="icmp")),
    )
    await lab.apply(net, clients, tcp, icmp)
    mine = port(net, 11, tcp.id)
    server, client = await lab.guest(mine), await lab.guest(port(net, 12, clients.id))
    server.serve(8000)
    talk = Conversation(client, "10.0.0.11", 8000)
    await eventually(lambda: talk.says("alive"), "the connection")
    assert not client.pings("10.0.0.11")
    await lab.apply(replace(mine, security_groups=(icmp.id,)))
    assert client.pings("10.0.0.11")
    await eventually(lambda: talk.says("silent"), "the end of the connection")


@in_laboratory
async def test_a_members_address_pair_is_a_member_too(lab: Lab) -> None:
    net, friends = network(), open_group()
    inside = group(rule("ingress", 4, protocol="tcp", port_min=8000, port_max=8000, remote_group_id=friends.id))
    await lab.apply(net, friends, inside)
    server, friend = await lab.guest(port(net, 11, inside.id)), await lab.guest(port(net, 12, friends.id))
    server.serve(8000)
    assert friend.fetch("10.0.0.11", 8000) is None
    await lab.apply(replace(friends, members=("10.0.0.200", "10.0.0.8/29", "10.0.0.12/30")))
    assert friend.fetch("10.0.0.11", 8000) == "hello"
    talk = Conversation(friend, "10.0.0.11", 8000)
    await eventually(lambda: talk.says("alive"), "the connection")
    await lab.apply(replace(friends, members=("10.0.0.0/29",)))
    await eventually(lambda: talk.says("silent"), "the end of the connection")


@in_laboratory
async def test_an_address_group_is_a_group_of_members_that_nobody_bears(lab: Lab) -> None:
    net, others = network(), open_group()
    offices = SecurityGroup(new_id(), members=("10.0.0.12/32", "10.0.0.128/25"))
    inside = group(rule("ingress", 4, protocol="tcp", port_min=8000, port_max=8000, remote_group_id=offices.id))
    await lab.apply(net, others, offices, inside)
    server = await lab.guest(port(net, 11, inside.id))
    one, two, three = [await lab.guest(port(net, host, others.id)) for host in (12, 13, 200)]
    server.serve(8000)
    assert [bool(guest.fetch("10.0.0.11", 8000)) for guest in (one, two, three)] == [True, False, True]
    await lab.apply(replace(offices, members=("10.0.0.13/32",)))
    assert [bool(guest.fetch("10.0.0.11", 8000)) for guest in (one, two, three)] == [False, True, False]


@in_laboratory
async def test_a_stateless_group_judges_each_packet_by_itself(lab: Lab) -> None:
    net, clients = network(), open_group()
    web = rule("ingress", 4, protocol="tcp", port_min=8000, port_max=8000)
    answers = rule("egress", 4, protocol="tcp", port_min=1024, port_max=65535)
    bare = SecurityGroup(new_id(), (web,), stateful=False)
    await lab.apply(net, clients, bare)
    server, client = await lab.guest(port(net, 11, bare.id)), await lab.guest(port(net, 12, clients.id))
    server.serve(8000)
    client.serve(9000)
    # The question comes in; the answer is no part of it and has no rule.
    assert client.fetch("10.0.0.11", 8000) is None
    await lab.apply(replace(bare, rules=(web, answers)))
    assert client.fetch("10.0.0.11", 8000) == "hello"
    # What it asks itself is answered to a port that no rule lets in.
    assert server.fetch("10.0.0.12", 9000) is None
    assert (await asyncio.to_thread(server.get, "http://169.254.169.254/openstack"))[0] == 404
    name = f"n{lab.config.cloud_id}-network-{net.id}"
    assert "dport=8000" not in command("ip", "netns", "exec", name, "cat", "/proc/net/nf_conntrack")
    await lab.restart()
    assert client.fetch("10.0.0.11", 8000) == "hello"
    # The same rules, tracked again: answers belong to what was let in.
    await lab.apply(SecurityGroup(bare.id, (web,)))
    assert client.fetch("10.0.0.11", 8000) == "hello"
