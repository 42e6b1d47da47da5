"""Entries of a tar from a guest's tree, named by an open folder and a name in it, so that no link is followed.

Runs in helper processes of the node only: standard library. The guest may change the tree meanwhile; what is gone when its turn comes is
left out, and a file that shrinks is filled up with zeros, as its size was told before.
"""

import bz2  # noqa: F401 - tarfile imports it late.
import io
import lzma  # noqa: F401
import os
import stat
import struct
import sys
import tarfile
from typing import Any

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
BLOCK_BYTES = 1 << 20
IDS = 65536
NOBODY = 65534
_CAPABILITY = "security.capability"
_CAP_REVISION_2, _CAP_REVISION_3, _CAP_REVISION_MASK = 0x02000000, 0x03000000, 0xFF000000
_CAP_2_BYTES, _CAP_3_BYTES = 20, 24


class _Exactly:
    """A file of which there are so many bytes, whatever becomes of it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, size: int) -> bytes:
        data = os.read(self._fd, size)
        while len(data) < size:
            more = os.read(self._fd, size - len(data))
            if not more:
                return data + bytes(size - len(data))
            data += more
        return data


class Writer:
    """Writes a tar to `out`. Ids on the host from `base` on are the guest's 0 to 65535."""

    def __init__(self, out: Any, base: int) -> None:
        self._tar = tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, bufsize=BLOCK_BYTES)  # noqa: SIM115
        self._tar.copybufsize = BLOCK_BYTES  # type: ignore[attr-defined]
        self._base = base
        self._links: dict[tuple[int, int], str] = {}

    def close(self) -> None:
        self._tar.close()

    def mark(self, name: str, mtime: int) -> None:
        """An empty file that means something by its name."""
        info = tarfile.TarInfo(name)
        info.mode, info.mtime = 0, mtime
        self._tar.addfile(info)

    def owner(self, about: os.stat_result) -> tuple[int, int]:
        """The guest's own ids."""
        uid, gid = about.st_uid - self._base, about.st_gid - self._base
        return (uid if 0 <= uid < IDS else NOBODY), (gid if 0 <= gid < IDS else NOBODY)

    def add(self, parent: int, name: str, shown: str, about: os.stat_result) -> None:
        """One entry, `shown` as its name in the tar. Devices and sockets are left out."""
        try:
            self._add(parent, name, shown, about)
        except (FileNotFoundError, NotADirectoryError):
            return  # It went away, or became something else, meanwhile.
        except OSError as error:
            if error.filename is None:  # Writing, not reading.
                raise
            sys.stderr.write(f"{shown} is left out: {error.strerror}\n")

    def _add(self, parent: int, name: str, shown: str, about: os.stat_result) -> None:
        if stat.S_ISDIR(about.st_mode):
            fd = os.open(name, FOLDER, dir_fd=parent)
            try:
                self._tar.addfile(self._about(shown + "/", os.fstat(fd), tarfile.DIRTYPE, fd))
            finally:
                os.close(fd)
        elif stat.S_ISLNK(about.st_mode):
            target = os.readlink(name, dir_fd=parent)
            self._tar.addfile(self._about(shown, about, tarfile.SYMTYPE, link=target))
        elif stat.S_ISFIFO(about.st_mode):
            self._tar.addfile(self._about(shown, about, tarfile.FIFOTYPE))
        elif stat.S_ISREG(about.st_mode):
            self._file(parent, name, shown)

    def _file(self, parent: int, name: str, shown: str) -> None:
        fd = os.open(name, _FILE, dir_fd=parent)
        try:
            about = os.fstat(fd)
            if not stat.S_ISREG(about.st_mode):
                return
            if about.st_nlink > 1:
                first = self._links.setdefault((about.st_dev, about.st_ino), shown)
                if first != shown:
                    self._tar.addfile(self._about(shown, about, tarfile.LNKTYPE, link=first))
                    return
            info = self._about(shown, about, tarfile.REGTYPE, fd)
            info.size = about.st_size
            self._tar.addfile(info, _Exactly(fd))  # type: ignore[arg-type]
        finally:
            os.close(fd)

    def _about(self, shown: str, about: os.stat_result, kind: bytes, fd: int = -1, link: str = "") -> tarfile.TarInfo:
        info = tarfile.TarInfo(shown)
        info.type, info.linkname = kind, link
        info.mode, info.mtime = stat.S_IMODE(about.st_mode), int(about.st_mtime)
        info.uid, info.gid = self.owner(about)
        if fd >= 0:
            info.pax_headers = {
                f"SCHILY.xattr.{key}": value.decode("utf-8", "surrogateescape")
                for key, value in attributes(fd, self._base).items()
            }
        return info


def attributes(fd: int, base: int) -> dict[str, bytes]:
    """The extended attributes that belong into an image: the user's own, and capabilities."""
    found = {}
    for key in sorted(os.listxattr(fd)):
        if key.startswith("user."):
            found[key] = os.getxattr(fd, key)
        elif key == _CAPABILITY:
            value = _capability(os.getxattr(fd, key), base)
            if value:
                found[key] = value
    return found


def _capability(value: bytes, base: int) -> bytes:
    """A file's capabilities as those of the guest's root (capabilities(7)): in the guest's user namespace they bear its root's id."""
    magic = struct.unpack_from("<I", value)[0] if len(value) >= 4 else 0
    if magic & _CAP_REVISION_MASK == _CAP_REVISION_2:
        return value
    if magic & _CAP_REVISION_MASK != _CAP_REVISION_3 or len(value) != _CAP_3_BYTES:
        return b""
    if struct.unpack_from("<I", value, _CAP_2_BYTES)[0] != base:
        return b""
    return struct.pack("<I", magic & ~_CAP_REVISION_MASK | _CAP_REVISION_2) + value[4:_CAP_2_BYTES]


def warm() -> None:
    """Let tarfile import what it imports late, while the interpreter's library can still be found."""
    empty = io.BytesIO()
    with tarfile.open(fileobj=empty, mode="w:gz"):
        pass
    with tarfile.open(fileobj=io.BytesIO(empty.getvalue()), mode="r|*") as tar:
        list(tar)
    tarfile.TarInfo("\u00e9").tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
