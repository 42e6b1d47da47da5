"""The agent: keeps one stream to an API process, and hands what it hears to the reconciler."""

import asyncio
import contextlib
import hashlib
import logging
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from yarl import URL

from nacre.node import talks
from nacre.node.config import JoinedHost, NodeConfig
from nacre.node.drivers import DiskRefused, GuestDriver, Later, NetworkDriver, StreamServer, VolumeDriver
from nacre.node.facts import Facts
from nacre.node.lease import HELLO, Lease
from nacre.node.reconcile import Reconciler
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
from nacre.protocol.frames import FRAME_BYTES_MAX, decode_from_api, encode
from nacre.protocol.messages import Capacity, NarrowPath, Survey
from nacre.protocol.names import NameAnswer
from nacre.protocol.probes import Probe
from nacre.protocol.streams import CHUNK_BYTES

RECONNECT_MIN_S = 0.05
RECONNECT_MAX_S = 3.0
REPORT_EVERY_S = 0.002
"""Observations that come within this time after a frame share the next one."""
BLOB_TIMEOUT_S = 3600.0
NAME_TIMEOUT_S = 3.0
DISK_SILENCE_S = 45.0
"""A disk of which nothing came for so long is not coming any more. Longer than a dial may take."""
UNANSWERED_MS = 10_000
"""A connection on which nothing was acknowledged for so long is broken (tcp(7), TCP_USER_TIMEOUT), one that is being made too."""
EXAMINE_AGAIN_S = 30.0
"""After so long a host that was found wanting is examined again: somebody may have seen to it."""
RELAY_TIMEOUT_S = 660.0
"""Longer than the longest query waits."""

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


class Refused(ConnectionError):
    """The API process is there, and does not want this host."""


class Api:
    """HTTP to an API process. Also the image cache's source of bytes."""

    def __init__(self, host_id: str, url: str, connector: aiohttp.BaseConnector) -> None:
        self._host_id = host_id
        self._url = url
        self.session = aiohttp.ClientSession(connector=connector, base_url=url)

    def check(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        """Raises PermissionError when the other end is not the API. By TLS the handshake has seen to that."""

    async def connect(self) -> aiohttp.ClientWebSocketResponse:
        """Open the stream. Raises OSError, also when the socket's other end is not the API's user."""
        try:
            websocket = await self.session.ws_connect("/stream", max_msg_size=FRAME_BYTES_MAX, compress=0)
        except aiohttp.WSServerHandshakeError as error:
            raise Refused(f"the API answered {error.status} to this host") from error
        except aiohttp.ClientError as error:
            raise ConnectionError(str(error)) from error
        try:
            self.check(websocket)
        except PermissionError:
            await websocket.close()
            raise
        return websocket

    async def fetch(self, digest: str, target: Path) -> None:
        """Write a blob to `target`, checked against its digest. Raises OSError."""
        sha256 = hashlib.sha256()
        timeout = aiohttp.ClientTimeout(total=BLOB_TIMEOUT_S)
        try:
            async with self.session.get(f"/hosts/{self._host_id}/blobs/{digest}", timeout=timeout) as response:
                if response.status != 200:
                    raise OSError(
                        f"the API answered {response.status} to the request for image {digest}: {await response.text()}"
                    )
                with target.open("wb") as file:
                    async for chunk in response.content.iter_chunked(1024 * 1024):
                        await asyncio.to_thread(_take, sha256, file, chunk)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OSError(f"image {digest} could not be fetched: {error}") from error
        if f"sha256:{sha256.hexdigest()}" != digest:
            target.unlink(missing_ok=True)
            raise OSError(f"the bytes that came for image {digest} have another digest")

    async def disk(self, migration: str, host_id: str = "") -> AsyncIterator[bytes]:
        """Implements `drivers.DiskSource`, for one of several hosts where that is said."""
        url = f"/hosts/{host_id or self._host_id}/migrations/{migration}/disk"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=NAME_TIMEOUT_S, sock_read=DISK_SILENCE_S)
        try:
            async with self.session.get(url, timeout=timeout) as response:
                if response.status in (403, 410):
                    raise DiskRefused(await response.text())
                if response.status != 200:
                    raise OSError(f"the API answered {response.status}: {await response.text()}")
                async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                    yield chunk
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OSError(f"the disk was cut off on its way: {error or type(error).__name__}") from error

    async def ask_name(self, port_id: str, name: str, rtype: str) -> NameAnswer:
        """A name that only the control plane knows. Raises OSError."""
        url = f"/hosts/{self._host_id}/names"
        params = {"port": port_id, "name": name, "type": rtype}
        try:
            async with self.session.get(url, params=params, timeout=aiohttp.ClientTimeout(total=NAME_TIMEOUT_S)) as response:
                if response.status != 200:
                    raise OSError(f"the API answered {response.status} to the question for {name}")
                return msgspec.msgpack.decode(await response.read(), type=NameAnswer)
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
            raise OSError(f"the API could not be asked for {name}: {error}") from error

    async def password(self, guest_id: str, told: bytes | None) -> tuple[int, bytes]:
        """Tell the encrypted password that a guest chose, or ask for it. Raises OSError."""
        url = f"/hosts/{self._host_id}/guests/{guest_id}/password"
        method, timeout = ("GET" if told is None else "POST"), aiohttp.ClientTimeout(total=NAME_TIMEOUT_S)
        try:
            async with self.session.request(method, url, data=told, timeout=timeout) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OSError(f"the API could not be told the password: {error}") from error

    async def relay(self, port_id: str, request: web.BaseRequest, body: bytes, headers: dict[str, str]) -> aiohttp.ClientResponse:
        """A guest's question to its project's catalog, which may be waited for. Raises OSError."""
        url = URL(f"{self._url}/hosts/{self._host_id}/ports/{port_id}{request.raw_path}", encoded=True)
        timeout = aiohttp.ClientTimeout(total=RELAY_TIMEOUT_S)
        try:
            return await self.session.request(
                request.method, url, data=body or None, headers=headers, timeout=timeout, allow_redirects=False
            )
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise OSError(str(error)) from error

    async def close(self) -> None:
        await self.session.close()


