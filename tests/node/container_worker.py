"""A node's container driver as a process of its own, to be killed: `container_worker.py STATE CLOUD_ID GUEST_ID...`.

Makes the guests, all at once, stops and starts and reboots them, removes the last one; over and over.
"""

import asyncio
import sys
from pathlib import Path

import msgspec

from tests.node.containers_support import Room

ROUNDS_MAX = 1000


async def work(state: Path, cloud_id: str, guest_ids: list[str]) -> None:
    room = Room(state, cloud_id)
    await room.start()
    print("up", flush=True)
    guests = [room.guest(id=guest_id) for guest_id in guest_ids]
    for step in range(1, ROUNDS_MAX):
        power = ("running", "stopped", "running", "paused")[step % 4]
        guests = [
            msgspec.structs.replace(guest, generation=step, boots=step, power=power, reboot=("soft", "hard")[step % 2])
            for guest in guests
        ]
        await asyncio.gather(*(room.driver.apply(guest) for guest in guests))
        await room.driver.remove(guests[-1].id)


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
