"""attach: a client at the standard streams of a guest's own process, by the socket of its conmon.

Each packet of conmon's begins with a byte that names the stream. conmon waits for every client's socket, and the guest for conmon: so a
client that takes nothing has a buffer here, and when that is full and stays so for too long, it is let go of.
A client may come before the guest runs: it is connected between create and start, and hears the first word.
"""

import asyncio
import contextlib
import itertools
import os
import socket
import threading
from collections import deque
from pathlib import Path
from typing import Any

from nacre.node.drivers import Talk
from nacre.node.runtimes.containers.streams.events import readable, writable
from nacre.node.runtimes.containers.streams.guests import Guests, attach_socket, is_running
from nacre.node.runtimes.containers.streams.pumps import feed
from nacre.protocol.streams import CHUNK_BYTES, Channel, Exit, Started

PACKET_BYTES_MAX = 64 << 10
STDIN_BYTES_MAX = 8 << 10
"""conmon reads so much of a packet at most."""
BUFFER_BYTES_MAX = 4 << 20
STALL_WAIT_S = 30.0
"""How long a client may take nothing while its buffer is full: for so long the guest waits for it, once."""
CONNECTS_MAX = 1000
"""How often a client comes back to a guest that is created and taken away again, each time half a minute later."""
EARLY_BYTES_MAX = 1 << 20
LOOK_EVERY_S = 5.0
"""How often a client that waits for a guest looks whether there still is one."""
UNKNOWN_LOOKS_MAX = 12
"""How often it looks for a guest of which this host has not heard yet: `docker run` attaches right behind its create."""
_CHANNELS = {2: Channel.STDOUT, 3: Channel.STDERR}


class _Waiter:
    """A client that waits for the guest to start."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.connected: asyncio.Future[socket.socket] = self.loop.create_future()
        self.taken = False


class Gate:
    """Where clients wait for a guest. `open` is called from a launcher's thread between create and start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, list[_Waiter]] = {}
        self._starts: dict[str, int] = {}

    def starts(self, guest_id: str) -> int:
        """How often the guest was started since this process knows it."""
        return self._starts.get(guest_id, 0)

    def open(self, guest_id: str, path: Path) -> None:
        with self._lock:
            waiters = self._waiting.pop(guest_id, [])
            self._starts[guest_id] = self._starts.get(guest_id, 0) + 1
        for waiter in waiters:
            try:
                way = connect(path)
            except OSError:
                # No conmon listens: the start that is under way fails, and the client waits for another one.
                with self._lock:
                    self._waiting.setdefault(guest_id, []).append(waiter)
                continue
            with contextlib.suppress(RuntimeError):
                waiter.loop.call_soon_threadsafe(_hand_over, waiter, way)

    async def pass_through(self, guest_id: str, path: Path) -> socket.socket:
        """A connection to the guest's conmon: at once where it runs, else as soon as it does."""
        waiter = _Waiter()
        with self._lock:
            self._waiting.setdefault(guest_id, []).append(waiter)
        try:
            with contextlib.suppress(OSError):
                way = connect(path)
                if not waiter.connected.done():
                    return way
                way.close()
            return await waiter.connected
        finally:
            waiter.taken = True
            with self._lock, contextlib.suppress(KeyError, ValueError):
                self._waiting[guest_id].remove(waiter)
                if not self._waiting[guest_id]:
                    del self._waiting[guest_id]


def _hand_over(waiter: _Waiter, way: socket.socket) -> None:
    if waiter.taken or waiter.connected.done():
        way.close()
    else:
        waiter.connected.set_result(way)


def connect(path: Path) -> socket.socket:
    """Raises OSError where no conmon listens. The folder's descriptor stands for its path, which may be too long for a socket's."""
    folder = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    way = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        way.connect(f"/proc/self/fd/{folder}/{path.name}")
    except OSError:
        way.close()
        raise
    finally:
        os.close(folder)
    way.setblocking(False)
    return way


