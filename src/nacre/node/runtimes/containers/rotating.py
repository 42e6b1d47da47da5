"""Each guest's log goes on in another file when it has become long (see `console`)."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from nacre.node.runtimes.containers import console
from nacre.node.runtimes.containers.container import Containers
from nacre.node.runtimes.containers.records import Record

ROTATE_EVERY_S = 1.0

log = logging.getLogger(__name__)


async def rotate_forever(parts: Containers, records: Mapping[str, Record], lock: Callable[[str], asyncio.Lock]) -> None:
    """Begin another log file for each guest whose own has become too long."""
    while True:
        await asyncio.sleep(ROTATE_EVERY_S)
        for guest_id, record in list(records.items()):
            kept = console.kept_bytes(record.guest)
            if record.phase == "running" and console.needs_rotation(parts.layout.guest(guest_id), kept):
                async with lock(guest_id):
                    try:
                        await asyncio.to_thread(parts.rotate, guest_id, kept)
                    except OSError as error:
                        log.warning("guest %s: console not rotated: %s", guest_id, error)
