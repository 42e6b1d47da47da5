"""The conversation with adapters: one POST per hook, bodies as JSON strings within JSON.

Each adapter gets what the one before it gave. An adapter that answers with an error ends the chain, and its answer is the client's.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import aiohttp
import msgspec
from msgspec import Struct

from nacre.panes.powerstrip.config import PROTOCOL_VERSION, Adapter

ADAPTER_TIMEOUT_S = 60.0
"""How long an adapter may take: one that prepares a volume or a network is no quick one."""
ANSWER_BYTES_MAX = 64 << 20


T = TypeVar("T")


class ClientRequest(Struct, frozen=True, rename="pascal"):
    """`request` is the path with its query; `body` is None where the client sent no JSON."""

    method: str
    request: str
    body: str | None = None


class ServerResponse(Struct, frozen=True, rename="pascal"):
    content_type: str
    body: str | None
    code: int


class _PreAnswer(Struct, rename="pascal"):
    powerstrip_protocol_version: int
    modified_client_request: ClientRequest


class _PostAnswer(Struct, rename="pascal"):
    powerstrip_protocol_version: int
    modified_server_response: ServerResponse


class AdapterError(Exception):
    """An adapter failed or refused: what the client gets instead of the engine's answer."""

    def __init__(self, code: int, content_type: str, body: bytes) -> None:
        super().__init__(f"{code} {body[:200]!r}")
        self.code, self.content_type, self.body = code, content_type, body


async def before(session: aiohttp.ClientSession, adapters: Sequence[Adapter], request: ClientRequest) -> ClientRequest:
    """The request as the adapters want it. Raises AdapterError, also where one changes more than query and body."""
    for adapter in adapters:
        answer = await _ask(session, adapter, _message("pre-hook", request), _PreAnswer)
        changed = answer.modified_client_request
        if changed.method != request.method or _path(changed.request) != _path(request.request):
            raise _failure(adapter, f"may not make {changed.method} {changed.request} of {request.method} {request.request}")
        request = changed
    return request


async def after(
    session: aiohttp.ClientSession, adapters: Sequence[Adapter], request: ClientRequest, response: ServerResponse
) -> ServerResponse:
    """The response as the adapters want it, code and content type included. Raises AdapterError."""
    for adapter in adapters:
        message = _message("post-hook", request) | {"ServerResponse": response}
        response = (await _ask(session, adapter, message, _PostAnswer)).modified_server_response
        if not 200 <= response.code <= 599:
            raise _failure(adapter, f"answered with the status code {response.code}")
    return response


def _message(kind: str, request: ClientRequest) -> dict[str, Any]:
    return {"PowerstripProtocolVersion": PROTOCOL_VERSION, "Type": kind, "ClientRequest": request}


def _path(request: str) -> str:
    return request.partition("?")[0]


async def _ask(session: aiohttp.ClientSession, adapter: Adapter, message: dict[str, Any], shape: type[T]) -> T:
    data, headers = msgspec.json.encode(message), {"Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=ADAPTER_TIMEOUT_S)
    try:
        async with session.post(adapter.url, data=data, headers=headers, timeout=timeout, allow_redirects=False) as answer:
            body = await _read(answer)
            if answer.status != 200:
                raise AdapterError(answer.status if answer.status >= 400 else 502, answer.content_type, body)
    except TimeoutError:
        raise _failure(adapter, f"did not answer within {ADAPTER_TIMEOUT_S:.0f} s") from None
    except aiohttp.ClientError as error:
        raise _failure(adapter, f"could not be asked: {error}") from None
    try:
        decoded: T = msgspec.json.decode(body, type=shape)
    except msgspec.DecodeError as error:
        raise _failure(adapter, f"answered with something else than protocol {PROTOCOL_VERSION} asks for: {error}") from None
    if getattr(decoded, "powerstrip_protocol_version", None) != PROTOCOL_VERSION:
        raise _failure(adapter, f"speaks another protocol than {PROTOCOL_VERSION}")
    return decoded


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for chunk in answer.content.iter_any():
        data += chunk
        if len(data) > ANSWER_BYTES_MAX:
            raise aiohttp.ClientPayloadError(f"its answer is longer than {ANSWER_BYTES_MAX} bytes")
    return bytes(data)


def _failure(adapter: Adapter, what: str) -> AdapterError:
    return AdapterError(502, "application/json", msgspec.json.encode({"message": f"The adapter {adapter.name} {what}."}))
