"""Real containers, from create to remove, as the agent drives them."""

import asyncio
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nacre.node.runtimes.containers import purge
from nacre.protocol.guests import ImageRef, Limits
from tests.cgroups import cgroups
from tests.node.containers_support import Room, add, busybox_layer, eventually, oci_archive, traces

pytestmark = pytest.mark.root

Story = Callable[[Room], Coroutine[Any, Any, None]]


def tell(story: Story, kind: type[Room] = Room) -> None:
    """Run a story in a room of its own; afterwards nothing may be left on the machine."""
    state = Path(tempfile.mkdtemp(prefix="nacre-containers-"))
    state.chmod(0o711)
    cloud_id = uuid.uuid4().hex[:4]

    async def play() -> None:
        room = kind(state, cloud_id)
        try:
            await room.start()
            await story(room)
        finally:
            await room.driver.close()
            await purge(room.config)
        assert traces(cloud_id, state) == []
        assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(state) in line]
        assert not cgroups(f"nacre-{cloud_id}")
        assert not Path(f"/run/nacre-{cloud_id}").exists()
        assert list(state.iterdir()) == []

    try:
        asyncio.run(play())
    finally:
        shutil.rmtree(state, ignore_errors=True)


def test_a_guest_lives_from_create_to_remove() -> None:
    async def story(room: Room) -> None:
        guest = room.guest()
        seen = await room.driver.apply(guest)
        assert (seen.state, seen.generation, seen.boots, seen.fault) == ("running", 1, 1, "")
        assert set(seen.timings_ms) == {"image", "network", "create", "start"}
        await room.console_shows(guest, "nacre-init: ready")
        pid = room.pid(guest)
        assert (await room.driver.apply(guest)).state == "running"
        assert room.pid(guest) == pid, "the same intent again changes nothing"
        assert room.source.fetched == [guest.image.digest]

        room.inside(guest, "/bin/sh", "-c", "echo kept > /root/note")
        stopped = msgspec.structs.replace(guest, power="stopped", generation=2)
        assert (await room.driver.apply(stopped)).state == "stopped"
        assert not Path(f"/proc/{pid}").exists()
        running = msgspec.structs.replace(guest, generation=3, boots=2)
        assert (await room.driver.apply(running)).boots == 2
        assert room.inside(guest, "/bin/cat", "/root/note").stdout == "kept\n"

        assert (await room.driver.remove(guest.id)).state == "gone"
        assert await room.driver.survey() == []
        assert traces(room.config.cloud_id, room.config.state) == []
        assert (await room.driver.remove(guest.id)).state == "gone"
        with pytest.raises(LookupError):
            await room.driver.console(guest.id)

    tell(story)


def test_a_reboot_runs_user_data_once_and_bootcmd_every_time() -> None:
    data = "#cloud-config\nbootcmd: ['echo boot again']\nruncmd: ['echo once only', 'false']\nnonsense: 1\n"

    async def story(room: Room) -> None:
        guest = room.guest(data)
        await room.driver.apply(guest)
        await room.console_shows(guest, "user-data ended with exit status 1")
        for boots, kind in ((2, "soft"), (3, "hard")):
            again = msgspec.structs.replace(guest, generation=boots, boots=boots, reboot=kind)
            assert (await room.driver.apply(again)).boots == boots
            log = await eventually(lambda boots=boots: _console_with(room, guest.id, b"boot again", boots), f"boot {boots}")
        assert log.count(b"once only") == 1
        assert b"cloud-config key nonsense is not known here" in log

    tell(story)


async def _console_with(room: Room, guest_id: str, text: bytes, times: int) -> bytes:
    log = await room.driver.console(guest_id)
    return log if log.count(text) == times and log.count(b"nacre-init: ready") == times else b""


def test_pause_freezes_and_a_newer_intent_thaws() -> None:
    async def story(room: Room) -> None:
        guest = room.guest("#!/bin/sh\nwhile :; do echo tick; sleep 0.05; done\n")
        await room.driver.apply(guest)
        await room.console_shows(guest, "tick")
        paused = msgspec.structs.replace(guest, power="paused", generation=2)
        assert (await room.driver.apply(paused)).state == "paused"
        assert [seen.state for seen in await room.driver.observe()] == ["paused"]
        await room.restart()
        assert [seen.state for seen in room.seen] == ["paused"], "a restarted node sees that the guest is frozen"
        running = msgspec.structs.replace(guest, generation=3)
        assert (await room.driver.apply(running)).state == "running"
        before = (await room.driver.console(guest.id)).count(b"tick")

        async def ticks_on() -> bool:
            return (await room.driver.console(guest.id)).count(b"tick") > before

        await eventually(ticks_on, "the guest goes on")
        assert (await room.driver.apply(msgspec.structs.replace(guest, power="paused", generation=4))).state == "paused"
        assert (await room.driver.remove(guest.id)).state == "gone"

    tell(story)


