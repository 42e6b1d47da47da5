"""One host's stream: tells the node what changed, hands it the desired state, writes down what it observes."""

import asyncio
import contextlib
import logging
from typing import Any

import sqlalchemy as sa
from aiohttp import WSCloseCode, WSMsgType, web

from nacre.cloud.compute import observations as compute
from nacre.cloud.core import Cloud
from nacre.cloud.discovery import derived
from nacre.cloud.errors import Forbidden
from nacre.cloud.hosts import desired, joining, operations
from nacre.cloud.hosts.compilers import COMPILERS
from nacre.cloud.leases import boottime_s
from nacre.cloud.network import observations as network
from nacre.cloud.network.placing import place_routers
from nacre.cloud.volumes import observations as volumes
from nacre.cloud.volumes.placing import note_drivers
from nacre.protocol import (
    Beat,
    Changed,
    Desired,
    Dial,
    Examined,
    Fetch,
    FromApi,
    Hello,
    Observation,
    Recorded,
    Refuse,
    Renewed,
    Report,
    Welcome,
    agree,
)
from nacre.protocol.frames import decode_from_node, encode
from nacre.store import StoreError

BEATS_PER_LEASE = 3
"""A node that was silent for so many beats, which is a lease, is missing, and its stream is ended."""
STORE_REST_S = 1.0
"""How long a stream waits before it asks a store again that did not answer."""
BATCH_OBSERVATIONS_MAX = 512

log = logging.getLogger("nacre.gateway")


