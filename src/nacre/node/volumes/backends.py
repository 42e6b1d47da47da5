"""Where the node's own volumes lie: subvolumes of a btrfs in a file, or directories. One small interface; all of it blocks.

What is being made or taken away bears another name (`.new`, `.gone`): a kill at any point leaves either nothing, the volume, or such a
name, which `tidy` takes away. Files keep the ids that the guest's own users have (root is 0): a guest sees them through an id-mapped mount.
"""

import logging
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from nacre.node.runtimes.containers import kernel
from nacre.node.volumes import btrfs

POOL_SHARE = 0.9
"""How much of what is free on the disk the file of the pool may come to take. It is sparse: it takes what is written."""
POOL_BYTES_MIN = 256 << 20
RESERVE_BYTES = 128 << 20
"""With less than this left on the disk no volume is made: a pool whose disk is full loses what is written to it."""
COPY_TIMEOUT_S = 3600.0
TOOL_TIMEOUT_S = 60.0
NEW, GONE = ".new", ".gone"

log = logging.getLogger("nacre.node")


class Backend(Protocol):
    """One way to keep volumes. All methods block and raise OSError."""

    name: str
    root: Path
    limits_size: bool

    def make(self, ident: str, size_bytes: int | None) -> None: ...

    def copy(self, source: str, ident: str, size_bytes: int | None) -> None:
        """A writable copy of another volume as it is now."""

    def limit(self, ident: str, size_bytes: int | None) -> None: ...

    def remove(self, ident: str) -> None: ...

    def usage(self, ident: str) -> int: ...

    def device(self) -> str: ...


class Directories:
    """Plain directories: a snapshot is a copy (by reference where the file system can), and nothing limits the size."""

    name = "directory"
    limits_size = False

    def __init__(self, root: Path) -> None:
        self.root = root
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        tidy(self)

    def make(self, ident: str, size_bytes: int | None) -> None:
        path = _scratch(self, ident)
        path.mkdir(mode=0o755)
        path.rename(self.root / ident)

    def copy(self, source: str, ident: str, size_bytes: int | None) -> None:
        path = _scratch(self, ident)
        # A copy ends with its node: the next one takes away what there is of it, and must not find it growing.
        command = (
            "setpriv",
            "--pdeathsig",
            "KILL",
            "cp",
            "--archive",
            "--reflink=auto",
            "--no-target-directory",
            "--",
            str(self.root / source),
            str(path),
        )
        run_tool(*command, timeout_s=COPY_TIMEOUT_S)
        path.rename(self.root / ident)

    def limit(self, ident: str, size_bytes: int | None) -> None:
        return None

    def remove(self, ident: str) -> None:
        _set_aside(self, ident, shutil.rmtree)

    def usage(self, ident: str) -> int:
        blocks = sum(Path(folder, name).lstat().st_blocks for folder, _, files in os.walk(self.root / ident) for name in files)
        return blocks * 512

    def device(self) -> str:
        return whole_disk(self.root)


