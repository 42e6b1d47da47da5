"""A client at a guest's streams: bytes both ways until the guest is done, or the client has gone or detached itself."""

import asyncio
import contextlib
import logging
from typing import Protocol

from nacre.cloud.core import GuestStream
from nacre.cloud.errors import CloudError, Invalid
from nacre.panes.docker.keys import Detacher
from nacre.panes.edge import Call
from nacre.protocol.streams import Channel, CloseStdin

SIZE_MAX = 65_535
TRUE = ("1", "true", "True", "TRUE", "t", "T", "yes", "on")
log = logging.getLogger("nacre.docker")


def flag(call: Call, name: str) -> bool:
    """A boolean of the query as Docker reads it: missing is false."""
    return call.query.get(name, "") in TRUE


def size_of(call: Call) -> tuple[int, int]:
    """`h` and `w` of the query. Raises Invalid."""
    sizes = []
    for name in ("h", "w"):
        text = call.query.get(name, "")
        if not text.isascii() or not text.isdigit() or int(text) > SIZE_MAX:
            raise Invalid(f'invalid resize {"height" if name == "h" else "width"} "{text}": it must be a number', field=name)
        sizes.append(int(text))
    return sizes[0], sizes[1]


def log_failure(what: str, ident: str, error: CloudError) -> None:
    log.warning("%s %s: %s", what, ident, error.message)


class End(Protocol):
    """A client's end of a conversation."""

    @property
    def has_gone(self) -> bool:
        """Whether nothing can be said to it any more; else it may only have said that it is done."""

    async def read(self) -> bytes:
        """What it sends; nothing when it is done, or has gone."""

    async def say(self, channel: Channel, data: bytes) -> None:
        """Raises ConnectionError when it has gone."""

    async def close(self) -> None: ...


async def converse(stream: GuestStream, end: End | None, *, keys: bytes = b"", outlives: bool = False) -> None:
    """Carry both ways. With `outlives` to the guest's end whatever becomes of the client, else until either is done.

    `keys`: what detaches the client, empty where it has no terminal. Raises the CloudError with which the stream breaks.
    """
    typing = asyncio.create_task(_carry_in(stream, end, keys)) if end is not None else None
    talking = asyncio.create_task(_carry_out(stream, end, outlives))
    try:
        if typing is None:
            await talking
            return
        await asyncio.wait([typing, talking], return_when=asyncio.FIRST_COMPLETED)
        detached = typing.done() and not typing.cancelled() and typing.exception() is None and typing.result()
        if detached and outlives:
            assert end is not None
            await end.close()
        if not detached or outlives:
            await talking
    finally:
        for task in (typing, talking):
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in (typing, talking) if task is not None), return_exceptions=True)


async def _carry_in(stream: GuestStream, end: End, keys: bytes) -> bool:
    """Whether the client detached itself, or has gone; else it said that it is done."""
    detacher = Detacher(keys) if keys else None
    while data := await end.read():
        if detacher is not None:
            data = detacher.take(data)
        if data:
            await stream.send(data)
        if detacher is not None and detacher.detached:
            return True
    await stream.control(CloseStdin())
    return end.has_gone


async def _carry_out(stream: GuestStream, end: End | None, outlives: bool) -> None:
    async for channel, data in stream:
        if end is None:
            continue
        try:
            await end.say(channel, data)
        except ConnectionError:
            if not outlives:
                return
            with contextlib.suppress(ConnectionError):
                await stream.control(CloseStdin())
            end = None
