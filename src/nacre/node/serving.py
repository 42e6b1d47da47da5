"""An HTTP service inside every tenant network: sockets that listen in the network's namespace, served from the node's own loop.

The socket tells the network and the client's address tells the port, which the anti-spoofing guard makes sure of; so tenants with the
same addresses see each their own. No namespace is entered to serve.
"""

import asyncio
import socket
from abc import ABC, abstractmethod
from typing import Any

from aiohttp import web


class NetworkServers(ABC):
    """The servers of one service, a set for each network. A service says in `answer` what a request gets."""

    options: dict[str, Any] = {}
    """For aiohttp's server."""

    def __init__(self) -> None:
        self._servers: dict[str, list[asyncio.Server]] = {}
        self._handlers: dict[str, web.Server] = {}

    @abstractmethod
    async def answer(self, network_id: str, request: web.BaseRequest) -> web.StreamResponse:
        """What a request from that network gets."""

    def networks(self) -> set[str]:
        return set(self._servers)

    async def open_network(self, network_id: str, sockets: list[socket.socket]) -> None:
        """Serve on sockets that listen inside the network's namespace."""

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return await self.answer(network_id, request)

        handler = self._handlers[network_id] = web.Server(answer, access_log=None, **self.options)
        loop = asyncio.get_running_loop()
        self._servers[network_id] = [await loop.create_server(handler, sock=listener) for listener in sockets]

    async def close_network(self, network_id: str) -> None:
        for server in self._servers.pop(network_id, []):
            server.close()
        handler = self._handlers.pop(network_id, None)
        if handler is not None:
            await handler.shutdown(timeout=0)

    async def close(self) -> None:
        for network_id in list(self._servers):
            await self.close_network(network_id)
