"""The proxy: an endpoint for Docker's clients in front of an engine, with adapters asked on the way.

What no adapter wants passes through as it comes, unread. A call with hooks is read whole first: up to BODY_BYTES_MAX, above which it is
refused, never cut. A connection that becomes a raw stream (attach, exec, logs) is copied both ways; adapters see no streams.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from nacre.panes.edge.wire import Hijacked, Wire
from nacre.panes.powerstrip import hooks
from nacre.panes.powerstrip.config import Adapters
from nacre.panes.powerstrip.hooks import AdapterError, ClientRequest, ServerResponse

BODY_BYTES_MAX = 64 << 20
CHUNK_BYTES = 256 * 1024
HEAD_BYTES_MAX = 64 * 1024
CONNECT_TIMEOUT_S = 30.0
RAW_TYPES = frozenset({"application/vnd.docker.raw-stream", "application/vnd.docker.multiplexed-stream"})
JSON = "application/json"
TARS = frozenset({"application/tar", "application/x-tar"})
HOP_BY_HOP = frozenset({"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length"})
"""Headers between two neighbours (RFC 9110, 7.6.1), and the length, which is set anew."""

log = logging.getLogger("nacre.powerstrip")


@dataclass(frozen=True)
class Upstream:
    """Where the engine is: `unix:///path`, or `tcp://host:port`."""

    url: str

    @property
    def path(self) -> str | None:
        parts = urlsplit(self.url)
        return parts.path if parts.scheme == "unix" else None

    @property
    def base(self) -> str:
        parts = urlsplit(self.url)
        return "http://docker" if self.path else f"http://{parts.hostname}:{parts.port or 2375}"

    def session(self) -> aiohttp.ClientSession:
        connector = aiohttp.UnixConnector(self.path, limit=0) if self.path else aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
        return aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.path:
            return await asyncio.open_unix_connection(self.path, limit=HEAD_BYTES_MAX)
        parts = urlsplit(self.url)
        return await asyncio.open_connection(parts.hostname, parts.port or 2375, limit=HEAD_BYTES_MAX)


class Proxy:
    """One endpoint in front of one engine. `adapters` is asked for at each call: a file that changed counts from the next call on."""

    def __init__(self, upstream: Upstream, adapters: Callable[[], Adapters]) -> None:
        self._upstream = upstream
        self._adapters = adapters
        self._engine: aiohttp.ClientSession | None = None
        self._asking: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        """To be served with auto_decompress off (edge.app.SERVER_OPTIONS)."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_route("*", "/{tail:.*}", self._serve)
        app.cleanup_ctx.append(self._sessions)
        return app

    async def _sessions(self, app: web.Application) -> Any:
        self._engine, self._asking = self._upstream.session(), aiohttp.ClientSession(auto_decompress=False)
        yield
        await self._engine.close()
        await self._asking.close()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        before, after = self._adapters().matching(request.method, request.path)
        content_type = request.content_type
        if content_type in TARS:
            before = ()
        try:
            if "upgrade" in request.headers.get("Connection", "").lower():
                return await self._tunnel(request)
            if not before and not after:
                return await self._pass(request, request.path_qs, request.content if request.can_read_body else None)
            assert self._asking is not None
            body = await _whole(request)
            asked = ClientRequest(request.method, request.path_qs, body.decode() if body and content_type == JSON else None)
            changed = await hooks.before(self._asking, before, asked)
            data = changed.body.encode() if changed.body is not None else body
            if not after:
                return await self._pass(request, changed.request, data)
            return await self._pass_whole(request, changed, data, after)
        except AdapterError as error:
            return web.Response(body=error.body, status=error.code, headers={"Content-Type": error.content_type})
        except (aiohttp.ClientConnectionError, OSError) as error:
            return _refusal(502, f"The engine at {self._upstream.url} cannot be reached: {error}")
        except UnicodeDecodeError:
            return _refusal(400, "The body says that it is JSON, and is not UTF-8.")

    def _ask_engine(self, request: web.Request, path: str, data: Any) -> Any:
        assert self._engine is not None
        return self._engine.request(
            request.method,
            URL(self._upstream.base + path, encoded=True),
            headers=_kept(request.headers),
            data=data,
            skip_auto_headers=("User-Agent", "Content-Type", "Accept", "Accept-Encoding"),
            allow_redirects=False,
        )

    async def _pass(self, request: web.Request, path: str, data: Any) -> web.StreamResponse:
        """To the engine, and back as it comes."""
        async with self._ask_engine(request, path, data) as answer:
            response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=_kept(answer.headers))
            if request.method != "HEAD" and answer.content_length is not None:
                response.content_length = answer.content_length
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    async def _pass_whole(self, request: web.Request, asked: ClientRequest, data: bytes | None, after: Any) -> web.StreamResponse:
        """With post-hooks: the whole answer is gathered, and given to them as one. Streams and what is no text pass them by."""
        assert self._asking is not None
        async with self._ask_engine(request, asked.request, data) as answer:
            if answer.content_type in RAW_TYPES or not _is_text(answer.content_type):
                response = web.StreamResponse(status=answer.status, headers=_kept(answer.headers))
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                return response
            body = bytearray()
            async for chunk in answer.content.iter_any():
                body += chunk
                if len(body) > BODY_BYTES_MAX:
                    return _refusal(502, f"The engine's answer is longer than {BODY_BYTES_MAX} bytes: too long for a post-hook.")
            seen = ServerResponse(answer.headers.get("Content-Type", ""), body.decode(errors="replace"), answer.status)
            headers = _kept(answer.headers)
        final = await hooks.after(self._asking, after, asked, seen)
        headers["Content-Type"] = final.content_type or JSON
        return web.Response(body=(final.body or "").encode(), status=final.code, headers=headers)

    async def _tunnel(self, request: web.Request) -> web.StreamResponse:
        """A connection that is to become a raw stream: the head is sent on, then bytes are copied until both sides are done."""
        body = await _whole(request)
        reader, writer = await self._upstream.connect()
        try:
            writer.write(_head(request, body) + body)
            await writer.drain()
            await _copy(Wire(request), reader, writer)
        finally:
            with contextlib.suppress(OSError):
                writer.close()
        return Hijacked()


async def _copy(wire: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Both ways. The end of the client's bytes is passed on and the rest goes on; the end of the engine's ends it all."""
    sending = asyncio.create_task(_send(wire, writer))
    try:
        while data := await reader.read(CHUNK_BYTES):
            await wire.write(data)
    except ConnectionError:
        pass
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await wire.close()


async def _send(wire: Wire, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await wire.read():
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def _whole(request: web.Request) -> bytes:
    return await request.read() if request.can_read_body else b""


def _kept(headers: Any) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in HOP_BY_HOP)


def _is_text(content_type: str) -> bool:
    return content_type == JSON or content_type.startswith("text/") or content_type.endswith("+json")


def _head(request: web.Request, body: bytes) -> bytes:
    lines = [f"{request.method} {request.path_qs} HTTP/1.1"]
    lines += [
        f"{name}: {value}"
        for name, value in request.headers.items()
        if name.lower() not in ("content-length", "transfer-encoding")
    ]
    lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def _refusal(status: int, message: str) -> web.Response:
    return web.Response(body=msgspec.json.encode({"message": message}), status=status, content_type=JSON)
