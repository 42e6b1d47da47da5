"""What the node runs beside a guest's own process: health checks and changes of passwords, also both at once."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from nacre.node.runtimes.containers import health
from nacre.node.runtimes.containers.layout import GuestPaths


class _Containers:
    """One guest's folder, and a launcher that keeps what it was to run."""

    def __init__(self, root: Path) -> None:
        self.paths = GuestPaths(root, "guest")
        self.layout = self.launcher = self
        self.run: list[tuple[Path, Path]] = []

    def guest(self, guest_id: str) -> GuestPaths:
        return self.paths

    def spawn_exec(self, guest_id: str, process: Path, pid_file: Path, output: int) -> int:
        self.run.append((process, pid_file))
        return 0


@pytest.fixture
def containers(tmp_path: Path) -> Any:
    made = _Containers(tmp_path)
    made.paths.bundle.mkdir(parents=True)
    (made.paths.bundle / "config.json").write_text(json.dumps({"process": {"args": ["own"], "env": ["A=1"]}}))
    return made


def test_a_health_check_and_a_change_of_a_password_at_once_run_what_each_was_to_run(containers: Any) -> None:
    """They shared one file: crun read whichever was written last, and a password was said to be changed that was not."""
    paths = containers.paths
    check = health.Run(containers, "guest", (paths.health_process, paths.health_pid_file))
    change = health.Run(containers, "guest", (paths.password_process, paths.password_pid_file), {"SECRET": "s"})
    change._spawn(["change"], 1)
    check._spawn(["check"], 1)
    documents = [json.loads(process.read_bytes()) for process, _ in containers.run]
    assert [document["args"] for document in documents] == [["change"], ["check"]]
    assert [document["env"] for document in documents] == [["A=1", "SECRET=s"], ["A=1"]]
    assert len({pid_file for _, pid_file in containers.run}) == 2


def test_nobody_else_reads_the_environment_of_a_command(containers: Any) -> None:
    paths = containers.paths
    paths.password_process.write_text("left by an earlier version, for all to read")
    before = os.umask(0)
    try:
        run = health.Run(containers, "guest", (paths.password_process, paths.password_pid_file), {"SECRET": "s"})
        run._spawn(["change"], 1)
    finally:
        os.umask(before)
    assert stat.S_IMODE(paths.password_process.stat().st_mode) == 0o600
