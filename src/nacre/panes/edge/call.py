"""One request on its way: what a handler gets, and what it gives back."""

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec
import sqlalchemy as sa
from aiohttp import web
from multidict import MultiMapping

from nacre.cloud.context import Context
from nacre.cloud.core import Cloud
from nacre.cloud.errors import Invalid, TooLarge, Unauthorized, Unsupported
from nacre.panes.edge.microversion import Version
from nacre.panes.edge.route import Route, Service

P = ParamSpec("P")
T = TypeVar("T")

DEPTH_MAX = 64
"""Levels of a JSON body. What is nested deeper could be stored, and then be more than the interpreter's recursion can show again."""
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\Z)', re.DOTALL)
_STEP_OF = bytes.maketrans(b"{[}]", b"\x01\x01\xff\xff")
_NO_BRACKETS = bytes(set(range(256)) - set(b"{[}]"))
BODY_BYTES_MAX = 4 * 1024 * 1024
"""The largest JSON body that is read."""


@dataclass(slots=True)
class Reply:
    """`body`: None, something msgspec encodes as JSON, or bytes (then `content_type` says what they are)."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    response: web.StreamResponse | None = None
    """A response that the handler has made, or sent, by itself (streams, sendfile)."""


@dataclass(slots=True)
class Call:
    """One request on its way: who asks, for which route, in which version."""

    cloud: Cloud
    service: Service
    route: Route
    request: web.Request
    request_id: str
    version: Version
    _context: Context | None

    @property
    def context(self) -> Context:
        """Who asks. Raises Unauthorized on a route that needs no token when there is none."""
        if self._context is None:
            raise Unauthorized("The request you have made requires authentication.")
        return self._context

    @property
    def path(self) -> Mapping[str, str]:
        return self.request.match_info

    @property
    def query(self) -> MultiMapping[str]:
        return self.request.query

    @property
    def base_url(self) -> str:
        """The service's URL, for links."""
        return self.cloud.settings.base_url + self.service.prefix

    def at_least(self, minor: int) -> bool:
        """Whether the request's microversion is at least MAJOR.minor."""
        return self.version.minor >= minor

    async def read(self, fn: Callable[Concatenate[sa.Connection, Context, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """`fn(conn, context, ...)` on a snapshot of the store."""
        return self.cloud.store.read_now(fn, self.context, *args, **kwargs)

    def remember(self, fn: Callable[Concatenate[sa.Connection, Context, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """`read`, but read again only after something was written; for what is polled. The arguments must be hashable."""
        context = self.context
        key = (fn, context.project_id, context.is_admin, args, *kwargs.items())
        return self.cloud.store.remember(key, lambda conn: fn(conn, context, *args, **kwargs))

    async def write(self, fn: Callable[Concatenate[sa.Connection, Context, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """`fn(conn, context, ...)` in a write transaction."""
        return await self.cloud.store.write(fn, self.context, *args, **kwargs)

    async def body(self, shape: type[T]) -> T:
        """The JSON body as a value of `shape` (a msgspec Struct). Raises Invalid (400), naming the field that is wrong."""
        return decode(await self.raw_body(), shape)

    async def raw_body(self) -> bytes:
        content_type = self.request.content_type
        if (
            self.request.can_read_body
            and content_type not in ("application/json", "application/octet-stream", "text/plain")
            and not (content_type.endswith("+json") or content_type.startswith("application/openstack"))
        ):
            raise Unsupported(f"The media type {content_type} is not supported; send application/json.")
        encoding = self.request.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise Unsupported(f"The content encoding {encoding} is not supported; send the body as it is.")
        try:
            return await self.request.read()
        except web.HTTPRequestEntityTooLarge:
            raise TooLarge(f"The body is larger than {BODY_BYTES_MAX} bytes.") from None
        except (web.RequestPayloadError, web.HTTPException, ValueError) as error:
            raise Invalid(f"The body could not be read: {error}") from None


def decode(data: bytes, shape: type[T]) -> T:
    """JSON to a value of `shape`. Raises Invalid, naming the field that is wrong."""
    if not data:
        raise Invalid("The request needs a JSON body.", field="body")
    if data.count(b"{") + data.count(b"[") > DEPTH_MAX:
        _check_depth(data)
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.ValidationError as error:
        raise Invalid(_sentence(str(error)), field=_field(str(error))) from None
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise Invalid(f"The body is not valid JSON: {error}", field="body") from None


def _check_depth(data: bytes) -> None:
    """Raises Invalid. Outside of strings each opening bracket counts +1 and each closing one -1."""
    steps = _STRING.sub(b"", data).translate(_STEP_OF, _NO_BRACKETS)
    if max(itertools.accumulate(memoryview(steps).cast("b")), default=0) > DEPTH_MAX:
        raise Invalid(f"The body is nested deeper than {DEPTH_MAX} levels.", field="body")


def convert(value: Any, shape: type[T]) -> T:
    """A decoded JSON value to `shape`. Raises Invalid, naming the field that is wrong."""
    try:
        return msgspec.convert(value, type=shape)
    except msgspec.ValidationError as error:
        raise Invalid(_sentence(str(error)), field=_field(str(error))) from None


def _field(message: str) -> str:
    """msgspec ends a message with the place: ... - at `$.server.name`."""
    _, found, place = message.rpartition("at `$")
    return (place.strip("`.") if found else "") or "body"


def _sentence(message: str) -> str:
    text, _, place = message.rpartition(" - at `$")
    return f"Invalid input for field/attribute {place.strip('`.')}. {text}." if text else f"Invalid input: {message}."
