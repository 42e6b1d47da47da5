"""Guests on a network: they reach each other, tenants do not meet, nobody speaks in another's name, and nothing floods."""

import asyncio
import ipaddress
import struct
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from nacre.node.network.names import link_local
from nacre.node.network.routing import checksum
from nacre.protocol.guests import Guest, ImageRef, InstanceData, Limits
from nacre.protocol.networks import AddressPair, HostRoute, SecurityGroup
from tests.node.netlab import Lab, Machine, egress, eventually, in_laboratory, network, open_group, port, rule

pytestmark = pytest.mark.root

SNIFFER = """
import socket, sys, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.settimeout(0.2)
print("ready", flush=True)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    try:
        frame = s.recv(4096)
    except TimeoutError:
        continue
    if bytes.fromhex(sys.argv[2]) in frame:
        print("seen", flush=True)
"""

SEND = """
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.sendto(bytes.fromhex(sys.argv[1]), ("eth0", 0))
"""


def send(machine: Machine, frame: bytes) -> None:
    machine.run(sys.executable, "-c", SEND, frame.hex())


def raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


@in_laboratory
async def test_guests_reach_each_other_over_both_protocols(lab: Lab) -> None:
    net, group = network(), open_group()
    await lab.apply(net, group)
    one, two = await lab.guest(port(net, 11, group.id)), await lab.guest(port(net, 12, group.id))
    assert one.pings("10.0.0.12")
    assert one.pings("fd00:a::c")
    # In fragments too.
    for address in ("10.0.0.12", "fd00:a::c"):
        assert one.run("ping", "-n", "-c", "1", "-s", "4000", "-W", "5", address, check=False).returncode == 0
    two.serve(8000, "over four")
    two.serve(8001, "over six", v6=True)
    assert one.fetch("10.0.0.12", 8000) == "over four"
    assert one.fetch("fd00:a::c", 8001) == "over six"


@in_laboratory
async def test_tenants_with_the_same_addresses_do_not_meet(lab: Lab) -> None:
    group = open_group()
    await lab.apply(group)
    machines = {}
    for tenant in ("red", "blue"):
        net = network()
        await lab.apply(net)
        server = await lab.guest(port(net, 11, group.id))
        server.serve(8000, tenant)
        machines[tenant] = await lab.guest(port(net, 12, group.id))
    assert machines["red"].fetch("10.0.0.11", 8000) == "red"
    assert machines["blue"].fetch("10.0.0.11", 8000) == "blue"


@in_laboratory
async def test_nobody_speaks_with_another_address(lab: Lab) -> None:
    net, group = network(), open_group()
    await lab.apply(net, group)
    mine = port(net, 11, group.id)
    one, two = await lab.guest(mine), await lab.guest(port(net, 12, group.id))
    one.run("ip", "addr", "add", "10.0.0.66/24", "dev", "eth0")
    one.run("ip", "addr", "add", "fd00:a::66/64", "dev", "eth0", "nodad")
    # The receiver knows where to answer, so that only the guard is in the way.
    two.run("ip", "neigh", "add", "10.0.0.66", "lladdr", mine.mac, "dev", "eth0")
    two.run("ip", "neigh", "add", "fd00:a::66", "lladdr", mine.mac, "dev", "eth0")
    assert one.pings("10.0.0.12", source="10.0.0.11")
    assert one.pings("fd00:a::c", source="fd00:a::b")
    assert not one.pings("10.0.0.12", source="10.0.0.66")
    assert not one.pings("fd00:a::c", source="fd00:a::66")
    # An address pair of the port's widens what it may say.
    pairs = (AddressPair("10.0.0.64/28", ""), AddressPair("fd00:a::66", mine.mac))
    await lab.apply(replace(mine, allowed_address_pairs=pairs))
    assert one.pings("10.0.0.12", source="10.0.0.66")
    assert one.pings("fd00:a::c", source="fd00:a::66")


