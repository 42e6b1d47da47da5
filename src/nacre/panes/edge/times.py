"""Moments as text. The store keeps seconds since the epoch; each dialect has its own ISO 8601."""

from datetime import UTC, datetime
from functools import lru_cache

from nacre.cloud.errors import Invalid


@lru_cache(maxsize=4096)
def seconds(moment: float | None) -> str | None:
    """2026-11-21T12:00:00Z, as Nova, Neutron and Glance write it."""
    return None if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micros(moment: float | None, suffix: str = "Z") -> str | None:
    """2026-11-21T12:00:00.000000Z, as Keystone writes it."""
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds")[:26] + suffix


def parse(text: str, field: str) -> float:
    """An ISO 8601 moment, in UTC unless it says otherwise. Raises Invalid."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        # In UTC it must still lie between the years 1 and 9999: what is kept will be shown.
        return (moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise Invalid(f"Invalid time format {text!r} for {field}: it must be ISO 8601.", field=field) from None
