"""Waiting in the event loop for descriptors and for files to change (inotify(7))."""

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Callable
from pathlib import Path

_IN_MODIFY, _IN_CREATE, _IN_MOVED_FROM, _IN_MOVED_TO = 0x2, 0x100, 0x40, 0x80
_IN_CLOEXEC, _IN_NONBLOCK = 0o2000000, 0o4000
_EVENTS_BYTES = 64 << 10
_libc = ctypes.CDLL(None, use_errno=True)


async def readable(fd: int) -> None:
    """Wait until the descriptor can be read, or has come to its end."""
    loop = asyncio.get_running_loop()
    await _ready(fd, loop.add_reader, loop.remove_reader)


async def writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    await _ready(fd, loop.add_writer, loop.remove_writer)


async def _ready(fd: int, add: Callable[..., None], remove: Callable[[int], bool]) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    add(fd, _set, future)
    try:
        await future
    finally:
        remove(fd)


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


async def write_all(fd: int, data: bytes) -> None:
    """Write all of it to a descriptor that does not block. Raises OSError when the other end has gone."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            await writable(fd)


class FileEvents:
    """Tells when something in a folder was written, made or renamed. Raises OSError where the host gives no more watches."""

    def __init__(self, folder: Path) -> None:
        self._fd = _libc.inotify_init1(_IN_CLOEXEC | _IN_NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        mask = _IN_MODIFY | _IN_CREATE | _IN_MOVED_FROM | _IN_MOVED_TO
        if _libc.inotify_add_watch(self._fd, os.fsencode(folder), mask) < 0:
            number = ctypes.get_errno()
            os.close(self._fd)
            raise OSError(number, os.strerror(number), str(folder))

    async def wait(self, ending: int | None) -> bool:
        """Wait for an event, or for the pidfd `ending`. Whether the latter came."""
        waits = [asyncio.ensure_future(readable(fd)) for fd in (self._fd, ending) if fd is not None]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return len(waits) > 1 and waits[1].done()
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
            with contextlib.suppress(BlockingIOError):
                os.read(self._fd, _EVENTS_BYTES)

    def close(self) -> None:
        os.close(self._fd)