def test_the_guest_is_root_of_itself_only() -> None:
    script = """#!/bin/sh
cat /proc/self/uid_map
(echo port80 | nc -l -p 80) & sleep 0.2; nc 127.0.0.1 80
ping -c 1 127.0.0.1 >/dev/null && echo ping-works
mount -t tmpfs none /tmp 2>&1 || echo no-mount
unshare -U true 2>&1 || echo no-unshare
ls /sys/class/net
cat /proc/kcore | wc -c
ulimit -n
"""

    async def story(room: Room) -> None:
        one, two = room.guest(script), room.guest(script)
        await asyncio.gather(room.driver.apply(one), room.driver.apply(two))
        log = (await room.console_shows(one, "user-data ended")).decode()
        other = (await room.console_shows(two, "user-data ended")).decode()
        for line in ("port80", "ping-works", "no-mount", "no-unshare"):
            assert line in log, log
        maps = {line.split()[1] for text in (log, other) for line in text.splitlines() if line.split()[2:] == ["65536"]}
        assert len(maps) == 2, "each guest has ids of its own"
        assert min(map(int, maps)) >= 65536
        status = Path(f"/proc/{room.pid(one)}/status").read_text()
        assert "Seccomp:\t2" in status
        assert "CapBnd:\t00000000a80425fb" in status, "Docker's default capabilities"

    tell(story)


def test_limits_are_enforced_and_an_end_is_observed_with_its_cause() -> None:
    async def story(room: Room) -> None:
        hog = room.guest(image=room.command_image("tail", "/dev/zero"), limits=Limits(1, 32, 1))
        await room.driver.apply(hog)
        seen = await eventually(lambda: [seen for seen in room.seen if seen.id == hog.id], "the end of the hog")
        assert (seen[0].state, seen[0].exit_code) == ("stopped", 137)
        assert "memory limit of 32 MB" in seen[0].fault
        again = await room.driver.apply(hog)
        assert (again.state, again.exit_code) == ("stopped", 137), "the same intent does not start it again"

        crowd = room.guest(
            "#!/bin/sh\nfor i in $(seq 40); do sleep 60 & done\necho all-there\n", limits=Limits(1, 64, 1, pids=20)
        )
        await room.driver.apply(crowd)
        await room.console_shows(crowd, "an't fork")

        ended = room.guest(image=room.command_image("sh", "-c", "exit 3"))
        room.seen.append(await room.driver.apply(ended))
        await eventually(lambda: [seen for seen in room.seen if (seen.id, seen.exit_code) == (ended.id, 3)], "the end")

        bigger = msgspec.structs.replace(crowd, limits=Limits(2, 128, 1, pids=50), generation=2)
        assert (await room.driver.apply(bigger)).generation == 2
        files = cgroups(f"{crowd.id}/pids.max")
        assert [file.read_text() for file in files] == ["50\n"]

    tell(story)


def test_cloud_config_sets_up_users_keys_and_files() -> None:
    data = """#cloud-config
hostname: renamed
ssh_authorized_keys: [ssh-ed25519 AAAAroot]
users:
  - default
  - name: deploy
    groups: web
    ssh_authorized_keys: [ssh-ed25519 AAAAdeploy]
write_files:
  - {path: /srv/a/page.html, content: "it's me\\n", permissions: '0640', owner: deploy}
  - {path: /srv/b, content: aGk=, encoding: b64}
runcmd:
  - [sh, -c, 'cat /srv/a/page.html; cat /srv/b; echo']
  - ls -ln /srv/a/page.html; grep web /etc/group; cat /root/.ssh/authorized_keys ~deploy/.ssh/authorized_keys
"""

    async def story(room: Room) -> None:
        guest = room.guest(data)
        instance = msgspec.structs.replace(guest.instance, public_keys={"mine": "ssh-rsa AAAApair"})
        guest = msgspec.structs.replace(guest, instance=instance)
        assert (await room.driver.apply(guest)).state == "running"
        log = (await room.console_shows(guest, "user-data ended")).decode()
        for text in ("it's me", "hi", "-rw-r-----", "1000", "web:x:33:deploy", "AAAAroot", "AAAAdeploy", "AAAApair"):
            assert text in log, log
        assert "user-data ended with exit status 0" in log

    tell(story)


def test_an_image_says_command_user_environment_and_folder() -> None:
    async def story(room: Room) -> None:
        show = "id -u; pwd; echo $COLOR; exec sleep 1000"
        image = room.command_image("sh", "-c", show, User="33", Env=["COLOR=blue"], WorkingDir="/var")
        guest = room.guest(image=image)
        assert (await room.driver.apply(guest)).state == "running"
        await room.console_shows(guest, "33\r\n/var\r\nblue")
        nameless = room.guest(image=room.command_image("sh", "-c", show, User="4711:4712"))
        await room.driver.apply(nameless)
        await room.console_shows(nameless, "4711\r\n")

    tell(story)


