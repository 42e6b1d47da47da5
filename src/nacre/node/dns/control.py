"""Names that only the control plane knows (`*.consul`, `*.nacre`): asked of the API process, and remembered for a moment."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from nacre.protocol.names import NameAnswer

DOMAINS = ("consul", "nacre")
REMEMBERED_MAX = 1_024
REMEMBERED_S = 1.0

Ask = Callable[[str, str, str], Awaitable[NameAnswer]]
"""(id of the port that asks, name, record type) -> the answer. Raises OSError when the control plane is away."""


def concerns(name: str) -> bool:
    lower = name.lower()
    return any(lower == domain or lower.endswith(f".{domain}") for domain in DOMAINS)


class ControlPlane:
    """Asks, and remembers answers for a second: a busy guest asks once."""

    def __init__(self, ask: Ask | None) -> None:
        self._ask = ask
        self._known: OrderedDict[tuple[str, str, str], tuple[float, NameAnswer]] = OrderedDict()

    async def lookup(self, port_id: str, name: str, rtype: str) -> NameAnswer:
        """Raises OSError."""
        if self._ask is None:
            raise OSError("this node has nobody to ask")
        key = (port_id, name.lower(), rtype)
        found = self._known.get(key)
        if found is not None and time.monotonic() - found[0] < REMEMBERED_S:
            return found[1]
        answer = await self._ask(port_id, name.lower(), rtype)
        self._known.pop(key, None)
        self._known[key] = (time.monotonic(), answer)
        if len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)
        return answer
