"""Carries TCP connections that come to the host by IPv6 to published ports, which lie behind IPv4: no translation of the kernel's leads there.

A small process beside the node, standard library only. Its argument is a SOCK_SEQPACKET socket to the node. `serve KEY ADDRESS PORT` comes with
a listening socket, `stop KEY` ends that one with its connections. When the node goes it takes no more, and ends with its last connection.
"""

import asyncio
import contextlib
import socket
import sys

MESSAGE_BYTES_MAX = 4096
CONNECTIONS_MAX = 1024
"""Of one published port at the same time; one more is hung up on."""
CONNECT_S_MAX = 10.0
CHUNK_BYTES = 1 << 16
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 20), (socket.TCP_KEEPCNT, 3))
"""Who has vanished without a word is let go of after two minutes."""


class Port:
    """One listening socket and its connections."""

    def __init__(self, address: str, port: int) -> None:
        self.target = (address, port)
        self.tasks: set[asyncio.Task[None]] = set()
        self.server: asyncio.Server | None = None

    async def open(self, listener: socket.socket) -> None:
        self.server = await asyncio.start_server(self.take, sock=listener, limit=CHUNK_BYTES)

    def close(self) -> None:
        if self.server is not None:
            self.server.close()

    def cut(self) -> None:
        self.close()
        for task in self.tasks:
            task.cancel()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            if len(self.tasks) <= CONNECTIONS_MAX:
                await self.carry(reader, writer)
        except (OSError, TimeoutError):
            return
        finally:
            self.tasks.discard(task)
            writer.transport.abort() if sys.exc_info()[0] else writer.close()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(CONNECT_S_MAX):
            inner_reader, inner_writer = await asyncio.open_connection(*self.target, limit=CHUNK_BYTES)
        for one in (writer, inner_writer):
            sock = one.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        ways = [asyncio.create_task(_pass_on(reader, inner_writer)), asyncio.create_task(_pass_on(inner_reader, writer))]
        try:
            await asyncio.gather(*ways)
        finally:
            for way in ways:
                way.cancel()
            inner_writer.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the one side says that it is done; then the other is told so."""
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


class Crossing:
    """The process's loop."""

    def __init__(self, node: socket.socket) -> None:
        self.node = node
        self.ports: dict[str, Port] = {}
        self.orphaned = asyncio.Event()

    async def run(self) -> None:
        self.node.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.add_reader(self.node.fileno(), self.hear)
        await self.orphaned.wait()
        loop.remove_reader(self.node.fileno())
        self.node.close()
        for port in self.ports.values():
            port.close()
        while tasks := {task for port in self.ports.values() for task in port.tasks}:
            await asyncio.wait(tasks)

    def hear(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self.node, MESSAGE_BYTES_MAX, 1)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self.orphaned.set()
            return
        word, key, *rest = data.decode().split(" ")
        if old := self.ports.pop(key, None):
            old.cut()
        if word == "serve" and fds:
            port = self.ports[key] = Port(rest[0], int(rest[1]))
            opening = asyncio.ensure_future(port.open(socket.socket(fileno=fds[0])))
            port.tasks.add(opening)
            opening.add_done_callback(port.tasks.discard)


def main() -> None:
    asyncio.run(Crossing(socket.socket(fileno=int(sys.argv[1]))).run())
