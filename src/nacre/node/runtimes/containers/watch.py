"""Sees guests and their conmons end, by pidfds in the event loop. Nothing is polled."""

import asyncio
import os
from collections.abc import Callable

from nacre.node.runtimes.containers.pidfds import try_open


class Watch:
    """Watches first processes and monitors by pidfd, and tells when one has ended."""

    def __init__(self, ended: Callable[[str], None], monitor_ended: Callable[[str], None]) -> None:
        self._ended, self._monitor_ended = ended, monitor_ended
        self._first: dict[str, int] = {}
        self._monitors: dict[str, int] = {}

    def add(self, guest_id: str, pid: int | None, monitor: int | None) -> bool:
        """Watch the guest. False when its first process has ended already: then nothing is watched."""
        self.remove(guest_id)
        fd = try_open(pid)
        if fd is None:
            return False
        loop = asyncio.get_running_loop()
        self._first[guest_id] = fd
        loop.add_reader(fd, self._fire, self._first, guest_id, self._ended)
        monitor_fd = try_open(monitor)
        if monitor_fd is None:
            self._monitor_ended(guest_id)
        else:
            self._monitors[guest_id] = monitor_fd
            loop.add_reader(monitor_fd, self._fire, self._monitors, guest_id, self._monitor_ended)
        return True

    def has_monitor(self, guest_id: str) -> bool:
        return guest_id in self._monitors

    def remove(self, guest_id: str) -> None:
        for table in (self._first, self._monitors):
            self._drop(table, guest_id)

    def close(self) -> None:
        for guest_id in [*self._first, *self._monitors]:
            self.remove(guest_id)

    def _fire(self, table: dict[str, int], guest_id: str, then: Callable[[str], None]) -> None:
        self._drop(table, guest_id)
        then(guest_id)

    def _drop(self, table: dict[str, int], guest_id: str) -> None:
        fd = table.pop(guest_id, None)
        if fd is not None:
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)
