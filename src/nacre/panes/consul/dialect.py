"""How Consul's HTTP API speaks: who asks, errors as plain text, JSON bodies whose names may be written in any case."""

from collections.abc import Awaitable
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from nacre.cloud.context import Context
from nacre.cloud.core import Cloud
from nacre.cloud.errors import CloudError, Forbidden, Invalid, TooLarge, Unauthorized
from nacre.cloud.identity.authentication import by_secret
from nacre.panes.edge import Call, Reply
from nacre.panes.edge.call import decode

T = TypeVar("T")

DATACENTER = "dc1"
VALUE_BYTES_MAX = 512 * 1024
HEADERS = {"Vary": "Accept-Encoding", "X-Consul-Default-Acl-Policy": "deny"}
STATUS_OF: dict[type[CloudError], int] = {Unauthorized: 403, Forbidden: 403}
"""Consul knows no 401 for what it does not let in."""
PLAIN = "text/plain"
PATH = "/v1"


class Denied(Unauthorized):
    """403 with Consul's own words."""


def render_error(error: CloudError, status: int, request_id: str) -> tuple[Any, str]:
    """The text alone. A thing that is not there may have an empty one."""
    return error.message.encode("utf-8", "replace"), PLAIN


def authenticate(cloud: Cloud, request: web.Request, request_id: str) -> Context | Awaitable[Context]:
    """A project's token, or an application credential as `id:secret`: in X-Consul-Token, as a bearer, in X-Auth-Token, or as Consul's older
    clients send it, in the query (nothing of a query is ever written to a log here)."""
    token = _token(request)
    if not token:
        raise Denied("Permission denied: anonymous token lacks permission; send a project's token in X-Consul-Token")
    if ":" in token:
        return _by_secret(cloud, token, request_id)
    return _project_only(_known(cloud, token, request_id))


def _token(request: web.Request) -> str:
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    given = (
        request.headers.get("X-Consul-Token"),
        bearer.strip() if scheme.lower() == "bearer" else None,
        request.headers.get("X-Auth-Token"),
        request.query.get("token"),
    )
    return next((token for token in given if token), "")


def _known(cloud: Cloud, token: str, request_id: str) -> Context:
    try:
        return cloud.authenticate(token, request_id)
    except Unauthorized:
        raise Denied("ACL not found") from None


async def _by_secret(cloud: Cloud, token: str, request_id: str) -> Context:
    ident, _, secret = token.partition(":")
    try:
        return _project_only(await by_secret(cloud.store, cloud.identity, ident, secret, request_id))
    except Unauthorized:
        raise Denied("ACL not found") from None


def _project_only(context: Context) -> Context:
    if context.project_id is None:
        raise Denied("Permission denied: the token is of no project")
    return context


def flag(call: Call, name: str) -> bool:
    """Whether a parameter without a value (or with any) is there."""
    return name in call.query


def number(call: Call, name: str, maximum: int = 2**63 - 1) -> int | None:
    """A parameter as a number without a sign; None when it is not there. Raises Invalid."""
    text = call.query.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 20 or int(text) > maximum:
        raise Invalid(f"Invalid {name} {text[:40]!r}: a number from 0 to {maximum} is needed", field=name)
    return int(text)


async def raw(call: Call) -> bytes:
    """The body as it is. Raises TooLarge (413)."""
    size = call.request.content_length
    data = b"" if size is not None and size > VALUE_BYTES_MAX else await _read(call)
    size = max(size or 0, len(data))
    if size > VALUE_BYTES_MAX:
        raise TooLarge(f"Request body({size} bytes) too large, max size: {VALUE_BYTES_MAX} bytes.")
    return data


async def _read(call: Call) -> bytes:
    try:
        return await call.request.read()
    except web.HTTPRequestEntityTooLarge:
        raise TooLarge(f"Request body too large, max size: {VALUE_BYTES_MAX} bytes.") from None
    except (web.RequestPayloadError, web.HTTPException, ValueError) as error:
        raise Invalid(f"Request decode failed: {error}") from None


async def body(call: Call, shape: type[T], *, needed: bool = True) -> T:
    """The JSON body. Raises Invalid."""
    return shaped(await json_of(call, needed=needed), shape)


async def json_of(call: Call, *, needed: bool = True) -> Any:
    data = await raw(call)
    if not data.strip():
        if needed:
            raise Invalid("Request decode failed: EOF")
        return {}
    try:
        return decode(data, Any)
    except Invalid as error:
        raise Invalid(f"Request decode failed: {error.message}", field=error.field) from None


def shaped(value: Any, shape: type[T]) -> T:
    """A decoded value as a Struct. Its own field names are taken in any case, with or without underscores, as Consul's clients write them."""
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise Invalid("Request decode failed: an object is needed")
    folded = {fold(name): each for name, each in value.items() if each is not None}
    try:
        return msgspec.convert(folded, shape)
    except msgspec.ValidationError as error:
        raise Invalid(f"Request decode failed: {error}") from None


def fold(name: str) -> str:
    return name.replace("_", "").lower()


class Body(msgspec.Struct, kw_only=True, rename=fold):
    """The base of every body: `service_id` is taken from ServiceID, serviceid or service_id."""


def shown(call: Call, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    """A JSON answer; `?pretty` indents it."""
    data = msgspec.json.encode(value)
    if flag(call, "pretty"):
        data = msgspec.json.format(data, indent=4)
    return Reply(data, status, headers or {})


def check_datacenter(call: Call) -> None:
    """Raises Invalid for another datacenter than the one there is."""
    asked = call.query.get("dc")
    if asked and asked != DATACENTER:
        raise Invalid(f"No path to datacenter {asked!r}: there is {DATACENTER}", field="dc")


ENTERPRISE = 'Invalid query parameter: "{}" - {} are a Consul Enterprise feature'
REFUSED = {
    "filter": "Failed to create boolean expression evaluator: this is no list that can be filtered",
    "near": "Cannot sort by distance: a project's agent measures none; leave ?near out",
    "ns": ENTERPRISE.format("ns", "Namespaces"),
    "partition": ENTERPRISE.format("partition", "Partitions"),
    "segment": ENTERPRISE.format("segment", "Network segments"),
    "peer": "Cluster peering is not available here: there is one datacenter",
}
"""Parameters of queries that would change the answer and are not served: none of them is taken and then forgotten."""


def check_parameters(call: Call, *, filtered: bool = False) -> None:
    """Raises Invalid for what is asked of a query and cannot be had. `filtered`: the query has looked at `?filter=` already."""
    refused = next((name for name in REFUSED if call.query.get(name) and not (filtered and name == "filter")), None)
    if refused is not None:
        raise Invalid(REFUSED[refused], field=refused)


def missing(headers: dict[str, str] | None = None) -> Reply:
    """404 without a word, as for a key that is not there."""
    return Reply(b"", 404, headers or {}, content_type=PLAIN)
