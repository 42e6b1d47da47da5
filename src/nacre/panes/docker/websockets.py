"""A client at a guest's streams over a WebSocket (Engine API, "Attach to a container via a websocket")."""

from aiohttp import WSMsgType, web

from nacre.cloud.errors import Invalid
from nacre.panes.docker.dialect import HEADERS
from nacre.protocol.streams import CHUNK_BYTES, Channel

MESSAGE_BYTES_MAX = 1 << 20
"""What a client may say in one message."""


class WebSocketEnd:
    """Implements nacre.panes.docker.conversation.End. `text`: messages are text, as old versions of the API have it."""

    def __init__(self, request: web.Request, *, text: bool) -> None:
        self.response = web.WebSocketResponse(max_msg_size=MESSAGE_BYTES_MAX, compress=False)
        self.response.headers.update(HEADERS)
        self._request, self._text = request, text

    async def opened(self) -> "WebSocketEnd":
        """After the handshake. Raises Invalid where the client asked for none."""
        if not self.response.can_prepare(self._request).ok:
            raise Invalid("bad request: a websocket handshake is needed (Upgrade: websocket)")
        await self.response.prepare(self._request)
        return self

    @property
    def has_gone(self) -> bool:
        """A WebSocket is not closed by halves."""
        return self.response.closed

    async def read(self) -> bytes:
        while True:
            message = await self.response.receive()
            if message.type is WSMsgType.BINARY and message.data:
                return bytes(message.data)
            if message.type is WSMsgType.TEXT and message.data:
                return str(message.data).encode()
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                return b""

    async def say(self, channel: Channel, data: bytes) -> None:
        for start in range(0, len(data), CHUNK_BYTES):
            part = data[start : start + CHUNK_BYTES]
            if self._text:
                await self.response.send_str(part.decode(errors="replace"))
            else:
                await self.response.send_bytes(part)

    async def close(self) -> None:
        await self.response.close()