def test_ports_come_and_go_while_the_guest_runs() -> None:
    async def story(room: Room) -> None:
        first, second = str(uuid.uuid4()), str(uuid.uuid4())
        guest = room.guest(ports=(first,))
        assert (await room.driver.apply(guest)).state == "running"
        assert room.inside(guest, "/bin/cat", "/etc/resolv.conf").stdout == "search example.org\nnameserver 10.9.8.2\n"
        assert "10.9.8.7 one.example.org one" in room.inside(guest, "/bin/cat", "/etc/hosts").stdout
        both = msgspec.structs.replace(guest, ports=(first, second), generation=2)
        assert (await room.driver.apply(both)).state == "running"
        assert room.inside(guest, "/bin/ls", "/sys/class/net").stdout.split() == ["eth0", "eth1", "lo"]
        assert (await room.driver.apply(msgspec.structs.replace(guest, generation=3))).state == "running"
        assert room.inside(guest, "/bin/ls", "/sys/class/net").stdout.split() == ["eth0", "lo"]
        await room.driver.remove(guest.id)
        assert room.wires.plugged == {}

    tell(story)


COUNT = """#!/bin/sh
awk 'BEGIN { for (i = 1; i <= 400000; i++) printf "line %08d\\n", i }'
echo all said
"""


def test_the_console_keeps_the_last_megabyte() -> None:
    async def story(room: Room) -> None:
        guest = room.guest(COUNT)
        await room.driver.apply(guest)
        await room.console_shows(guest, "all said")
        log = await room.driver.console(guest.id)
        assert 1_000_000 < len(log) <= 1 << 20
        numbers = [int(line.split()[1]) for line in log.split(b"\r\n")[1:] if line.startswith(b"line ")]
        assert numbers == list(range(numbers[0], 400001)), "no line of the last megabyte is missing"
        logs = room.config.state / "guests" / guest.id / "logs"

        async def small() -> bool:
            # A megabyte of what was said, each line of it with its time, and what came since the last rotation.
            return sum(file.stat().st_size for file in logs.iterdir()) < 8 << 20

        await eventually(small, "what is older goes")
        assert (await room.driver.console(guest.id)).endswith(b"\r\n")

    tell(story)


def test_a_restarted_node_adopts_running_guests_and_learns_who_ended() -> None:
    async def story(room: Room) -> None:
        stays, ends = (
            room.guest(),
            room.guest(image=room.command_image("sh", "-c", "trap 'exit 5' TERM; echo trapped; while :; do sleep 0.1; done")),
        )
        for guest in (stays, ends):
            await room.driver.apply(guest)
        pid = room.pid(stays)
        await room.console_shows(ends, "trapped")
        await room.driver.close()
        os.kill(room.pid(ends), signal.SIGTERM)
        exit_file = room.config.state / "guests" / ends.id / "exits" / ends.id
        await eventually(exit_file.exists, "the exit status, which conmon writes without a node")
        room.seen.clear()
        room.driver = room.new_driver()
        await room.start()
        seen = {observation.id: observation for observation in room.seen}
        assert seen[stays.id].state == "running"
        assert room.pid(stays) == pid
        assert (seen[ends.id].state, seen[ends.id].exit_code) == ("stopped", 5)
        await room.console_shows(stays, "ready")

    tell(story)


def test_after_a_restart_of_the_host_a_guest_comes_back_with_its_disk_and_ports() -> None:
    async def story(room: Room) -> None:
        guest = room.guest(ports=(str(uuid.uuid4()),))
        await room.driver.apply(guest)
        room.inside(guest, "/bin/sh", "-c", "echo kept > /root/note")
        await room.driver.close()
        folder, run = room.config.state / "guests" / guest.id, Path(f"/run/nacre-{room.config.cloud_id}")
        for name in ("monitor.pid", "pid"):
            os.kill(int((folder / name).read_text()), signal.SIGKILL)
        # What a restart takes: processes, cgroups, mounts, namespaces and /run; and the kernel's boot id is another one.
        gone = await eventually(
            lambda: not [trace for trace in traces(room.config.cloud_id, room.config.state) if "cmdline" in trace], "all ended"
        )
        assert gone
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        ours = [line.split()[4] for line in lines if f" {room.config.state}/" in line or f" {run}/" in line]
        for mount in reversed(ours):
            subprocess.run(["umount", "-l", mount], check=True)  # noqa: ASYNC221
        shutil.rmtree(run)
        record = json.loads((folder / "guest.json").read_text())
        (folder / "guest.json").write_text(json.dumps(record | {"boot_id": "another"}))
        room.seen.clear()
        room.wires.plugged.clear()
        room.driver = room.new_driver()
        await room.start()
        # Not of the generation that is asked for: `stopped` of that one would become what is wanted.
        assert [(seen.state, seen.generation, seen.fault) for seen in room.seen] == [("stopped", 0, "the host was restarted")]
        again = await room.driver.apply(guest)
        assert (again.state, again.fault) == ("running", "")
        assert room.inside(guest, "/bin/cat", "/root/note").stdout == "kept\n"
        assert room.inside(guest, "/bin/ls", "/sys/class/net").stdout.split() == ["eth0", "lo"]

    tell(story)


