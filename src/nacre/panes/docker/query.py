"""Parameters of the Engine API, read as the engine reads them."""

from nacre.cloud.errors import Invalid
from nacre.panes.edge import Call

_FALSE = frozenset(("", "0", "no", "false", "none"))


def flag(call: Call, name: str, default: bool = False) -> bool:
    """Anything but an empty text, 0, no, false and none is true."""
    text = call.query.get(name)
    return default if text is None else text.strip().lower() not in _FALSE


def number(call: Call, name: str) -> int | None:
    """A whole number; None when it is not given. Raises Invalid in Go's words."""
    text = call.query.get(name)
    if not text:
        return None
    try:
        value = int(text)
    except ValueError:
        raise Invalid(f'strconv.Atoi: parsing "{text}": invalid syntax', field=name) from None
    if abs(value) >= 1 << 63:
        raise Invalid(f'strconv.Atoi: parsing "{text}": value out of range', field=name)
    return value
