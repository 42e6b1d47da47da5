"""The metadata service: what a guest may learn of itself at 169.254.169.254 and [fe80::a9fe:a9fe], in OpenStack's and EC2's layouts.

It listens inside every network's namespace. The socket tells the network and the client's address tells the guest, which the
anti-spoofing guard makes sure of; so tenants with the same addresses see each their own. No namespace is entered to serve.

Layouts: the Compute API guide's metadata chapter, and EC2's instance metadata as Nova offers it.
"""

import base64
import ipaddress
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec
from aiohttp import web

from nacre.node.serving import NetworkServers
from nacre.protocol.guests import Guest
from nacre.protocol.networks import Network, Port

OPENSTACK_VERSIONS = (
    "2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30", "2016-10-06", "2017-02-22", "2018-08-27", "2020-10-14", "latest",
)  # fmt: skip
EC2_VERSIONS = (
    "1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01", "2009-04-04", "latest",
)  # fmt: skip
RANDOM_SEED_BYTES = 512

_PASSWORD = re.compile(r"/openstack/[^/]+/password/?")

Tree = Mapping[str, "Tree | bytes"]
PASSWORD_BYTES_MAX = 1020
"""Of an encrypted password that a guest tells; as Nova has it."""
Passwords = Callable[[str, bytes | None], Awaitable[tuple[int, bytes]]]
"""Tells the control plane the encrypted password of a guest, or asks for it (None): (guest id, password) -> HTTP status and text. Raises OSError."""
Lookup = Callable[[str, str], Guest | None]
"""The guest that bears an address in a network, by the network's id and the address."""


class Ports(Protocol):
    """What the service asks of the network driver."""

    def port_at(self, network_id: str, address: str) -> Port | None: ...

    def ports_of(self, device_id: str) -> list[tuple[Port, Network]]: ...


class MetadataService(NetworkServers):
    """One for the node. `ports` is set by the network driver that it serves."""

    def __init__(self, lookup: Lookup, passwords: Passwords | None = None) -> None:
        super().__init__()
        self._lookup, self._passwords = lookup, passwords
        self.ports: Ports | None = None

    async def answer(self, network_id: str, request: web.BaseRequest) -> web.StreamResponse:
        is_password = _PASSWORD.fullmatch(request.path) is not None
        if request.method not in ("GET", "HEAD") and not (is_password and request.method == "POST"):
            return web.Response(status=405, text="405 Method Not Allowed\n")
        address = (request.remote or "").partition("%")[0]
        guest = self._guest(network_id, address)
        if guest is None:
            return web.Response(status=404, text="404 Not Found: no server has this address\n")
        if is_password:
            return await self._password(guest.id, request)
        found = _walk(self._tree(guest), request.path)
        if found is None:
            return web.Response(status=404, text="404 Not Found\n")
        if isinstance(found, bytes):
            kind = "application/json" if request.path.endswith((".json", "/document")) else "text/plain"
            return web.Response(body=found, content_type=kind)
        return web.Response(text=_listing(found))

    async def _password(self, guest_id: str, request: web.BaseRequest) -> web.StreamResponse:
        """A guest tells once which password it chose, encrypted with its owner's key."""
        if self._passwords is None:
            return web.Response(status=404, text="404 Not Found\n")
        told: bytes | None = None
        if request.method == "POST":
            if (request.content_length or 0) > PASSWORD_BYTES_MAX:
                return web.Response(status=400, text="400 Bad Request: the password is too long\n")
            told = await request.read()
            if len(told) > PASSWORD_BYTES_MAX or not told.isascii():
                return web.Response(status=400, text="400 Bad Request: the password is too long, or no text\n")
        try:
            status, text = await self._passwords(guest_id, told)
        except OSError:
            return web.Response(status=503, text="503 Service Unavailable\n")
        return web.Response(status=status, body=text, content_type="text/plain")

    def _guest(self, network_id: str, address: str) -> Guest | None:
        """By the address itself, or by the fixed address of the port whose link-local address it is."""
        port = self.ports.port_at(network_id, address) if self.ports and address else None
        fixed = port.fixed_ips[0].address if port and port.fixed_ips else address
        return self._lookup(network_id, fixed) or (self._lookup(network_id, address) if fixed != address else None)

    def _tree(self, guest: Guest) -> Tree:
        ordered = self._ports_of(guest)
        openstack, ec2 = _openstack(guest, ordered), _ec2(guest, ordered)
        return {"openstack": dict.fromkeys(OPENSTACK_VERSIONS, openstack), **dict.fromkeys(EC2_VERSIONS, ec2)}

    def _ports_of(self, guest: Guest) -> list[tuple[Port, Network]]:
        ports = self.ports.ports_of(guest.id) if self.ports else []
        return sorted(ports, key=lambda found: guest.ports.index(found[0].id) if found[0].id in guest.ports else len(guest.ports))

    def config_drive(self, guest: Guest) -> Tree:
        """The same as files: what a guest that asked for a config drive gets."""
        return documents(guest, self._ports_of(guest))