def arp_reply(mac: str, ip: str, to_mac: str, to_ip: str) -> bytes:
    four = [bytes(int(part) for part in address.split(".")) for address in (ip, to_ip)]
    return raw(to_mac) + raw(mac) + bytes.fromhex("08060001080006040002") + raw(mac) + four[0] + raw(to_mac) + four[1]


@in_laboratory
async def test_nobody_claims_another_address_by_arp_or_neighbour_discovery(lab: Lab) -> None:
    net, group = network(), open_group()
    await lab.apply(net, group)
    thief_port, victim_port = port(net, 11, group.id), port(net, 12, group.id)
    thief, victim = await lab.guest(thief_port), await lab.guest(victim_port)
    watcher = victim.start(sys.executable, "-c", SNIFFER, "3", "0a0000c8")
    assert watcher.stdout is not None
    watcher.stdout.readline()
    send(thief, arp_reply(thief_port.mac, "10.0.0.200", victim_port.mac, "10.0.0.12"))
    # The truth gets through, so the road is open: the same reply for its own address.
    honest = victim.start(sys.executable, "-c", SNIFFER, "3", "0a00000b")
    assert honest.stdout is not None
    honest.stdout.readline()
    send(thief, arp_reply(thief_port.mac, "10.0.0.11", victim_port.mac, "10.0.0.12"))
    assert b"seen" in await asyncio.to_thread(honest.stdout.read)
    assert b"seen" not in await asyncio.to_thread(watcher.stdout.read)
    # A neighbour advertisement for the victim's own gateway, from the thief's rightful link-local address.
    thief.run("ip", "-6", "neigh", "flush", "dev", "eth0")
    target = "fd00000a000000000000000000000001"
    watcher = victim.start(sys.executable, "-c", SNIFFER, "3", "8800")
    assert watcher.stdout is not None
    watcher.stdout.readline()
    send(thief, advertisement(thief_port.mac, victim_port.mac, target))
    assert b"seen" not in await asyncio.to_thread(watcher.stdout.read)
    watcher = victim.start(sys.executable, "-c", SNIFFER, "3", "8800")
    assert watcher.stdout is not None
    watcher.stdout.readline()
    send(thief, advertisement(thief_port.mac, victim_port.mac, "fd00000a00000000000000000000000b"))
    assert b"seen" in await asyncio.to_thread(watcher.stdout.read)


def advertisement(mac: str, to_mac: str, target: str) -> bytes:
    """An ICMPv6 neighbour advertisement from the sender's link-local address; its checksum is right (RFC 4443, 2.3)."""
    source, everyone = ipaddress.IPv6Address(link_local(mac)).packed, ipaddress.IPv6Address("ff02::1").packed
    body = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + bytes.fromhex(target) + b"\x02\x01" + raw(mac)
    total = checksum(source + everyone + struct.pack("!II", len(body), 58) + body)
    body = body[:2] + struct.pack("!H", total) + body[4:]
    return raw(to_mac) + raw(mac) + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + source + everyone + body


@in_laboratory
async def test_a_frame_for_nobody_reaches_nobody(lab: Lab) -> None:
    net, group = network(), open_group()
    await lab.apply(net, group)
    sender_port, receiver_port = port(net, 11, group.id), port(net, 12, group.id)
    sender, receiver = await lab.guest(sender_port), await lab.guest(receiver_port)
    receiver.run("ip", "link", "set", "eth0", "promisc", "on")
    payload = b"known to nobody"
    header = bytes.fromhex("4500002b00000000401100000a00000b0a000099") + bytes.fromhex("1000100000170000")
    watcher = receiver.start(sys.executable, "-c", SNIFFER, "2", payload.hex())
    assert watcher.stdout is not None
    watcher.stdout.readline()
    send(sender, bytes.fromhex("02dead00beef") + raw(sender_port.mac) + b"\x08\x00" + header + payload)
    assert b"seen" not in await asyncio.to_thread(watcher.stdout.read)
    # The same frame for the receiver's own address does arrive.
    watcher = receiver.start(sys.executable, "-c", SNIFFER, "2", payload.hex())
    assert watcher.stdout is not None
    watcher.stdout.readline()
    good = bytes.fromhex("4500002b00000000401165ec0a00000b0a00000c") + bytes.fromhex("1000100000170000")
    send(sender, raw(receiver_port.mac) + raw(sender_port.mac) + b"\x08\x00" + ip_checksum(good) + payload)
    assert b"seen" in await asyncio.to_thread(watcher.stdout.read)


