"""Tempest's own virtual environment, beside the launcher's: its libraries shall not meet those that Nacre runs with."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click

from nacre.cli.state import say

TEMPEST_VERSION = "47.0.0"
CONSTRAINTS = Path(__file__).with_name("constraints.txt")
INSTALL_WAIT_S = 900.0
"""How long pip may take to bring and install Tempest."""


def base() -> Path:
    """Where the launcher has its environments too: /opt/nacre as root, otherwise the user's data directory."""
    if os.geteuid() == 0:
        return Path("/opt/nacre")
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share")) / "nacre"


def ensure() -> Path:
    """The environment's `bin`, made if it is not there or holds other versions. Raises ClickException with pip's last words."""
    directory = base() / f"tempest-{TEMPEST_VERSION}"
    directory.parent.mkdir(parents=True, exist_ok=True)
    marker = directory / "ready"
    wanted = hashlib.sha256(CONSTRAINTS.read_bytes()).hexdigest()
    with directory.with_name(f"{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not marker.exists() or marker.read_text() != wanted:
            _make(directory)
            marker.write_text(wanted)
    return directory / "bin"


def _make(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    say(f"making the environment {directory} (once, about a minute)")
    _run(sys.executable, "-m", "venv", str(directory))
    pip = [str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run(*pip, "--constraint", str(CONSTRAINTS), f"tempest=={TEMPEST_VERSION}")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_WAIT_S, check=False)
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr).strip()[-2000:]}")