def documents(guest: Guest, ports: list[tuple[Port, Network]]) -> Tree:
    """A config drive (the Compute API guide's chapter on it): the newest OpenStack and EC2 documents, and the files of the server's maker."""
    openstack: dict[str, Tree | bytes] = dict(_openstack(guest, ports))
    content = {f"{number:04}": file.contents for number, file in enumerate(guest.files)}
    if content:
        about = msgspec.json.decode(openstack["meta_data.json"])  # type: ignore[arg-type]
        about["files"] = [{"path": file.path, "content_path": f"/content/{number:04}"} for number, file in enumerate(guest.files)]
        openstack["meta_data.json"] = _json(about)
    ec2: dict[str, Tree | bytes] = {"meta-data.json": _json(_plain(_ec2(guest, ports)["meta-data"]))}
    if guest.instance.user_data:
        ec2["user-data"] = guest.instance.user_data
    dated = dict.fromkeys(OPENSTACK_VERSIONS[-2:], openstack)
    return {"openstack": {**dated, **({"content": content} if content else {})}, "ec2": {"2009-04-04": ec2, "latest": ec2}}


def _plain(tree: Tree | bytes) -> object:
    return tree.decode(errors="replace") if isinstance(tree, bytes) else {name: _plain(value) for name, value in tree.items()}


def _walk(tree: Tree, path: str) -> Tree | bytes | None:
    found: Tree | bytes = tree
    for step in (step for step in path.split("/") if step):
        if isinstance(found, bytes):
            return None
        below = found.get(step)
        if below is None:
            # `public-keys` lists its keys as `0=name` and is asked for `0`.
            below = next((value for name, value in found.items() if name.partition("=")[0] == step), None)
        if below is None:
            return None
        found = below
    return found


def _listing(tree: Tree) -> str:
    """EC2's way: a name a line, with a slash behind what has more below. Keys and OpenStack's versions bear none."""
    bare = "latest" in tree
    return "\n".join(name if bare or isinstance(value, bytes) or "=" in name else f"{name}/" for name, value in tree.items())


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)


def _openstack(guest: Guest, ports: list[tuple[Port, Network]]) -> Tree:
    data = guest.instance
    described: dict[str, object] = {
        "uuid": guest.id,
        "name": data.name,
        "hostname": data.hostname,
        "project_id": data.project_id,
        "availability_zone": data.availability_zone,
        "launch_index": data.launch_index,
        "meta": data.meta,
        "public_keys": data.public_keys,
        "keys": [{"name": name, "type": "ssh", "data": key} for name, key in data.public_keys.items()],
        "random_seed": base64.b64encode(os.urandom(RANDOM_SEED_BYTES)).decode(),
        "devices": [],
        "dedicated_cpus": [],
    }
    files: dict[str, bytes] = {
        "meta_data.json": _json(described),
        "network_data.json": _json(network_data(ports)),
        "vendor_data.json": b"{}",
        "vendor_data2.json": b"{}",
    }
    return {**files, "user_data": data.user_data} if data.user_data else files