def test_a_dead_conmon_is_observed_and_the_guest_lives_on() -> None:
    async def story(room: Room) -> None:
        guest = room.guest()
        await room.driver.apply(guest)
        monitor = int((room.config.state / "guests" / guest.id / "monitor.pid").read_text())
        settled = f"/nacre-{room.config.cloud_id}/monitors"
        await eventually(lambda: settled in Path(f"/proc/{monitor}/cgroup").read_text(), "conmon is in its own cgroup")
        os.kill(monitor, signal.SIGKILL)
        seen = await eventually(lambda: room.seen, "the fault")
        assert seen[0].state == "running"
        assert "conmon died" in seen[0].fault
        again = msgspec.structs.replace(guest, generation=2, boots=2, reboot="hard")
        healed = await room.driver.apply(again)
        assert (healed.state, healed.fault) == ("running", "")

    tell(story)


def test_a_broken_image_is_an_error_with_its_cause_and_can_be_retried() -> None:
    async def story(room: Room) -> None:
        broken = room.guest(image=room.source.add(b"this is no tar" * 100))
        seen = await room.driver.apply(broken)
        assert seen.state == "error"
        assert "is broken" in seen.fault
        absent = room.guest(image=ImageRef("no-bytes", "sha256:" + "0" * 64, 1, "raw", "docker"))
        seen = await room.driver.apply(absent)
        assert (seen.state, seen.generation) == ("error", 1)
        assert "no bytes" in seen.fault
        nowhere = room.guest(image=room.command_image("true", WorkingDir="/etc/passwd/x"))
        seen = await room.driver.apply(nowhere)
        assert seen.state == "error", "crun says why"
        assert "Not a directory" in seen.fault
        missing = room.guest(image=room.command_image("/no/such/program"))
        room.seen.append(await room.driver.apply(missing))
        await eventually(lambda: [seen for seen in room.seen if (seen.id, seen.exit_code) == (missing.id, 127)], "the end")
        healed = msgspec.structs.replace(absent, image=room.busybox, generation=2)
        assert (await room.driver.apply(healed)).state == "running"
        for guest in (broken, absent, missing, nowhere):
            assert (await room.driver.remove(guest.id)).state == "gone"
        assert await room.driver.survey() == []

    tell(story)


def test_a_full_disk_is_an_error_that_says_so_and_goes_when_there_is_room() -> None:
    async def story(room: Room) -> None:
        guest = room.guest()
        images = room.config.state / "images"
        images.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", images], check=True)  # noqa: ASYNC221
        try:
            seen = await room.driver.apply(guest)
            assert (seen.state, seen.generation) == ("error", 1)
            assert "No space left on device" in seen.fault
            subprocess.run(["mount", "-o", "remount,size=30m", images], check=True)  # noqa: ASYNC221
            assert (await room.driver.apply(guest)).state == "running"
            assert (await room.driver.remove(guest.id)).state == "gone"
        finally:
            subprocess.run(["umount", "-l", images], check=True)  # noqa: ASYNC221

    tell(story)


def test_an_image_cannot_reach_out_of_its_folder() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        add(tar, "../../../../tmp/nacre-escaped-1", b"x")
        add(tar, "etc", link="/tmp", kind=b"")
        add(tar, "etc/nacre-escaped-2", b"x")
        add(tar, "bin/.wh.nc")
        add(tar, "usr/.wh..wh..opq")

    async def story(room: Room) -> None:
        image = room.source.add(oci_archive([busybox_layer(), out.getvalue()], {}))
        guest = room.guest("#!/bin/sh\nls /tmp /bin/nc /bin/cat; ls -d /usr/bin\n", image=image)
        assert (await room.driver.apply(guest)).state == "running"
        log = (await room.console_shows(guest, "user-data ended")).decode()
        assert "nacre-escaped-1" in log
        assert "/bin/nc: No such file" in log
        assert "/usr/bin: No such file" in log
        assert not list(Path("/tmp").glob("nacre-escaped*"))
        config = json.loads((room.config.state / "guests" / guest.id / "bundle" / "config.json").read_text())
        assert config["root"]["readonly"] is False

    tell(story)
