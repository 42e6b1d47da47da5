"""Files of guests that were removed: out of the way by one rename, deleted behind everybody's back.

What a guest wrote may be gigabytes, and nobody waits for their end: the guest is gone as soon as its folder bears another name, in a
folder that only root enters. What a killed node left here goes when the next one starts; the survey waits for what is under way.
"""

import contextlib
import itertools
import logging
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SETTLE_WAIT_S = 10.0
PENDING_MAX = 64
"""How many folders may wait for their deletion: whoever removes another guest waits for these first."""

log = logging.getLogger(__name__)


class Trash:
    """Thread-safe. The folder lies in the mount of what is thrown away: a rename does not cross mounts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._worker = ThreadPoolExecutor(1, "trash")
        self._numbers = itertools.count(time.time_ns())
        """No name comes twice, also not of a guest that came back and was removed again."""
        self._pending: set[Path] = set()

    @property
    def is_full(self) -> bool:
        return len(self._pending) >= PENDING_MAX

    def start(self) -> None:
        """Delete what an earlier process left."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for path in self._folder.iterdir():
            self._submit(path)

    def take(self, path: Path) -> None:
        """Throw a folder away. One that is not there is fine. Raises OSError."""
        target = self._folder / f"{path.name}.{next(self._numbers)}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, target)
            self._submit(target)

    def settle(self) -> None:
        """Wait for what was thrown away by now, for a while."""
        with contextlib.suppress(TimeoutError, RuntimeError):
            self._worker.submit(lambda: None).result(SETTLE_WAIT_S)

    def left(self) -> Iterator[tuple[str, Path]]:
        """What could not be deleted: the name that it had, and where it lies. What waits for it or is under way is not left."""
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if path not in self._pending:
                yield path.name.partition(".")[0], path

    def close(self) -> None:
        """Waits for the tree that is being deleted; the others are the next process's."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _submit(self, path: Path) -> None:
        with contextlib.suppress(RuntimeError):  # Closed meanwhile: the next process deletes it.
            self._pending.add(path)
            self._worker.submit(self._delete, path)

    def _delete(self, path: Path) -> None:
        try:
            shutil.rmtree(path)
        except OSError as error:
            log.warning("files of a removed guest stay in %s: %s", path, error)
        finally:
            self._pending.discard(path)