def ip_checksum(header: bytes) -> bytes:
    bare = header[:10] + b"\0\0" + header[12:20]
    return header[:10] + struct.pack("!H", checksum(bare)) + header[12:]


@in_laboratory
async def test_the_metadata_service_knows_who_asks(lab: Lab) -> None:
    group = open_group()
    await lab.apply(group)
    for name in ("red", "blue"):
        net = network()
        await lab.apply(net)
        guest = Guest(
            id=port(net, 1).id,
            runtime="container",
            generation=1,
            power="running",
            boots=1,
            image=ImageRef("11111111-0000-0000-0000-000000000000", "sha256:0", 1, "raw", "docker"),
            limits=Limits(1, 64, 1),
            instance=InstanceData(
                name,
                f"{name}.example",
                "p1",
                "nova",
                public_keys={"mine": "ssh-ed25519 AAAA me"},
                meta={"colour": name},
                user_data=b"#!/bin/sh\n",
            ),
        )
        bound = port(net, 11, group.id, device_id=guest.id)
        lab.guests[(net.id, "10.0.0.11")] = guest
        machine = await lab.guest(bound)
        for base in ("http://169.254.169.254", "http://[fe80::a9fe:a9fe%25eth0]"):
            status, body = await asyncio.to_thread(machine.get, f"{base}/openstack/latest/meta_data.json")
            assert (status, f'"name":"{name}"' in body) == (200, True), body
        found = {path: await asyncio.to_thread(machine.get, f"http://169.254.169.254{path}") for path in EC2_ANSWERS}
        assert {path: body for path, (_, body) in found.items()} == {
            path: answer.format(name=name) for path, answer in EC2_ANSWERS.items()
        }
        status, body = await asyncio.to_thread(machine.get, "http://169.254.169.254/openstack/2018-08-27/network_data.json")
        assert (status, '"ip_address":"10.0.0.11"' in body, bound.mac in body) == (200, True, True)
        nobody = await lab.guest(port(net, 12, group.id))
        assert (await asyncio.to_thread(nobody.get, "http://169.254.169.254/openstack"))[0] == 404


EC2_ANSWERS = {
    "/latest/user-data": "#!/bin/sh\n",
    "/2009-04-04/meta-data/hostname": "{name}.example",
    "/latest/meta-data/public-keys/": "0=mine",
    "/latest/meta-data/public-keys/0/openssh-key": "ssh-ed25519 AAAA me",
    "/latest/meta-data/local-ipv4": "10.0.0.11",
    "/openstack/latest/user_data": "#!/bin/sh\n",
}


@in_laboratory
async def test_metadata_is_all_that_the_host_offers_and_passes_every_security_group(lab: Lab) -> None:
    net, shut = network(), SecurityGroup("00000000-0000-4000-8000-000000000001")
    await lab.apply(net, shut)
    machine = await lab.guest(port(net, 11, shut.id))
    assert (await asyncio.to_thread(machine.get, "http://169.254.169.254/openstack"))[0] == 404
    assert machine.fetch("169.254.169.254", 22) is None


@in_laboratory
async def test_a_port_that_is_administratively_down_carries_nothing(lab: Lab) -> None:
    net, group = network(), open_group()
    await lab.apply(net, group)
    mine = port(net, 11, group.id)
    one, two = await lab.guest(mine), await lab.guest(port(net, 12, group.id))
    assert two.pings("10.0.0.11")
    await lab.apply(replace(mine, admin_state_up=False))
    assert not two.pings("10.0.0.11")
    await lab.apply(mine)
    await eventually(lambda: one.pings("10.0.0.12"), "the port carries again")