class Buffer:
    """What was read for a client and not yet sent, in runs of one stream."""

    def __init__(self) -> None:
        self._runs: deque[tuple[Channel, bytearray]] = deque()
        self.size = 0
        self.ended = False
        self._filled, self._emptied = asyncio.Event(), asyncio.Event()

    def add(self, channel: Channel, data: bytes | memoryview) -> None:
        if self._runs and self._runs[-1][0] is channel and len(self._runs[-1][1]) < CHUNK_BYTES - PACKET_BYTES_MAX:
            self._runs[-1][1].extend(data)
        else:
            self._runs.append((channel, bytearray(data)))
        self.size += len(data)
        self._filled.set()

    def end(self) -> None:
        self.ended = True
        self._filled.set()

    async def space(self) -> None:
        """Raises TimeoutError when the client takes nothing."""
        while self.size >= BUFFER_BYTES_MAX:
            self._emptied.clear()
            async with asyncio.timeout(STALL_WAIT_S):
                await self._emptied.wait()

    async def next(self) -> tuple[Channel, bytes] | None:
        while not self._runs:
            if self.ended:
                return None
            self._filled.clear()
            await self._filled.wait()
        channel, data = self._runs.popleft()
        self.size -= len(data)
        self._emptied.set()
        return channel, bytes(data)


async def read_packets(way: socket.socket, buffer: Buffer, wanted: set[Channel]) -> None:
    """Until the guest's end. Raises TimeoutError for a client that takes nothing."""
    packet = bytearray(PACKET_BYTES_MAX)
    view = memoryview(packet)
    try:
        while True:
            await buffer.space()
            try:
                size = way.recv_into(packet)
            except BlockingIOError:
                await readable(way.fileno())
                continue
            except OSError:
                return
            if size == 0:
                return
            channel = _CHANNELS.get(packet[0])
            if channel in wanted and size > 1:
                buffer.add(channel, view[1:size])
    finally:
        buffer.end()


