"""Image's errors as JSON, as Glance words them for a client that accepts it: {"message", "code": "404 Not Found", "title"}."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from nacre.cloud.errors import CloudError
from nacre.cloud.image.rules import InsufficientStorage, RangeNotSatisfiable

STATUS_OF: Mapping[type[CloudError], int] = {InsufficientStorage: 507, RangeNotSatisfiable: 416}


def render_error(error: CloudError, status: int, request_id: str) -> tuple[Any, str]:
    title = HTTPStatus(status).phrase
    return {"message": error.message, "code": f"{status} {title}", "title": title}, "application/json"
