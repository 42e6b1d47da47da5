"""A request's connection, taken over from the HTTP server: raw bytes both ways, each side done when it says so."""

import asyncio
import contextlib
from collections import deque
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

INCOMING_BYTES_MAX = 1 << 20
"""What a client may send ahead of a guest that does not read; then its connection is not read either."""
LINGER_S = 1.0
"""How long a client may take to read the end and hang up: a connection closed under unread bytes would lose what was sent."""


class Wire(asyncio.Protocol):
    """The connection, after the HTTP server has let go of it."""

    def __init__(self, request: web.Request) -> None:
        assert request.transport is not None
        self._transport = request.transport
        self._server: Any = request.protocol
        self._incoming: deque[bytes] = deque()
        self._size = 0
        self._came = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._ended = False
        self.lost = asyncio.Event()
        self._transport.set_protocol(self)
        # What came right behind the request was kept by the server.
        tail, self._server._message_tail = self._server._message_tail, b""
        if tail:
            self.data_received(tail)
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._incoming.append(bytes(data))
        self._size += len(data)
        if self._size > INCOMING_BYTES_MAX:
            self._transport.pause_reading()
        self._came.set()

    def eof_received(self) -> bool:
        self._ended = True
        self._came.set()
        return True

    def pause_writing(self) -> None:
        self._drained.clear()

    def resume_writing(self) -> None:
        self._drained.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()
        self._ended = True
        self._came.set()
        self._drained.set()
        self._server.connection_lost(exc)

    async def read(self) -> bytes:
        """What the client sent; nothing when it said that it is done, or has gone."""
        while not self._incoming:
            if self._ended:
                return b""
            self._came.clear()
            await self._came.wait()
        data = self._incoming.popleft()
        before, self._size = self._size, self._size - len(data)
        if before > INCOMING_BYTES_MAX >= self._size and not self.lost.is_set():
            self._transport.resume_reading()
        return data

    async def write(self, *parts: bytes) -> None:
        """Waits while the client does not take more. Raises ConnectionError when it has gone."""
        if self.lost.is_set():
            raise ConnectionResetError("the client has gone")
        self._transport.writelines(parts)
        await self._drained.wait()

    async def close(self) -> None:
        """Say that nothing more comes, and hang up when the client has done so, or after a moment."""
        if not self.lost.is_set():
            with contextlib.suppress(OSError, RuntimeError):
                self._transport.write_eof()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    while await self.read():
                        pass
        self._transport.close()


class Hijacked(web.StreamResponse):
    """What the HTTP server gets instead of a response: everything was sent already."""

    @property
    def prepared(self) -> bool:
        return True

    @property
    def keep_alive(self) -> bool:
        return False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return
