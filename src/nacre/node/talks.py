"""The node's ends of dial-backs: bytes that were asked for, at once or on an open stream (nacre.protocol.streams)."""

import asyncio
import contextlib
import logging
from typing import Any, Protocol

import aiohttp
import msgspec

from nacre.node.drivers import StreamServer
from nacre.protocol.frames import FRAME_BYTES_MAX
from nacre.protocol.messages import Dial
from nacre.protocol.streams import CHUNK_BYTES, OPEN, Channel, Failure, FromClient, FromGuest, control, from_client

DIAL_BACK_TIMEOUT_S = 30.0
KINDS: tuple[tuple[type[Exception], str], ...] = (
    (LookupError, "not_found"),
    (ValueError, "invalid"),
    (FileExistsError, "conflict"),
    (OSError, "unavailable"),
)
"""What a driver raises -> the kind of failure that it is."""

log = logging.getLogger("nacre.node")


class Answers(Protocol):
    """What can be asked for at once, beyond the stream server's kinds."""

    async def __call__(self, kind: str, ident: str, params: dict[str, Any]) -> bytes: ...


class NodeTalk:
    """Implements nacre.node.drivers.Talk over a WebSocket to the API process, which may still be on its way.

    What is asked for is begun meanwhile: to connect takes as long as to start a process in a guest.
    """

    def __init__(self, connecting: "asyncio.Future[aiohttp.ClientWebSocketResponse]") -> None:
        self._connecting = connecting
        self.began = False

    async def _connected(self) -> aiohttp.ClientWebSocketResponse:
        """Raises ConnectionError where the other side has gone before it could be reached."""
        try:
            return await asyncio.shield(self._connecting)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ConnectionResetError(str(error)) from error

    async def send(self, channel: Channel, data: bytes) -> None:
        for start in range(0, len(data), CHUNK_BYTES):
            await self._send(channel, data[start : start + CHUNK_BYTES])

    async def control(self, message: FromGuest) -> None:
        self.began = True
        await self._send(Channel.CONTROL, control(message))

    async def _send(self, channel: Channel, payload: bytes) -> None:
        websocket = await self._connected()
        try:
            await websocket.send_bytes(bytes((channel,)) + payload)
        except (RuntimeError, aiohttp.ClientError) as error:
            raise ConnectionResetError(str(error)) from error

    async def receive(self) -> bytes | FromClient | None:
        try:
            message = await (await self._connected()).receive()
        except ConnectionError:
            return None
        if message.type is not aiohttp.WSMsgType.BINARY:
            return None
        payload: bytes = message.data[1:]
        return from_client(payload) if message.data[0] == Channel.CONTROL else payload


def failure_of(error: Exception) -> Failure:
    """The words for the other side. A KeyError's text is its argument, not its repr."""
    kind = next((kind for raised, kind in KINDS if isinstance(error, raised)), "unavailable")
    text = str(error.args[0]) if isinstance(error, LookupError) and error.args else str(error)
    return Failure(kind, text or type(error).__name__)


async def answer(session: aiohttp.ClientSession, dial: Dial, whole: Answers, streams: StreamServer | None) -> None:
    """Bring what the dial asks for. What goes wrong is said to the other side; a side that has gone is no error."""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
        if dial.kind in OPEN:
            await _open(session, dial, streams)
        else:
            await _bring(session, dial, whole)


async def _bring(session: aiohttp.ClientSession, dial: Dial, whole: Answers) -> None:
    headers: dict[str, str] = {}
    try:
        data = await whole(dial.kind, dial.id, dial.params)
    except (LookupError, OSError, ValueError) as error:
        data, headers = msgspec.msgpack.encode(failure_of(error)), {"X-Nacre-Failure": "1"}
    timeout = aiohttp.ClientTimeout(total=DIAL_BACK_TIMEOUT_S)
    async with session.post(f"/streams/{dial.stream}", data=data, headers=headers, timeout=timeout):
        pass


async def _open(session: aiohttp.ClientSession, dial: Dial, streams: StreamServer | None) -> None:
    connecting = asyncio.ensure_future(_connect(session, f"/streams/{dial.stream}"))
    talk = NodeTalk(connecting)
    try:
        if streams is None:
            raise LookupError(f"this host's runtime does not serve {dial.kind}")
        await streams.serve(dial.kind, dial.id, dial.params, talk)
    except ConnectionError:
        pass
    except (LookupError, OSError, ValueError) as error:
        await talk.control(failure_of(error))
    except Exception as error:
        log.exception("%s of %s failed", dial.kind, dial.id)
        await talk.control(Failure("unavailable", f"{type(error).__name__}: {error}"))
    finally:
        connecting.cancel()
        (websocket,) = await asyncio.gather(connecting, return_exceptions=True)
        if not isinstance(websocket, BaseException):
            await websocket.close()


async def _connect(session: aiohttp.ClientSession, url: str) -> aiohttp.ClientWebSocketResponse:
    return await session.ws_connect(url, max_msg_size=FRAME_BYTES_MAX, compress=0)
