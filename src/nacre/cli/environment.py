"""Makes the launcher's virtual environment. Run by the system's Python, with nothing but the standard library.

    python3 -I environment.py CLONE ENVIRONMENT MARKER

MARKER is `ready` (what Nacre runs with) or `ready-dev` (and what its tests need). Several launchers may run this at once: one makes
the environment, the others wait. An environment without its marker was left by an interrupted one, and is made anew.
"""

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path


def say(line: str) -> None:
    print(f"nacre: {line}", file=sys.stderr, flush=True)


def run(*command: str, env: dict[str, str] | None = None) -> None:
    """Runs a command, its output to stderr; leaves with its cause when it fails."""
    done = subprocess.run(command, stdout=sys.stderr, env=env, check=False)
    if done.returncode:
        say(f"failed (exit {done.returncode}): {' '.join(command)}")
        sys.exit(1)


def ensure_venv() -> None:
    """Debian ships `venv` without `ensurepip`; the package python3-venv brings it."""
    if importlib.util.find_spec("ensurepip") is not None:
        return
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    if os.geteuid() != 0:
        say(f"the Debian package {package} is missing. Run: sudo apt-get install -y {package}")
        sys.exit(1)
    say(f"installing Debian packages: {package}")
    noninteractive = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-qq", env=noninteractive)
    run("apt-get", "install", "-y", "-qq", "--no-install-recommends", package, env=noninteractive)


def requirements(clone: Path, marker: str) -> list[str]:
    project = tomllib.loads((clone / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    if marker == "ready-dev":
        wanted += project["optional-dependencies"]["dev"]
    return wanted


def make(clone: Path, environment: Path, marker: str) -> None:
    """Makes the environment, or adds to a ready one what the marker asks for."""
    python = environment / "bin" / "python"
    if not (environment / "ready").exists() or not os.access(python, os.X_OK):
        shutil.rmtree(environment, ignore_errors=True)
        ensure_venv()
        say(f"making the environment {environment} (once)")
        run(sys.executable, "-m", "venv", str(environment))
    wanted = requirements(clone, marker)
    say(f"installing pinned Python packages: {' '.join(wanted)}")
    constraints = str(clone / "constraints.txt")
    # pip may read its user's own configuration; only the versions are ours.
    run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", constraints, *wanted)
    for name in {"ready", marker}:
        (environment / name).touch()


def main() -> None:
    clone, environment, marker = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    os.umask(0o022)
    environment.parent.mkdir(parents=True, exist_ok=True)
    with environment.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (environment / marker).exists() or not os.access(environment / "bin" / "python", os.X_OK):
            make(clone, environment, marker)


if __name__ == "__main__":
    main()
