"""Processes held by descriptor (pidfd_open(2)), so that a number that was given away again cannot deceive."""

import asyncio
import contextlib
import os
import select
from collections.abc import Iterator


@contextlib.contextmanager
def open_pid(pid: int | None) -> Iterator[int | None]:
    """A pidfd, or None when there is no such process."""
    fd = try_open(pid)
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)


def try_open(pid: int | None) -> int | None:
    if pid is None:
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def ended_within(fd: int, timeout_s: float) -> bool:
    """Wait for the process to end."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


async def ended(fd: int, timeout_s: float) -> bool:
    """Wait for the process to end, without a thread."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, done.set)
    try:
        await asyncio.wait_for(done.wait(), timeout_s)
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(fd)
    return True
