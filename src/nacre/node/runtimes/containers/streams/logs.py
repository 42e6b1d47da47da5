"""A guest's log, read and followed: times, streams, the last lines, from when to when.

The files are conmon's (`time stream tag text`, tag P: the text's line goes on) as the console keeps them. They are read in blocks, so a
long log takes no memory; what a follower has not read when it is rotated away is held open for it, up to a bound.
"""

import asyncio
import contextlib
import mmap
import os
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from msgspec import Struct

from nacre.node.runtimes.containers import console
from nacre.node.runtimes.containers.layout import GuestPaths
from nacre.node.runtimes.containers.streams.events import FileEvents
from nacre.protocol.streams import Channel

BLOCK_BYTES = 256 << 10
HELD_MAX = 32
"""Rotated files that are held for one follower that is slow; of more the oldest are lost to it."""
LINE_BYTES_MAX = 64 << 10
"""conmon's lines are shorter; more without an end is no log."""
_RUN = re.compile(
    rb"(?:.{35} stdout F [^\n]*\n)+|(?:.{35} stderr F [^\n]*\n)+|(?:.{35} stdout P [^\n]*\n)+|(?:.{35} stderr P [^\n]*\n)+"
)
"""Lines of one stream and tag in a row: their prefixes are cut off at once."""
_FULL_PREFIX = re.compile(rb"^.{45}", re.MULTILINE)
_PARTIAL_LINE = re.compile(rb"^.{45}([^\n]*)\n", re.MULTILINE)
_CHANNELS = {b"stdout": Channel.STDOUT, b"stderr": Channel.STDERR}


class Wanted(Struct, frozen=True):
    """Which part of the log. Times are seconds since the epoch, 0 is no bound; `tail` -1 is all."""

    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    since: float = 0.0
    until: float = 0.0
    timestamps: bool = False
    tail: int = -1


class Filter:
    """Raw lines to what is said: (channel, bytes). Keeps in mind which line is still going on."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._since, self._until = _moment(wanted.since), _moment(wanted.until)
        self._channels = {channel for channel, on in ((Channel.STDOUT, wanted.stdout), (Channel.STDERR, wanted.stderr)) if on}
        self._going_on: set[bytes] = set()
        self.over = False
        """A line was later than `until`: nothing that follows is wanted."""

    def take(self, lines: bytes) -> Iterator[tuple[Channel, bytes]]:
        """Whole lines only."""
        if self._wanted.timestamps or self._since or self._until:
            yield from self._one_by_one(lines)
            return
        for run in _RUN.finditer(lines):
            text = run[0]
            channel = _CHANNELS[text[36:42]]
            if channel in self._channels:
                yield channel, _FULL_PREFIX.sub(b"", text) if text[43:44] == b"F" else _PARTIAL_LINE.sub(rb"\1", text)

    def _one_by_one(self, lines: bytes) -> Iterator[tuple[Channel, bytes]]:
        for line in lines.splitlines(keepends=True):
            at, _, rest = line.partition(b" ")
            stream, _, rest = rest.partition(b" ")
            tag, _, text = rest.partition(b" ")
            channel = _CHANNELS.get(stream)
            if channel is None:
                continue
            at = _utc(at)
            if self._until and at > self._until:
                self.over = True
                return
            inside = stream in self._going_on
            if tag == b"P":
                self._going_on.add(stream)
                text = text.rstrip(b"\n")
            else:
                self._going_on.discard(stream)
            if channel not in self._channels or (self._since and at < self._since):
                continue
            stamp = b"" if inside or not self._wanted.timestamps else at + b" "
            yield channel, stamp + text


def _moment(seconds: float) -> bytes:
    """As in the log, in UTC, to be compared as bytes."""
    if not seconds:
        return b""
    whole, nanos = divmod(round(seconds * 1_000_000_000), 1_000_000_000)
    return f"{datetime.fromtimestamp(whole, timezone.utc):%Y-%m-%dT%H:%M:%S}.{nanos:09}Z".encode()  # noqa: UP017


def _utc(at: bytes) -> bytes:
    """RFC 3339 with nine digits and Z. conmon writes the host's own zone."""
    if at.endswith(b"+00:00"):
        return at[:-6] + b"Z"
    try:
        local, nanos, zone = datetime.fromisoformat(at[:19].decode()), at[19:29], at[29:].decode()
        hours, minutes = int(zone[:3]), int(zone[0] + zone[4:6])
    except (ValueError, IndexError):
        return at
    return f"{local - timedelta(hours=hours, minutes=minutes):%Y-%m-%dT%H:%M:%S}".encode() + nanos + b"Z"


