"""Chooses the external subnet and the port: what is free on this machine, and taken by no other cloud of it."""

import errno
import json
import socket
from ipaddress import IPv4Network
from pathlib import Path

import click

from nacre.api.config import ExternalNetwork
from nacre.cli.state import registered

CANDIDATES = tuple(IPv4Network(f"172.{second}.{third}.0/24") for second in (24, 25, 30) for third in range(4, 20))
"""172.24.4.0/24 first: the external subnet of OpenStack's own examples."""

PORT_FIRST, PORT_LAST = 8080, 8179


def routed(table: str) -> list[IPv4Network]:
    """The networks of /proc/net/route (addresses are hexadecimal in the host's byte order), the default route left out."""
    networks = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        destination, mask = (int(fields[index], 16).to_bytes(4, "little") for index in (1, 7))
        if any(mask):
            networks.append(IPv4Network((destination, f"{mask[0]}.{mask[1]}.{mask[2]}.{mask[3]}"), strict=False))
    return networks


def others() -> list[IPv4Network]:
    """The external subnets of the clouds on this machine, running or not. A host that joined another cloud has none."""
    clouds = (json.loads((directory / "cloud.json").read_text()) for directory in registered().values())
    return [IPv4Network(cloud["external_cidr"]) for cloud in clouds if cloud.get("external_cidr")]


def choose_subnet() -> IPv4Network:
    """The first candidate that meets no route of this machine and no other cloud."""
    taken = routed(Path("/proc/net/route").read_text()) + others()
    for candidate in CANDIDATES:
        if not any(candidate.overlaps(network) for network in taken):
            return candidate
    raise click.ClickException(f"no free external subnet: all {len(CANDIDATES)} candidates meet a route of this machine")


def external(cidr: str) -> ExternalNetwork:
    """The external network in a subnet: the host has the first address, the rest are for routers and floating IPs."""
    network = IPv4Network(cidr)
    return ExternalNetwork(cidr=cidr, gateway=str(network[1]), allocation_start=str(network[2]), allocation_end=str(network[-2]))


def port_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def choose_port() -> int:
    """8080, or the next one that is free."""
    ports = {json.loads((directory / "cloud.json").read_text()).get("port") for directory in registered().values()}
    for port in range(PORT_FIRST, PORT_LAST + 1):
        if port not in ports and port_free(port):
            return port
    raise click.ClickException(f"no free port from {PORT_FIRST} to {PORT_LAST}: choose one with --port")
