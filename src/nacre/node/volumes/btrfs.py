"""The calls to btrfs that Python has no name for (linux/btrfs.h). Each is an ioctl or two, blocks, and raises OSError.

A subvolume is a directory that can be copied as it is at one moment (a snapshot), limited in size (its qgroup) and dropped at once.
"""

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SYNC = 0x9408
_SUBVOL_CREATE, _SNAP_CREATE_V2, _SNAP_DESTROY = 0x5000940E, 0x50009417, 0x5000940F
_SUBVOL_SETFLAGS = 0x4008941A
_QGROUP_LIMIT = 0x8030942B
_TREE_SEARCH, _INO_LOOKUP = 0xD0009411, 0xD0009412
_ARGUMENT_BYTES = 4096
_FIRST_INODE = 256
"""The inode of every subvolume's own directory."""
_QUOTA_TREE, _QGROUP_INFO = 8, 242
_LIMIT_REFERENCED = 1
_HEADER = struct.Struct("=QQQII")
_MAX = 2**64 - 1


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield fd
    finally:
        os.close(fd)


def _named(layout: str, *values: int, name: str) -> bytearray:
    # Mutable: fcntl takes no longer constant bytes than 1024.
    return bytearray(struct.pack(layout, *values) + name.encode().ljust(_ARGUMENT_BYTES - struct.calcsize(layout), b"\0"))


def create(path: Path) -> None:
    with _opened(path.parent) as parent:
        fcntl.ioctl(parent, _SUBVOL_CREATE, _named("=q", 0, name=path.name))


def snapshot(source: Path, target: Path) -> None:
    """A writable copy of the subvolume as it is now; what its users write meanwhile is in it or not, as after a crash."""
    with _opened(source) as fd, _opened(target.parent) as parent:
        fcntl.ioctl(parent, _SNAP_CREATE_V2, _named("=qQQ4Q", fd, 0, 0, 0, 0, 0, 0, name=target.name))


def limit(path: Path, size_bytes: int | None) -> None:
    """How much the subvolume may hold; None is without limit. Who writes beyond it gets EDQUOT."""
    with _opened(path) as fd:
        fcntl.ioctl(
            fd, _QGROUP_LIMIT, struct.pack("=6Q", 0, _LIMIT_REFERENCED, _MAX if size_bytes is None else size_bytes, 0, 0, 0)
        )


def usage(path: Path) -> int:
    """Bytes that the subvolume refers to, as of now. Raises OSError (ENODATA) where the file system keeps no account."""
    with _opened(path) as fd:
        fcntl.ioctl(fd, _SYNC)
        lookup = bytearray(_ARGUMENT_BYTES)
        struct.pack_into("=QQ", lookup, 0, 0, _FIRST_INODE)
        fcntl.ioctl(fd, _INO_LOOKUP, lookup)
        (subvolume,) = struct.unpack_from("=Q", lookup)
        search = bytearray(_ARGUMENT_BYTES)
        key = (_QUOTA_TREE, 0, 0, subvolume, subvolume, 0, _MAX, _QGROUP_INFO, _QGROUP_INFO, 1, 0)
        struct.pack_into("=7Q4I", search, 0, *key)
        fcntl.ioctl(fd, _TREE_SEARCH, search)
        (found,) = struct.unpack_from("=I", search, struct.calcsize("=7Q2I"))
        if not found:
            raise OSError(errno.ENODATA, "btrfs keeps no account of it", str(path))
        _generation, referenced = struct.unpack_from("=QQ", search, struct.calcsize("=7Q4I4Q") + _HEADER.size)
        return int(referenced)


def destroy(path: Path) -> None:
    """Drop the subvolume, with those that its users made inside of it."""
    try:
        _destroy(path)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        for inner in _inner(path):
            _destroy(inner)
        _destroy(path)


def _destroy(path: Path) -> None:
    with _opened(path) as fd:
        fcntl.ioctl(fd, _SUBVOL_SETFLAGS, struct.pack("=Q", 0))
    with _opened(path.parent) as parent:
        fcntl.ioctl(parent, _SNAP_DESTROY, _named("=q", 0, name=path.name))


def _inner(path: Path) -> list[Path]:
    """The subvolumes below, innermost first."""
    found = []
    for folder, names, _ in os.walk(path):
        for name in names:
            inner = Path(folder, name)
            if inner.lstat().st_ino == _FIRST_INODE and stat.S_ISDIR(inner.lstat().st_mode):
                found.append(inner)
    return found[::-1]
