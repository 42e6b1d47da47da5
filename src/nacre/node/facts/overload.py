"""`system_overload_10min`: how busy the processors were in the last ten minutes, in percent and always two digits (00 to 99).

Facter has load averages of 1, 5 and 15 minutes only, so the node samples /proc/stat (proc(5)) by itself.
"""

from collections import deque

from nacre.node.facts.source import Source

WINDOW_S = 600.0


class CpuMeter:
    """Until ten minutes have passed it tells of the time since it began; at the very beginning, of the time since the boot."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int, int]] = deque()
        """(seconds, ticks of work, all ticks)."""

    def read(self, source: Source, now_s: float) -> str:
        busy, total = _ticks(source)
        while len(self._samples) > 1 and self._samples[1][0] <= now_s - WINDOW_S:
            self._samples.popleft()
        _, first_busy, first_total = self._samples[0] if self._samples else (now_s, 0, 0)
        self._samples.append((now_s, busy, total))
        share = (busy - first_busy) / max(total - first_total, 1)
        return f"{min(max(round(share * 100), 0), 99):02}"


def _ticks(source: Source) -> tuple[int, int]:
    """All processors' time that was not idle, and all of it. A guest's time is in user time already."""
    line = next((line for line in source.lines("proc/stat") if line.startswith("cpu ")), "cpu")
    values = [int(value) for value in line.split()[1:9]]
    total = sum(values)
    idle = sum(values[3:5])
    return total - idle, total
