"""A guest's disk as a tar, for another host: all that is in its overlay's upper folder, as it lies there, and its log.

A helper process of the node (see files.py): standard library. `upper/...` are the guest's files with ids of its own range, their extended
attributes (those by which an overlay hides what is below, too), hard links as such and holes left out (GNU's sparse format 1.0 in PAX
headers); `logs/...` is what it said; `checkpoint/...` is what it was in the middle of; `record.json` is what the other node must know.
Sockets are left out: nobody listens on them any more.

The bytes come from another host: no name leads out of the folder, no link is followed, and no device is made but the overlay's whiteouts.
"""

import json
import os
import stat
import struct
import tarfile
from typing import Any

import tars  # type: ignore[import-not-found]  # Beside this file: it runs as a script, apart from the package.
from helping import Trouble  # type: ignore[import-not-found]

MEMBERS_MAX = 20_000_000
RECORD_BYTES_MAX = 1 << 20
DEPTH_MAX = 512
_BLOCK = 512
_XATTR = "SCHILY.xattr."
_KEPT = frozenset(f"trusted.overlay.{name}" for name in ("opaque", "redirect", "metacopy", "protattr"))
"""Marks that mean the same on another host; `origin` and its like name files of the one where they were made."""
_CAPABILITY = "security.capability"
_CAP_REVISION_3, _CAP_FLAGS = 0x03000000, 0x00FFFFFF
_ACLS = frozenset({"system.posix_acl_access", "system.posix_acl_default"})
_ACL_NAMED = (0x02, 0x08)
"""Entries of an access control list that bear an id: of a user, of a group (acl(5))."""


def pack(request: dict[str, Any]) -> None:
    """To stdout. `request`: upper, logs, base, record, and of a guest that was checkpointed: checkpoint."""
    with open(1, "wb", buffering=0, closefd=False) as out:
        packer = _Packer(out, request["base"])
        packer.put("record.json", json.dumps(request["record"]).encode())
        for root in filter(request.get, ("logs", "checkpoint", "upper")):
            fd = os.open(request[root], tars.FOLDER)
            try:
                packer.folder(fd, root, 0)
            finally:
                os.close(fd)
        packer.close()


class _Packer(tars.Writer):  # type: ignore[misc]
    def put(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._tar.addfile(info, _Bytes(data))

    def folder(self, folder: int, path: str, depth: int) -> None:
        if depth > DEPTH_MAX:
            raise OSError(f"folders lie more than {DEPTH_MAX} deep")
        for name in sorted(os.listdir(folder)):
            about, shown = os.lstat(name, dir_fd=folder), f"{path}/{name}"
            self._add(folder, name, shown, about)
            if stat.S_ISDIR(about.st_mode):
                fd = os.open(name, tars.FOLDER, dir_fd=folder)
                try:
                    self.folder(fd, shown, depth + 1)
                finally:
                    os.close(fd)

    def _add(self, parent: int, name: str, shown: str, about: os.stat_result) -> None:
        if stat.S_ISCHR(about.st_mode) and about.st_rdev == 0:
            self._tar.addfile(self._about(shown, about, tarfile.CHRTYPE))
        else:
            super()._add(parent, name, shown, about)

    def _file(self, parent: int, name: str, shown: str) -> None:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        try:
            about = os.fstat(fd)
            if about.st_nlink > 1:
                first = self._links.setdefault((about.st_dev, about.st_ino), shown)
                if first != shown:
                    self._tar.addfile(self._about(shown, about, tarfile.LNKTYPE, link=first))
                    return
            info, pieces = self._about(shown, about, tarfile.REGTYPE, fd), _pieces(fd, about.st_size)
            if sum(length for _, length in pieces) == about.st_size:
                info.size = about.st_size
                self._tar.addfile(info, _Pieces(fd, b"", [(0, about.st_size)]))
                return
            listed = (
                "\n".join(str(number) for number in (len(pieces), *(each for piece in pieces for each in piece))).encode() + b"\n"
            )
            listed += bytes(-len(listed) % _BLOCK)
            sparse = {"major": "1", "minor": "0", "name": shown, "realsize": str(about.st_size)}
            info.pax_headers = {**info.pax_headers, **{f"GNU.sparse.{key}": value for key, value in sparse.items()}}
            info.size = len(listed) + sum(length for _, length in pieces)
            self._tar.addfile(info, _Pieces(fd, listed, pieces))
        finally:
            os.close(fd)

    def _about(self, shown: str, about: os.stat_result, kind: bytes, fd: int = -1, link: str = "") -> tarfile.TarInfo:
        info: tarfile.TarInfo = super()._about(shown, about, kind, -1, link)
        if kind == tarfile.CHRTYPE:
            info.uid, info.gid = 0, 0  # A whiteout is the overlay's own.
        headers = {"mtime": f"{about.st_mtime_ns // 10**9}.{about.st_mtime_ns % 10**9:09}"}
        if fd >= 0:
            for key in sorted(os.listxattr(fd)):
                value = _packed(key, os.getxattr(fd, key), self._base)
                if value and "=" not in key:
                    headers[_XATTR + key] = value.decode("utf-8", "surrogateescape")
        info.pax_headers = headers
        return info


def _packed(key: str, value: bytes, base: int) -> bytes:
    """What of an extended attribute goes along; empty: nothing."""
    if key.startswith("user.") or key in _KEPT:
        return value
    if key == _CAPABILITY:
        return bytes(tars._capability(value, base))
    return _shifted(value, -base) if key in _ACLS else b""


def _shifted(acl: bytes, by: int) -> bytes:
    """An access control list with its ids moved (the kernel's form: a version, then tag, permissions and id of each entry)."""
    entries = [struct.unpack_from("<HHI", acl, at) for at in range(4, len(acl) - 7, 8)]
    if any(tag in _ACL_NAMED and not 0 <= number + by < 1 << 32 for tag, _, number in entries):
        return b""
    moved = [(tag, rights, number + by if tag in _ACL_NAMED else number) for tag, rights, number in entries]
    return acl[:4] + b"".join(struct.pack("<HHI", *entry) for entry in moved)


def _pieces(fd: int, size: int) -> list[tuple[int, int]]:
    """(offset, length) of what a file holds between its holes; one empty piece at its end where it ends with a hole."""
    found, at = [], 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break  # Nothing but a hole from here on.
        end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        found.append((start, end - start))
        at = end
    if size and (not found or sum(found[-1]) < size):
        found.append((size, 0))
    return found


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int) -> bytes:
        data, self._data = self._data[:size], self._data[size:]
        return data


