"""What one guest may have others asked, so that its neighbours are served. How much it may ask at all the network's filter says."""

import time
from collections import OrderedDict

ASKERS_MAX = 4_096
"""Guests of one network that are remembered; of more, those that were silent longest begin anew."""
QUESTIONS_PER_S = 100.0
BURST = 200.0
PENDING_PER_ASKER_MAX = 64
"""Questions of one guest that wait for somebody else's answer."""
PENDING_MAX = 1_024
"""The same of all guests of the host."""


class Allowance:
    """A token bucket for each asker, and how many of its questions are under way."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._pending: dict[str, int] = {}

    def take(self, asker: str) -> bool:
        """Whether it may ask once more now."""
        now = time.monotonic()
        tokens, then = self._buckets.pop(asker, (BURST, now))
        tokens = min(BURST, tokens + (now - then) * QUESTIONS_PER_S)
        self._buckets[asker] = (max(0.0, tokens - 1.0), now)
        if len(self._buckets) > ASKERS_MAX:
            self._buckets.popitem(last=False)
        return tokens >= 1.0

    def begin(self, asker: str) -> bool:
        """Whether one more question may wait. Each that may is to be ended."""
        if self._pending.get(asker, 0) >= PENDING_PER_ASKER_MAX:
            return False
        self._pending[asker] = self._pending.get(asker, 0) + 1
        return True

    def end(self, asker: str) -> None:
        left = self._pending.get(asker, 0) - 1
        if left > 0:
            self._pending[asker] = left
        else:
            self._pending.pop(asker, None)
