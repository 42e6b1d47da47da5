"""Leases without wall clocks: a holder raises a counter in the store, and whoever watches measures by its own clock how long ago it rose.

The clock counts while the machine sleeps, and nobody sets it. A watcher that has just begun measures anew: a lease may last longer
because of that, never shorter.
"""

import time
from collections.abc import Hashable, Mapping
from typing import NamedTuple


class Lease(NamedTuple):
    counter: int
    length_s: float


def boottime_s() -> float:
    """Seconds since the machine's boot (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Watch:
    """What one watcher has seen of many leases."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, tuple[int, float]] = {}

    def over(self, leases: Mapping[Hashable, Lease]) -> list[Hashable]:
        """Look at all the leases there are; returns those whose counter has stood still for their length."""
        moment = boottime_s()
        seen = {}
        for key, lease in leases.items():
            counter, since = self._seen.get(key, (None, moment))
            seen[key] = (lease.counter, since if counter == lease.counter else moment)
        self._seen = seen
        return [key for key, (_, since) in seen.items() if moment - since >= leases[key].length_s]
