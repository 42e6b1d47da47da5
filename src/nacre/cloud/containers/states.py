"""What a container's state is, in Docker's words: a function of its server's row and what the node said of it."""

from collections.abc import Mapping
from typing import Any, Literal

Status = Literal["created", "running", "paused", "restarting", "removing", "exited"]
Row = Mapping[str, Any]


def status_of(row: Row) -> Status:
    """Of a row as `lookup.find` gives it."""
    if row["gone"]:
        return "removing"
    if row["observed_state"] == "paused":
        return "paused"
    if row["observed_state"] == "running":
        return "restarting" if said(row).get("restarting") else "running"
    return "exited" if was_started(row) else "created"


def was_started(row: Row) -> bool:
    """Whether it ever ran."""
    container = row["container"]
    return bool(container["was_started"]) if container is not None else row["observed_state"] is not None


def said(row: Row) -> Mapping[str, Any]:
    """The node's last ContainerState; empty when it said none."""
    container = row["container"]
    return (container["state"] if container is not None else None) or {}


def is_up(row: Row) -> bool:
    """Whether it runs, is paused, waits for its next start by itself, or is just being started: the intent counts."""
    if row["gone"] or row["power"] in ("stopped", "shelved"):
        return False
    return row["observed_state"] in ("running", "paused") or (row["fault"] is None and row["host_id"] is not None)


def is_pending(row: Row) -> bool:
    """Whether the node has not met the intent yet, and nothing says that it cannot."""
    return bool(row["observed_generation"] < row["generation"] and row["fault"] is None)


_FAILURES: tuple[tuple[str, int], ...] = (
    ("executable file not found", 127),
    ("no such file or directory", 127),
    ("permission denied", 126),
    ("is a directory", 126),
)


def failure_code(cause: str) -> int:
    """The exit status that Docker gives a container whose start failed of this."""
    words = cause.lower()
    return next((code for text, code in _FAILURES if text in words), 128)
