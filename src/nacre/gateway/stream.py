"""One host's main stream: tells the node what changed, hands it the desired state, writes down what it observes."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from aiohttp import web

from nacre.cloud.compute import observations as compute
from nacre.cloud.core import Cloud
from nacre.cloud.discovery import derived
from nacre.cloud.hosts import desired, joining, operations
from nacre.cloud.hosts.compilers import COMPILERS
from nacre.cloud.network import observations as network
from nacre.cloud.network.placing import place_routers
from nacre.cloud.volumes import observations as volumes
from nacre.cloud.volumes.placing import note_drivers
from nacre.gateway.link import Link
from nacre.protocol import (
    Beat,
    Changed,
    Desired,
    Examined,
    Fetch,
    FromApi,
    FromNode,
    Hello,
    Observation,
    Recorded,
    Renewed,
    Report,
)
from nacre.protocol.messages import Peer, Peers
from nacre.protocol.versions import THIN_SINCE
from nacre.store import StoreError
from nacre.store.schema import new_id

STORE_REST_S = 1.0
"""How long a stream waits before it asks a store again that did not answer."""
BATCH_OBSERVATIONS_MAX = 512

log = logging.getLogger("nacre.gateway")


class HostStream(Link):
    """The one by which the host's state travels."""

    def __init__(self, cloud: Cloud, socket: web.WebSocketResponse, hello: Hello, *, certified: bool = False) -> None:
        super().__init__(cloud, socket, hello, certified=certified)
        self._id = new_id()
        self._observed: dict[tuple[str, str], Observation] = {}
        self._heard = 0
        """The number of the latest report."""
        self._wake = asyncio.Event()
        self._drivers_changed = False
        self._examined: str | None = None
        """What the node found against its host, until it is recorded; empty where nothing is."""
        self._told: int | None = None
        """The revision of the desired state that was sent last; None until the node's first fetch."""

    def tell_peers(self) -> None:
        """Which API processes there are; nothing where this is the only one, or the node would not understand it."""
        if self.version >= THIN_SINCE and self.cloud.presence is not None:
            self.send(Peers(tuple(Peer(each.id, each.url) for each in self.cloud.presence.processes if each.url)))

    async def _admit(self) -> bool:
        return not await self.cloud.store.write(_join, self._hello, self._certified, self._id)

    def _watch(self) -> list[Callable[[], None]]:
        return [*super()._watch(), self.cloud.store.watch(desired.topic(self.host_id), self._changed)]

    def _works(self) -> list[Any]:
        return [*super()._works(), self._record()]

    def _begun(self) -> None:
        if self.cloud.presence is not None:
            self.cloud.presence.note(self.host_id, 0)
            self.tell_peers()

    def _changed(self, topic: str, revision: int | None) -> None:
        self.send(Changed(revision or 0))

    def _handle(self, message: FromNode) -> None:
        match message:
            case Fetch(since=since):
                self.send(self._compile(since))
            case Report(observations=observations, number=number):
                self._heard = number
                for observation in observations:
                    self._observed[observation.kind, observation.id] = observation
                self._wake.set()
            case Beat(counter=counter, facts=facts):
                if self.cloud.presence is None:
                    self.send(Renewed(counter))
                else:
                    self.cloud.presence.note(self.host_id, counter)
                if "volume_drivers" in facts and facts["volume_drivers"] != self.facts.get("volume_drivers"):
                    self._drivers_changed = True
                    self._wake.set()
                super()._handle(message)
            case Examined(cause=cause):
                self._examined = cause
                self._wake.set()
            case _:
                super()._handle(message)

    async def _next(self) -> FromApi | None:
        message = await self._outbox.get()
        if not isinstance(message, Changed):
            return message
        message = self._latest_change(message)
        if self._told is None:
            return message
        # The node has said where it stands: what changed since goes along at once and spares it the question.
        told = self._told
        try:
            desired_now = self._compile(told)
        except StoreError as error:
            log.warning("what host %s must do is not known for now: %s", self.host_id, error)
            await asyncio.sleep(STORE_REST_S)
            self.send(Changed(0))
            return None
        return None if desired_now.revision == told else desired_now

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
        except Superseded:
            log.info("host %s has opened another stream: this one ends", self.host_id)
            await self._socket.close()
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
                await self.cloud.store.write(_record, self.host_id, self._id, batch)
            self.send(Recorded(self._heard))


class Superseded(Exception):
    """The node has opened another stream since, by which it has said everything anew."""


def _join(conn: sa.Connection, hello: Hello, certified: bool, stream: str) -> bool:
    """Returns whether the host is accepted. Raises Forbidden."""
    joining.admit(conn, hello.host_id, certified=certified)
    row = operations.register(conn, hello, stream)
    place_routers(conn, hello.host_id)
    note_drivers(conn, hello.host_id, list(hello.facts.get("volume_drivers", ())))
    log.info("host %s (%s) %s", hello.hostname, hello.host_id, "joined" if row["joined"] else "is back")
    return bool(row["acceptance"] == "accepted")


def _desired(conn: sa.Connection, host_id: str, since: int) -> Desired:
    return desired.since(conn, COMPILERS, host_id, since)


def _record(conn: sa.Connection, host_id: str, stream: str, batch: list[Observation]) -> None:
    """One transaction: guests, network things and volumes as they were seen, and what is gone is forgotten. Raises Superseded: what was seen
    since must not be overwritten with what was seen before."""
    if operations.stream_of(conn, host_id) != stream:
        raise Superseded
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
