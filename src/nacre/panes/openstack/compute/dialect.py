"""Nova's ways: errors under a name of their own, links self and bookmark, pages by limit and marker, ranges of microversions."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from nacre.cloud.collection import Row
from nacre.cloud.errors import CloudError, Forbidden, Invalid
from nacre.cloud.policy import check
from nacre.panes.edge.call import Call, convert, decode
from nacre.panes.openstack.query import parse_integer
from nacre.store import Page

T = TypeVar("T")

LIMIT_MAX = 1000
"""Items on one page of a list, as Nova's max_limit."""
NAMES = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    429: "overLimit",
    501: "notImplemented",
    503: "serviceUnavailable",
}
UNEXPECTED = "Unexpected API Error. The log has it under this request id."


class Unimplemented(CloudError):
    """501: what Nova answers where the virtualization driver cannot do it."""


def render_error(error: CloudError, status: int, request_id: str) -> tuple[Any, str]:
    message = error.message if status != 500 else UNEXPECTED
    return {NAMES.get(status, "computeFault"): {"code": status, "message": message}}, "application/json"


def links(call: Call, path: str) -> list[dict[str, str]]:
    """`path` is relative to the version: /servers/ID."""
    return [
        {"rel": "self", "href": f"{call.base_url}/v2.1{path}"},
        {"rel": "bookmark", "href": f"{call.base_url}{path}"},
    ]


def next_links(call: Call, page: Page, key: str = "id") -> list[dict[str, str]]:
    """The link to the page after this one, as a list of one; empty on the last."""
    if not page.more or not page.rows:
        return []
    parameters = [(name, value) for name, value in call.query.items() if name != "marker"]
    parameters.append(("marker", page.rows[-1][key]))
    url = call.request.url.origin().with_path(call.request.path).with_query(parameters)
    return [{"rel": "next", "href": call.cloud.settings.base_url + url.raw_path_qs}]


def with_next(call: Call, body: Row, name: str, page: Page, key: str = "id") -> Row:
    """The body with `{name}_links` where another page follows."""
    following = next_links(call, page, key)
    if following:
        body[f"{name}_links"] = following
    return body


def limit_of(call: Call) -> int:
    text = call.query.get("limit")
    return LIMIT_MAX if text is None else min(parse_integer(text, "limit"), LIMIT_MAX)


def allow(call: Call, name: str) -> None:
    """Check a row of the policy table beyond the route's own. Raises Forbidden."""
    full = f"os_compute_api:{name}"
    check(full, call.service.policies[full], call.context, call.path)


def allowed(call: Call, name: str) -> bool:
    try:
        allow(call, name)
    except Forbidden:
        return False
    return True


Ranges = Mapping[str, tuple[int, int | None]]
"""Field -> (first minor version that has it, last one or None)."""


def check_ranges(call: Call, sent: msgspec.Struct, ranges: Ranges) -> None:
    """Raises Invalid for a field that the request's microversion does not have."""
    minor = call.version.minor
    for attribute, name in zip(sent.__struct_fields__, sent.__struct_encode_fields__, strict=True):
        span = ranges.get(name)
        if span is None or getattr(sent, attribute) is msgspec.UNSET:
            continue
        if minor < span[0] or (span[1] is not None and minor > span[1]):
            raise unexpected(name)


def unexpected(name: str) -> Invalid:
    return Invalid(f"Additional properties are not allowed ({name!r} was unexpected)", field=name)


async def body_under(call: Call, name: str, shape: type[T]) -> T:
    """What the body holds under its only key, as a value of `shape`. Raises Invalid."""
    sent = decode(await call.raw_body(), dict[str, Any])
    return only(sent, name, shape)


def only(sent: dict[str, Any], name: str, shape: type[T]) -> T:
    if name not in sent:
        raise Invalid(f"Invalid input for field/attribute body. {name!r} is a required property.", field=name)
    for extra in sent:
        if extra != name:
            raise unexpected(extra)
    try:
        return convert(sent[name], shape)
    except Invalid as error:
        raise name_field(error, name) from None


def name_field(error: Invalid, name: str) -> Invalid:
    """The error of a part of the body, with the field's place in the whole."""
    place = name if error.field in ("", "body") else f"{name}.{error.field}"
    message = error.message.removeprefix("Invalid input: ")
    _, found, rest = message.partition(". ")
    if message.startswith("Invalid input for field/attribute") and found:
        message = rest
    return Invalid(f"Invalid input for field/attribute {place}. {message}", field=place)