class Follower:
    """What one reader still has to read: files that were rotated away meanwhile, held open for it."""

    def __init__(self) -> None:
        self._held: deque[int] = deque()
        self._inodes: set[int] = set()
        self.lost = 0

    def hold(self, path: Path) -> None:
        """Called from the rotating thread."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._held.append(fd)
        if len(self._held) > HELD_MAX:
            os.close(self._held.popleft())
            self.lost += 1

    def next(self) -> int | None:
        return self._held.popleft() if self._held else None

    def close(self) -> None:
        while self._held:
            os.close(self._held.popleft())


def _tail_start(files: list[int], count: int) -> tuple[int, int]:
    """(index of the file, offset in it) at which the last `count` lines begin. A line ends where its tag is F."""
    seen = 0
    for index in range(len(files) - 1, -1, -1):
        size = os.fstat(files[index]).st_size
        if size == 0:
            continue
        with mmap.mmap(files[index], size, prot=mmap.PROT_READ) as log:
            end = log.rfind(b"\n") + 1
            while end > 0:
                start = log.rfind(b"\n", 0, end - 1) + 1
                if log[start + 43 : start + 44] == b"F" or seen == 0:
                    seen += 1
                    if seen > count:
                        return index, end
                end = start
    return 0, 0


def _open_all(paths: GuestPaths) -> list[int]:
    """Descriptors of the log's files. What a rotation takes away while they are opened is in the file that came of it: look again."""
    for _ in range(HELD_MAX):
        opened: list[int] = []
        listed = console.files(paths)
        try:
            for path in listed[:-1]:
                opened.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            with contextlib.suppress(FileNotFoundError):
                opened.append(os.open(listed[-1], os.O_RDONLY | os.O_CLOEXEC))
            if console.files(paths) == listed:
                return opened
        except FileNotFoundError:
            pass
        for fd in opened:
            os.close(fd)
    raise OSError("the log is rotated faster than it can be opened")


async def read(
    paths: GuestPaths, wanted: Wanted, followers: set[Follower], monitor: int | None
) -> AsyncGenerator[tuple[Channel, bytes], None]:
    """What was said so far, and with `follow` what is said until `monitor` (a pidfd of conmon, which is last to write) ends."""
    follower = Follower()
    if wanted.follow:
        followers.add(follower)
    events = FileEvents(paths.logs) if wanted.follow and monitor is not None else None
    try:
        reading = _Reading(paths, wanted, follower, events, monitor)
        async for part in reading.run():
            yield part
    finally:
        followers.discard(follower)
        follower.close()
        if events is not None:
            events.close()


class _Reading:
    def __init__(
        self, paths: GuestPaths, wanted: Wanted, follower: Follower, events: FileEvents | None, monitor: int | None
    ) -> None:
        self._paths, self._wanted, self._follower, self._events, self._monitor = paths, wanted, follower, events, monitor
        self._filter = Filter(wanted)
        self._rest = b""

    async def run(self) -> AsyncIterator[tuple[Channel, bytes]]:
        files = await asyncio.to_thread(_open_all, self._paths)
        try:
            first, offset = 0, 0
            if self._wanted.tail >= 0:
                first, offset = await asyncio.to_thread(_tail_start, files, self._wanted.tail)
            for index, fd in enumerate(files):
                if index < first:
                    continue
                os.lseek(fd, offset if index == first else 0, os.SEEK_SET)
                async for part in self._to_end(fd):
                    yield part
            if self._events is not None and not self._filter.over:
                last = files.pop() if files and _is_current(files[-1], self._paths) else None
                async for part in self._follow(last, {os.fstat(fd).st_ino for fd in files}):
                    yield part
        finally:
            for fd in files:
                os.close(fd)

    async def _to_end(self, fd: int) -> AsyncIterator[tuple[Channel, bytes]]:
        while not self._filter.over:
            block = os.read(fd, BLOCK_BYTES)
            if not block:
                return
            data = self._rest + block if self._rest else block
            end = data.rfind(b"\n") + 1
            self._rest = data[end:]
            if len(self._rest) > LINE_BYTES_MAX:
                self._rest = b""
            for part in self._filter.take(data[:end]):
                yield part
            await asyncio.sleep(0)

    async def _follow(self, current: int | None, known: set[int]) -> AsyncIterator[tuple[Channel, bytes]]:
        """Read the file that conmon writes; when it was rotated, what is held for us in its order, then the new one."""
        assert self._events is not None
        ending = held = False
        try:
            while not self._filter.over:
                if current is None:
                    current, held = self._open_next(known)
                if current is not None:
                    async for part in self._to_end(current):
                        yield part
                    if not _is_current(current, self._paths) and (ending or self._has_successor()):
                        async for part in self._to_end(current):  # What came between the last look and conmon's new file.
                            yield part
                        if not held:
                            known.add(os.fstat(current).st_ino)
                        os.close(current)
                        current, self._rest = None, b""
                        continue
                if ending:
                    return
                ending = await self._events.wait(self._monitor)
        finally:
            if current is not None:
                os.close(current)

    def _has_successor(self) -> bool:
        """Whether conmon writes another file by now: one that is only renamed so far may still grow."""
        return (self._paths.logs / "console.log").exists()

    def _open_next(self, known: set[int]) -> tuple[int | None, bool]:
        """The next file, and whether it was held for us; what was read under its old name already is left out."""
        while (fd := self._follower.next()) is not None:
            inode = os.fstat(fd).st_ino
            if inode not in known:
                return fd, True
            known.discard(inode)
            os.close(fd)
        known.clear()
        try:
            return os.open(self._paths.logs / "console.log", os.O_RDONLY | os.O_CLOEXEC), False
        except FileNotFoundError:
            return None, False


def _is_current(fd: int, paths: GuestPaths) -> bool:
    try:
        return os.stat(paths.logs / "console.log").st_ino == os.fstat(fd).st_ino
    except FileNotFoundError:
        return False
