"""What every stream of a host has, and a thin one nothing beyond it: the node is heard, its facts are known, and it can be dialled."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from nacre.cloud.core import Cloud
from nacre.cloud.errors import Forbidden
from nacre.cloud.hosts import joining, operations
from nacre.cloud.leases import boottime_s
from nacre.protocol import Beat, Dial, FromApi, FromNode, Hello, Refuse, Welcome, agree
from nacre.protocol.frames import decode_from_node, encode
from nacre.store import StoreError

BEATS_PER_LEASE = 3
"""A node that was silent for so many beats, which is a lease, is missing, and its stream is ended."""

log = logging.getLogger("nacre.gateway")


class Link:
    """From Hello to the end of the connection."""

    def __init__(self, cloud: Cloud, socket: web.WebSocketResponse, hello: Hello, *, certified: bool = False) -> None:
        self.cloud = cloud
        self.host_id = hello.host_id
        self.facts: dict[str, Any] = dict(hello.facts)
        self.heard_s = boottime_s()
        """When the node was last heard, by this process's own clock."""
        self.version = 0
        """Of the protocol, once it is agreed on."""
        self._hello = hello
        self._certified = certified
        """Whether it came by TLS and its certificate names this host."""
        self._socket = socket
        self._lease_s = cloud.settings.lease_s
        self._outbox: asyncio.Queue[FromApi] = asyncio.Queue()
        self._ending: asyncio.Task[bool] | None = None

    async def run(self) -> None:
        """Serve the stream until it ends."""
        version = agree(self._hello.protocol_min, self._hello.protocol_max)
        try:
            if version is None:
                theirs = f"{self._hello.protocol_min} to {self._hello.protocol_max}"
                raise Forbidden(f"no common protocol version: the node speaks {theirs}")
            examine = await self._admit()
        except Forbidden as error:
            await self._socket.send_bytes(encode(Refuse(error.message)))
            return
        self.version = version
        unwatch = self._watch()
        tasks = [asyncio.create_task(work) for work in self._works()]
        beat_every_s = self._lease_s / BEATS_PER_LEASE
        cloud_id, process_id = self.cloud.settings.cloud_id, self.cloud.process_id
        self.send(
            Welcome(
                version,
                cloud_id,
                beat_every_s,
                lease_s=self._lease_s,
                renewed=self.cloud.presence is None,
                examine=examine,
                process=process_id,
                epoch=self.cloud.store.epoch,
            )
        )
        self._begun()
        try:
            await self._read_frames()
        finally:
            for call in unwatch:
                call()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def end(self) -> None:
        """This process wants no more of it; the node looks for another, or for this one again."""
        await self._socket.close(code=WSCloseCode.GOING_AWAY)

    def send(self, message: FromApi) -> None:
        self._outbox.put_nowait(message)

    def dial(self, stream: str, kind: str, ident: str, params: dict[str, Any]) -> None:
        self.send(Dial(stream, kind, ident, params))

    async def _admit(self) -> bool:
        """Whether the host must be examined first. Raises Forbidden where it may not speak."""
        self.cloud.store.read_now(lambda conn: joining.admit(conn, self.host_id, certified=self._certified))
        return False

    def _watch(self) -> list[Callable[[], None]]:
        """What ends the watches that this begins."""
        return [self.cloud.store.watch(joining.topic_removed(self.host_id), self._removed)]

    def _works(self) -> list[Any]:
        """What goes on beside the reading of frames, as coroutines."""
        return [self._write_frames()]

    def _begun(self) -> None:
        """The Welcome is on its way."""

    def _removed(self, topic: str, value: bool | None) -> None:
        """The host is none of the cloud's any more: nothing that it says counts from here on."""
        if value is None and self._is_known():
            return
        log.info("host %s was removed: its stream is ended", self.host_id)
        self._ending = asyncio.create_task(self._socket.close(code=WSCloseCode.POLICY_VIOLATION))

    def _is_known(self) -> bool:
        try:
            return self.host_id in self.cloud.store.read_now(operations.ids)
        except StoreError:
            # Whoever hears of other processes again after this hint is told again.
            return True

    async def _read_frames(self) -> None:
        while True:
            try:
                message = await self._socket.receive(timeout=self._lease_s)
            except TimeoutError:
                log.warning("host %s was silent for %.0f s: its stream is ended", self.host_id, self._lease_s)
                return
            if message.type is not WSMsgType.BINARY:
                return
            self.heard_s = boottime_s()
            self._handle(decode_from_node(message.data))

    def _handle(self, message: FromNode) -> None:
        match message:
            case Beat(facts=facts) if facts:
                # A new mapping each time: the scheduler may be reading the old one in the store's thread.
                self.facts = {name: value for name, value in {**self.facts, **facts}.items() if value is not None}
            case Hello():
                log.warning("host %s said hello twice", self.host_id)

    async def _write_frames(self) -> None:
        while True:
            message = await self._next()
            if message is not None:
                with contextlib.suppress(ConnectionError, RuntimeError):
                    await self._socket.send_bytes(encode(message))

    async def _next(self) -> FromApi | None:
        """What is to be sent next; None for nothing."""
        return await self._outbox.get()
