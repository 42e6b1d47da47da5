"""Durations as Go writes them (`10s`, `1m30s`, `300ms`), which is how Consul's clients do."""

import re

from nacre.cloud.errors import Invalid

UNITS_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
TEXT_MAX = 64
DURATION_NS_MAX = 2**63 - 1
_PART = r"(?:[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})"
_WHOLE = re.compile(rf"[+-]?(?:{_PART}(?:ns|us|µs|μs|ms|s|m|h))+")
_EACH = re.compile(rf"({_PART})(ns|us|µs|μs|ms|s|m|h)")


def nanoseconds(text: str, field: str) -> int:
    """Raises Invalid, naming the field."""
    if text in ("0", "+0", "-0"):
        return 0
    if len(text) > TEXT_MAX or _WHOLE.fullmatch(text) is None:
        raise Invalid(f"invalid duration {text[:TEXT_MAX]!r} for {field}: write 10s, 1m30s or 300ms", field=field)
    total = sum(int(float(number) * UNITS_NS[unit]) for number, unit in _EACH.findall(text))
    if total > DURATION_NS_MAX:
        raise Invalid(f"the duration {text} for {field} is too long", field=field)
    return -total if text[0] == "-" else total


def text_of(ns: int) -> str:
    """The shortest of h, m, s and ms that says it whole: 10s, 1m30s, 300ms."""
    if ns <= 0:
        return "0s"
    if ns % 10**9:
        return f"{ns / 10**6:g}ms"
    hours, rest = divmod(ns // 10**9, 3600)
    minutes, seconds = divmod(rest, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes or hours else "") + f"{seconds}s"