def network_data(ports: list[tuple[Port, Network]]) -> dict[str, object]:
    """The links, addresses, routes and name servers of a guest (Nova's network_data.json)."""
    links: list[dict[str, object]] = []
    networks: list[dict[str, object]] = []
    servers: dict[str, None] = {}
    for port, network in ports:
        link = f"tap{port.id[:11]}"
        links.append({"id": link, "vif_id": port.id, "type": "phy", "mtu": network.mtu, "ethernet_mac_address": port.mac})
        subnets = {subnet.id: subnet for subnet in network.subnets}
        for ip in port.fixed_ips:
            subnet = subnets.get(ip.subnet_id)
            if subnet is None:
                continue
            mask = ipaddress.ip_network(subnet.cidr, strict=False).netmask
            routes = [("0.0.0.0/0" if subnet.version == 4 else "::/0", subnet.gateway_ip)] if subnet.gateway_ip else []
            routes += [(route.destination, route.nexthop) for route in subnet.host_routes]
            parsed = [(ipaddress.ip_network(destination, strict=False), gateway) for destination, gateway in routes]
            networks.append(
                {
                    "id": f"network{len(networks)}",
                    "type": f"ipv{subnet.version}",
                    "link": link,
                    "ip_address": ip.address,
                    "netmask": str(mask),
                    "network_id": network.id,
                    "routes": [
                        {"network": str(net.network_address), "netmask": str(net.netmask), "gateway": gateway}
                        for net, gateway in parsed
                    ],
                    "services": [{"type": "dns", "address": server} for server in subnet.dns_nameservers],
                }
            )
            servers.update(dict.fromkeys(subnet.dns_nameservers))
    return {"links": links, "networks": networks, "services": [{"type": "dns", "address": server} for server in servers]}


def _ec2(guest: Guest, ports: list[tuple[Port, Network]]) -> Tree:
    data = guest.instance
    instance_id = f"i-{guest.id.replace('-', '')[:8]}"
    image_id = f"ami-{guest.image.id.replace('-', '')[:8]}"
    addresses = [ip.address for port, _ in ports for ip in port.fixed_ips]
    local_v4 = next((address for address in addresses if ":" not in address), "")
    keys = list(data.public_keys.items())
    described: dict[str, Tree | bytes] = {
        "ami-id": image_id.encode(),
        "ami-launch-index": str(data.launch_index).encode(),
        "block-device-mapping": {"ami": b"sda1", "root": b"/dev/sda1"},
        "hostname": data.hostname.encode(),
        "instance-action": b"none",
        "instance-id": instance_id.encode(),
        "instance-type": data.instance_type.encode(),
        "local-hostname": data.hostname.encode(),
        "local-ipv4": local_v4.encode(),
        "placement": {"availability-zone": data.availability_zone.encode()},
        "public-hostname": data.hostname.encode(),
        "public-ipv4": b"",
        "reservation-id": data.reservation_id.encode(),
    }
    if ports:
        described["mac"] = ports[0][0].mac.encode()
    if keys:
        described["public-keys"] = {f"{index}={name}": {"openssh-key": key.encode()} for index, (name, key) in enumerate(keys)}
    document = {
        "instanceId": instance_id,
        "imageId": image_id,
        "instanceType": data.instance_type,
        "availabilityZone": data.availability_zone,
        "privateIp": local_v4,
        "accountId": data.project_id,
        "version": "2017-09-30",
    }
    tree: dict[str, Tree | bytes] = {"meta-data": described, "dynamic": {"instance-identity": {"document": _json(document)}}}
    return {**tree, "user-data": data.user_data} if data.user_data else tree
