"""The project's own catalog at 169.254.169.254:8500 inside every network: Consul's HTTP API, relayed to the API process.

The socket tells the network and the client's address tells the port, as for the metadata service (see `metadata`). Nothing that a guest
sends says who it is: no token is passed on, and only paths under /v1/ are.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

import aiohttp
from aiohttp import web

from nacre.node.serving import NetworkServers
from nacre.protocol.networks import Port

AT_ONCE_MAX = 256
"""Requests of one network that are under way, queries that wait among them; one more is refused with 429."""
CHUNK_BYTES = 64 * 1024
SENT_HEADERS = ("Accept", "Content-Type", "Content-Encoding")
KEPT_OUT = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"})
"""Headers of an answer that are between the node and the API process."""

Forward = Callable[[str, web.BaseRequest, bytes, dict[str, str]], Awaitable[aiohttp.ClientResponse]]
"""(port that asks, its request, the body, the headers to pass on) -> the answer. Raises OSError when the API process is away."""


class Ports(Protocol):
    """What the service asks of the network driver."""

    def port_at(self, network_id: str, address: str) -> Port | None: ...


class RelayService(NetworkServers):
    """One for the node. `ports` is set by the network driver that it serves."""

    # A guest that goes away while it waits ends what is asked for it.
    options = {"handler_cancellation": True, "auto_decompress": False}

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self._forward = forward
        self.ports: Ports | None = None
        self._under_way: dict[str, int] = {}

    async def answer(self, network_id: str, request: web.BaseRequest) -> web.StreamResponse:
        address = (request.remote or "").partition("%")[0]
        port = self.ports.port_at(network_id, address) if self.ports and address else None
        if port is None or not port.local:
            return web.Response(status=403, text="Permission denied: no port of this host has this address")
        if not request.raw_path.startswith("/v1/"):
            return web.Response(status=404, text="404 page not found\n")
        if self._under_way.get(network_id, 0) >= AT_ONCE_MAX:
            return web.Response(status=429, text=f"{AT_ONCE_MAX} requests of this network are under way already")
        self._under_way[network_id] = self._under_way.get(network_id, 0) + 1
        try:
            return await self._relay(port.id, request)
        finally:
            self._under_way[network_id] -= 1
            if not self._under_way[network_id]:
                del self._under_way[network_id]

    async def _relay(self, port_id: str, request: web.BaseRequest) -> web.StreamResponse:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            return web.Response(status=413, text=error.text)
        headers = {name: request.headers[name] for name in SENT_HEADERS if name in request.headers}
        try:
            answer = await self._forward(port_id, request, body, headers)
        except OSError as error:
            return web.Response(status=503, text=f"The catalog cannot be reached: {error}")
        async with answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in KEPT_OUT}
            response = web.StreamResponse(status=answer.status, headers=kept)
            response.content_length = answer.content_length
            await response.prepare(request)
            if request.method != "HEAD":
                async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                    await response.write(chunk)
            await response.write_eof()
            return response