class _Pieces:
    """Some bytes, then these pieces of a file, one after the other."""

    def __init__(self, fd: int, first: bytes, pieces: list[tuple[int, int]]) -> None:
        self._fd, self._first, self._pieces = fd, first, [piece for piece in pieces if piece[1]]

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            if self._first:
                more, self._first = self._first[: size - len(data)], self._first[size - len(data) :]
            elif self._pieces:
                offset, length = self._pieces[0]
                more = os.pread(self._fd, min(size - len(data), length), offset)
                if not more:
                    raise OSError("a file became shorter while it was read")
                self._pieces[0] = (offset + len(more), length - len(more))
                if not self._pieces[0][1]:
                    del self._pieces[0]
            else:
                break
            data += more
        return data


def unpack(request: dict[str, Any]) -> None:
    """From stdin. `request`: upper, logs, checkpoint (empty folders), base. What was the record goes to stdout."""
    unpacker = _Unpacker({name: request[name] for name in ("upper", "logs", "checkpoint")}, request["base"])
    record = b""
    try:
        with open(0, "rb", buffering=tars.BLOCK_BYTES, closefd=False) as file, tarfile.open(fileobj=file, mode="r|") as tar:
            for count, member in enumerate(tar):
                tar.members.clear()  # type: ignore[attr-defined]  # Else it remembers all of them.
                if count > MEMBERS_MAX:
                    raise Trouble("invalid", f"the disk has more than {MEMBERS_MAX} files")
                if member.name == "record.json" and member.isreg() and member.size <= RECORD_BYTES_MAX:
                    source = tar.extractfile(member)
                    record = source.read() if source is not None else b""
                else:
                    unpacker.add(tar, member)
            while file.read(tars.BLOCK_BYTES):
                pass
    except (tarfile.TarError, EOFError) as error:
        raise Trouble("invalid", f"the disk is no whole archive: {error}") from None
    unpacker.close()
    os.write(1, record)


