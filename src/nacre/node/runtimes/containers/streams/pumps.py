"""Bytes between a process's descriptors and a client, with bounds: whoever reads slowly slows the other side, whoever has gone stops nothing."""

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from collections.abc import Callable

from nacre.node.drivers import Talk
from nacre.node.runtimes.containers.streams.events import readable
from nacre.protocol.streams import CHUNK_BYTES, Channel, CloseStdin, Resize


class Client:
    """A talk whose other end may go at any time: after that what is sent is thrown away."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.gone = False

    async def send(self, channel: Channel, data: bytes) -> None:
        if not self.gone:
            try:
                await self._talk.send(channel, data)
            except ConnectionError:
                self.gone = True


async def forward(fd: int, channel: Channel, client: Client) -> None:
    """Send what is read to the client until the end; without a client, read on."""
    while True:
        try:
            data = os.read(fd, CHUNK_BYTES)
        except BlockingIOError:
            await readable(fd)
            continue
        except OSError:
            return  # EIO: the last process on the terminal has closed it.
        if not data:
            return
        await client.send(channel, data)
        await asyncio.sleep(0)


async def feed(
    talk: Talk, take: Callable[[bytes], object], close: Callable[[], None], resize: Callable[[int, int], None]
) -> None:
    """Pass on what the client sends until it goes. `take` may return an awaitable; it raises OSError when nobody reads any more."""
    reads = True
    while True:
        match await talk.receive():
            case None:
                return
            case Resize(h=h, w=w):
                resize(h, w)
            case CloseStdin():
                close()
            case bytes() as data if reads and data:
                try:
                    taken = take(data)
                    if asyncio.iscoroutine(taken):
                        await taken
                except OSError:
                    reads = False


def set_size(terminal: int, h: int, w: int) -> None:
    with contextlib.suppress(OSError):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", h & 0xFFFF, w & 0xFFFF, 0, 0))
