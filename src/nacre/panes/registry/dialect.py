"""How the registry speaks: errors, versions, and who asks."""

from collections.abc import Mapping
from typing import Any

from nacre.cloud.errors import CloudError, Conflict, Forbidden, Invalid, NotFound, TooLarge, Unauthorized, Unavailable
from nacre.cloud.image.rules import InsufficientStorage
from nacre.cloud.registry.uploads import OutOfOrder, TooManyUploads
from nacre.panes.edge import Call

HEADERS = {"Docker-Distribution-API-Version": "registry/2.0"}
STATUS_OF: Mapping[type[CloudError], int] = {InsufficientStorage: 507, OutOfOrder: 416, TooManyUploads: 429}
CODES: dict[type[CloudError], str] = {
    Unauthorized: "UNAUTHORIZED",
    Forbidden: "DENIED",
    NotFound: "NAME_UNKNOWN",
    TooLarge: "SIZE_INVALID",
    Conflict: "UNSUPPORTED",
    Unavailable: "UNAVAILABLE",
    Invalid: "UNSUPPORTED",
}
PAGE_DEFAULT = 100


def render_error(error: CloudError, status: int, request_id: str) -> tuple[Any, str]:
    code = error.code if error.code.isupper() else ""
    code = code or next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), "UNKNOWN")
    return {"errors": [{"code": code, "message": error.message, "detail": None}]}, "application/json"


def page(call: Call, most: int) -> tuple[str, int]:
    """(`last`, `n`). Raises Invalid."""
    text = call.query.get("n", "")
    if text and not (text.isdecimal() and text.isascii()):
        raise Invalid(f"invalid number of results requested: {text}", code="PAGINATION_NUMBER_INVALID")
    return call.query.get("last", ""), min(int(text[:9]), most) if text else PAGE_DEFAULT
