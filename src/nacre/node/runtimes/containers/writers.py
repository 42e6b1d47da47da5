"""Who puts files into a guest's disk from outside (docker cp): none of them is at work while the guest is started or removed.

Whoever starts a guest follows paths in its root file system as the host's root. That is safe as long as nobody changes the tree meanwhile.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any


class Writers:
    """Belongs to the driver's event loop. Work is begun, and stopped, by whoever holds the guest's lock."""

    def __init__(self) -> None:
        self._tasks: dict[str, set[asyncio.Task[None]]] = {}
        self._stopped: set[asyncio.Task[None]] = set()

    def begin(self, guest_id: str, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.setdefault(guest_id, set()).add(task)
        return task

    async def wait(self, guest_id: str, task: "asyncio.Task[None]") -> None:
        """Until the work is done. Raises FileExistsError when it was stopped, and what the work raises."""
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task not in self._stopped:
                await _end(task)
                raise
            raise FileExistsError(
                f"container {guest_id} is being started or removed: files can be put into it afterwards"
            ) from None
        finally:
            self._stopped.discard(task)
            self._tasks[guest_id].discard(task)
            if not self._tasks[guest_id]:
                del self._tasks[guest_id]

    async def stop(self, guest_id: str) -> None:
        for task in list(self._tasks.get(guest_id, ())):
            if not task.done():
                self._stopped.add(task)
                await _end(task)


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task
