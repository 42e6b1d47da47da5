"""Checks of services, asked from inside a tenant's network: the socket is opened in the network's namespace, so that nothing else can be
reached by it, whatever address or URL a tenant has written.

Statuses are Consul's (https://developer.hashicorp.com/consul/docs/services/usage/checks): 2xx passing, 429 warning, all else critical.
"""

import asyncio
import ipaddress
import os
import socket
from collections.abc import Awaitable, Callable

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from nacre.protocol.probes import OUTPUT, OUTPUT_BYTES_MAX, Probe, Probed

REDIRECTS_MAX = 10
"""As Go's HTTP client, which Consul is made with; only those that lead to the same place are followed."""
HEADER_BYTES_MAX = 16 * 1024
USER_AGENT = "Consul Health Check"

Open = Callable[[int, int], Awaitable[socket.socket]]
"""A fresh socket of a family and a kind inside the network's namespace. Raises OSError."""


async def probe(asked: Probe, open_socket: Open) -> Probed:
    """Ask once. Never raises for what the other side does."""
    try:
        async with asyncio.timeout(asked.timeout_s):
            return await (_http(asked, open_socket) if asked.kind == "http" else _tcp(asked, open_socket))
    except TimeoutError:
        what = f'{asked.method} "{asked.url}"' if asked.kind == "http" else f"dial tcp {_place(asked)}"
        return Probed("critical", f"{what}: no answer within {asked.timeout_s:g} s")


def _place(asked: Probe) -> str:
    return f"[{asked.address}]:{asked.port}" if ":" in asked.address else f"{asked.address}:{asked.port}"


async def _tcp(asked: Probe, open_socket: Open) -> Probed:
    place = _place(asked)
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(asked.address).version == 6 else socket.AF_INET
        with await open_socket(family, socket.SOCK_STREAM) as sock:
            await asyncio.get_running_loop().sock_connect(sock, (asked.address, asked.port))
    except (OSError, ValueError) as error:
        return Probed("critical", f"dial tcp {place}: {_words(error)}")
    return Probed("passing", f"TCP connect {place}: Success")


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return f"connect: {os.strerror(error.errno).lower()}"
    return str(error) or type(error).__name__


class _Fixed(AbstractResolver):
    """Whatever the name is, it is at this address: the node's own resolver is not asked for a tenant's names."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        found = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        numeric = socket.AI_NUMERICHOST
        return [ResolveResult(hostname=host, host=self._address, port=port, family=found, proto=0, flags=numeric)]

    async def close(self) -> None: ...


async def _http(asked: Probe, open_socket: Open) -> Probed:
    url, method, body = URL(asked.url), asked.method, asked.body
    for _ in range(REDIRECTS_MAX):
        try:
            status, reason, location, output = await _ask(asked, url, method, body, open_socket)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Probed("critical", f'{asked.method} "{asked.url}": {_words(error)}'[:OUTPUT_BYTES_MAX])
        following = _same_place(url, location) if status in (301, 302, 303, 307, 308) else None
        if following is None:
            break
        url = following
        if status in (301, 302, 303) and method != "HEAD":
            method, body = "GET", ""
    else:
        return Probed("critical", f'{asked.method} "{asked.url}": stopped after {REDIRECTS_MAX} redirects')
    said = f"HTTP {asked.method} {asked.url}: {status} {reason}{OUTPUT}{output}"
    return Probed("passing" if 200 <= status < 300 else "warning" if status == 429 else "critical", said)


def _same_place(url: URL, location: str) -> URL | None:
    """Where a redirect leads, if that is where it came from; to anywhere else nobody goes."""
    try:
        target = url.join(URL(location)) if location else None
    except ValueError:
        return None
    return target if target is not None and target.origin() == url.origin() else None


async def _ask(asked: Probe, url: URL, method: str, body: str, open_socket: Open) -> tuple[int, str, str, str]:
    """(status, reason, where it redirects to, the beginning of what it said)."""
    opened = await open_socket(socket.AF_INET6 if ":" in asked.address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connector = aiohttp.TCPConnector(
            resolver=_Fixed(asked.address),
            socket_factory=lambda info: opened.dup(),
            force_close=True,
            ssl=not asked.tls_skip_verify,
        )
        headers = [(name, value) for name, values in asked.headers.items() for value in values]
        if not any(name.lower() == "user-agent" for name, _ in headers):
            headers.append(("User-Agent", USER_AGENT))
        async with (
            aiohttp.ClientSession(
                connector=connector, auto_decompress=False, max_line_size=HEADER_BYTES_MAX, trust_env=False
            ) as session,
            session.request(method, url, headers=headers, data=body.encode() or None, allow_redirects=False) as response,
        ):
            said = await _beginning(response.content)
            return response.status, response.reason or "", response.headers.get("Location", ""), said
    finally:
        opened.close()


async def _beginning(content: aiohttp.StreamReader) -> str:
    data = b""
    while len(data) < OUTPUT_BYTES_MAX:
        chunk = await content.read(OUTPUT_BYTES_MAX - len(data))
        if not chunk:
            break
        data += chunk
    return data.decode("utf-8", "replace")
