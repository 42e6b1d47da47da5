"""Open dial-backs: a WebSocket that a node brings, as the `GuestStream` that a pane reads and writes (nacre.protocol.streams)."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import WSMsgType, web

from nacre.cloud.errors import CloudError, Conflict, Invalid, NotFound, Unavailable
from nacre.protocol.streams import CHUNK_BYTES, Channel, Exit, Failure, FromClient, Started, control, from_guest

ERRORS: dict[str, type[CloudError]] = {
    "not_found": NotFound,
    "conflict": Conflict,
    "invalid": Invalid,
    "unavailable": Unavailable,
}
"""A failure's kind -> what it is to the cloud; a kind that is not here is an Invalid with the kind as its code."""


def error_of(failure: Failure) -> CloudError:
    """The node's failure as the cloud's error."""
    return ERRORS.get(failure.kind, Invalid)(failure.message, code=failure.kind)


class OpenStream:
    """Implements nacre.cloud.core.GuestStream over the node's WebSocket."""

    def __init__(self, websocket: web.WebSocketResponse) -> None:
        self._websocket = websocket
        self.started = Started()
        self.exit_code: int | None = None
        self.closed = asyncio.Event()

    async def begin(self) -> None:
        """Wait for the node's first word. Raises what its failure says, and Unavailable when it goes without one."""
        message = await self._websocket.receive()
        if message.type is not WSMsgType.BINARY or message.data[0] != Channel.CONTROL:
            raise Unavailable("The host went away before the stream began.")
        word = from_guest(message.data[1:])
        if isinstance(word, Failure):
            raise error_of(word)
        if isinstance(word, Started):
            self.started = word

    async def __aiter__(self) -> AsyncIterator[tuple[Channel, bytes]]:
        while True:
            message = await self._websocket.receive()
            if message.type is not WSMsgType.BINARY:
                if self.closed.is_set():
                    return
                raise Unavailable("The host went away in the middle of the stream.")
            channel, payload = Channel(message.data[0]), message.data[1:]
            if channel is not Channel.CONTROL:
                yield channel, payload
                continue
            match from_guest(payload):
                case Exit(code=code):
                    self.exit_code = code
                    return
                case Failure() as failure:
                    raise error_of(failure)

    async def send(self, data: bytes) -> None:
        for start in range(0, len(data), CHUNK_BYTES):
            await self._send(Channel.STDIN, data[start : start + CHUNK_BYTES])

    async def control(self, message: FromClient) -> None:
        await self._send(Channel.CONTROL, control(message))

    async def _send(self, channel: Channel, payload: bytes) -> None:
        if self._websocket.closed:
            return
        try:
            await self._websocket.send_bytes(bytes((channel,)) + payload)
        except (ConnectionError, RuntimeError):
            return

    async def close(self) -> None:
        self.closed.set()
        await self._websocket.close()
