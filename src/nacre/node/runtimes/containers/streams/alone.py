"""A mount namespace with nothing in it but one guest's root file system and its volumes, for a helper that works in a guest that does not run.

Standard library, as the rest of the helpers. What is mounted here nobody else sees, and it goes with the process.
"""

import ctypes
import errno
import os
import stat

_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_PRIVATE, _MNT_DETACH = 0x4000, 1 << 18, 0x2
_MOVE_MOUNT_F_EMPTY_PATH, _MOVE_MOUNT_T_EMPTY_PATH = 0x4, 0x40
_SYS_MOVE_MOUNT = 429
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}.get(os.uname().machine, -1)
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def enter_root(rootfs: str) -> None:
    """Make the mount at `rootfs` the root of a mount namespace of our own. None of the host's other mounts is kept in use by it."""
    os.chdir(rootfs)
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    _check(_libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None), "mount / private")
    try:
        _check(_libc.syscall(_SYS_PIVOT_ROOT, b".", b"."), "pivot_root")
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        os.chroot(".")  # The host's own root is the kernel's first one, which stays.
    else:
        _check(_libc.umount2(b".", _MNT_DETACH), "umount2 of the host's root")
    os.chdir("/")


def mount_tree(tree: int, target: str, owner: int) -> None:
    """Put a mount that lies nowhere yet at `target`, as a process in this root finds it. `owner` is the host's id of the guest's root."""
    if not os.path.exists(target):
        _make_place(target, owner, folder=stat.S_ISDIR(os.fstat(tree).st_mode))
    place = os.open(target, os.O_PATH | os.O_CLOEXEC)
    try:
        flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
        _check(_libc.syscall(_SYS_MOVE_MOUNT, tree, b"", place, b"", flags), f"move_mount to {target}")
    finally:
        os.close(place)
    os.close(tree)


def _make_place(target: str, owner: int, *, folder: bool) -> None:
    """As the guest's root, who may do no more here than in the guest."""
    os.setegid(owner)
    os.seteuid(owner)
    try:
        if folder:
            os.makedirs(target, 0o755, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
    finally:
        os.seteuid(0)
        os.setegid(0)
