"""Bad days of containers: one that never stops talking, and a node that is killed under a restart policy and a health check."""

import asyncio
import os
import signal
import sys
import uuid
from pathlib import Path

import pytest

from nacre.node.runtimes.containers.launcher import LOG_BYTES_MAX
from nacre.node.runtimes.containers.streams.server import ContainerStreams
from nacre.protocol.containers import HealthCheck, Restart
from nacre.protocol.guests import Guest
from tests.node.containers_support import eventually
from tests.node.docker_support import DockerRoom, docker
from tests.node.test_docker_streams import Line

pytestmark = pytest.mark.root

TALK_BYTES = 1_000_000_000
TALK_WAIT_S = 300.0
LINE = "0123456789" * 100
LOGS_BYTES_MAX = 3 * LOG_BYTES_MAX
"""What conmon writes, what it wrote before and is being folded, and what is kept of it."""
PAUSE_S = 0.1


def _bytes(folder: Path) -> int:
    found = 0
    for path in folder.iterdir():
        try:
            found += path.stat().st_size
        except FileNotFoundError:
            continue  # Rotated away in this moment.
    return found


def test_a_container_that_never_stops_talking_fills_no_disk_and_stops_no_node() -> None:
    async def story(room: DockerRoom) -> None:
        guest = room.sh(f"yes {LINE} | head -c {TALK_BYTES}; echo; echo the end")
        await room.driver.apply(guest)
        folder, most, ended = room.config.state / "guests" / guest.id / "logs", 0, False
        for _ in range(int(TALK_WAIT_S / PAUSE_S)):
            most = max(most, _bytes(folder))
            ended = any((seen.id, seen.state) == (guest.id, "stopped") for seen in room.seen)
            if ended:
                break
            if most and not any(seen.id != guest.id for seen in room.seen):
                assert await room.says(room.sh("echo hi")) == "hi\n", "others are served meanwhile"
            await asyncio.sleep(PAUSE_S)
        assert ended, f"{TALK_BYTES} bytes not within {TALK_WAIT_S:.0f} s"
        assert 0 < most < LOGS_BYTES_MAX
        assert (await room.driver.console(guest.id)).endswith(b"0123456789\nthe end\n")
        streams, line = ContainerStreams(room.driver), Line()
        await streams.serve("logs", guest.id, {"tail": 2}, line)
        assert line.text().endswith(b"\nthe end\n")
        assert len(line.text()) <= len(LINE) + len("\nthe end\n")
        assert _bytes(folder) < LOGS_BYTES_MAX

    docker(story)


def _always(room: DockerRoom, guest_id: str) -> Guest:
    return room.sh("sleep 600", restart=Restart("always"), changes={"id": guest_id})


def _checked(room: DockerRoom, guest_id: str) -> Guest:
    check = HealthCheck(("CMD-SHELL", "test -e /well"), interval_s=0.1, timeout_s=5, retries=2)
    return room.sh("touch /well; sleep 600", health=check, user="root", changes={"id": guest_id})


def _says(room: DockerRoom, guest_id: str, **state: object) -> bool:
    """Whether the guest's last observation has this state."""
    last = next((seen for seen in reversed(room.seen) if seen.id == guest_id), None)
    return bool(last and last.container and all(getattr(last.container, name) == value for name, value in state.items()))


def test_a_node_that_is_killed_finds_its_policies_and_checks_again() -> None:
    async def story(room: DockerRoom) -> None:
        flaps, checked = str(uuid.uuid4()), str(uuid.uuid4())
        await room.driver.close()
        argv = [sys.executable, "-m", "tests.node.test_docker_bad_days", str(room.config.state), room.config.cloud_id]
        worker = await asyncio.create_subprocess_exec(*argv, flaps, checked, stdout=asyncio.subprocess.PIPE)
        assert worker.stdout is not None
        assert await worker.stdout.readline() == b"healthy\n"
        worker.kill()
        await worker.wait()
        # Nobody sees it end, nor that the other one is not well any more.
        os.kill(room.pid(room.guest(id=flaps)), signal.SIGKILL)
        assert room.inside(room.guest(id=checked), "/bin/rm", "/well").returncode == 0
        kept = room.pid(room.guest(id=checked))
        room.driver = room.new_driver()
        await room.start()
        await eventually(lambda: _says(room, flaps, restart_count=1, restarting=False), "it runs again")
        await eventually(lambda: _says(room, checked, health="unhealthy"), "it is not well")
        assert room.pid(room.guest(id=checked)) == kept, "a guest that ran was not touched"
        # Once more: the policy goes on counting.
        os.kill(room.pid(room.guest(id=flaps)), signal.SIGKILL)
        await eventually(lambda: _says(room, flaps, restart_count=2, restarting=False), "it runs once more")

    docker(story)


async def _work(state: Path, cloud_id: str, flaps: str, checked: str) -> None:
    """The node that is killed."""
    room = DockerRoom(state, cloud_id)
    await room.start()
    await room.driver.apply(_always(room, flaps))
    await room.driver.apply(_checked(room, checked))
    await eventually(lambda: _says(room, checked, health="healthy"), "it is well")
    print("healthy", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_work(Path(sys.argv[1]), *sys.argv[2:]))