class Attaching:
    """Serves the clients at the guests' own streams."""

    def __init__(self, guests: Guests, gate: Gate) -> None:
        self._guests, self._gate = guests, gate
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, guest_id: str, params: dict[str, Any], talk: Talk) -> None:
        """params: stdin, stdout, stderr (see nacre.protocol.streams). Returns when the guest ended or the client has gone."""
        await talk.control(Started())
        one = _Attachment(self._guests, self._gate, guest_id, params, talk)
        left = await one.run()
        if left is None:
            return
        container = self._guests.record(guest_id).guest.container
        if container is not None and container.stdin_once and not one.stdin:
            # conmon takes any client's leaving for the end of stdin: this one, which had none, stays until the guest ends.
            task = asyncio.create_task(_outlast(left))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            left.close()

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Attachment:
    """One client."""

    def __init__(self, guests: Guests, gate: Gate, guest_id: str, params: dict[str, Any], talk: Talk) -> None:
        self._guests, self._gate, self._guest_id, self._talk = guests, gate, guest_id, talk
        named = ((Channel.STDOUT, "stdout"), (Channel.STDERR, "stderr"))
        self._wanted = {channel for channel, name in named if params.get(name, True)}
        self.stdin = bool(params.get("stdin"))
        self._way: socket.socket | None = None
        self._connected = asyncio.Event()
        self._early: list[bytes] = []
        self._closed = False

    async def run(self) -> socket.socket | None:
        """The connection to conmon if the client went before the guest ended; whoever gets it closes it."""
        feeding = asyncio.create_task(self._feed())
        try:
            for _ in range(CONNECTS_MAX):
                starts = self._gate.starts(self._guest_id)
                waits = not is_running(self._guests, self._guest_id)
                way = await self._connect(feeding)
                if way is None:
                    return None
                if await self._listen(way, feeding):
                    return way
                way.close()
                if waits and starts == self._gate.starts(self._guest_id):
                    continue  # It was created, and taken away again before anybody started it.
                code = await asyncio.to_thread(self._guests.parts.await_exit_code, self._guest_id)
                with contextlib.suppress(ConnectionError):
                    await self._talk.control(Exit(code))
                return None
            return None
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    async def _listen(self, way: socket.socket, feeding: "asyncio.Task[None]") -> bool:
        """Pass on what the guest says to its end. Whether the client went before that."""
        buffer = Buffer()
        reading = asyncio.create_task(read_packets(way, buffer, self._wanted))
        sending = asyncio.create_task(_send(buffer, self._talk))
        try:
            await asyncio.wait([sending, feeding], return_when=asyncio.FIRST_COMPLETED)
            return not sending.done() or sending.exception() is not None or reading.exception() is not None
        finally:
            for task in (reading, sending):
                task.cancel()
            await asyncio.gather(reading, sending, return_exceptions=True)

    async def _connect(self, feeding: "asyncio.Task[None]") -> socket.socket | None:
        """None when the client went, or the guest was removed, before it started."""
        path = attach_socket(self._guests, self._guest_id)
        connecting = asyncio.create_task(self._gate.pass_through(self._guest_id, path))
        try:
            known = self._is_here()
            for looked in itertools.count():
                if connecting.done() or feeding.done():
                    break
                await asyncio.wait([connecting, feeding], timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                here, known = self._is_here(), known or self._is_here()
                if not here and (known or looked > UNKNOWN_LOOKS_MAX):
                    await self._talk.control(Exit())
                    return None
            if not connecting.done():
                return None
            self._way = connecting.result()
        finally:
            connecting.cancel()
        for data in self._early:
            await self._take(data)
        self._early.clear()
        self._connected.set()
        if self._closed:
            self._close()
        return self._way

    def _is_here(self) -> bool:
        try:
            self._guests.record(self._guest_id)
        except LookupError:
            return False
        return True

    async def _feed(self) -> None:
        await feed(self._talk, self._take_or_keep, self._close, lambda h, w: resize(self._guests, self._guest_id, h, w))

    async def _take_or_keep(self, data: bytes) -> None:
        """What is typed before the guest runs waits for it."""
        if not self.stdin:
            return
        if not self._connected.is_set() and sum(map(len, self._early)) < EARLY_BYTES_MAX:
            self._early.append(data)
            return
        await self._connected.wait()
        await self._take(data)

    async def _take(self, data: bytes) -> None:
        assert self._way is not None
        for start in range(0, len(data), STDIN_BYTES_MAX):
            await _send_packet(self._way, data[start : start + STDIN_BYTES_MAX])

    def _close(self) -> None:
        self._closed = True
        if self._connected.is_set() and self._way is not None and self.stdin:
            with contextlib.suppress(OSError):
                self._way.shutdown(socket.SHUT_WR)


async def _send(buffer: Buffer, talk: Talk) -> None:
    while (run := await buffer.next()) is not None:
        await talk.send(*run)


async def _send_packet(way: socket.socket, data: bytes) -> None:
    while True:
        try:
            way.send(data)
            return
        except BlockingIOError:
            await writable(way.fileno())


async def _outlast(way: socket.socket) -> None:
    try:
        while True:
            try:
                if not way.recv(PACKET_BYTES_MAX):
                    return
            except BlockingIOError:
                await readable(way.fileno())
    except OSError:
        return
    finally:
        way.close()


def resize(guests: Guests, guest_id: str, h: int, w: int) -> None:
    """Tell conmon the size of the guest's terminal. A guest without one, or that does not run, has no size: nothing happens."""
    with contextlib.suppress(OSError):
        fd = os.open(guests.parts.layout.guest(guest_id).bundle / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(fd, b"1 %d %d\n" % (h, w))
        finally:
            os.close(fd)
