"""The way out for a transfer: a proxy on loopback that connects to no address which the cloud's rules refuse (`cloud.image.sources`).

skopeo runs with the API process's own view of the network, and a registry's name, a redirect or the realm of a login may lead anywhere. So
its connections come by here (HTTP CONNECT for TLS, an absolute URI without, RFC 9110 and 9112), each name is resolved once, and the connection goes
to an address that was looked at. Go's HTTP client asks no proxy for loopback: a registry's name is looked at before skopeo starts, a realm or a
redirect of a registry that leads to loopback is not. Where the operator has set a proxy of the site's (HTTPS_PROXY), that one decides what
can be reached.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress

from yarl import URL

from nacre.cloud.errors import Forbidden
from nacre.cloud.image.sources import ImportRules, Refused

HEAD_BYTES_MAX = 64 * 1024
HEAD_WAIT_S = 30.0
CONNECT_S = 15.0
CHUNK_BYTES = 256 * 1024
SITE = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
"""What an operator's own proxy is told by."""


class Gate:
    """One transfer's. `refused` is the first place that it did not connect to."""

    def __init__(self, rules: ImportRules, own: Collection[str]) -> None:
        self._rules = rules
        self._own = own
        """Host and port under which the cloud's own registry answers."""
        self._talks: set[asyncio.Task[None]] = set()
        self.refused = ""
        self.environment: dict[str, str] = {}

    def check(self, domain: str, *, loopback: bool) -> None:
        """A registry's name, before it is asked. Raises Forbidden."""
        if not loopback or domain in self._own:
            return
        host = URL(f"http://{domain}").host or ""
        try:
            self._rules.check_address("127.0.0.1" if host == "localhost" else host)
        except Refused:
            raise refusal(domain) from None

    def complain(self) -> None:
        """Raises Forbidden when something was refused: what skopeo says of it is worth less."""
        if self.refused:
            raise refusal(self.refused)

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)

    async def close(self) -> None:
        talks = tuple(self._talks)
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(HEAD_WAIT_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                await self._relay(head, reader, writer)
        finally:
            writer.close()

    async def _relay(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, _, rest = head.partition(b"\r\n")
        method, target, version = line.decode("ascii").split(" ")
        tunnel = method == "CONNECT"
        url = URL(f"https://{target}" if tunnel else target)
        if not url.host or not url.port:
            raise ValueError("a request of a proxy names host and port")
        try:
            far_reader, far_writer = await self._connect(url.host, url.port)
        except Refused:
            self.refused = self.refused or f"{url.host}:{url.port}"
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        except (OSError, TimeoutError):
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        try:
            if tunnel:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                # One request per connection: the next one may be for somebody else.
                far_writer.write(f"{method} {url.raw_path_qs} {version}\r\nConnection: close\r\n".encode() + _kept(rest))
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            far_writer.close()

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the first of its addresses that may be asked and answers. Raises Refused, OSError."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=1)
        failure: Exception = OSError(f"{host} has no address")
        for *_, place in found:
            address = str(place[0])
            try:
                if f"{host}:{port}" not in self._own:
                    self._rules.check_address(address)
                async with asyncio.timeout(CONNECT_S):
                    return await asyncio.open_connection(address, port)
            except (Refused, OSError, TimeoutError) as error:
                failure = error
        raise failure


def refusal(place: str) -> Forbidden:
    return Forbidden(
        f"{place} may not be asked by this cloud: its address is loopback, link-local or otherwise no registry's. "
        "An operator allows it by the setting image_import.allowed_networks."
    )


def _kept(head: bytes) -> bytes:
    """The header fields that are not the proxy's."""
    lines = head.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.lower().startswith((b"connection:", b"proxy-")))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    with suppress(OSError):
        writer.write_eof()


@asynccontextmanager
async def gate(rules: ImportRules, base_url: str) -> AsyncIterator[Gate]:
    """Open for one transfer; `environment` is what skopeo needs to find it."""
    url = URL(base_url)
    opened = Gate(rules, {f"{host}:{url.port}" for host in (url.host, "localhost", "127.0.0.1")})
    site = {name: os.environ[name] for name in SITE if os.environ.get(name)}
    if any(name.lower() != "no_proxy" for name in site):
        opened.environment = site
        yield opened
        return
    server = await asyncio.start_server(opened.serve, "127.0.0.1", 0, limit=HEAD_BYTES_MAX)
    port = server.sockets[0].getsockname()[1]
    opened.environment = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), f"http://127.0.0.1:{port}")
    try:
        yield opened
    finally:
        server.close()
        await opened.close()