class _Unpacker:
    def __init__(self, roots: dict[str, str], base: int) -> None:
        self._roots = {name: os.open(path, tars.FOLDER) for name, path in roots.items()}
        self._base = base
        self._open: tuple[tuple[str, ...], int] = ((), -1)
        """The folder that was opened last: what comes next mostly lies there, too."""
        self._folders: list[tuple[tuple[str, ...], int]] = []

    def close(self) -> None:
        """The times of folders last: they changed with each file."""
        for path, mtime_ns in reversed(self._folders):
            os.utime(path[-1], ns=(mtime_ns, mtime_ns), dir_fd=self._parent(path[:-1]), follow_symlinks=False)

    def _parent(self, path: tuple[str, ...]) -> int:
        """The open folder. Its way is walked name by name, so that no link leads elsewhere."""
        if self._open[0] == path:
            return self._open[1]
        fd = os.dup(self._roots[path[0]])
        for name in path[1:]:
            inner = os.open(name, tars.FOLDER, dir_fd=fd)
            os.close(fd)
            fd = inner
        if self._open[1] >= 0:
            os.close(self._open[1])
        self._open = (path, fd)
        return fd

    def _path(self, name: str) -> tuple[str, ...]:
        path = tuple(name.rstrip("/").split("/"))
        if len(path) < 2 or path[0] not in self._roots or any(part in ("", ".", "..") for part in path):
            raise Trouble("invalid", f"the disk has a file of the name {name!r}")
        return path

    def add(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = self._path(member.name)
        folder, name = self._parent(path[:-1]), path[-1]
        if member.islnk():
            self._link(path, self._path(member.linkname))
            return
        if member.isdir():
            os.mkdir(name, 0o700, dir_fd=folder)
        elif member.issym():
            os.symlink(member.linkname, name, dir_fd=folder)
        elif member.isfifo():
            os.mkfifo(name, 0o600, dir_fd=folder)
        elif member.ischr() and (member.devmajor, member.devminor) == (0, 0):
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=folder)
        elif member.isreg():
            self._file(tar, member, folder, name)
        else:
            raise Trouble("invalid", f"{member.name} is neither a file nor a folder")
        self._finish(member, path, folder, name)

    def _link(self, path: tuple[str, ...], to: tuple[str, ...]) -> None:
        target = os.dup(self._parent(to[:-1]))
        try:
            folder = self._parent(path[:-1])
            os.link(to[-1], path[-1], src_dir_fd=target, dst_dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(target)

    def _file(self, tar: tarfile.TarFile, member: tarfile.TarInfo, folder: int, name: str) -> None:
        source: Any = tar.fileobj
        source.seek(member.offset_data)
        sparse = getattr(member, "sparse", None)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, 0o600, dir_fd=folder), "wb", buffering=0) as target:
            for offset, size in sparse if sparse is not None else [(0, member.size)]:
                target.seek(offset)
                left = size
                while left:
                    data = source.read(min(left, tars.BLOCK_BYTES))
                    if not data:
                        raise Trouble("invalid", "the disk is no whole archive: a file ends in the middle")
                    left -= len(data)
                    while data:
                        data = data[target.write(data) :]
            target.truncate(member.size)

    def _finish(self, member: tarfile.TarInfo, path: tuple[str, ...], folder: int, name: str) -> None:
        if not (0 <= member.uid < tars.IDS and 0 <= member.gid < tars.IDS):
            raise Trouble("invalid", f"{member.name} belongs to nobody of the guest's")
        owner = self._base if path[0] == "upper" and not member.ischr() else 0
        os.chown(name, member.uid + owner, member.gid + owner, dir_fd=folder, follow_symlinks=False)
        seconds, _, rest = member.pax_headers.get("mtime", str(int(member.mtime))).partition(".")
        mtime_ns = int(seconds) * 10**9 + int(rest[:9].ljust(9, "0"))
        if member.isreg() or member.isdir():
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                os.fchmod(fd, member.mode & 0o7777)
                for key, value in member.pax_headers.items():
                    if key.startswith(_XATTR):
                        self._attribute(fd, key.removeprefix(_XATTR), value.encode("utf-8", "surrogateescape"))
            finally:
                os.close(fd)
        elif member.isfifo():
            os.chmod(name, member.mode & 0o7777, dir_fd=folder)
        if member.isdir():
            self._folders.append((path, mtime_ns))
        else:
            os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=folder, follow_symlinks=False)

    def _attribute(self, fd: int, key: str, value: bytes) -> None:
        if key == _CAPABILITY and len(value) >= 20:
            magic = struct.unpack_from("<I", value)[0] & _CAP_FLAGS | _CAP_REVISION_3
            value = struct.pack("<I", magic) + value[4:20] + struct.pack("<I", self._base)
        elif key in _ACLS:
            value = _shifted(value, self._base)
        elif not key.startswith("user.") and key not in _KEPT:
            return
        if value:
            os.setxattr(fd, key, value)


_WORK = {"pack": pack, "unpack": unpack}


def main(request: dict[str, Any]) -> None:
    """`request`: work, and each work's own."""
    tars.warm()
    _WORK[request["work"]](request)
