"""Taking over the connection of a request, as the Engine API's attach and exec do: raw bytes both ways after the answer's headers.

`101 UPGRADED` where the client asked for an upgrade, else `200 OK`. Each side may say that it is done while the other goes on.
Without a terminal what the guest says comes in frames: [stream, 0, 0, 0, four bytes of length], then the payload.
"""

import struct

from aiohttp import web

from nacre.panes.docker.dialect import HEADERS, minor_of
from nacre.panes.edge.wire import Wire
from nacre.protocol.streams import Channel

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
MULTIPLEXED_SINCE = 42


def content_type(request: web.Request, tty: bool) -> str:
    return MULTIPLEXED if not tty and minor_of(request) >= MULTIPLEXED_SINCE else RAW


def frame(channel: Channel, data: bytes) -> bytes:
    """The header of a frame (Engine API, "Stream format")."""
    return struct.pack(">BxxxI", channel, len(data))


class Hijack:
    """One taken-over connection, and the way in which the guest's words are written to it."""

    def __init__(self, wire: Wire, tty: bool) -> None:
        self.wire, self._tty = wire, tty

    @property
    def has_gone(self) -> bool:
        return self.wire.lost.is_set()

    async def read(self) -> bytes:
        return await self.wire.read()

    async def close(self) -> None:
        await self.wire.close()

    async def say(self, channel: Channel, data: bytes) -> None:
        if self._tty:
            await self.wire.write(data)
        else:
            await self.wire.write(frame(channel, data), data)


async def take_over(request: web.Request, tty: bool) -> Hijack:
    """Answer the request, and have its connection from here on."""
    wire = Wire(request)
    upgrade = request.headers.get("Upgrade", "")
    lines = [
        "HTTP/1.1 101 UPGRADED" if upgrade else "HTTP/1.1 200 OK",
        f"Content-Type: {content_type(request, tty) if upgrade else RAW}",
        *(("Connection: Upgrade", "Upgrade: tcp") if upgrade else ()),
        *(f"{name}: {value}" for name, value in HEADERS.items()),
    ]
    await wire.write("\r\n".join([*lines, "", ""]).encode())
    return Hijack(wire, tty)
