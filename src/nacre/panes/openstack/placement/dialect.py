"""Placement's errors: {"errors": [{"status", "title", "detail", "code", "request_id"}]}."""

from http import HTTPStatus
from typing import Any

from nacre.cloud.errors import CloudError

CODE_DEFAULT = "placement.undefined_code"


def render_error(error: CloudError, status: int, request_id: str) -> tuple[Any, str]:
    code = error.code if error.code.startswith("placement.") else CODE_DEFAULT
    shown = {
        "status": status,
        "title": HTTPStatus(status).phrase,
        "detail": error.message,
        "code": code,
        "request_id": request_id,
    }
    return {"errors": [shown]}, "application/json"
