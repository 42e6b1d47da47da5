"""Containers whose first process is a whole init system: busybox's, and systemd on either version of cgroups."""

import multiprocessing
import subprocess
import sys
import uuid
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from tarfile import DIRTYPE, TarFile

import msgspec
import pytest

from nacre.node.runtimes.containers import kernel
from nacre.protocol.guests import Guest, Limits
from tests.node.containers_support import Room, add, busybox_layer, eventually, oci_archive, traces
from tests.node.test_containers import tell

pytestmark = pytest.mark.root

BUILD_WAIT_S = 1200.0
CGROUP = Path("/sys/fs/cgroup")
LIMITS = f"{CGROUP}/pids/pids.max {CGROUP}/cgroup.max.descendants"
INITTAB = b"""\
::sysinit:/bin/echo inittab begins
::respawn:/bin/httpd -f -p 80 -h /etc
::shutdown:/bin/echo inittab ends
"""


def init_layer() -> bytes:
    out = BytesIO()
    with TarFile(fileobj=out, mode="w") as tar:
        add(tar, "sbin", mode=0o755, kind=DIRTYPE)
        add(tar, "sbin/init", link="../bin/busybox")
        add(tar, "etc/inittab", INITTAB)
    return out.getvalue()


def test_busybox_init_keeps_its_services_up_and_ends_them_in_order() -> None:
    async def story(room: Room) -> None:
        image = room.source.add(oci_archive([busybox_layer(), init_layer()], {}))
        guest = room.guest("#!/bin/sh\necho from user-data\n", image=image)
        assert (await room.driver.apply(guest)).state == "running"
        await room.console_shows(guest, "inittab begins")
        await room.console_shows(guest, "user-data ended with exit status 0")

        async def serves() -> bool:
            return "root:x:0" in room.inside(guest, "/bin/wget", "-qO-", "http://127.0.0.1/passwd").stdout

        await eventually(serves, "the service of the inittab answers")
        assert room.inside(guest, "/bin/cat", "/proc/1/cmdline").stdout.startswith("init\0")
        assert room.inside(guest, "/bin/killall", "httpd").returncode == 0
        await eventually(serves, "init brings the service up again")

        again = msgspec.structs.replace(guest, generation=2, boots=2, reboot="soft")
        assert (await room.driver.apply(again)).state == "running"
        log = await room.console_shows(guest, "inittab ends")
        assert log.count(b"from user-data") == 1, "once in a guest's life"
        await eventually(serves, "the service answers after the reboot")
        seen = await room.driver.apply(msgspec.structs.replace(again, generation=3, power="stopped"))
        assert (seen.state, seen.exit_code) == ("stopped", 0), "it ended by itself, not by SIGKILL"
        assert (await room.driver.console(guest.id)).count(b"inittab ends") == 2
        assert (await room.driver.remove(guest.id)).state == "gone"
        assert await room.driver.survey() == []
        assert traces(room.config.cloud_id, room.config.state) == []

    tell(story)


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("debian") / "debian.tar"
    command = [sys.executable, "-m", "nacre.cli", "image", "build", "debian", "--output", str(path)]
    subprocess.run(command, check=True, timeout=BUILD_WAIT_S)
    yield path
    path.unlink()


@pytest.mark.slow
def test_a_debian_guest_boots_systemd_serves_ssh_and_stops_in_order(debian: Path) -> None:
    _boot_debian(debian)


@pytest.mark.slow
def test_a_debian_guest_boots_systemd_on_cgroups_of_version_2_alone(debian: Path) -> None:
    """In a mount namespace of the test's own this host has no other hierarchy."""
    process = multiprocessing.get_context("fork").Process(target=_on_version_2, args=(debian,))
    process.start()
    process.join()
    assert process.exitcode == 0


def _on_version_2(debian: Path) -> None:
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", Path("/"), flags=kernel.MS_REC | kernel.MS_PRIVATE)
    for entry in reversed(kernel.mounts()):
        if Path(entry.target).is_relative_to(CGROUP):
            kernel.unmount_all(Path(entry.target))
    kernel.mount("cgroup2", CGROUP, "cgroup2")
    _boot_debian(debian)


def _boot_debian(debian: Path) -> None:
    script = "#!/bin/sh\nsystemctl is-system-running\nsystemctl is-active ssh\n"

    async def story(room: Room) -> None:
        image = room.source.add(debian.read_bytes())
        guest = room.guest(script, image=image, limits=Limits(1, 512, 4), ports=(str(uuid.uuid4()),))
        instance = msgspec.structs.replace(guest.instance, public_keys={"mine": "ssh-ed25519 AAAApair"})
        guest = msgspec.structs.replace(guest, instance=instance)
        assert (await room.driver.apply(guest)).state == "running"
        log = await room.console_shows(guest, "user-data ended with exit status 0")
        assert b"\nactive\r\n" in log, "user-data runs when the system is up"
        assert _system_state(room, guest) in ("running", "degraded")
        assert room.inside(guest, "/bin/cat", "/root/.ssh/authorized_keys").stdout == "ssh-ed25519 AAAApair\n"
        assert await eventually(lambda: _ssh_banner(room, guest).startswith("SSH-2.0-OpenSSH"), "sshd answers")
        groups = room.inside(guest, "/bin/sh", "-c", "cat /proc/$(systemctl show -P MainPID ssh)/cgroup").stdout
        assert "system.slice/ssh.service" in groups, "each service has a cgroup of its own"
        limits = room.inside(guest, "/bin/sh", "-c", f"ls {LIMITS}").stdout.split()
        assert len(limits) == 1, "a file of either version"
        assert room.inside(guest, "/bin/sh", "-c", f"echo max > {limits[0]}").returncode != 0, "limits are not its own"

        await room.restart()
        assert [seen.state for seen in room.seen] == ["running"], "a restarted node finds it in its nested cgroup"
        again = msgspec.structs.replace(guest, generation=2, boots=2, reboot="soft")
        assert (await room.driver.apply(again)).state == "running"
        await eventually(lambda: _system_state(room, guest) in ("running", "degraded"), "the second boot")
        seen = await room.driver.apply(msgspec.structs.replace(again, generation=3, power="stopped"))
        assert (seen.state, seen.exit_code) == ("stopped", 0), "systemd ended its services and itself"
        assert b"Reached target" in await room.console_shows(guest, "Exiting container.")
        assert (await room.driver.remove(guest.id)).state == "gone"
        assert await room.driver.survey() == []
        assert traces(room.config.cloud_id, room.config.state) == []

    tell(story)


def _system_state(room: Room, guest: Guest) -> str:
    return room.inside(guest, "/bin/systemctl", "is-system-running").stdout.strip()


def _ssh_banner(room: Room, guest: Guest) -> str:
    """What sshd says first, asked from within the guest's network but without its programs."""
    ask = "import socket; print(socket.create_connection(('10.9.8.7', 22), 5).recv(64).decode())"
    enter = ["nsenter", "-t", str(room.pid(guest)), "-n", sys.executable, "-c", ask]
    return subprocess.run(enter, capture_output=True, text=True).stdout
