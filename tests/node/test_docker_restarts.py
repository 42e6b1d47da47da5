"""Restart policies and health checks, which the node obeys by itself."""

import asyncio
import json
import os
import signal
import subprocess
import uuid
from pathlib import Path

import pytest

from nacre.protocol.containers import HealthCheck, Restart
from nacre.protocol.guests import Guest, Limits
from nacre.protocol.messages import Observation
from tests.cgroups import cgroups
from tests.node.containers_support import eventually
from tests.node.docker_support import DockerRoom, again, changed, docker, nothing_for

pytestmark = pytest.mark.root


def _last(room: DockerRoom, guest: Guest) -> Observation | None:
    found = [seen for seen in room.seen if seen.id == guest.id]
    return found[-1] if found else None


async def _seen(room: DockerRoom, guest: Guest, what: str, **wanted: object) -> Observation:
    """The last observation, as soon as its container's state has these values."""

    def fits() -> Observation | None:
        seen = _last(room, guest)
        state = seen.container if seen else None
        return seen if state and all(getattr(state, name) == value for name, value in wanted.items()) else None

    return await eventually(fits, what)  # type: ignore[no-any-return]


def test_on_failure_tries_so_often_and_then_it_stays() -> None:
    async def story(room: DockerRoom) -> None:
        guest = room.sh("echo run; exit 4", restart=Restart("on-failure", 3))
        await room.driver.apply(guest)
        seen = await _seen(room, guest, "the last try", restart_count=3, restarting=False)
        seen = await eventually(lambda: [s for s in room.seen if (s.id, s.state) == (guest.id, "stopped")], "it gives up")
        assert (seen[-1].exit_code, seen[-1].fault) == (4, "")
        assert (await room.driver.console(guest.id)).count(b"run\n") == 4
        waits = [seen for seen in room.seen if seen.container and seen.container.restarting]
        assert {seen.state for seen in waits} == {"running"}, "Docker counts it as running meanwhile"
        assert (await room.driver.apply(again(guest))).state == "stopped", "another intent does not start it"
        assert (await room.driver.console(guest.id)).count(b"run\n") == 4

        fine = room.sh("exit 0", restart=Restart("on-failure"))
        assert (await room.ends(fine)).container.restart_count == 0  # type: ignore[union-attr]
        plain = room.sh("exit 1")
        assert (await room.ends(plain)).exit_code == 1
        await nothing_for(0.3)
        assert room.driver.record(plain.id).restart_count == 0

    docker(story)


def test_always_comes_back_until_it_is_told_to_stop_or_killed() -> None:
    async def story(room: DockerRoom) -> None:
        guest = room.sh("echo run; sleep 0.05; exit 0", restart=Restart("always"))
        await room.driver.apply(guest)
        await _seen(room, guest, "the second restart", restart_count=2)
        stopped = await room.driver.apply(again(guest, power="stopped"))
        assert (stopped.state, stopped.container.restarting) == ("stopped", False)  # type: ignore[union-attr]
        runs = (await room.driver.console(guest.id)).count(b"run\n")
        await nothing_for(0.6)
        assert (await room.driver.console(guest.id)).count(b"run\n") == runs
        started = await room.driver.apply(again(guest, generation=3, boots=2))
        assert started.container.restart_count == 0  # type: ignore[union-attr]

        lives = room.sh("sleep 600", restart=Restart("unless-stopped"))
        await room.driver.apply(lives)
        os.kill(room.pid(lives), signal.SIGKILL)
        await _seen(room, lives, "it was killed by nobody's order", restart_count=1, restarting=False)
        await room.driver.signal(lives.id, "SIGKILL")
        seen = await eventually(
            lambda: [s for s in room.seen if (s.id, s.state) == (lives.id, "stopped")], "docker kill is an order"
        )
        assert seen[-1].exit_code == 137
        await nothing_for(0.4)
        assert _last(room, lives).state == "stopped"  # type: ignore[union-attr]

    docker(story)


def test_a_node_that_comes_back_goes_on_with_restarts() -> None:
    async def story(room: DockerRoom) -> None:
        guest = room.sh("sleep 600", restart=Restart("always"))
        other = room.sh("sleep 600")
        for one in (guest, other):
            await room.driver.apply(one)
        await room.driver.close()
        for one in (guest, other):
            os.kill(room.pid(one), signal.SIGKILL)
            await eventually((room.config.state / "guests" / one.id / "exits" / one.id).exists, "conmon wrote the status")
        room.seen.clear()
        room.driver = room.new_driver()
        await room.start()
        await _seen(room, guest, "it runs again", restart_count=1, restarting=False)
        assert _last(room, other).state == "stopped"  # type: ignore[union-attr]
        assert (await room.driver.apply(other)).exit_code == 137

    docker(story)


async def _reboot(room: DockerRoom, guests: list[Guest]) -> None:
    """What a restart of the host takes: processes, cgroups, mounts, namespaces and /run; the kernel's boot id is another one."""
    await room.driver.close()
    run = Path(f"/run/nacre-{room.config.cloud_id}")
    for guest in guests:
        folder = room.config.state / "guests" / guest.id
        for name in ("monitor.pid", "pid"):
            os.kill(int((folder / name).read_text()), signal.SIGKILL)

    def ended() -> bool:
        files = cgroups(f"nacre-{room.config.cloud_id}/*-*/cgroup.procs")
        return not any(file.read_text() for file in files)

    await eventually(ended, "all ended")
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    ours = [line.split()[4] for line in lines if f" {room.config.state}/" in line or f" {run}/" in line]
    for mount in reversed(ours):
        subprocess.run(["umount", "-l", mount], check=True)  # noqa: ASYNC221
    subprocess.run(["rm", "-r", str(run)], check=True)  # noqa: ASYNC221
    for guest in guests:
        file = room.config.state / "guests" / guest.id / "guest.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"boot_id": "another"}))
    room.seen.clear()
    room.wires.plugged.clear()
    room.driver = room.new_driver()
    await room.start()


