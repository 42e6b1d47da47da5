"""The hub: every stream that this API process holds, and the HTTP that nodes speak to it.

GET  /stream            the WebSocket of a host
GET  /hosts/{host}/blobs/{digest}    image bytes, only for a host whose guests need them
GET  /hosts/{host}/migrations/{migration}/disk    what a server has written that moves to that host (see `disks`)
GET  /hosts/{host}/names?port=P&name=X&type=A    a name that only the control plane knows, as a port of the host sees it
ANY  /hosts/{host}/ports/{port}/v1/...    the catalog, as the project of that port sees it (mounted by the API process)
GET, POST /hosts/{host}/guests/{guest}/password    what a guest told of the password that it chose, encrypted with its owner's key
POST /streams/{id}      a dial-back: the bytes that a client waits for, under a one-time id
GET  /streams/{id}      an open dial-back: a WebSocket on which bytes go both ways
GET, POST /enrol, GET /hosts/{host}    how hosts join (see `enrolment`)
POST /hosts/{host}/certificate    a certificate for a host of this machine, so that it can speak to other API processes

The same is served on two doors. By the unix socket comes the node of this machine, known by its user. By TLS come hosts that have joined:
each speaks for the host in its certificate and no other, and without one only /enrol answers.
"""

import asyncio
import logging
import secrets
import socket
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web
from cryptography import x509

from nacre.cloud.compute import passwords
from nacre.cloud.compute.images import host_needs
from nacre.cloud.core import Cloud
from nacre.cloud.errors import CloudError, Unavailable
from nacre.cloud.hosts import joining
from nacre.cloud.identity.authority import host_of, serial_of
from nacre.cloud.network import names
from nacre.gateway import disks, enrolment
from nacre.gateway.link import Link
from nacre.gateway.stream import HostStream
from nacre.gateway.streams import OpenStream, error_of
from nacre.protocol.frames import FRAME_BYTES_MAX, decode_from_node, encode
from nacre.protocol.messages import Hello, Refuse, Renewed
from nacre.protocol.streams import Failure

DIAL_TIMEOUT_S = 20.0
DIAL_BYTES_MAX = 64 * 1024 * 1024
HELLO_TIMEOUT_S = 10.0
HOST_ID = web.RequestKey("host_id", str)
"""In a request: the host whose certificate the connection has shown."""

T = TypeVar("T")
L = TypeVar("L", bound=Link)

log = logging.getLogger("nacre.gateway")


@dataclass(frozen=True)
class Waiting(Generic[T]):
    """What a dial waits for, and from whom."""

    host_id: str
    answer: "asyncio.Future[T]"


