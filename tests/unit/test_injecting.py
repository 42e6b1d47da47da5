"""Passwords and files in a root file system that is nobody's but a test's."""

import os
from pathlib import Path

import pytest

from nacre.node.runtimes.containers import inside
from nacre.node.runtimes.containers.injecting import write_files, write_password
from nacre.protocol.guests import InjectedFile

ME = os.getuid()


def test_only_roots_line_changes(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root::0:0:root:/root:/bin/sh\nrooty:y:1:1::/:/bin/sh\n")
    (tmp_path / "etc/shadow").write_text("daemon:*:1::::::\nroot:*:19000:0:99999:7:::\nrooty:!:1::::::\n")
    write_password(tmp_path, "$6$new", ME)
    assert (tmp_path / "etc/shadow").read_text() == "daemon:*:1::::::\nroot:$6$new:19000:0:99999:7:::\nrooty:!:1::::::\n"
    assert (tmp_path / "etc/passwd").read_text() == "root:x:0:0:root:/root:/bin/sh\nrooty:y:1:1::/:/bin/sh\n"


def test_an_image_without_a_shadow_gets_one_that_others_cannot_read(tmp_path: Path) -> None:
    write_password(tmp_path, "$6$new", ME)
    assert (tmp_path / "etc/shadow").read_text().startswith("root:$6$new:")
    assert (tmp_path / "etc/shadow").stat().st_mode & 0o777 == 0o640
    assert not (tmp_path / "etc/passwd").exists()


def test_no_link_leads_out(tmp_path: Path) -> None:
    outside, rootfs = tmp_path / "outside", tmp_path / "rootfs"
    outside.write_text("kept")
    (rootfs / "etc").mkdir(parents=True)
    (rootfs / "etc/motd").symlink_to(f"/../..{outside}")
    (rootfs / "up").symlink_to("../../..")
    with pytest.raises(OSError):
        write_files(rootfs, (InjectedFile("/etc/motd", b"x"),), ME)
    write_files(rootfs, (InjectedFile("/up/outside", b"inside"),), ME)
    assert (outside.read_text(), (rootfs / "outside").read_text()) == ("kept", "inside")


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for path in ("/folder", "/pipe", "/", "/."):
        with pytest.raises(OSError):
            inside.write(tmp_path, path, b"x", owner=ME)