class LocalApi(Api):
    """Over its unix socket: the API process of this machine."""

    def __init__(self, path: str, uid: int, host_id: str) -> None:
        super().__init__(host_id, "http://nacre", aiohttp.UnixConnector(path, limit=0))
        self._path = path
        self._uid = uid

    def check(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        peer = websocket.get_extra_info("socket")
        if peer is None or _peer_uid(peer) != self._uid:
            raise PermissionError(f"the process at {self._path} is not the API's user {self._uid}")


def joined_api(config: NodeConfig, host: JoinedHost) -> Api:
    """By TLS, as a host that has joined. Raises OSError where its certificate cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The authority signs servers' certificates for the API process only, which may be reached under any address.
    context.check_hostname = False
    context.load_verify_locations(config.authority_file)
    context.load_cert_chain(host.certificate, host.key)
    return Api(host.host_id, config.gateway_url, aiohttp.TCPConnector(ssl=context, limit=0, socket_factory=_impatient))


def _impatient(info: tuple[Any, ...]) -> socket.socket:
    """A socket that gives up where nobody answers: the kernel would try for a quarter of an hour, and be found again minutes late."""
    family, kind, protocol = info[:3]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_MS)
    made.setblocking(False)
    return made


def _take(sha256: Any, file: Any, chunk: bytes) -> None:
    sha256.update(chunk)
    file.write(chunk)


def _peer_uid(peer: socket.socket) -> int:
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)


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

    async def _keep_a_stream(self) -> None:
        delay_s = RECONNECT_MIN_S
        while True:
            try:
                websocket = await self._api.connect()
            except OSError as error:
                log.log(logging.WARNING if isinstance(error, Refused) else logging.DEBUG, "no stream: %s", error)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 1.5, RECONNECT_MAX_S)
                continue
            delay_s = RECONNECT_MIN_S
            try:
                await self._converse(websocket)
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

    async def _converse(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        host = self.host
        self._lease.sent(HELLO)
        await websocket.send_bytes(
            encode(
                Hello(
                    PROTOCOL_MIN,
                    PROTOCOL_MAX,
                    host.id,
                    host.hostname,
                    host.boot_id,
                    host.capacity,
                    host.runtimes,
                    host.hypervisor_type,
                    {**self._guests.facts(), **self._facts.all(), **self._volumes.facts()},
                    host.tunnel_ip,
                    host.external,
                    host.underlay_mtu,
                )
            )
        )
        self._fetching = self._fetch_again = False
        self._reports = 0
        for observation in (*(gone for _, gone in self._gone.values()), *self._reconciler.observations()):
            self._observe(observation)
        reporter = asyncio.create_task(self._send_reports(websocket))
        beater: asyncio.Task[None] | None = None
        examiner: asyncio.Task[None] | None = None
        try:
            async for message in websocket:
                if message.type is not aiohttp.WSMsgType.BINARY:
                    break
                frame = decode_from_api(message.data)
                if isinstance(frame, Welcome):
                    self._lease.begin(frame.lease_s)
                    beater = beater or asyncio.create_task(self._send_beats(websocket, frame.beat_every_s))
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
                self._revision = max(self._revision, frame.revision)
                for item in frame.items:
                    # What is wanted again must not be said to be gone: that was before.
                    self._gone.pop((item.kind, item.id), None)
                await self._lease.learn(frame)
                self._reconciler.take(frame)
                if self._fetch_again:
                    await self._fetch(websocket)
            case Dial():
                self._start(talks.answer(self._api.session, frame, self._whole, self._streams))

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

    async def _send_beats(self, websocket: aiohttp.ClientWebSocketResponse, every_s: float) -> None:
        counter = 0
        while True:
            await asyncio.sleep(every_s)
            counter += 1
            self._lease.sent(counter)
            try:
                await websocket.send_bytes(encode(Beat(counter, {**self._fresh(), **self._volumes.facts()})))
                await self._fetch(websocket)
            except (ConnectionError, RuntimeError, aiohttp.ClientError):
                return

    def _fresh(self) -> dict[str, Any]:
        """The facts that changed. What the operator's files say of the host's guests goes before what was tried."""
        tried = {name: value for name, value in self._guests.facts().items() if not self._facts.has(name)}
        return {**tried, **self._facts.changes()}

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