@in_laboratory
async def test_unplugging_takes_the_link_away_and_plugging_twice_changes_nothing(lab: Lab) -> None:
    net, group = network(), open_group()
    await lab.apply(net, group)
    mine = port(net, 11, group.id)
    one, two = await lab.guest(mine), await lab.guest(port(net, 12, group.id))
    before = one.run("ip", "-o", "addr").stdout, one.run("ip", "route").stdout
    again = await lab.driver.plug(mine.id, one.path, "eth0")
    assert again.addresses == ("10.0.0.11/24", "fd00:a::b/64")
    assert (one.run("ip", "-o", "addr").stdout, one.run("ip", "route").stdout) == before
    await lab.driver.unplug(mine.id)
    assert "eth0" not in one.run("ip", "-o", "link").stdout
    await lab.driver.unplug(mine.id)
    await lab.driver.plug(mine.id, one.path, "eth0")
    assert one.pings("10.0.0.12")
    # Another namespace takes the port over: the guest was made anew.
    other = lab.machine()
    await lab.driver.plug(mine.id, other.path, "eth0")
    assert "eth0" not in one.run("ip", "-o", "link").stdout
    assert other.pings("10.0.0.12")
    assert two.pings("10.0.0.11")


@in_laboratory
async def test_without_port_security_a_guest_may_say_anything(lab: Lab) -> None:
    net, group = network(), open_group()
    shut = SecurityGroup("00000000-0000-4000-8000-000000000002", (*egress(), rule("ingress", 4, protocol="tcp")))
    await lab.apply(net, group, shut)
    free = port(net, 11, shut.id, port_security=False)
    one, two = await lab.guest(free), await lab.guest(port(net, 12, group.id))
    assert two.pings("10.0.0.11")
    one.run("ip", "addr", "add", "10.0.0.66/24", "dev", "eth0")
    assert one.pings("10.0.0.12", source="10.0.0.66")


@in_laboratory
async def test_a_guest_in_its_own_user_namespace(lab: Lab) -> None:
    """As containers are: the namespace belongs to ids that are nobody on the host."""
    net, group = network(), open_group()
    await lab.apply(net, group)
    one, mine = await lab.guest(port(net, 11, group.id)), port(net, 12, group.id)
    await lab.apply(mine)
    guest = one.start_outside(
        "unshare", "--user", "--map-root-user", "--net", "sh", "-c", "ip link set lo up; echo ready; sleep 60"
    )
    assert guest.stdout is not None
    guest.stdout.readline()
    plugged = await lab.driver.plug(mine.id, Path(f"/proc/{guest.pid}/ns/net"), "eth0")
    assert plugged.addresses == ("10.0.0.12/24", "fd00:a::c/64")
    assert one.pings("10.0.0.12")
    assert one.pings("fd00:a::c")
    await lab.driver.unplug(mine.id)
    assert not one.pings("10.0.0.12")


@in_laboratory
async def test_two_ports_in_one_guest_and_routes_of_their_subnets(lab: Lab) -> None:
    net, other, group = network(), network("10.1.0.0/24", None), open_group()
    subnet = replace(net.subnets[0], host_routes=(HostRoute("10.7.0.0/16", "10.0.0.12"),))
    net = replace(net, subnets=(subnet, *net.subnets[1:]))
    await lab.apply(net, other, group)
    first, second = port(net, 11, group.id), port(other, 11, group.id)
    machine = await lab.guest(first)
    await lab.apply(second)
    for _ in range(2):
        await lab.driver.plug(first.id, machine.path, "eth0")
        await lab.driver.plug(second.id, machine.path, "eth1")
    routes = machine.run("ip", "route").stdout
    assert routes.count("default via 10.0.0.1 dev eth0 proto 78 \n") == 1
    assert routes.count("default via 10.1.0.1 dev eth1") == 1
    assert routes.count("10.7.0.0/16 via 10.0.0.12 dev eth0") == 1
    assert machine.run("ip", "route", "get", "192.0.2.99").stdout.split()[4] == "eth0"
