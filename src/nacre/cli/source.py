"""Where the cloud's processes run from: the code in place where the API's user can read it, otherwise a copy in the state directory."""

import compileall
import hashlib
import os
import shutil
import stat
import sys
from pathlib import Path

import click

from nacre.cli.state import State

PACKAGE = Path(__file__).resolve().parent.parent
"""The directory `nacre` that this very process was imported from."""


def closed_parent(path: Path) -> Path | None:
    """The first directory on the way to `path` (or itself) that others may not enter, or None."""
    for directory in (*reversed(path.parents), path):
        if not directory.stat().st_mode & (stat.S_IXOTH if directory.is_dir() else stat.S_IROTH):
            return directory
    return None


def readable_by_all(tree: Path) -> bool:
    """Whether any user can read a tree: each directory on the way and each file in it."""
    if closed_parent(tree) is not None:
        return False
    for directory, names, files in os.walk(tree):
        names[:] = [name for name in names if name != "__pycache__"]
        if (os.stat(directory).st_mode & 0o005) != 0o005:
            return False
        if any(not os.stat(os.path.join(directory, file)).st_mode & stat.S_IROTH for file in files):
            return False
    return True


def digest_of(tree: Path) -> str:
    """A name for the content of a tree of source files."""
    digest = hashlib.sha256()
    for path in sorted(tree.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(str(path.relative_to(tree)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def require_readable_python() -> None:
    """The API's user runs the same interpreter and libraries."""
    for path in (Path(sys.executable).resolve(), Path(sys.prefix)):
        closed = closed_parent(path)
        if closed is not None:
            raise click.ClickException(
                f"the cloud's user cannot reach {path} ({closed} is closed to it): run the launcher ./nacre, or install under /opt"
            )


def prepare(state: State, *, shared: bool) -> Path:
    """The directory to put on the processes' module path. `shared`: another user than this one runs the API."""
    if os.access(PACKAGE, os.W_OK):
        # Compiled here once; the API's user could not write the compiled files, and would compile at each start.
        compileall.compile_dir(PACKAGE, quiet=2)
    if not shared:
        return PACKAGE.parent
    require_readable_python()
    if readable_by_all(PACKAGE):
        return PACKAGE.parent
    home = state.code / digest_of(PACKAGE)
    if not (home / "complete").exists():
        shutil.rmtree(home, ignore_errors=True)
        # Times are kept, so the compiled files stay valid.
        shutil.copytree(PACKAGE, home / "nacre", copy_function=shutil.copy2)
        for path in (home, *home.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        (home / "complete").touch()
    for old in state.code.iterdir():
        if old != home:
            shutil.rmtree(old, ignore_errors=True)
    return home