class Pool:
    """Subvolumes of a btrfs in a sparse file: snapshots in milliseconds, sizes enforced by qgroups."""

    name = "btrfs"
    limits_size = True

    def __init__(self, folder: Path, size_bytes: int | None = None) -> None:
        self.file, self.root = folder / "pool.btrfs", folder / "pool"
        if not is_mounted(self.root):
            self._open(size_bytes)
        tidy(self)

    def _open(self, size_bytes: int | None) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.file.exists():
            self._format(size_bytes)
        for stale in loops_of(self.file):  # Left by a kill between the loop device and its mount.
            run_tool("losetup", "--detach", stale)
        loop = run_tool("losetup", "--find", "--show", "--direct-io=on", str(self.file)).strip()
        try:
            kernel.mount(loop, self.root, "btrfs", kernel.MS_NODEV, "discard=async")
        finally:
            # The kernel takes the device away with its last user: at once if the mount failed, else when it is unmounted.
            run_tool("losetup", "--detach", loop)
        self.root.chmod(0o700)

    def _format(self, size_bytes: int | None) -> None:
        if size_bytes is None:
            size_bytes = int(free_bytes(self.file.parent) * POOL_SHARE) >> 20 << 20
        if size_bytes < POOL_BYTES_MIN:
            raise OSError(f"a pool of {size_bytes >> 20} MiB is too small, it needs {POOL_BYTES_MIN >> 20} MiB of disk")
        scratch = self.file.with_name(self.file.name + NEW)
        with scratch.open("wb") as file:
            file.truncate(size_bytes)
        scratch.chmod(0o600)
        run_tool("mkfs.btrfs", "--quiet", "--metadata", "single", "--runtime-features", "quota", str(scratch))
        scratch.rename(self.file)

    def make(self, ident: str, size_bytes: int | None) -> None:
        path = _scratch(self, ident)
        btrfs.create(path)
        path.chmod(0o755)
        btrfs.limit(path, size_bytes)
        path.rename(self.root / ident)

    def copy(self, source: str, ident: str, size_bytes: int | None) -> None:
        path = _scratch(self, ident)
        btrfs.snapshot(self.root / source, path)
        btrfs.limit(path, size_bytes)
        path.rename(self.root / ident)

    def limit(self, ident: str, size_bytes: int | None) -> None:
        btrfs.limit(self.root / ident, size_bytes)

    def remove(self, ident: str) -> None:
        _set_aside(self, ident, btrfs.destroy)

    def usage(self, ident: str) -> int:
        return btrfs.usage(self.root / ident)

    def device(self) -> str:
        loops = loops_of(self.file)
        if not loops:
            return ""
        number = os.stat(loops[0]).st_rdev
        return f"{os.major(number)}:{os.minor(number)}"


def tidy(backend: Backend) -> None:
    """Take away what a kill left half made or half removed."""
    for path in backend.root.iterdir():
        if path.suffix in (NEW, GONE):
            btrfs.destroy(path) if backend.name == "btrfs" else shutil.rmtree(path)


def _scratch(backend: Backend, ident: str) -> Path:
    """Where the volume is made before it has its name. Raises OSError when the disk is nearly full."""
    left = free_bytes(backend.root.parent)
    if left < RESERVE_BYTES:
        raise OSError(f"the disk that bears the volumes has only {left >> 20} MiB left, {RESERVE_BYTES >> 20} MiB are kept free")
    path = backend.root / (ident + NEW)
    if path.exists():
        btrfs.destroy(path) if backend.name == "btrfs" else shutil.rmtree(path)
    return path


def _set_aside(backend: Backend, ident: str, undo: Callable[[Path], None]) -> None:
    path, aside = backend.root / ident, backend.root / (ident + GONE)
    if path.exists():
        path.rename(aside)
    if aside.exists():
        undo(aside)


def free_bytes(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def is_mounted(path: Path) -> bool:
    return any(entry.target == str(path) for entry in kernel.mounts())


def loops_of(file: Path) -> list[str]:
    """The loop devices that bear the file."""
    return run_tool("losetup", "--noheadings", "--output", "NAME", "--associated", str(file)).split()


def whole_disk(path: Path) -> str:
    """MAJOR:MINOR of the disk under the path, on which cgroups can set rates; empty where it is not one disk."""
    number = path.stat().st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not device.exists():
        return ""
    if (device / "partition").exists():
        device = device.resolve().parent
    return (device / "dev").read_text().strip()


def run_tool(*command: str, timeout_s: float = TOOL_TIMEOUT_S) -> str:
    """What it says. Raises OSError with its complaint."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise OSError(f"{command[0]} did not end within {timeout_s:.0f} s") from None
    if done.returncode:
        raise OSError(f"{command[0]}: {done.stderr.strip() or done.stdout.strip() or f'exit status {done.returncode}'}")
    return done.stdout
