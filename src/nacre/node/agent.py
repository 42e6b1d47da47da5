"""The agent: keeps its main stream to an API process, a thin one to each other, and hands what it hears to the reconciler."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

import aiohttp
import msgspec

from nacre.node import talks
from nacre.node.api import Api, Refused
from nacre.node.drivers import GuestDriver, Later, NetworkDriver, StreamServer, VolumeDriver
from nacre.node.facts import Facts, Told
from nacre.node.lease import HELLO, Lease
from nacre.node.reconcile import Reconciler
from nacre.node.thin import ThinStreams
from nacre.protocol import (
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    Beat,
    Changed,
    Desired,
    Dial,
    Examined,
    Fetch,
    Hello,
    Observation,
    Recorded,
    Refuse,
    Renewed,
    Report,
    Welcome,
)
from nacre.protocol.frames import decode_from_api, encode
from nacre.protocol.messages import Capacity, NarrowPath, Peer, Peers, Survey
from nacre.protocol.probes import Probe

RECONNECT_MIN_S = 0.05
RECONNECT_MAX_S = 3.0
REPORT_EVERY_S = 0.002
"""Observations that come within this time after a frame share the next one."""
PEERS_AGAIN_S = 5.0
SILENCE_MAX_OF_LEASE = 0.65
EXAMINE_AGAIN_S = 30.0
"""After so long a host that was found wanting is examined again: somebody may have seen to it."""

Examine = Callable[[], Awaitable[str]]
"""What is against this host; empty where nothing is."""

log = logging.getLogger("nacre.node")


class Host(msgspec.Struct, frozen=True):
    """What this host says of itself in its Hello."""

    id: str
    hostname: str
    boot_id: str
    capacity: Capacity
    runtimes: tuple[str, ...]
    hypervisor_type: str
    tunnel_ip: str | None = None
    external: bool = False
    underlay_mtu: int = 0


class Agent:
    """One host. `run` never returns until it is cancelled; a lost stream is opened again and all observations are repeated."""

    def __init__(
        self,
        host: Host,
        api: Api,
        guests: GuestDriver,
        network: NetworkDriver,
        volumes: VolumeDriver,
        streams: StreamServer | None = None,
        facts: Facts | None = None,
        examine: Examine | None = None,
    ) -> None:
        self.host = host
        self._facts = facts or Facts(given={})
        self._examine = examine
        self._streams = streams
        self._api = api
        self._guests = guests
        self._network = network
        self._volumes = volumes
        self._reconciler = Reconciler(guests, network, volumes, self._observe, self._ask_anew)
        if isinstance(network, Later):
            network.observe = self._reconciler.saw
        self._pending: dict[tuple[str, str], Observation] = {}
        self._gone: dict[tuple[str, str], tuple[int, Observation]] = {}
        """What went and is not known to be recorded, with the number of the report that said so."""
        self._reports = 0
        self._anew = False
        self._report = asyncio.Event()
        self._lease = Lease(network)
        self._revision = 0
        self._fetching = False
        self._fetch_again = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._process = ""
        """The id of the API process that has the main stream."""
        self._epoch = ""
        """Of the store whose revision is known."""
        self._lease_s = 0.0
        self._peers: tuple[Peer, ...] = ()
        """The API processes, as the main stream told of them last."""
        self._thin = ThinStreams(self._tell_thin, self._answer)

    async def run(self) -> None:
        await self._network.start()
        await self._volumes.start()
        await self._guests.start(self._reconciler.saw)
        tasks = [asyncio.create_task(self._facts.run()), asyncio.create_task(self._lease.watch())]
        try:
            await self._keep_a_stream()
        finally:
            for task in tasks:
                task.cancel()
            await self._thin.close()

    async def _keep_a_stream(self) -> None:
        delay_s = RECONNECT_MIN_S
        while True:
            try:
                way, websocket = await self._api.connect()
            except OSError as error:
                log.log(logging.WARNING if isinstance(error, Refused) else logging.DEBUG, "no stream: %s", error)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 1.5, RECONNECT_MAX_S)
                continue
            delay_s = RECONNECT_MIN_S
            try:
                if not await self._converse(websocket):
                    self._api.turn_away(way)
            except (ConnectionError, aiohttp.ClientError, msgspec.DecodeError) as error:
                log.warning("the stream broke: %s", error)
            finally:
                await websocket.close()
            await asyncio.sleep(delay_s)

    async def close(self) -> None:
        """Let go of everything; guests and networks stay as they are."""
        await self._reconciler.close()
        if self._streams is not None:
            await self._streams.close()
        await self._guests.close()
        await self._network.close()
        await self._volumes.close()

    def _observe(self, observation: Observation) -> None:
        key = (observation.kind, observation.id)
        self._pending[key] = observation
        if observation.state == "gone":
            self._gone[key] = (self._reports + 1, observation)
        else:
            self._gone.pop(key, None)
        self._report.set()

    def _recorded(self, number: int) -> None:
        self._gone = {key: said for key, said in self._gone.items() if said[0] > number}

    def _ask_anew(self) -> None:
        """Something that was asked for was given up: the next fetch asks for all of it again."""
        self._anew = True

    def _hello(self, facts: dict[str, Any], *, thin: bool = False) -> Hello:
        host = self.host
        return Hello(
            PROTOCOL_MIN,
            PROTOCOL_MAX,
            host.id,
            host.hostname,
            host.boot_id,
            host.capacity,
            host.runtimes,
            host.hypervisor_type,
            {**facts, **self._volumes.facts()},
            host.tunnel_ip,
            host.external,
            host.underlay_mtu,
            thin,
        )

    def _known(self) -> dict[str, Any]:
        """The host's facts; what an operator says of it wins over what its driver says."""
        ours = self._guests.facts()
        return {**ours, **self._facts.all()} if ours else self._facts.all()

    def _tell_thin(self) -> tuple[Hello, Callable[[], dict[str, Any]]]:
        told = Told(self._known)
        return self._hello(told.first, thin=True), told.changes

    def _answer(self, session: aiohttp.ClientSession, dial: Dial) -> None:
        self._start(talks.answer(session, dial, self._whole, self._streams))

    async def _converse(self, websocket: aiohttp.ClientWebSocketResponse) -> bool:
        """Until the stream ends. Whether the API process served it, and did not just stop to."""
        told = Told(self._known)
        self._lease.sent(HELLO)
        await websocket.send_bytes(encode(self._hello(told.first)))
        self._fetching = self._fetch_again = False
        self._reports = 0
        for observation in (*(gone for _, gone in self._gone.values()), *self._reconciler.observations()):
            self._observe(observation)
        reporter = asyncio.create_task(self._send_reports(websocket))
        beater: asyncio.Task[None] | None = None
        examiner: asyncio.Task[None] | None = None
        try:
            while True:
                try:
                    # There is an answer to each beat, of which there are three in a lease. Where a process stands still and there are
                    # others, one of them renews the lease before it is over.
                    silence_max_s = self._lease_s * SILENCE_MAX_OF_LEASE if self._api.has_others else 0.0
                    message = await websocket.receive(timeout=silence_max_s or None)
                except TimeoutError:
                    log.warning("nothing came from the API process for %.0f s: this host looks for another", silence_max_s)
                    return False
                if message.type is not aiohttp.WSMsgType.BINARY:
                    return beater is not None
                frame = decode_from_api(message.data)
                if isinstance(frame, Welcome):
                    self._process, self._lease_s = frame.process, frame.lease_s
                    if frame.epoch != self._epoch:
                        # Revisions that this host has seen may be given once more, for other things.
                        self._epoch, self._revision = frame.epoch, 0
                    self._lease.begin(frame.lease_s, renewed=frame.renewed)
                    beater = beater or asyncio.create_task(self._send_beats(websocket, frame.beat_every_s, told))
                    if frame.examine:
                        examiner = examiner or asyncio.create_task(self._send_examination(websocket))
                await self._hear(websocket, frame)
        finally:
            reporter.cancel()
            for task in (beater, examiner):
                if task:
                    task.cancel()

    async def _hear(self, websocket: aiohttp.ClientWebSocketResponse, frame: Any) -> None:
        match frame:
            case Welcome():
                await self._fetch(websocket)
            case Renewed(counter=counter):
                await self._lease.renew(counter)
            case Recorded(number=number):
                self._recorded(number)
            case Refuse(reason=reason):
                log.error("the API refuses this host: %s", reason)
            case Changed(revision=revision):
                if revision > self._revision:
                    await self._fetch(websocket)
            case Desired():
                self._fetching = False
                self._anew = self._anew and not frame.full
                self._revision = frame.revision if frame.full else max(self._revision, frame.revision)
                for item in frame.items:
                    # What is wanted again must not be said to be gone: that was before.
                    self._gone.pop((item.kind, item.id), None)
                await self._lease.learn(frame)
                self._reconciler.take(frame)
                if self._fetch_again:
                    await self._fetch(websocket)
            case Dial():
                self._answer(self._api.session, frame)
            case Peers(processes=peers):
                self._start(self._meet(peers))

    async def _meet(self, peers: tuple[Peer, ...]) -> None:
        """Have a thin stream to each API process that does not have the main one."""
        self._peers = peers
        while self._peers is peers:
            try:
                self._thin.keep(await self._api.learn(peers, self._process))
                return
            except OSError as error:
                log.warning("the other API processes cannot be reached: %s", error)
            await asyncio.sleep(PEERS_AGAIN_S)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        """Ask for what changed; at most one question is under way."""
        if self._fetching:
            self._fetch_again = True
            return
        self._fetching, self._fetch_again = True, False
        await websocket.send_bytes(encode(Fetch(0 if self._anew else self._revision)))

    async def _send_reports(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await self._report.wait()
            # What was seen in the same step of the loop goes along; what comes a moment later waits for the next frame.
            await asyncio.sleep(0)
            self._report.clear()
            batch, self._pending = self._pending, {}
            self._reports += 1
            try:
                await websocket.send_bytes(encode(Report(tuple(batch.values()), self._reports)))
            except (ConnectionError, RuntimeError, aiohttp.ClientError):
                # The next stream repeats every observation, these too.
                return
            await asyncio.sleep(REPORT_EVERY_S)

    async def _send_examination(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        """Until nothing is against the host."""
        while True:
            cause = await self._examine() if self._examine else ""
            try:
                await websocket.send_bytes(encode(Examined(cause)))
            except (ConnectionError, RuntimeError, aiohttp.ClientError):
                return
            if not cause:
                return
            log.warning("this host gets no work: %s", cause)
            await asyncio.sleep(EXAMINE_AGAIN_S)

    async def _send_beats(self, websocket: aiohttp.ClientWebSocketResponse, every_s: float, told: Told) -> None:
        counter = 0
        while True:
            await asyncio.sleep(every_s)
            counter += 1
            self._lease.sent(counter)
            try:
                await websocket.send_bytes(encode(Beat(counter, {**told.changes(), **self._volumes.facts()})))
                await self._fetch(websocket)
            except (ConnectionError, RuntimeError, aiohttp.ClientError):
                return

    async def _whole(self, kind: str, ident: str, params: dict[str, Any]) -> bytes:
        if kind == "console":
            return await self._guests.console(ident)
        if kind == "survey":
            return msgspec.msgpack.encode(await self._survey())
        if kind == "check":
            return msgspec.msgpack.encode(await self._network.probe(ident, msgspec.convert(params, Probe)))
        if kind == "meters":
            return msgspec.msgpack.encode(await self._network.meters(ident))
        if kind == "volumes_usage":
            return msgspec.json.encode(await self._usages(params.get("ids") or ()))
        if self._streams is None:
            raise LookupError(f"this host's runtime does not serve {kind}")
        return await self._streams.whole(kind, ident, params)

    async def _usages(self, ids: Iterable[str]) -> dict[str, int]:
        found = {}
        for volume_id in ids:
            with contextlib.suppress(LookupError, OSError):
                found[volume_id] = await self._volumes.usage(volume_id)
        return found

    async def _survey(self) -> Survey:
        holdings = [*await self._network.survey(), *await self._guests.survey(), *await self._volumes.survey()]
        narrow = tuple(NarrowPath(*path) for path in await self._network.narrow_paths())
        return Survey(tuple(holdings), tuple(self._reconciler.observations()), narrow)
