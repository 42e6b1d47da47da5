"""A removal goes on where a killed node left it, at each of its steps; and what is deleted behind the answer is gone in the end."""

import asyncio
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from nacre.node.runtimes.containers import purge
from nacre.protocol.guests import Guest
from tests.node.containers_support import Room, eventually, traces
from tests.node.removal_worker import STEPS

pytestmark = pytest.mark.root


def _on_a_host(story: Callable[[Path, str], Awaitable[None]]) -> None:
    state = Path(tempfile.mkdtemp(prefix="nacre-removals-"))
    state.chmod(0o711)
    cloud_id = uuid.uuid4().hex[:4]

    async def play() -> None:
        try:
            await story(state, cloud_id)
        finally:
            await purge(Room(state, cloud_id).config)
        assert traces(cloud_id, state) == []
        assert list(state.iterdir()) == []

    try:
        asyncio.run(play())
    finally:
        shutil.rmtree(state, ignore_errors=True)


async def _removed_and_killed(state: Path, cloud_id: str, guest_id: str, step: str) -> None:
    argv = [sys.executable, "-m", "tests.node.removal_worker", str(state), cloud_id, guest_id, step]
    worker = await asyncio.create_subprocess_exec(*argv)
    assert await worker.wait() == -signal.SIGKILL, step


@pytest.mark.parametrize("step", STEPS)
def test_a_node_that_dies_while_it_removes_a_guest_leaves_nothing(step: str) -> None:
    async def story(state: Path, cloud_id: str) -> None:
        guest_id = str(uuid.uuid4())
        await _removed_and_killed(state, cloud_id, guest_id, step)
        room = Room(state, cloud_id)
        await room.start()
        if step == "renamed":
            assert [seen.id for seen in await room.driver.observe()] == [], "what was renamed is no guest any more"
        assert (await room.driver.remove(guest_id)).state == "gone"
        assert await room.driver.survey() == []
        assert traces(cloud_id, state) == []
        assert list((state / "guests" / ".trash").iterdir()) == []
        again = await room.driver.apply(room.guest(id=guest_id))
        assert (again.state, again.fault) == ("running", "")
        assert (await room.driver.remove(guest_id)).state == "gone"
        await room.driver.close()

    _on_a_host(story)


def test_a_guest_that_comes_back_while_its_former_files_are_deleted_has_none_of_them() -> None:
    async def story(state: Path, cloud_id: str) -> None:
        room = Room(state, cloud_id)
        await room.start()
        try:
            guest = room.guest()
            for _ in range(3):
                await _lives_and_goes(room, guest)
            assert await room.driver.survey() == []
            await eventually(lambda: not list((state / "guests" / ".trash").iterdir()), "the trash to be empty")
        finally:
            await room.driver.close()

    _on_a_host(story)


async def _lives_and_goes(room: Room, guest: Guest) -> None:
    seen = await room.driver.apply(guest)
    assert (seen.state, seen.fault) == ("running", "")
    await room.console_shows(guest, "nacre-init: ready")
    assert room.inside(guest, "/bin/ls", "/root/mine").returncode != 0
    fill = "mkdir -p /root/mine && for i in $(seq 1 500); do echo $i > /root/mine/$i; done"
    assert room.inside(guest, "/bin/sh", "-c", fill).returncode == 0
    assert (await room.driver.remove(guest.id)).state == "gone"
