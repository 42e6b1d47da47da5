"""What is put into real containers, and how they are rescued: passwords, files, config drives, another system."""

import json
import os
from typing import Any

import msgspec
import pytest

from nacre.protocol.guests import Guest, InjectedFile, Limits, Rescue
from tests.node.containers_support import Room, traces
from tests.node.test_containers import tell

pytestmark = pytest.mark.root

HASH, OTHER = "$6$saltsalt$" + "a" * 86, "$6$saltsalt$" + "b" * 86
MARKED = "#!/bin/sh\necho $(( $(cat /root/runs 2>/dev/null) + 1 )) >/root/runs\n"


def _root_line(room: Room, guest: Guest, file: str = "/etc/shadow") -> str:
    lines = room.inside(guest, "/bin/cat", file).stdout.splitlines()
    return next((line for line in lines if line.startswith("root:")), "")


def _next(guest: Guest, **changes: Any) -> Guest:
    return msgspec.structs.replace(guest, **{"generation": guest.generation + 1, **changes})


def test_root_has_the_password_that_was_asked_for_from_the_first_boot_on() -> None:
    async def story(room: Room) -> None:
        guest = room.guest(password_hash=HASH)
        assert (await room.driver.apply(guest)).state == "running"
        assert _root_line(room, guest).startswith(f"root:{HASH}:")
        assert _root_line(room, guest, "/etc/passwd").startswith("root:x:")
        pid = room.pid(guest)
        changed = _next(guest, password_hash=OTHER)
        seen = await room.driver.apply(changed)
        assert (seen.state, seen.generation, seen.fault) == ("running", 2, "")
        assert _root_line(room, guest).startswith(f"root:{OTHER}:")
        assert room.pid(guest) == pid, "the guest runs on"
        room.inside(guest, "/bin/sh", "-c", f"echo 'root:{HASH}:1::::::' >/etc/shadow")
        await room.restart()
        assert (await room.driver.apply(_next(changed))).state == "running"
        assert _root_line(room, guest).startswith(f"root:{HASH}:"), (
            "what the guest does with its password later is its own matter"
        )
        again = _next(changed, boots=2, generation=5)
        assert (await room.driver.apply(again)).boots == 2
        assert _root_line(room, guest).startswith(f"root:{HASH}:")
        anew = _next(again, boots=3, rebuilds=1)
        assert (await room.driver.apply(anew)).boots == 3
        assert _root_line(room, guest).startswith(f"root:{OTHER}:"), "a rebuilt guest has the one that was asked for"

    tell(story)


def test_the_password_of_a_shadow_that_is_a_link_out_stays_inside() -> None:
    async def story(room: Room) -> None:
        guest = room.guest()
        await room.driver.apply(guest)
        outside = room.config.state / "outside"
        outside.write_text("root:kept:\n")
        room.inside(guest, "/bin/sh", "-c", f"ln -sf ../../../../../../../..{outside} /etc/shadow; ln -sf /root /etc/link")
        stopped = _next(guest, power="stopped")
        await room.driver.apply(stopped)
        running = _next(stopped, power="running", boots=2, password_hash=HASH)
        await room.driver.apply(running)
        assert outside.read_text() == "root:kept:\n"
        outside.unlink()

    tell(story)


def test_files_are_there_before_the_first_boot_and_once_only() -> None:
    files = (
        InjectedFile("/etc/motd", b"welcome\n"),
        InjectedFile("new/folder/x.txt", b"\x00x"),
        InjectedFile("/var/../root/y", b"y"),
    )

    async def story(room: Room) -> None:
        guest = room.guest(files=files)
        await room.driver.apply(guest)
        assert room.inside(guest, "/bin/cat", "/etc/motd").stdout == "welcome\n"
        assert room.inside(guest, "/bin/stat", "-c", "%u %a", "/new/folder/x.txt", "/new/folder").stdout.split("\n")[:2] == [
            "0 644",
            "0 755",
        ]
        assert room.inside(guest, "/bin/cat", "/root/y").stdout == "y"
        room.inside(guest, "/bin/rm", "/etc/motd")
        await room.driver.apply(_next(guest, boots=2))
        assert room.inside(guest, "/bin/cat", "/etc/motd").returncode == 1, "they are put there once"

    tell(story)


