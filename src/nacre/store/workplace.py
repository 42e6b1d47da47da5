"""What each process has of its own in a directory of blobs that several share: its pins, and its bytes on their way.

    work/PROCESS.START/pins/HEX            a blob whose row is yet to come
    work/PROCESS.START/tmp/...             what is being written
    work/PROCESS.START/tmp/taken-HEX-...   a blob that is being deleted
    work/PROCESS.START/spool/...           files on their way to be blobs, or to clients

Every start of a process has a place of its own, so that what is decided about an earlier one never meets a later one.
"""

import contextlib
import os
import threading
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path

from nacre.store.engine import StoreError

TAKEN = "taken-"


class Workplace:
    """The place of one start of one process."""

    def __init__(self, work: Path, process_id: str) -> None:
        self.process_id = process_id
        self._work = work
        self._path = work / f"{process_id}.{uuid.uuid4().hex}"
        self.temporary, self.spool, self._pinning = (self._path / name for name in ("tmp", "spool", "pins"))
        for directory in (self.temporary, self.spool, self._pinning):
            directory.mkdir(parents=True, mode=0o700)
        self._lock = threading.Lock()
        self._pins: dict[str, int] = {}

    def new_file(self) -> Path:
        """Where something may be written. Raises StoreError when this process was taken for dead, and its place is gone."""
        if not self.temporary.is_dir():
            raise StoreError("this process was taken for dead, and what it had under way was undone")
        return self.temporary / uuid.uuid4().hex

    def new_grave(self, name: str) -> Path:
        return self.temporary / f"{TAKEN}{name}-{uuid.uuid4().hex}"

    def pin(self, name: str) -> None:
        """Raises StoreError when this process was taken for dead, OSError."""
        with self._lock:
            if name not in self._pins:
                try:
                    os.close(os.open(self._pinning / name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
                except FileNotFoundError:
                    raise StoreError("this process was taken for dead, and what it had under way was undone") from None
            self._pins[name] = self._pins.get(name, 0) + 1

    def release(self, name: str) -> None:
        with self._lock:
            pins = self._pins.get(name, 0) - 1
            if pins > 0:
                self._pins[name] = pins
            elif self._pins.pop(name, None) is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._pinning / name)

    def is_pinned(self, name: str) -> bool:
        """By any process."""
        with self._lock:
            if name in self._pins:
                return True
        return any((other / "pins" / name).exists() for other in self.others())

    def pinned(self) -> Iterator[str]:
        """By any process."""
        with self._lock:
            own = tuple(self._pins)
        yield from own
        for other in self.others():
            yield from _names(other / "pins")

    def others(self) -> list[Path]:
        """The places of other processes, and of earlier starts of this one."""
        return [Path(entry.path) for entry in os.scandir(self._work) if entry.name != self._path.name]

    def gone(self, others: Collection[Path], living: Collection[str]) -> list[Path]:
        """Those of them whose processes are no more. `living` must have been read after `others` was."""
        there = {each: each.name.partition(".")[0] for each in others}
        return [each for each, process_id in there.items() if process_id == self.process_id or process_id not in living]


def unpin(place: Path) -> tuple[list[str], list[Path]]:
    """Of a process that is gone: (the blobs that it had pinned, those that it was taking away). It pins nothing from now on; who is
    interrupted before the place is removed finds the same again."""
    with contextlib.suppress(OSError):
        (place / "pins").rename(place / "unpinned")
    return _names(place / "unpinned"), sorted((place / "tmp").glob(f"{TAKEN}*"))


def name_of(grave: Path) -> str:
    """Of the blob that lies there."""
    return grave.name.removeprefix(TAKEN).partition("-")[0]


def _names(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
