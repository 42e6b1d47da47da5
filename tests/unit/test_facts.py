"""Facts of a host: from the kernel's files, from an operator's folder, and beside the real Facter where that is installed."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nacre.node.facts import Facts, Told
from nacre.node.facts.external import FILE_BYTES_MAX, ExternalFacts, parse
from nacre.node.facts.overload import CpuMeter
from nacre.node.facts.source import Source
from nacre.node.facts.virtual import virtual

EXAMPLES = Path(__file__).parents[2] / "examples/facts.d"


def tree(root: Path, files: dict[str, str]) -> Source:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return Source(root)


HYPERVISOR = {"proc/cpuinfo": "flags\t\t: fpu hypervisor lahf_lm\n", "proc/1/cgroup": "0::/init.scope\n"}
CLOCKS = "sys/devices/system/clocksource/clocksource0/available_clocksource"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/cpuinfo": "flags: fpu vmx\n"}, "physical"),
        ({}, "physical"),
        (HYPERVISOR, "virtual"),
        (HYPERVISOR | {CLOCKS: "tsc kvm-clock acpi_pm"}, "kvm"),
        (HYPERVISOR | {CLOCKS: "tsc hyperv_clocksource_tsc_page"}, "hyperv"),
        (HYPERVISOR | {"sys/class/dmi/id/product_name": "VirtualBox"}, "virtualbox"),
        (HYPERVISOR | {"sys/class/dmi/id/sys_vendor": "VMware, Inc."}, "vmware"),
        ({"sys/class/dmi/id/sys_vendor": "QEMU"}, "kvm"),
        ({"sys/class/dmi/id/sys_vendor": "Dell Inc.", "sys/class/dmi/id/product_name": "PowerEdge R630"}, "physical"),
        ({"proc/xen/capabilities": "control_d\n"}, "xen0"),
        ({"sys/hypervisor/type": "xen", "sys/hypervisor/guest_type": "HVM"}, "xenhvm"),
        ({"proc/1/environ": "PATH=/bin\0container=lxc\0"}, "lxc"),
        ({"run/systemd/container": "systemd-nspawn"}, "systemd_nspawn"),
        (HYPERVISOR | {"proc/1/cgroup": "12:pids:/docker/3fa\n"}, "docker"),
        ({".dockerenv": "", "proc/self/mounts": "overlay / overlay rw 0 0\n"}, "docker"),
        (HYPERVISOR | {".dockerenv": "", "proc/self/mounts": "/dev/vda / ext4 rw 0 0\n", CLOCKS: "kvm-clock"}, "kvm"),
    ],
)
def test_on_what_the_host_runs(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    assert virtual(tree(tmp_path, files)) == expected


def test_the_overload_is_two_digits_over_ten_minutes(tmp_path: Path) -> None:
    def stat(busy: int, idle: int) -> Source:
        return tree(tmp_path, {"proc/stat": f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 1 1\n"})

    meter = CpuMeter()
    assert meter.read(stat(500, 500), 0.0) == "50"  # Since the boot.
    assert meter.read(stat(500, 600), 10.0) == "00"
    assert meter.read(stat(506, 694), 20.0) == "03"
    for second in range(30, 610, 10):
        meter.read(stat(506, 694), float(second))
    assert meter.read(stat(1506, 694), 620.0) == "99"
    assert meter.read(stat(1506, 1694), 630.0) == "50"
    for second in range(640, 1240, 10):
        last = meter.read(stat(1506, 1694 + second), float(second))
    assert last == "00"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users can reach, as a program's `nobody` must."""
    made = Path(tempfile.mkdtemp(prefix="nacre-facts-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_facts_of_files_and_programs(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A user's name stands for what the program may: root's programs run as nobody."""
    (folder / "a.txt").write_text("# mine\nvirtual=physical\nrack = 7 b\nno fact\n")
    (folder / "b.yaml").write_text("is_virtual: false\nsite: {row: 3, since: 2026-01-02}\nnothing:\n")
    (folder / "c.json").write_text('{"virtual": "virtualbox", "drivers": ["a", "b"]}')
    (folder / "d.ini").write_text("x=1")
    (folder / "e.json").write_text("{")
    program(folder, "p1", "echo user=$(id -un); echo home=$HOME")
    program(folder, "p2.sh", """echo '{"free_swap": 12.5}'""")
    program(folder, "p3", "echo broken=1; exit 3")
    program(folder, "p4", f"head -c {FILE_BYTES_MAX + 10} /dev/zero")
    facts = ExternalFacts([folder / "absent", folder])
    asyncio.run(facts.run_programs())
    found = facts.read()
    assert found == {
        "virtual": "virtualbox",
        "rack": "7 b",
        "is_virtual": False,
        "site": {"row": 3, "since": "2026-01-02"},
        "drivers": ["a", "b"],
        "user": "nobody" if os.geteuid() == 0 else found["user"],
        "home": "",
        "free_swap": 12.5,
    }
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 4
    assert any("p3" in line and "ended with status 3" in line for line in said)
    facts.read()
    assert len(caplog.records) == 4, "a refusal is said once"
    (folder / "c.json").write_text('{"virtual": "vmware"}')
    assert facts.read()["virtual"] == "vmware"


def test_the_examples_are_facts(folder: Path) -> None:
    for name, mode in (("system_overload.sh", 0o755), ("swap.txt", 0o644)):
        shutil.copy(EXAMPLES / name, folder / name)
        (folder / name).chmod(mode)
    facts = ExternalFacts([folder])
    asyncio.run(facts.run_programs())
    found = facts.read()
    assert found.keys() == {"system_overload_10min", "swap_class"}
    assert re.fullmatch("[0-9]{2}", str(found["system_overload_10min"]))
    assert found["swap_class"] == "plenty"


def test_a_program_that_never_ends_is_ended_with_all_it_began(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("nacre.node.facts.external.PROGRAM_TIMEOUT_S", 0.3)
    marker = f"29999.{os.getpid()}"
    program(folder, "slow", f"sleep {marker} & sleep {marker}")
    facts = ExternalFacts([folder])
    asyncio.run(facts.run_programs())
    assert facts.read() == {}
    assert "did not end within" in caplog.text
    deadline = time.monotonic() + 30
    while subprocess.run(["pgrep", "-f", f"^sleep {marker}"], stdout=subprocess.DEVNULL, check=False).returncode == 0:
        assert time.monotonic() < deadline


def test_what_others_may_write_is_refused(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "open.txt").write_text("virtual=vmware")
    (folder / "open.txt").chmod(0o666)
    (folder / "link.txt").symlink_to("/etc/hostname")
    assert ExternalFacts([folder]).read() == {}
    assert "open.txt: others than its owner may write" in caplog.text
    (folder / "open.txt").chmod(0o644)
    assert ExternalFacts([folder]).read() == {"virtual": "vmware"}
    folder.chmod(0o777)
    assert ExternalFacts([folder]).read() == {}
    if os.geteuid() == 0:
        folder.chmod(0o755)
        os.chown(folder / "open.txt", 65534, 65534)
        assert ExternalFacts([folder]).read() == {}
        assert "it does not belong to root" in caplog.text


@pytest.mark.parametrize("data", [b"\xff", b"[1]", b"x" * (FILE_BYTES_MAX + 1), b'{"a":' * 2000])
def test_what_cannot_be_read_as_facts(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse(data, ".json")


def test_only_what_changed_is_sent(folder: Path) -> None:
    facts = Facts([folder], given={"virtual": "simulated", "hostname": "sim-1"})
    told = Told(facts.all)
    assert told.first == {"virtual": "simulated", "hostname": "sim-1"}
    facts.refresh()
    assert told.changes() == {}
    (folder / "x.txt").write_text("virtual=virtualbox\nrack=7\n")
    facts.refresh()
    assert told.changes() == {"virtual": "virtualbox", "rack": "7"}
    assert told.changes() == {}
    (folder / "x.txt").unlink()
    facts.refresh()
    assert told.changes() == {"virtual": "simulated", "rack": None}


def test_this_hosts_facts_are_whole(folder: Path) -> None:
    """An override of a structured fact shows in the flat ones too; a flat override wins over both."""
    (folder / "os.yaml").write_text("os: {name: Plan9, hardware: mips, selinux: {enforced: false}}\narchitecture: riscv\n")
    facts = Facts([folder]).all()
    assert (facts["operatingsystem"], facts["hardwaremodel"], facts["architecture"]) == ("Plan9", "mips", "riscv")
    assert facts["processorcount"] == os.cpu_count()
    assert facts["selinux_enforced"] is False
    assert len(facts["system_overload_10min"]) == 2
    assert facts["memoryfree_mb"] > 0
    assert facts["swapfree_mb"] >= 0
    assert facts["volume_drivers"][0] == "local"


_MOVING = ("load_averages", "memory", "memoryfree", "memoryfree_mb", "uptime", "uptime_seconds", "system_uptime", "mountpoints")
_ELSEWHERE = {"architecture": "hardwaremodel"}
"""Where we differ by intent: the flat name says what the documents say."""


@pytest.mark.skipif(shutil.which("facter") is None, reason="the real Facter is not installed")
def test_the_real_facter_says_the_same() -> None:
    done = subprocess.run(
        ["facter", "--show-legacy", "-j"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=120, check=False
    )
    theirs = json.loads(done.stdout)
    ours = Facts().all()
    compared = []

    def compare(mine: Any, other: Any, place: str) -> None:
        if isinstance(mine, dict) and isinstance(other, dict):
            for name in mine.keys() & other.keys():
                compare(mine[name], other[name], f"{place}.{name}")
        elif isinstance(mine, str | int | float) and other != "unknown":
            assert mine == other, f"{place}: {mine!r} here, {other!r} by Facter"
            compared.append(place)

    for name in ours.keys() & theirs.keys() - {*_MOVING, "interfaces", "blockdevices", "path"}:
        compare(ours[name], theirs[_ELSEWHERE.get(name, name)], name)
    assert ours["memory"]["system"]["total_bytes"] == theirs["memory"]["system"]["total_bytes"]
    assert {"kernelrelease", "operatingsystem", "os.distro.codename", "processors.count", "networking.hostname"} <= set(compared)