def test_after_a_restart_of_the_host_the_policies_decide() -> None:
    async def story(room: DockerRoom) -> None:
        names = ("always", "unless-stopped", "on-failure", "no")
        guests = {name: room.sh("sleep 600", restart=Restart(name)) for name in names}  # type: ignore[arg-type]
        guests["always"] = again(guests["always"], ports=(str(uuid.uuid4()),))
        for guest in guests.values():
            await room.driver.apply(guest)
        await _reboot(room, list(guests.values()))
        for name in names[:3]:
            await _seen(room, guests[name], f"{name} runs again", restart_count=1, restarting=False)
        assert room.inside(guests["always"], "/bin/ls", "/sys/class/net").stdout.split() == ["eth0", "lo"]
        seen = await room.driver.apply(guests["no"])
        assert (seen.state, seen.exit_code) == ("stopped", 255)

    docker(story)


def test_health_goes_from_starting_to_healthy_to_unhealthy() -> None:
    async def story(room: DockerRoom) -> None:
        check = HealthCheck(("CMD-SHELL", "echo looked; test -e /well"), interval_s=0.1, timeout_s=5, retries=2)
        guest = room.sh("touch /well; sleep 600", health=check, user="root")
        seen = await room.driver.apply(guest)
        assert seen.container.health == "starting"  # type: ignore[union-attr]
        await _seen(room, guest, "healthy", health="healthy", failing_streak=0)
        told = len(room.seen)
        await nothing_for(1.0)
        assert len(room.seen) - told <= 1, "probes that change nothing are not told one by one"
        room.inside(guest, "/bin/rm", "/well")
        seen = await _seen(room, guest, "unhealthy", health="unhealthy")
        state = seen.container
        assert state is not None
        assert state.failing_streak == 2
        assert (state.probes[-1].exit_code, state.probes[-1].output) == (1, "looked\n")
        assert 2 <= len(state.probes) <= 5
        await room.restart()
        assert _last(room, guest).container.health == "unhealthy"  # type: ignore[union-attr]
        room.inside(guest, "/bin/touch", "/well")
        await _seen(room, guest, "healthy again", health="healthy")
        again_ = await room.driver.apply(again(guest, boots=2))
        assert again_.container.health == "starting"  # type: ignore[union-attr]

    docker(story)


def test_a_check_that_hangs_is_killed_and_the_start_period_forgives() -> None:
    async def story(room: DockerRoom) -> None:
        hangs = HealthCheck(("CMD", "sleep", "600"), interval_s=0.05, timeout_s=0.2, retries=1)
        guest = room.sh("sleep 500", health=hangs)
        await room.driver.apply(guest)
        seen = await _seen(room, guest, "unhealthy", health="unhealthy")
        probe = seen.container.probes[-1]  # type: ignore[union-attr]
        assert probe.exit_code == -1
        assert "exceeded timeout" in probe.output

        async def alone() -> bool:
            return "sleep 600" not in room.inside(guest, "/bin/ps").stdout

        await eventually(alone, "what hung is gone")
        missing = HealthCheck(("CMD", "no-such-program"), interval_s=0.05, start_period_s=600, start_interval_s=0.05, retries=1)
        young = room.sh("sleep 500", health=missing)
        await room.driver.apply(young)
        probes = await eventually(lambda: room.driver.health.probes(young.id), "a probe")
        assert probes[0].exit_code != 0
        await nothing_for(0.5)
        assert room.driver.record(young.id).health == "starting"
        await room.driver.apply(again(young, power="paused"))
        assert (await room.driver.apply(again(young, power="running", generation=3))).state == "running"
        assert (await room.driver.remove(young.id)).state == "gone"
        assert (await room.driver.remove(guest.id)).state == "gone"
        assert await room.driver.survey() == []

    docker(story)


def test_out_of_memory_is_told() -> None:
    async def story(room: DockerRoom) -> None:
        hog = room.container("tail", "/dev/zero", changes={"limits": Limits(1, 32, 1)})
        seen = await room.ends(hog)
        assert (seen.exit_code, seen.container.oom_killed) == (137, True)  # type: ignore[union-attr]
        again_ = changed(hog, argv=("true",))
        assert (await room.driver.apply(again_)).state == "stopped"

    docker(story)


def test_a_fork_bomb_stays_within_its_limit_and_ends_at_once() -> None:
    async def story(room: DockerRoom) -> None:
        bomb = room.sh("b() { b & b & }; b; sleep 600", changes={"limits": Limits(1, 64, 1, pids=200)})
        await room.driver.apply(bomb)
        files = cgroups(f"nacre-{room.config.cloud_id}/{bomb.id}/pids.current")

        async def full() -> bool:
            return int(files[0].read_text()) >= 190

        await eventually(full, "it has what it may have")
        assert int(files[0].read_text()) <= 200
        await asyncio.wait_for(room.driver.remove(bomb.id), 60)
        assert await room.driver.survey() == []

    docker(story)
