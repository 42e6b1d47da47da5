"""The CLI's own parts: the lazy commands, the choices of the first start, pid files, images' bytes, the tiers' totals."""

import hashlib
import importlib
import io
import json
import os
import subprocess
import sys
import tarfile
from ipaddress import IPv4Network
from pathlib import Path

import click
import pytest

from nacre.cli import busybox, images, processes, provision, subnets, tiers
from nacre.cli.__main__ import COMMANDS
from nacre.cli.asked import Asked
from nacre.cli.state import FORMAT, Cloud, State, write

ROUTES = """Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT
eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0
eth0 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0
br0 000418AC 00000000 0001 0 0 0 00FFFFFF 0 0 0
"""


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_row_of_the_table_is_a_command(name: str) -> None:
    module, _, attribute = COMMANDS[name][0].partition(":")
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.help


def test_help_imports_no_command_and_no_server_library() -> None:
    script = (
        "import sys, nacre.cli.__main__ as m\n"
        "try: m.nacre(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'aiohttp', 'sqlalchemy', 'msgspec', 'pyroute2', 'yaml', 'http.client'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy), [m for m in sys.modules if m.startswith('nacre.cli.')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: [] ['nacre.cli.__main__']"
    assert all(name in done.stdout for name in COMMANDS)


def test_routes_of_the_machine_are_read_without_the_default_one() -> None:
    assert subnets.routed(ROUTES) == [IPv4Network("192.0.2.0/24"), IPv4Network("172.24.4.0/24")]


def test_an_external_subnet_gives_the_host_the_first_address() -> None:
    network = subnets.external("172.24.4.0/24")
    assert (network.gateway, network.allocation_start, network.allocation_end) == ("172.24.4.1", "172.24.4.2", "172.24.4.254")


def test_a_pid_file_names_a_process_only_while_it_is_that_one(tmp_path: Path) -> None:
    path = tmp_path / "sleeper.pid"
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        noted = processes.note(path, sleeper.pid)
        assert noted is not None
        assert processes.find(path) == noted
        path.write_text(json.dumps([sleeper.pid, noted.start + 1, noted.boot_id]))
        assert processes.find(path) is None
        path.write_text(json.dumps([sleeper.pid, noted.start, "another boot"]))
        assert processes.find(path) is None
        processes.note(path, sleeper.pid)
        assert processes.stop(path)
        assert sleeper.wait() == -15
    assert not path.exists()
    assert not processes.stop(path)


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "deaf.pid"
    with subprocess.Popen(["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done"], stdout=subprocess.PIPE) as deaf:
        assert deaf.stdout is not None
        assert deaf.stdout.readline() == b"deaf\n"
        processes.note(path, deaf.pid)
        assert processes.stop(path, wait_s=0.2)
        assert deaf.wait() == -9


def test_the_busybox_image_is_the_same_bytes_each_time_and_a_root_file_system() -> None:
    first, second = io.BytesIO(), io.BytesIO()
    busybox.write_tar(first)
    busybox.write_tar(second)
    assert hashlib.sha256(first.getvalue()).digest() == hashlib.sha256(second.getvalue()).digest()
    first.seek(0)
    with tarfile.open(fileobj=first) as tar:
        members = {member.name: member for member in tar}
    assert members["bin/busybox"].mode == 0o755
    assert members["bin/sh"].linkname == "/bin/busybox"
    assert members["tmp"].mode == 0o1777
    assert {"etc/passwd", "etc/os-release", "proc", "sys", "dev", "var/www", "usr/sbin/httpd"} <= set(members)


@pytest.mark.parametrize(
    ("reference", "source", "name"),
    [
        ("nginx", "docker://docker.io/library/nginx", "nginx"),
        ("docker.io/library/nginx", "docker://docker.io/library/nginx", "nginx"),
        ("grafana/grafana:11.0.0", "docker://docker.io/grafana/grafana:11.0.0", "grafana:11.0.0"),
        ("localhost:5000/app", "docker://localhost:5000/app", "app"),
        ("quay.io/a/b:v1", "docker://quay.io/a/b:v1", "b:v1"),
        ("oci:/tmp/layout:latest", "oci:/tmp/layout:latest", "layout:latest"),
        ("docker://quay.io/a/b", "docker://quay.io/a/b", "b"),
    ],
)
def test_references_are_read_as_docker_reads_them(reference: str, source: str, name: str) -> None:
    assert images.source_of(reference) == source
    assert images.name_of(reference) == name


@pytest.mark.parametrize(
    ("line", "totals"),
    [
        ("= 3 passed, 1 skipped in 0.2s =", (3, 0, 1)),
        ("= 1 failed, 2 passed, 1 error in 3.00s =", (2, 2, 0)),
        ("= 7 passed, 2 deselected, 1 xfailed, 1 warning in 3.00s =", (8, 0, 0)),
        ("", (0, 0, 0)),
    ],
)
def test_totals_are_read_from_pytests_last_line(line: str, totals: tuple[int, int, int]) -> None:
    found = tiers.counted(line)
    assert (found.passed, found.failed, found.skipped) == totals


def cloud(**changes: object) -> Cloud:
    values = {
        "cloud_id": "beef",
        "host_id": "h",
        "port": 8080,
        "external_cidr": "172.24.4.0/24",
        "simulated_hosts": 1,
        "user": "u",
        "images": [],
    }
    return Cloud(**{**values, **changes})  # type: ignore[arg-type]


def test_a_directory_that_is_not_a_clouds_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cloud.json").write_text('{"name": "of somebody else"}')
    with pytest.raises(click.ClickException, match="nothing was touched"):
        State(tmp_path).load()


def test_a_directory_with_files_but_no_cloud_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(click.ClickException, match="not empty"):
        provision.settle(State(tmp_path), Asked(simulate=3))


def test_cloud_json_is_what_it_was(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.save(cloud(images=["busybox"]))
    assert state.load() == cloud(images=["busybox"])
    assert json.loads(state.cloud_file.read_text())["format"] == FORMAT


def test_a_secret_file_is_never_readable_by_others(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        write(tmp_path / "secret", "x", mode=0o600)
    finally:
        os.umask(previous)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_clouds_yaml_is_what_clients_read() -> None:
    import yaml

    from nacre.api.config import Bootstrap

    clouds = yaml.safe_load(provision.clouds_yaml(cloud(port=8123), Bootstrap('a"b', "-c: d")))["clouds"]
    assert clouds["nacre-admin"]["auth"]["password"] == 'a"b'
    assert clouds["nacre"]["auth"]["password"] == "-c: d"
    assert clouds["nacre"]["auth"]["auth_url"] == "http://127.0.0.1:8123/identity/v3"


def test_a_newer_clouds_file_is_neither_taken_nor_spoilt(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.save(Cloud("7e57", "host", 8080, "172.24.4.0/24", 1, "root", []))
    newer = {**json.loads(state.cloud_file.read_text()), "of_tomorrow": True}
    state.cloud_file.write_text(json.dumps(newer))
    with pytest.raises(click.ClickException, match="written by a newer Nacre, which knows of_tomorrow"):
        state.load()
    assert json.loads(state.cloud_file.read_text()) == newer