class Hub:
    """Implements `nacre.cloud.core.Hosts` for the streams of this process."""

    def __init__(self, node_uids: frozenset[int]) -> None:
        self._node_uids = node_uids
        self._mains: dict[str, HostStream] = {}
        self._thins: dict[str, Link] = {}
        self._dials: dict[str, Waiting[bytes]] = {}
        self._opens: dict[str, Waiting[OpenStream]] = {}
        self._facts: dict[str, dict[str, Any]] = {}
        self._cloud: Cloud | None = None
        self._heard_s: dict[str, float] = {}
        """When each host was last heard of, by this process's own clock."""
        self._let_go: set[asyncio.Task[None]] = set()

    def alive(self) -> frozenset[str]:
        """Hosts whose lease has not run out, with a stream or without one: a node that is being restarted will fetch what it missed."""
        if self._cloud is None:
            return self.connected()
        heard_s = dict(self._heard_s)
        for link in (*self._thins.values(), *self._mains.values()):
            heard_s[link.host_id] = max(link.heard_s, heard_s.get(link.host_id, 0.0))
        moment_s = _now_s() if self._cloud.presence is None else self._cloud.presence.moment_s
        lately = moment_s - self._cloud.settings.lease_s
        return frozenset(host_id for host_id, since_s in heard_s.items() if since_s > lately)

    def connected(self) -> frozenset[str]:
        return frozenset(self._mains) | frozenset(self._thins)

    def renew(self, host_ids: Iterable[str]) -> None:
        self._heard_s.update(dict.fromkeys(host_ids, _now_s()))

    def recorded(self, beats: Mapping[str, int]) -> None:
        for host_id, counter in beats.items():
            if host_id in self._mains:
                self._mains[host_id].send(Renewed(counter))

    def tell_peers(self) -> None:
        for stream in self._mains.values():
            stream.tell_peers()

    def let_go(self) -> None:
        for stream in tuple(self._mains.values()):
            self._let_go.add(task := asyncio.create_task(stream.end()))
            task.add_done_callback(self._let_go.discard)

    def facts(self, host_id: str) -> dict[str, Any]:
        """The host's facts as they were heard last, empty when it never had a stream here."""
        link = self._link(host_id)
        return link.facts if link else self._facts.get(host_id, {})

    def _link(self, host_id: str) -> Link | None:
        return self._mains.get(host_id) or self._thins.get(host_id)

    async def dial(self, host_id: str, kind: str, ident: str, params: dict[str, Any]) -> bytes:
        return await self._ask(self._dials, host_id, kind, ident, params)

    async def open(self, host_id: str, kind: str, ident: str, params: dict[str, Any]) -> OpenStream:
        return await self._ask(self._opens, host_id, kind, ident, params)

    async def _ask(self, waiting: dict[str, Waiting[T]], host_id: str, kind: str, ident: str, params: dict[str, Any]) -> T:
        """Send a dial under a one-time id and wait for what comes back under it."""
        link = self._link(host_id)
        if link is None:
            raise Unavailable(f"The host {host_id} is not connected; try again when it is back.", code="HostNotConnected")
        key = secrets.token_urlsafe(24)
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        waiting[key] = Waiting(host_id, answer)
        link.dial(key, kind, ident, params)
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                return await answer
        except TimeoutError:
            raise Unavailable(f"The host {host_id} did not answer within {DIAL_TIMEOUT_S:.0f} s.") from None
        finally:
            waiting.pop(key, None)

    def application(self, cloud: Cloud) -> web.Application:
        """The HTTP side, to be served on the unix socket and, where other hosts may join, by TLS."""
        self._cloud = cloud
        app = web.Application(client_max_size=DIAL_BYTES_MAX, middlewares=[self._check_peer])
        app.on_shutdown.append(self._end_streams)
        app.router.add_get("/stream", self._serve_stream)
        app.router.add_get("/hosts/{host}/blobs/{digest}", self._serve_blob)
        app.router.add_get("/hosts/{host}/names", self._serve_name)
        app.router.add_get(disks.PATH, self._serve_disk)
        for method in ("GET", "POST"):
            app.router.add_route(method, "/hosts/{host}/guests/{guest}/password", self._serve_password)
        app.router.add_post("/streams/{stream}", self._serve_dial_back)
        app.router.add_get("/streams/{stream}", self._serve_open_stream)
        app.router.add_get(enrolment.PATH, self._show_authority)
        app.router.add_post(enrolment.PATH, self._enrol)
        app.router.add_get("/hosts/{host}", self._show_host)
        app.router.add_post("/hosts/{host}/certificate", self._certify)
        return app

    async def _end_streams(self, app: web.Application) -> None:
        """The process ends: its nodes need not be waited for."""
        await asyncio.gather(*(link.end() for link in (*self._mains.values(), *self._thins.values())))

    @web.middleware
    async def _check_peer(self, request: web.Request, handler: object) -> web.StreamResponse:
        """On the unix socket only the node's user may speak (SO_PEERCRED, unix(7)), by TLS only hosts, each for itself."""
        tls = request.transport.get_extra_info("ssl_object") if request.transport else None
        if tls is not None:
            self._check_certificate(request, tls.getpeercert(binary_form=True))
            return await handler(request)  # type: ignore[operator, no-any-return]
        peer = request.transport.get_extra_info("socket") if request.transport else None
        if peer is None or peer.family != socket.AF_UNIX or _peer_uid(peer) not in self._node_uids:
            raise web.HTTPForbidden(text="this socket is for the node")
        return await handler(request)  # type: ignore[operator, no-any-return]

    def _check_certificate(self, request: web.Request, der: bytes | None) -> None:
        """Raises HTTPForbidden. Looked up at each request: a connection may outlive its host's membership."""
        assert self._cloud is not None
        if request.path == enrolment.PATH:
            return
        if der is None:
            raise web.HTTPForbidden(text="only a host with its certificate may ask for this; without one it may enrol")
        certificate = x509.load_der_x509_certificate(der)
        host_id = self._cloud.store.read_now(joining.holder, serial_of(certificate))
        if host_id is None or host_id != host_of(certificate):
            raise web.HTTPForbidden(text="the certificate is none of a host's, or its host was removed from the cloud")
        if request.match_info.get("host", host_id) != host_id:
            raise web.HTTPForbidden(text="the certificate is another host's")
        request[HOST_ID] = host_id

    async def _show_authority(self, request: web.Request) -> web.Response:
        assert self._cloud is not None
        return await enrolment.show_authority(self._cloud)

    async def _enrol(self, request: web.Request) -> web.Response:
        assert self._cloud is not None
        return await enrolment.enrol(self._cloud, request)

    async def _show_host(self, request: web.Request) -> web.Response:
        assert self._cloud is not None
        host_id = request.match_info["host"]
        if HOST_ID not in request:
            raise web.HTTPNotFound(text="only hosts that have joined ask for this")
        return enrolment.show_host(self._cloud, host_id, self.connected(), together="together" in request.query)

    async def _certify(self, request: web.Request) -> web.Response:
        assert self._cloud is not None
        if HOST_ID in request or request.match_info["host"] not in self._mains:
            raise web.HTTPForbidden(text="only a host of this machine is certified here, while it has its stream")
        return await enrolment.certify(self._cloud, request)

    async def _serve_stream(self, request: web.Request) -> web.StreamResponse:
        assert self._cloud is not None
        websocket = web.WebSocketResponse(max_msg_size=FRAME_BYTES_MAX, compress=False)
        await websocket.prepare(request)
        first = await websocket.receive(timeout=HELLO_TIMEOUT_S)
        if first.type is not WSMsgType.BINARY:
            return websocket
        try:
            hello = decode_from_node(first.data)
        except msgspec.DecodeError as error:
            log.warning("a node's first frame was not understood: %s", error)
            return websocket
        if not isinstance(hello, Hello):
            return websocket
        known = request.get(HOST_ID)
        if known not in (None, hello.host_id):
            await websocket.send_bytes(encode(Refuse("the certificate is another host's")))
            return websocket
        if hello.thin:
            await self._run(Link(self._cloud, websocket, hello, certified=known is not None), self._thins)
            return websocket
        if self._cloud.presence is not None and not self._cloud.presence.reaches_store:
            await websocket.close(code=WSCloseCode.TRY_AGAIN_LATER)
            return websocket
        await self._run(HostStream(self._cloud, websocket, hello, certified=known is not None), self._mains)
        return websocket

    async def _run(self, link: L, links: dict[str, L]) -> None:
        links[link.host_id] = link
        try:
            await link.run()
        except msgspec.DecodeError as error:
            log.warning("host %s sent a frame that was not understood: %s", link.host_id, error)
        finally:
            self._heard_s[link.host_id] = max(link.heard_s, self._heard_s.get(link.host_id, 0.0))
            self._facts[link.host_id] = link.facts
            if links.get(link.host_id) is link:
                del links[link.host_id]

    async def _serve_blob(self, request: web.Request) -> web.StreamResponse:
        assert self._cloud is not None
        digest, host_id = request.match_info["digest"], request.match_info["host"]
        if not self._cloud.store.read_now(host_needs, host_id, digest):
            raise web.HTTPForbidden(text="no guest of this host needs that image")
        path: Path = self._cloud.blobs.path(digest)
        if not await asyncio.to_thread(path.exists):
            raise web.HTTPNotFound(text="no such blob")
        return web.FileResponse(path, chunk_size=1024 * 1024)

    async def _serve_name(self, request: web.Request) -> web.Response:
        assert self._cloud is not None
        asked = [request.query.get(part, "") for part in ("port", "name", "type")]
        answer = self._cloud.store.read_now(names.lookup, request.match_info["host"], *asked)
        if answer is None:
            raise web.HTTPForbidden(text="that port is not on this host")
        return web.Response(body=msgspec.msgpack.encode(answer), content_type="application/msgpack")

    async def _serve_disk(self, request: web.Request) -> web.StreamResponse:
        assert self._cloud is not None
        return await disks.serve(self._cloud, request)

    async def _serve_password(self, request: web.Request) -> web.Response:
        """The encrypted password of a guest of that host: told once (409 then), or asked for."""
        assert self._cloud is not None
        host_id, guest_id, store = request.match_info["host"], request.match_info["guest"], self._cloud.store
        if request.method == "GET":
            known = store.read_now(passwords.told, host_id, guest_id)
            if known is None:
                raise web.HTTPForbidden(text="that guest is not on this host")
            return web.Response(text=known)
        text = (await request.read()).decode("ascii", "replace")
        if len(text) > passwords.ENCRYPTED_BYTES_MAX:
            raise web.HTTPBadRequest(text="the password is too long")
        if not await store.write(passwords.tell_encrypted, host_id, guest_id, text):
            raise web.HTTPConflict(text="a password is known already")
        return web.Response()

    async def _serve_dial_back(self, request: web.Request) -> web.StreamResponse:
        answer = _answer_to(self._dials, request)
        data = await request.read()
        if not answer.done():
            if request.headers.get("X-Nacre-Failure"):
                answer.set_exception(error_of(msgspec.msgpack.decode(data, type=Failure)))
            else:
                answer.set_result(data)
        return web.Response(status=204)

    async def _serve_open_stream(self, request: web.Request) -> web.StreamResponse:
        """Hand the node's WebSocket to who waits for it, and keep it until that one is done."""
        answer = _answer_to(self._opens, request)
        websocket = web.WebSocketResponse(max_msg_size=FRAME_BYTES_MAX, compress=False)
        await websocket.prepare(request)
        stream = OpenStream(websocket)
        try:
            await stream.begin()
        except (CloudError, msgspec.DecodeError) as error:
            if not answer.done():
                answer.set_exception(error if isinstance(error, CloudError) else Unavailable(f"The host spoke nonsense: {error}"))
            return websocket
        if answer.done():
            return websocket  # Whoever asked has gone meanwhile.
        answer.set_result(stream)
        await stream.closed.wait()
        return websocket


def _answer_to(waiting: dict[str, Waiting[T]], request: web.Request) -> "asyncio.Future[T]":
    """Raises HTTPNotFound where nobody waits, or not for the host that comes."""
    found = waiting.get(request.match_info["stream"])
    if found is None or found.answer.done() or request.get(HOST_ID, found.host_id) != found.host_id:
        raise web.HTTPNotFound(text="nobody waits for this stream")
    return found.answer


def _now_s() -> float:
    """A clock that nobody sets and that counts while the machine sleeps (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _peer_uid(peer: socket.socket) -> int:
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)
