"""The `filters` parameter of Docker's lists: JSON, as a map of maps (the CLI) or a map of lists (docker-py, compose)."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nacre.cloud.errors import Invalid
from nacre.panes.edge import Call
from nacre.panes.edge.call import decode

Filters = dict[str, list[str]]
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|ns|h|m|s)")


def parse(call: Call, known: Iterable[str]) -> Filters:
    """Name -> values. Raises Invalid for what is malformed, or a filter that the list does not have."""
    text = call.query.get("filters")
    if not text:
        return {}
    try:
        raw = decode(text.encode(), dict[str, Any])
    except Invalid:
        raise Invalid("invalid filter") from None
    found: Filters = {}
    for name, values in raw.items():
        if name not in known:
            raise Invalid(f"invalid filter '{name}'")
        if isinstance(values, Mapping):
            found[name] = [str(value) for value, on in values.items() if on]
        elif isinstance(values, list):
            found[name] = [str(value) for value in values]
        else:
            raise Invalid("invalid filter")
    return found


def labels_match(labels: Mapping[str, str], wanted: Iterable[str]) -> bool:
    """Each is NAME or NAME=VALUE, and all must hold."""
    for text in wanted:
        name, equals, value = text.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    return True


def until(values: Iterable[str], now: float, parse_time: Callable[[str], float]) -> float | None:
    """The moment that `until` names: a duration back from now (10m, 1h30m), or what `parse_time` understands."""
    for text in values:
        parts = _DURATION.findall(text)
        if parts and "".join(number + unit for number, unit in parts) == text:
            return now - sum(float(number) * _SECONDS[unit] for number, unit in parts)
        return parse_time(text)
    return None
