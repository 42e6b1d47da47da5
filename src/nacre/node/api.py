"""HTTP to the API processes: one of them has this host's main stream, and serves what the node asks for; the others are known too.

The first way is the one that the node was told at its start: the unix socket of the API process of its own machine, or the address that the
host joined by. Where the other processes are, the main stream tells (Peers); that is kept in a file, for a start at which the first way is
closed. To reach them by TLS, the node of an API process's own machine has a certificate made for it over the unix socket.
"""

import asyncio
import hashlib
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from yarl import URL

from nacre.node.config import JoinedHost, NodeConfig
from nacre.node.credentials import Credentials
from nacre.node.drivers import DiskRefused
from nacre.protocol.frames import FRAME_BYTES_MAX
from nacre.protocol.messages import Peer
from nacre.protocol.names import NameAnswer
from nacre.protocol.streams import CHUNK_BYTES

BLOB_TIMEOUT_S = 3600.0
NAME_TIMEOUT_S = 3.0
DISK_SILENCE_S = 45.0
"""A disk of which nothing came for so long is not coming any more. Longer than a dial may take."""
UNANSWERED_MS = 10_000
"""A connection on which nothing was acknowledged for so long is broken (tcp(7), TCP_USER_TIMEOUT), one that is being made too."""
CONNECT_S = 10.0
RELAY_TIMEOUT_S = 660.0
"""Longer than the longest query waits."""

log = logging.getLogger("nacre.node")


class Refused(ConnectionError):
    """The API process is there, and does not want this host."""


class Way:
    """One place at which an API process can be reached."""

    def __init__(self, url: str, connector: aiohttp.BaseConnector, uid: int | None = None) -> None:
        self.url = url
        self.session = aiohttp.ClientSession(connector=connector, base_url=url)
        self._uid = uid
        """Whose the process at the other end of a unix socket must be. By TLS the handshake has seen to that."""

    async def connect(self) -> aiohttp.ClientWebSocketResponse:
        """Open a stream. Raises OSError, also when the socket's other end is not the API's user."""
        try:
            async with asyncio.timeout(CONNECT_S):
                websocket = await self.session.ws_connect("/stream", max_msg_size=FRAME_BYTES_MAX, compress=0)
        except aiohttp.WSServerHandshakeError as error:
            raise Refused(f"the API answered {error.status} to this host at {self.url}") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ConnectionError(str(error) or f"{self.url} does not answer") from error
        peer = websocket.get_extra_info("socket")
        if self._uid is not None and (peer is None or _peer_uid(peer) != self._uid):
            await websocket.close()
            raise PermissionError(f"the process at the other end is not the API's user {self._uid}")
        return websocket

    async def close(self) -> None:
        await self.session.close()


class Api:
    """The API processes, as one host reaches them. Also the image cache's source of bytes."""

    def __init__(self, host_id: str, first: Way, credentials: Credentials | None = None, kept: Path | None = None) -> None:
        """`credentials`: what it shows to other processes than the first; without it there is the first way only. `kept`: where the others
        are noted."""
        self._host_id = host_id
        self._first = first
        self._way = first
        self._credentials = credentials
        self._kept = kept
        self._others: dict[str, Way] = {}
        """By the ids of their processes."""
        if kept is not None and credentials is not None and credentials.are_there:
            self._add(_remembered(kept))

    @property
    def session(self) -> aiohttp.ClientSession:
        """To the process that has the main stream, or had it last."""
        return self._way.session

    async def connect(self) -> tuple[Way, aiohttp.ClientWebSocketResponse]:
        """Open the main stream where it was last, or at the next way that is open. Raises OSError when none is."""
        ways = [self._first, *self._others.values()]
        at = ways.index(self._way) if self._way in ways else 0
        errors: list[OSError] = []
        for way in (*ways[at:], *ways[:at]):
            try:
                websocket = await way.connect()
            except OSError as error:
                errors.append(error)
                continue
            self._way = way
            return way, websocket
        # That the host is not wanted any more says more than that another process does not answer.
        raise next((error for error in errors if isinstance(error, Refused)), errors[0])

    @property
    def has_others(self) -> bool:
        """Whether more than one API process is known."""
        return len(self._others) > 1

    def turn_away(self, way: Way) -> None:
        """The process there does not serve this host now: another one is tried first."""
        ways = [self._first, *self._others.values()]
        self._way = ways[(ways.index(way) + 1) % len(ways)] if way in ways else self._first

    async def learn(self, peers: Iterable[Peer], own: str) -> dict[str, Way]:
        """These are the API processes; `own` has the main stream. Returns the ways to the others, none where this host has nothing to show
        them yet. Raises OSError."""
        known = tuple(peers)
        if self._credentials is None or not any(peer.id != own for peer in known):
            return {}
        if not self._credentials.are_there:
            await self._credentials.ask(self._way.session, self._host_id)
        if self._kept is not None:
            await asyncio.to_thread(_remember, self._kept, known)
        gone = [
            ident for ident, way in self._others.items() if way.url not in {peer.url for peer in known} and way is not self._way
        ]
        for ident in gone:
            await self._others.pop(ident).close()
        self._add(known)
        return {peer.id: self._others[peer.id] for peer in known if peer.id != own}

    def _add(self, peers: Iterable[Peer]) -> None:
        assert self._credentials is not None
        for peer in peers:
            known = self._others.get(peer.id)
            if known is None or known.url != peer.url:
                self._others[peer.id] = _by_tls(peer.url, self._credentials)

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

    async def disk(self, migration: str) -> AsyncIterator[bytes]:
        """Implements `drivers.DiskSource`."""
        url = f"/hosts/{self._host_id}/migrations/{migration}/disk"
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
        url = URL(f"{self._way.url}/hosts/{self._host_id}/ports/{port_id}{request.raw_path}", encoded=True)
        timeout = aiohttp.ClientTimeout(total=RELAY_TIMEOUT_S)
        try:
            return await self.session.request(
                request.method, url, data=body or None, headers=headers, timeout=timeout, allow_redirects=False
            )
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise OSError(str(error)) from error

    async def close(self) -> None:
        for way in (self._first, *self._others.values()):
            await way.close()


def local_apis(config: NodeConfig, host_ids: Iterable[str]) -> list[Api]:
    """Over its unix socket: the API process of this machine, for each of these hosts."""
    first = Way("http://nacre", aiohttp.UnixConnector(config.gateway_socket, limit=0), config.api_uid)
    tls = config.state / "tls"
    return [Api(ident, first, Credentials.of(tls, ident), tls / f"{ident}-processes.json") for ident in host_ids]


def joined_api(config: NodeConfig, host: JoinedHost) -> Api:
    """By TLS, as a host that has joined. Raises OSError where its certificate cannot be read."""
    credentials = Credentials(Path(host.certificate), Path(host.key), Path(config.authority_file))
    kept = Path(host.certificate).with_suffix(".processes.json")
    return Api(host.host_id, _by_tls(config.gateway_url, credentials), credentials, kept)


def _by_tls(url: str, credentials: Credentials) -> Way:
    return Way(url, aiohttp.TCPConnector(ssl=credentials.context(), limit=0, socket_factory=_impatient))


def _remember(path: Path, peers: tuple[Peer, ...]) -> None:
    """On the next start these are tried too."""
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps({peer.id: peer.url for peer in peers}))
    temporary.replace(path)


def _remembered(path: Path) -> list[Peer]:
    try:
        return [Peer(str(ident), str(url)) for ident, url in json.loads(path.read_text()).items()]
    except (OSError, ValueError, AttributeError):
        return []


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
