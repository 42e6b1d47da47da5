"""Virtual environments of other people's programs, beside the launcher's: their libraries shall not meet those that Nacre runs with.

Tempest has one (cli/conformance), and each client that the tests drive the cloud with (tests/clients). An environment is made once for each
content of its constraints file and each Python, under a lock: whoever comes second waits and finds it.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import click

from nacre.cli.state import say

INSTALL_WAIT_S = 900.0
"""How long pip may take to bring and install the packages."""
HASH_DIGITS = 12


@dataclass(frozen=True)
class Wheel:
    """A package too big to be installed whole."""

    pinned: str
    """`NAME==VERSION`."""
    folder: str
    """The only one of its folders that is unpacked, with a slash between its parts."""


@dataclass(frozen=True)
class Environment:
    """What is installed, by the versions of a constraints file. No index is named there: the one that pip is set up with serves."""

    name: str
    constraints: Path
    wanted: tuple[str, ...] = ()
    """The packages asked for, which bring what they need. Without any, the file is the whole list: all of it and nothing else is installed."""
    parts: tuple[Wheel, ...] = ()

    @property
    def directory(self) -> Path:
        made_of = [os.path.realpath(sys.executable), sys.version, repr((self.wanted, self.parts)), self.constraints.read_text()]
        return base() / f"{self.name}-{hashlib.sha256(chr(0).join(made_of).encode()).hexdigest()[:HASH_DIGITS]}"

    def ensure(self) -> Path:
        """The environment's `bin`, made if it is not there. Raises ClickException with pip's last words."""
        directory = self.directory
        directory.parent.mkdir(parents=True, exist_ok=True)
        marker = directory / "ready"
        with directory.with_name(f"{directory.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not marker.exists():
                say(f"making the environment {directory} (once)")
                shutil.rmtree(directory, ignore_errors=True)
                _run(sys.executable, "-m", "venv", "--without-pip", str(directory))
                self._install(directory)
                marker.touch()
        return directory / "bin"

    def _install(self, directory: Path) -> None:
        whole = (
            (*self.wanted, "--constraint", str(self.constraints)) if self.wanted else ("--no-deps", "-r", str(self.constraints))
        )
        _pip("--python", str(directory / "bin" / "python"), "install", *whole)
        for part in self.parts:
            with tempfile.TemporaryDirectory(dir=directory) as brought:
                _pip("download", "--no-deps", "--only-binary", ":all:", "--dest", brought, part.pinned)
                unpack(next(Path(brought).glob("*.whl")), part.folder, _packages(directory))


def unpack(wheel: Path, folder: str, target: Path) -> None:
    """Unpack one folder of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target, [name for name in archive.namelist() if name.startswith(f"{folder}/")])


def base() -> Path:
    """Where the launcher has its environments too: /opt/nacre as root, otherwise the user's data directory."""
    if os.geteuid() == 0:
        return Path("/opt/nacre")
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share")) / "nacre"


def _packages(directory: Path) -> Path:
    return next((directory / "lib").glob("python3*")) / "site-packages"


def _pip(*arguments: str) -> None:
    """Our own pip does it: one less to install."""
    _run(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_WAIT_S, check=False)
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr).strip()[-2000:]}")
