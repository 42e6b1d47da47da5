"""kill -9 of the node's process at random moments, with real containers: the next one finds, finishes or undoes everything."""

import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
import uuid
from pathlib import Path

import pytest

from nacre.node.runtimes.containers import purge
from tests.node.containers_support import Room, traces

pytestmark = pytest.mark.root

KILLS = int(os.environ.get("NACRE_KILLS", "25"))
LATEST_S = 0.6
"""A round of the worker's takes about that long; a kill comes anywhere within."""


async def _killed_at(state: Path, cloud_id: str, guest_ids: list[str], after_s: float) -> None:
    pipe = asyncio.subprocess.PIPE
    argv = [sys.executable, "-m", "tests.node.container_worker", str(state), cloud_id, *guest_ids]
    worker = await asyncio.create_subprocess_exec(*argv, stdout=pipe)
    assert worker.stdout is not None
    assert await worker.stdout.readline() == b"up\n"
    await asyncio.sleep(after_s)
    worker.send_signal(signal.SIGKILL)
    await worker.wait()


async def _story(state: Path, cloud_id: str, moments: random.Random) -> None:
    guest_ids = [str(uuid.UUID(int=moments.getrandbits(128), version=4)) for _ in range(3)]
    for kill in range(KILLS):
        await _killed_at(state, cloud_id, guest_ids, moments.uniform(0, LATEST_S))
        room = Room(state, cloud_id)
        await room.start()
        running = {seen.id: room.pid(room.guest(id=seen.id)) for seen in room.seen if seen.state == "running"}
        for guest_id in guest_ids:
            seen = await room.driver.apply(room.guest(id=guest_id, generation=10_000 + kill, boots=0))
            assert (seen.state, seen.fault) == ("running", ""), f"kill {kill}"
            assert running.get(guest_id) in (None, room.pid(room.guest(id=guest_id))), "a guest that ran was not touched"
            await room.console_shows(room.guest(id=guest_id), "nacre-init: ready")
        if kill % 5 == 0:
            for guest_id in guest_ids:
                assert (await room.driver.remove(guest_id)).state == "gone"
            assert await room.driver.survey() == [], f"kill {kill}"
            assert traces(cloud_id, state) == [], f"kill {kill}"
        await room.driver.close()


def test_after_kills_at_random_moments_every_guest_is_as_asked_and_nothing_is_left() -> None:
    state = Path(tempfile.mkdtemp(prefix="nacre-containers-"))
    state.chmod(0o711)
    cloud_id = uuid.uuid4().hex[:4]
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")

    async def play() -> None:
        try:
            await _story(state, cloud_id, random.Random(seed))
        finally:
            await purge(Room(state, cloud_id).config)
        assert traces(cloud_id, state) == []
        assert list(state.iterdir()) == []

    try:
        asyncio.run(play())
    finally:
        shutil.rmtree(state, ignore_errors=True)
