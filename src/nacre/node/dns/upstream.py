"""Questions that others answer: the subnet's name servers, then the host's.

A server in one of the network's own subnets is asked from inside the network, as a guest would ask it; every other one from the host,
whose loopback and link-local addresses a tenant cannot name. A question goes out from a port of its own under an id of its own.
"""

import asyncio
import ipaddress
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from nacre.protocol.networks import Network

RESOLV_CONF = Path("/etc/resolv.conf")
PORT = 53
SERVERS_MAX = 4
TIMEOUT_S = 2.0
"""For one server; the next one is asked after it."""
RESPONSE_BYTES_MAX = 65_535
STRAY_MAX = 16
"""Datagrams that are not the answer, after which a server is given up."""

Opener = Callable[[int, int], Awaitable[socket.socket]]
"""(family, type) -> a socket inside the network's namespace."""


class HostServers:
    """The host's own name servers, read again when their file has changed."""

    def __init__(self, path: Path = RESOLV_CONF) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._servers: tuple[str, ...] = ()

    def servers(self) -> tuple[str, ...]:
        try:
            state = self._path.stat()
            if self._seen != (state.st_mtime_ns, state.st_size):
                self._servers = _nameservers(self._path.read_text())
                self._seen = (state.st_mtime_ns, state.st_size)
        except OSError:
            self._servers = ()
        return self._servers


def _nameservers(text: str) -> tuple[str, ...]:
    words = [line.split() for line in text.splitlines()]
    return tuple(dict.fromkeys(line[1] for line in words if len(line) > 1 and line[0] == "nameserver" and _address(line[1])))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def servers_for(network: Network, host: Iterable[str]) -> list[tuple[str, bool]]:
    """The servers in the order in which they are asked, each with whether it is asked from inside the network."""
    cidrs = [ipaddress.ip_network(subnet.cidr, strict=False) for subnet in network.subnets]
    chosen: dict[str, bool] = {}
    for subnet in network.subnets:
        for text in subnet.dns_nameservers:
            address = _address(text)
            if address is None or address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
                continue
            chosen[text] = any(address.version == cidr.version and address in cidr for cidr in cidrs)
    for text in host:
        chosen.setdefault(text, False)
    return list(chosen.items())[:SERVERS_MAX]


async def ask(wire: bytes, servers: Iterable[tuple[str, bool]], opener: Opener, *, tcp: bool) -> bytes | None:
    """The first server's answer to a question in wire form, under the question's own id; None when none answers."""
    for server, inside in servers:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                asked = secrets.token_bytes(2) + wire[2:]
                answer = await (_by_tcp if tcp else _by_udp)(asked, server, opener if inside else _open_here)
        except (OSError, TimeoutError, EOFError):
            continue
        return wire[:2] + answer[2:]
    return None


async def _open_here(family: int, kind: int) -> socket.socket:
    return socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


def _family(server: str) -> int:
    return socket.AF_INET6 if ":" in server else socket.AF_INET


async def _by_udp(wire: bytes, server: str, opener: Opener) -> bytes:
    loop = asyncio.get_running_loop()
    with await opener(_family(server), socket.SOCK_DGRAM) as sock:
        await loop.sock_connect(sock, (server, PORT))
        await loop.sock_sendall(sock, wire)
        for _ in range(STRAY_MAX):
            answer = await loop.sock_recv(sock, RESPONSE_BYTES_MAX)
            if _answers(answer, wire):
                return answer
    raise OSError(f"{server} sends what was not asked for")


async def _by_tcp(wire: bytes, server: str, opener: Opener) -> bytes:
    loop = asyncio.get_running_loop()
    sock = await opener(_family(server), socket.SOCK_STREAM)
    try:
        await loop.sock_connect(sock, (server, PORT))
        reader, writer = await asyncio.open_connection(sock=sock)
    except BaseException:
        sock.close()
        raise
    try:
        writer.write(struct.pack("!H", len(wire)) + wire)
        await writer.drain()
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        answer = await reader.readexactly(length)
    finally:
        writer.close()
    if not _answers(answer, wire):
        raise OSError(f"{server} sends what was not asked for")
    return answer


def _answers(answer: bytes, wire: bytes) -> bool:
    """The same id, a response, and the same question where there is one (RFC 5452, 9.1)."""
    if len(answer) < 12 or answer[:2] != wire[:2] or not answer[2] & 0x80:
        return False
    questions = answer[4:6]
    end = _question_end(wire)
    return questions == b"\0\0" or answer[12:end].lower() == wire[12:end].lower()


def _question_end(wire: bytes) -> int:
    """Where the one question ends; it was parsed before, so it is whole and not compressed."""
    at = 12
    while wire[at]:
        at += wire[at] + 1
    return at + 5
