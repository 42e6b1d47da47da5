"""user-data becomes scripts: what is known is done, what is not is named, and nothing of it is taken for shell."""

import base64
import gzip
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nacre.node.init.cloudconfig import BadUserData, read

BUSYBOX = ["/bin/busybox", "sh", "-c"]


def run(lines: list[str]) -> str:
    return subprocess.run([*BUSYBOX, "\n".join(lines)], check=True, capture_output=True, text=True).stdout


def test_a_script_is_no_cloud_config() -> None:
    scripts = read(b"#!/bin/sh\nexit 1\n")
    assert (scripts.every_boot, scripts.set_up, scripts.late) == ([], [], [])


def test_commands_are_strings_for_a_shell_or_words() -> None:
    scripts = read(b"#cloud-config\nruncmd: ['echo $((1+1))', [echo, $HOME]]\nbootcmd: [[echo, early]]\n")
    assert run(scripts.late) == "2\n$HOME\n"
    assert run(scripts.every_boot) == "early\n"


def test_one_failing_command_does_not_stop_the_next() -> None:
    scripts = read(b"#cloud-config\nruncmd: ['exit 7', echo on]\n")
    assert run(["status=0", *scripts.late, "echo $status"]) == "on\n7\n"


def test_gzipped_user_data_is_read_and_a_bomb_is_not() -> None:
    assert read(gzip.compress(b"#cloud-config\nruncmd: [ls]\n")).late
    with pytest.raises(BadUserData, match="larger"):
        read(gzip.compress(b"#cloud-config\n" + b"#" * (2 << 20)))


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("just text", "begins with"),
        ("#cloud-config\n- a\n", "not a mapping"),
        ("#cloud-config\nruncmd: ls\n", "runcmd must be a list"),
        ("#cloud-config\nwrite_files: [{content: a}]\n", "no path"),
        ("#cloud-config\na: [\n", "cloud-config"),
        ("#cloud-config\nwrite_files: [{path: /a, content: a, encoding: b64}]\n", "write_files /a"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, cause: str) -> None:
    with pytest.raises(BadUserData, match=cause):
        read(text.encode())


@settings(deadline=None)
@given(st.binary(max_size=200), st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=20))
def test_any_bytes_arrive_in_a_file_of_any_name(data: bytes, name: str) -> None:
    document = {"write_files": [{"path": f"./{name}", "content": base64.b64encode(data).decode(), "encoding": "b64"}]}
    lines = read(b"#cloud-config\n" + yaml.safe_dump(document).encode()).set_up
    if len(name.encode()) > 200 or name in (".", ".."):
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*BUSYBOX, "\n".join(lines)], check=True, cwd=folder, env={"PATH": "/bin:/usr/bin"})
        assert [entry.read_bytes() for entry in Path(folder).iterdir()] == [data]
