"""The kernel calls that Python has no name for: mounts, namespaces, id-mapped mounts. Each is a call or two and raises OSError.

Mount tables are read from /proc/self/mountinfo (proc(5)). All mounts of guests are made by these, in the namespace of the
calling thread, which is the host's but for the launcher's threads.
"""

import ctypes
import errno
import os
import struct
import threading
from pathlib import Path

from msgspec import Struct

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND = 0x1, 0x2, 0x4, 0x8, 0x1000
MS_REC, MS_PRIVATE, MS_SLAVE, MS_SHARED = 0x4000, 1 << 18, 1 << 19, 1 << 20
MNT_DETACH = 0x2
CLONE_NEWNS, CLONE_NEWNET, CLONE_FS = 0x00020000, 0x40000000, 0x00000200

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 0x1, 0x80000
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NODEV, _MOUNT_ATTR_IDMAP = 0x1, 0x4, 0x00100000
# These three are numbered alike on every architecture (asm-generic/unistd.h).
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_OPENAT2, _SYS_MOUNT_SETATTR = 428, 429, 437, 442
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x2, 0x10
_O_PATH = os.O_PATH | os.O_CLOEXEC
UNMOUNT_LAYERS_MAX = 64
"""How many mounts one path may bear, one over the other, before `unmount_all` gives up."""

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str, path: str = "") -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}", path or None)
    return result


def mount(source: str, target: Path, kind: str = "", flags: int = 0, data: str = "") -> None:
    result = _libc.mount(
        source.encode(), os.fsencode(target), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None
    )
    _check(result, f"mount {kind or 'bind'}", str(target))


def mount_within(folder: Path, kind: str, target: Path, flags: int, data: str) -> None:
    """Mount with options whose paths begin at `folder`. A thread of its own goes there: the others share a working directory."""
    failed: list[OSError] = []

    def make() -> None:
        try:
            unshare(CLONE_FS)
            os.chdir(folder)
            mount(kind, target, kind, flags, data)
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def unmount_all(target: Path) -> None:
    """Take every mount off the path. A path that bears none, or is not there, is fine."""
    for _ in range(UNMOUNT_LAYERS_MAX):
        if _libc.umount2(os.fsencode(target), MNT_DETACH) < 0:
            number = ctypes.get_errno()
            if number in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
                return
            raise OSError(number, os.strerror(number), str(target))
    raise OSError(errno.EBUSY, f"more than {UNMOUNT_LAYERS_MAX} mounts lie on it", str(target))


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def set_namespace(path: Path | str, kind: int) -> None:
    """Move the calling thread into the namespace. For a mount namespace the thread must have unshared CLONE_FS before."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(fd, kind), "setns", str(path))
    finally:
        os.close(fd)


def mount_idmapped(source: Path, target: Path, user_namespace: Path, *, writable: bool = False) -> None:
    """Show `source` at `target`, without devices, its ids seen through the user namespace's map; read-only unless `writable`."""
    fd = os.open(source, _O_PATH)
    try:
        mount_idmapped_fd(fd, target, user_namespace, writable=writable)
    finally:
        os.close(fd)


def mount_idmapped_fd(source: int, target: Path, user_namespace: Path, *, writable: bool = False) -> None:
    """The same for what is open as `source`, which may be a path that a guest writes to."""
    tree = idmapped_tree(source, user_namespace, writable=writable)
    try:
        _move_tree(tree, target)
    finally:
        os.close(tree)


def idmapped_tree(source: int, user_namespace: Path, *, writable: bool) -> int:
    """What is open as `source` as a mount that lies nowhere yet, without devices, its ids seen through the user namespace's map."""
    userns = os.open(user_namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _tree_with(source, _MOUNT_ATTR_IDMAP, userns, writable=writable)
    finally:
        os.close(userns)


def plain_tree(source: int, *, writable: bool) -> int:
    """The same with the ids as they are."""
    return _tree_with(source, 0, 0, writable=writable)


def _tree_with(source: int, bits: int, userns: int, *, writable: bool) -> int:
    tree = _clone_tree(source)
    try:
        bits |= _MOUNT_ATTR_NODEV | (0 if writable else _MOUNT_ATTR_RDONLY)
        attributes = struct.pack("QQQQ", bits, 0, MS_PRIVATE, userns)
        result = _libc.syscall(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, attributes, ctypes.c_size_t(len(attributes)))
        _check(result, "mount_setattr")
    except OSError:
        os.close(tree)
        raise
    return tree


def _clone_tree(source: int) -> int:
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_EMPTY_PATH
    return _check(_libc.syscall(_SYS_OPEN_TREE, source, b"", flags), "open_tree")


def _move_tree(tree: int, target: Path) -> None:
    result = _libc.syscall(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
    _check(result, "move_mount", str(target))


def open_in_root(root: Path, path: str) -> int:
    """A descriptor (O_PATH) of `path` as a process whose root is `root` would find it, whoever changes the tree meanwhile.

    Raises OSError.
    """
    base = os.open(root, _O_PATH | os.O_DIRECTORY)
    try:
        how = struct.pack("QQQ", _O_PATH, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
        name = os.fsencode(path.lstrip("/") or ".")
        return _check(_libc.syscall(_SYS_OPENAT2, base, name, how, ctypes.c_size_t(len(how))), "openat2", path)
    finally:
        os.close(base)


def mount_from_namespace(mount_namespace: Path, source: str, target: Path) -> None:
    """Show at `target` what a process of another mount namespace sees at `source`. Raises OSError.

    A thread of its own goes there, takes a copy of the mount with it and ends: a thread that has left is not used again.
    """
    taken: list[int | OSError] = []

    def take() -> None:
        try:
            unshare(CLONE_FS)
            set_namespace(mount_namespace, CLONE_NEWNS)
            fd = os.open(source, _O_PATH)
            try:
                taken.append(_clone_tree(fd))
            finally:
                os.close(fd)
        except OSError as error:
            taken.append(error)

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    if isinstance(taken[0], OSError):
        raise taken[0]
    try:
        _move_tree(taken[0], target)
    finally:
        os.close(taken[0])


class Mount(Struct, frozen=True):
    target: str
    kind: str
    shared: bool
    options: str = ""
    """The file system's own options; a version 1 cgroup names its controllers here."""


def mounts() -> list[Mount]:
    """The mount table of the calling thread's namespace."""
    found = []
    for line in Path("/proc/thread-self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        target = fields[4].encode().decode("unicode_escape") if "\\" in fields[4] else fields[4]
        kind, _, options = right.split(" ", 2)
        found.append(Mount(target, kind, any(tag.startswith("shared:") for tag in fields[6:]), options))
    return found


def mount_over(path: Path) -> Mount:
    """The mount that bears the path."""
    text = str(path)
    best = Mount("/", "", False)
    for entry in mounts():
        prefix = entry.target.rstrip("/") + "/"
        if (text + "/").startswith(prefix) and len(entry.target) >= len(best.target):
            best = entry
    return best


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