def test_a_config_drive_shows_what_the_metadata_service_says() -> None:
    async def story(room: Room) -> None:
        guest = room.guest("#!/bin/sh\ntrue\n", config_drive=True, files=(InjectedFile("/etc/motd", b"hello"),))
        await room.driver.apply(guest)
        about = json.loads(room.inside(guest, "/bin/cat", "/config-drive/openstack/latest/meta_data.json").stdout)
        assert (about["uuid"], about["name"]) == (guest.id, "one")
        assert about["files"] == [{"path": "/etc/motd", "content_path": "/content/0000"}]
        assert room.inside(guest, "/bin/cat", "/config-drive/openstack/content/0000").stdout == "hello"
        assert room.inside(guest, "/bin/cat", "/config-drive/openstack/latest/user_data").stdout.startswith("#!/bin/sh")
        assert "hostname" in json.loads(room.inside(guest, "/bin/cat", "/config-drive/ec2/latest/meta-data.json").stdout)
        assert room.inside(guest, "/bin/touch", "/config-drive/x").returncode != 0, "it is read-only"
        without = room.guest()
        await room.driver.apply(without)
        assert room.inside(without, "/bin/ls", "/config-drive").returncode != 0
        await room.driver.remove(without.id)

    tell(story)


def test_a_rescued_guest_boots_another_system_and_finds_its_own_files() -> None:
    async def story(room: Room) -> None:
        guest = room.guest(MARKED, password_hash=OTHER)
        await room.driver.apply(guest)
        await room.console_shows(guest, "nacre-init: ready")
        room.inside(guest, "/bin/sh", "-c", "echo broken >/etc/state")
        rescued = _next(guest, boots=2, rescue=Rescue(room.command_image("sh", "-c", "echo to the rescue; sleep 1000"), HASH))
        seen = await room.driver.apply(rescued)
        assert (seen.state, seen.generation, seen.boots, seen.fault) == ("running", 2, 2, "")
        await room.console_shows(guest, "to the rescue")
        assert _root_line(room, guest).startswith(f"root:{HASH}:")
        assert room.inside(guest, "/bin/cat", "/etc/state").returncode == 1
        assert room.inside(guest, "/bin/cat", "/rescue/etc/state").stdout == "broken\n"
        room.inside(guest, "/bin/sh", "-c", "echo repaired >/rescue/etc/state; echo lost >/root/note")
        pid = room.pid(guest)
        assert (await room.driver.apply(rescued)).state == "running"
        await room.restart()
        assert (await room.driver.apply(rescued)).state == "running"
        assert room.pid(guest) == pid, "the same intent again changes nothing"

        back = _next(rescued, boots=3, rescue=None)
        assert (await room.driver.apply(back)).boots == 3
        assert room.inside(guest, "/bin/cat", "/etc/state").stdout == "repaired\n"
        assert _root_line(room, guest).startswith(f"root:{OTHER}:")
        assert room.inside(guest, "/bin/cat", "/root/runs").stdout == "1\n", "the rescue system does not run the user data"
        assert room.inside(guest, "/bin/ls", "/root/note").returncode != 0
        folder = room.config.state / "guests" / guest.id
        assert not (folder / "rescue").exists()
        assert (await room.driver.remove(guest.id)).state == "gone"
        assert traces(room.config.cloud_id, room.config.state) == []

    tell(story)


def test_a_rescue_image_that_cannot_be_had_is_the_guests_fault_and_it_can_go_back() -> None:
    async def story(room: Room) -> None:
        guest = room.guest()
        await room.driver.apply(guest)
        missing = msgspec.structs.replace(room.busybox, digest="sha256:" + "0" * 64)
        rescued = _next(guest, boots=2, rescue=Rescue(missing))
        seen = await room.driver.apply(rescued)
        assert (seen.state, seen.generation) == ("error", 2)
        assert "no bytes" in seen.fault
        back = _next(rescued, boots=3, rescue=None)
        assert (await room.driver.apply(back)).state == "running"
        await room.console_shows(guest, "nacre-init: ready")

    tell(story)


def test_a_guest_that_is_removed_while_it_is_rescued_leaves_nothing() -> None:
    async def story(room: Room) -> None:
        guest = room.guest(rescue=Rescue(room.busybox))
        await room.driver.apply(guest)
        assert (await room.driver.remove(guest.id)).state == "gone"
        assert await room.driver.survey() == []

    tell(story)


def test_a_guest_counts_the_processors_of_its_flavor() -> None:
    async def story(room: Room) -> None:
        guest = room.guest(limits=Limits(vcpus=1, memory_mb=64, disk_gb=1))
        await room.driver.apply(guest)
        count = ("/bin/grep", "-c", "^processor", "/proc/cpuinfo")
        assert room.inside(guest, *count).stdout == "1\n"
        resized = _next(guest, limits=Limits(vcpus=64, memory_mb=64, disk_gb=1))
        assert (await room.driver.apply(resized)).fault == ""
        assert room.inside(guest, *count).stdout == f"{os.cpu_count()}\n", "no more than the host has"
        assert room.inside(guest, "/bin/sh", "-c", "echo >/proc/cpuinfo").returncode != 0

    tell(story)
