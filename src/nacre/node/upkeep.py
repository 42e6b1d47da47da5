"""Volumes of the desired state: each has a task of its own that makes it so, or removes it, again after a pause if that failed.

Guests wait for their volumes by themselves (`VolumeDriver.attach`), and a volume that must go waits for its guests.
"""

import asyncio
import logging
from collections.abc import Callable

from nacre.node.drivers import VolumeDriver
from nacre.protocol.messages import Desired, Observation
from nacre.protocol.volumes import Volume

RETRY_MIN_S = 1.0
RETRY_MAX_S = 60.0

log = logging.getLogger("nacre.node")


class VolumeUpkeep:
    """Makes the host's volumes so by difference."""

    def __init__(self, driver: VolumeDriver, saw: Callable[[Observation], None]) -> None:
        self._driver = driver
        self._saw = saw
        self._wanted: dict[str, Volume | None] = {}
        self._working: dict[str, asyncio.Task[None]] = {}

    def take(self, desired: Desired) -> None:
        """Go about it; returns at once."""
        listed = {item.id: item.volume for item in desired.items if item.volume is not None}
        for volume_id, volume in listed.items():
            self._want(volume_id, volume)
        for gone in desired.gone:
            if gone.kind == "volume":
                self._want(gone.id, None)
        if desired.full:
            task = asyncio.create_task(self._drop_strangers(frozenset(listed)))
            self._working["*"] = task
            task.add_done_callback(lambda _: self._working.pop("*", None))

    async def close(self) -> None:
        tasks = list(self._working.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _drop_strangers(self, listed: frozenset[str]) -> None:
        """After a full answer: volumes that are on the host and not desired must go."""
        for volume_id in {holding.id for holding in await self._driver.survey()} - listed - self._wanted.keys():
            log.warning("volume %s is not desired on this host: it is removed", volume_id)
            self._want(volume_id, None)

    def _want(self, volume_id: str, volume: Volume | None) -> None:
        self._wanted[volume_id] = volume
        if volume_id not in self._working:
            self._working[volume_id] = asyncio.create_task(self._work(volume_id))

    async def _work(self, volume_id: str) -> None:
        try:
            await self._work_through(volume_id)
        finally:
            # Not by a callback at the task's end, which comes a moment after the last look at what is wanted (see `reconcile`).
            self._working.pop(volume_id, None)

    async def _work_through(self, volume_id: str) -> None:
        pause_s = RETRY_MIN_S
        while True:
            wanted = self._wanted[volume_id]
            seen = await self._act(volume_id, wanted)
            self._saw(seen)
            if self._wanted[volume_id] is not wanted:
                pause_s = RETRY_MIN_S
                continue
            if seen.state != "error":
                break
            for _ in range(int(pause_s / RETRY_MIN_S)):
                await asyncio.sleep(RETRY_MIN_S)
                if self._wanted[volume_id] is not wanted:
                    break
            pause_s = min(pause_s * 2, RETRY_MAX_S)
        # At once, not when the loop comes to it: what is wanted from here on needs a task of its own.
        self._working.pop(volume_id, None)
        if wanted is None:
            self._wanted.pop(volume_id, None)

    async def _act(self, volume_id: str, wanted: Volume | None) -> Observation:
        try:
            return await (self._driver.remove(volume_id) if wanted is None else self._driver.apply(wanted))
        except Exception as error:
            log.exception("volume %s", volume_id)
            return Observation("volume", volume_id, "error", fault=f"{type(error).__name__}: {error}")
