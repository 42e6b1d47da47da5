"""Paths in a guest's root file system, which is the guest's to fill: no name and no link in it leads out of it.

For a guest that does not run: nobody changes the tree while it is walked.
"""

import errno
import os
import stat
from pathlib import Path

LINKS_MAX = 40
"""As the kernel has it (path_resolution(7))."""
FILE_BYTES_MAX = 4 << 20


def follow(rootfs: Path, path: str, *, make_for: int | None = None) -> Path | None:
    """The path as a process whose root is `rootfs` would find it, one step at a time; None when it is not there.

    With `make_for` missing folders are made, owned by that id; raises OSError where something else is in the way.
    """
    parts, at, links = _parts(path), rootfs, 0
    while parts:
        part = parts.pop(0)
        if part == "..":
            at = at.parent if at != rootfs else rootfs
            continue
        step = at / part
        try:
            kind = os.lstat(step).st_mode
        except FileNotFoundError:
            if make_for is None:
                return None
            os.mkdir(step, 0o755)
            os.chown(step, make_for, make_for)
            kind = stat.S_IFDIR
        except OSError:
            if make_for is not None:
                raise
            return None
        if not stat.S_ISLNK(kind):
            at = step
            continue
        links += 1
        if links > LINKS_MAX:
            if make_for is not None:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            return None
        target = os.readlink(step)
        at = rootfs if target.startswith("/") else at
        parts = [*_parts(target), *parts]
    return at


def write(rootfs: Path, path: str, data: bytes, *, owner: int, mode: int = 0o644) -> None:
    """Write a file, in place where it is there; where it is not, it gets that owner and mode, and so do folders that are missing.

    Raises OSError where something else than a file or a folder is in the way.
    """
    found = follow(rootfs, path)
    if found is None:
        folder, _, name = path.rstrip("/").rpartition("/")
        parent = follow(rootfs, folder, make_for=owner)
        if parent is None or name in ("", ".", ".."):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        fd = os.open(parent / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        os.fchown(fd, owner, owner)
        os.fchmod(fd, mode)
    else:
        fd = os.open(found, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(fd, "wb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "no plain file", path)
        file.truncate()
        file.write(data)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def read(rootfs: Path, path: str) -> str:
    """The text of a file; empty when it is not there or is no file. Raises ValueError when it is larger than FILE_BYTES_MAX."""
    found = follow(rootfs, path)
    if found is None:
        return ""
    try:
        # Neither a pipe that nobody writes nor a link keeps the node waiting.
        fd = os.open(found, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return ""
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise ValueError(f"{path} is larger than {FILE_BYTES_MAX} bytes")
    return data.decode(errors="replace")