class HostStream:
    """From Hello to the end of the connection."""

    def __init__(self, cloud: Cloud, socket: web.WebSocketResponse, hello: Hello, *, certified: bool = False) -> None:
        self.cloud = cloud
        self.host_id = hello.host_id
        self._hello = hello
        self._certified = certified
        """Whether it came by TLS and its certificate names this host."""
        self._socket = socket
        self._observed: dict[tuple[str, str], Observation] = {}
        self._lease_s = cloud.settings.lease_s
        self.heard_s = boottime_s()
        """When the node was last heard, by this process's own clock: its lease lasts from then on."""
        self._heard = 0
        """The number of the latest report."""
        self._wake = asyncio.Event()
        self._outbox: asyncio.Queue[FromApi] = asyncio.Queue()
        self.facts = dict(hello.facts)
        self._drivers_changed = False
        self._ending: asyncio.Task[bool] | None = None
        self._examined: str | None = None
        """What the node found against its host, until it is recorded; empty where nothing is."""
        self._told: int | None = None
        """The revision of the desired state that was sent last; None until the node's first fetch."""

    async def end(self) -> None:
        """The API process goes away; the node looks for it again."""
        await self._socket.close(code=WSCloseCode.GOING_AWAY)

    async def run(self) -> None:
        """Serve the stream until it ends."""
        version = agree(self._hello.protocol_min, self._hello.protocol_max)
        if version is None:
            reason = f"no common protocol version: the node speaks {self._hello.protocol_min} to {self._hello.protocol_max}"
            await self._socket.send_bytes(encode(Refuse(reason)))
            return
        try:
            accepted = await self.cloud.store.write(_join, self._hello, self._certified)
        except Forbidden as error:
            await self._socket.send_bytes(encode(Refuse(error.message)))
            return
        unwatch = self.cloud.store.watch(desired.topic(self.host_id), self._changed)
        unwatch_removal = self.cloud.store.watch(joining.topic_removed(self.host_id), self._removed)
        tasks = [asyncio.create_task(self._write_frames()), asyncio.create_task(self._record())]
        self.send(
            Welcome(
                version,
                self.cloud.settings.cloud_id,
                self._lease_s / BEATS_PER_LEASE,
                lease_s=self._lease_s,
                examine=not accepted,
            )
        )
        try:
            await self._read_frames()
        finally:
            unwatch()
            unwatch_removal()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def send(self, message: FromApi) -> None:
        self._outbox.put_nowait(message)

    def dial(self, stream: str, kind: str, ident: str, params: dict[str, Any]) -> None:
        self.send(Dial(stream, kind, ident, params))

    def _changed(self, topic: str, revision: int | None) -> None:
        self.send(Changed(revision or 0))

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
            self._handle(message.data)

    def _handle(self, frame: bytes) -> None:
        message = decode_from_node(frame)
        match message:
            case Fetch(since=since):
                self.send(self._compile(since))
            case Report(observations=observations, number=number):
                self._heard = number
                for observation in observations:
                    self._observed[observation.kind, observation.id] = observation
                self._wake.set()
            case Beat(counter=counter, facts=facts):
                self.send(Renewed(counter))
                if facts:
                    if "volume_drivers" in facts and facts["volume_drivers"] != self.facts.get("volume_drivers"):
                        self._drivers_changed = True
                        self._wake.set()
                    # A new mapping each time: the scheduler may be reading the old one in the store's thread.
                    self.facts = {name: value for name, value in {**self.facts, **facts}.items() if value is not None}
            case Examined(cause=cause):
                self._examined = cause
                self._wake.set()
            case Hello():
                log.warning("host %s said hello twice", self.host_id)

    async def _write_frames(self) -> None:
        while True:
            message = await self._outbox.get()
            if isinstance(message, Changed):
                message = self._latest_change(message)
                if self._told is not None:
                    # The node has said where it stands: what changed since goes along at once and spares it the question.
                    told = self._told
                    try:
                        message = self._compile(told)
                    except StoreError as error:
                        log.warning("what host %s must do is not known for now: %s", self.host_id, error)
                        await asyncio.sleep(STORE_REST_S)
                        self.send(Changed(0))
                        continue
                    if message.revision == told:
                        continue
            with contextlib.suppress(ConnectionError, RuntimeError):
                await self._socket.send_bytes(encode(message))

    def _compile(self, since: int) -> Desired:
        answer = self.cloud.store.read_now(_desired, self.host_id, since)
        self._told = answer.revision
        return answer

    def _latest_change(self, message: Changed) -> FromApi:
        """Of several changes in a row the last one says it all."""
        waiting = self._outbox._queue  # type: ignore[attr-defined]
        while waiting and isinstance(waiting[0], Changed):
            message = self._outbox.get_nowait()  # type: ignore[assignment]
        return message

    async def _record(self) -> None:
        """Write down what comes. Where that fails the stream ends, and the node says it again on its next one."""
        try:
            await self._record_batches()
        except Exception:
            log.exception("observations of host %s were not recorded; the node will be asked again", self.host_id)
            await asyncio.sleep(STORE_REST_S)
            await self._socket.close()

    async def _record_batches(self) -> None:
        """In batches: while one batch is being committed, the next one gathers."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._drivers_changed:
                self._drivers_changed = False
                await self.cloud.store.write(note_drivers, self.host_id, list(self.facts["volume_drivers"]))
            if self._examined is not None:
                cause, self._examined = self._examined, None
                await self.cloud.store.write(joining.accept, self.host_id, cause)
                log.info("host %s is %s", self.host_id, f"not accepted: {cause}" if cause else "accepted")
            while self._observed:
                keys = list(self._observed)[:BATCH_OBSERVATIONS_MAX]
                batch = [self._observed.pop(key) for key in keys]
                await self.cloud.store.write(_record, self.host_id, batch)
            self.send(Recorded(self._heard))


def _join(conn: sa.Connection, hello: Hello, certified: bool) -> bool:
    """Returns whether the host is accepted. Raises Forbidden."""
    joining.admit(conn, hello.host_id, certified=certified)
    row = operations.register(conn, hello)
    place_routers(conn, hello.host_id)
    note_drivers(conn, hello.host_id, list(hello.facts.get("volume_drivers", ())))
    log.info("host %s (%s) %s", hello.hostname, hello.host_id, "joined" if row["joined"] else "is back")
    return bool(row["acceptance"] == "accepted")


def _desired(conn: sa.Connection, host_id: str, since: int) -> Desired:
    return desired.since(conn, COMPILERS, host_id, since)


def _record(conn: sa.Connection, host_id: str, batch: list[Observation]) -> None:
    """One transaction: guests, network things and volumes as they were seen, and what is gone is forgotten."""
    guests = [seen for seen in batch if seen.kind == "guest"]
    compute.observe(conn, host_id, guests)
    derived.reconcile(conn, [seen.id for seen in guests])
    network.observe(conn, host_id, [seen for seen in batch if seen.kind not in ("guest", "volume")])
    volumes.observe(conn, host_id, [seen for seen in batch if seen.kind == "volume"])
    gone: dict[str, list[str]] = {}
    for seen in batch:
        if seen.state == "gone":
            gone.setdefault(seen.kind, []).append(seen.id)
    for kind, ids in gone.items():
        desired.settle(conn, COMPILERS, host_id, kind, ids)  # type: ignore[arg-type]
