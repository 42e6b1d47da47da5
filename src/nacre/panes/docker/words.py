"""Small texts as the engine writes them: moments, durations, command lines."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

NEVER = "0001-01-01T00:00:00Z"
"""Go's zero time."""


@lru_cache(maxsize=4096)
def nanos(moment: float | None) -> str:
    """2026-11-21T12:00:00.123456Z (RFC 3339 with as many digits as we know); Go's zero time for None."""
    if moment is None:
        return NEVER
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


_STEPS: tuple[tuple[float, float, str], ...] = (
    (48, 1, "hours"),
    (24 * 7 * 2, 24, "days"),
    (24 * 30 * 2, 24 * 7, "weeks"),
    (24 * 365 * 2, 24 * 30, "months"),
)
"""Up to so many hours, so many hours make one of these."""


def duration(seconds: float) -> str:
    """`5 minutes`, `About an hour`, `3 weeks`: rounded as Docker's clients do it."""
    whole = max(0, int(seconds))
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return f"{whole} second{'s' if whole > 1 else ''}"
    minutes = whole // 60
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = int(whole / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    for below, unit, name in _STEPS:
        if hours < below:
            return f"{int(hours / unit)} {name}"
    return f"{int(hours / 24 / 365)} years"


def command_line(argv: Sequence[str]) -> str:
    """As `docker ps` shows it."""
    return " ".join([*argv[:1], *(f"'{word}'" if " " in word else word for word in argv[1:])])
