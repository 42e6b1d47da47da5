"""Guests that arrive from another host: their disk is fetched, again after pauses as long as another try may have it."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from nacre.node.drivers import DiskRefused, DiskSource

PAUSE_MIN_S, PAUSE_MAX_S = 0.2, 5.0
PATIENCE_S = 240.0
"""How long the other host may be away, or the API process, until the guest is said not to come."""

log = logging.getLogger("nacre.node")


async def fetch(disks: DiskSource | None, migration: str, take: Callable[[AsyncIterator[bytes]], Awaitable[None]]) -> None:
    """Have `take` read the whole disk. It begins anew with each try. Raises OSError."""
    if disks is None:
        raise OSError("this node cannot fetch the disks of guests that move")
    begun_s, pause_s = time.monotonic(), PAUSE_MIN_S
    while True:
        try:
            await take(disks(migration))
        except DiskRefused:
            raise
        except ConnectionError as error:
            trouble: OSError = error
        except OSError as error:
            if error.errno is not None:
                raise  # This host's own: its disk is full, or broken.
            trouble = error
        else:
            return
        if time.monotonic() - begun_s > PATIENCE_S:
            raise trouble
        log.warning("the disk of migration %s did not come whole: %s", migration, trouble)
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, PAUSE_MAX_S)
