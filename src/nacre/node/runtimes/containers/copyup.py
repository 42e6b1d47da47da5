"""Docker's copy-up: an empty volume gets what the image has at the place where it is mounted.

The volume may be in use by another guest at the same time, so nothing is done by path: every step goes from an open folder to a
name in it, and no link is followed (openat(2)). The image is seen with the guest's ids on this host; a volume holds plain ones.
"""

import contextlib
import errno
import os
import shutil
import stat
from pathlib import Path

from nacre.node.runtimes.containers.slots import IDS_PER_SLOT

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
DEPTH_MAX = 256
LOST_AND_FOUND = "lost+found"
NOBODY = 65534


def copy_up(source: Path, target: int, base_id: int) -> None:
    """Copy the folder's content and its own mode and owner, unless the target, an open folder, has something in it. Raises OSError."""
    if [name for name in os.listdir(target) if name != LOST_AND_FOUND]:
        return
    came = os.open(source, _FOLDER)
    try:
        _Copy(base_id).folder(came, target, 0)
    finally:
        os.close(came)


class _Copy:
    def __init__(self, base_id: int) -> None:
        self._base_id = base_id

    def _owner(self, about: os.stat_result) -> tuple[int, int]:
        uid, gid = (number - self._base_id for number in (about.st_uid, about.st_gid))
        return (uid if 0 <= uid < IDS_PER_SLOT else NOBODY), (gid if 0 <= gid < IDS_PER_SLOT else NOBODY)

    def folder(self, source: int, target: int, depth: int) -> None:
        if depth > DEPTH_MAX:
            raise OSError(errno.ELOOP, f"folders lie more than {DEPTH_MAX} deep")
        for name in os.listdir(source):
            about = os.lstat(name, dir_fd=source)
            with contextlib.suppress(FileExistsError):  # Somebody else made it meanwhile: it is theirs.
                self._entry(name, about, source, target, depth)
        about = os.fstat(source)
        os.fchown(target, *self._owner(about))
        os.fchmod(target, stat.S_IMODE(about.st_mode))
        os.utime(target, ns=(about.st_atime_ns, about.st_mtime_ns))

    def _entry(self, name: str, about: os.stat_result, source: int, target: int, depth: int) -> None:
        if stat.S_ISDIR(about.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            came, goes = os.open(name, _FOLDER, dir_fd=source), -1
            try:
                goes = os.open(name, _FOLDER, dir_fd=target)
                self.folder(came, goes, depth + 1)
            finally:
                os.close(came)
                if goes >= 0:
                    os.close(goes)
        elif stat.S_ISREG(about.st_mode):
            self._file(name, about, source, target)
        elif stat.S_ISLNK(about.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            os.chown(name, *self._owner(about), dir_fd=target, follow_symlinks=False)
        elif stat.S_ISFIFO(about.st_mode):
            os.mkfifo(name, stat.S_IMODE(about.st_mode), dir_fd=target)
            os.chown(name, *self._owner(about), dir_fd=target, follow_symlinks=False)

    def _file(self, name: str, about: os.stat_result, source: int, target: int) -> None:
        reads = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
        with os.fdopen(reads, "rb") as came:
            writes = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=target)
            with os.fdopen(writes, "wb") as goes:
                shutil.copyfileobj(came, goes, 1 << 20)
                goes.flush()
                os.fchown(writes, *self._owner(about))
                for key in os.listxattr(reads):
                    if key.startswith("user."):
                        os.setxattr(writes, key, os.getxattr(reads, key))
                os.fchmod(writes, stat.S_IMODE(about.st_mode))
                os.utime(writes, ns=(about.st_atime_ns, about.st_mtime_ns))
