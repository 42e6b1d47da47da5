"""Network namespaces: made, pinned under /run/netns (where `ip netns` finds them too), entered, and taken away.

All of it happens in one worker thread, which enters a namespace for the moment it takes to open a socket or a context there.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

from nacre.node.network import rtnl
from nacre.node.network.conntrack import Conntrack
from nacre.node.network.netlink import Netlink
from nacre.node.network.nft import Nft

PINS = Path("/run/netns")
CLONE_NEWNET = 0x40000000
MS_BIND, MS_REC, MS_SHARED = 0x1000, 0x4000, 1 << 20
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: Path, flags: int) -> None:
    _check(_libc.mount(source.encode(), str(target).encode(), b"none", flags, None), f"mount {target}")


@contextmanager
def inside(namespace: int) -> Iterator[None]:
    """Stand in the namespace behind the descriptor; only this thread does."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(namespace, CLONE_NEWNET), "enter a network namespace")
        try:
            yield
        finally:
            _check(_libc.setns(home, CLONE_NEWNET), "return to the host's network namespace")
    finally:
        os.close(home)


def prepare_pins() -> None:
    """Make /run/netns as iproute2 does: a mount that is shared, so that a pin taken away is gone from every mount namespace."""
    PINS.mkdir(mode=0o755, exist_ok=True)
    with suppress(OSError):
        _mount("", PINS, MS_SHARED | MS_REC)
        return
    _mount(str(PINS), PINS, MS_BIND | MS_REC)
    _mount("", PINS, MS_SHARED | MS_REC)


def _pinned(path: Path) -> bool:
    """Whether a namespace lies there, and not the empty file of a creation that was killed half way."""
    try:
        return path.stat().st_dev != PINS.stat().st_dev
    except FileNotFoundError:
        return False


class Namespace:
    """A namespace with the sockets that are kept open in it. They are opened when first used."""

    def __init__(self, path: Path | None) -> None:
        """`path` None is the host's own."""
        self.path = path
        self._fd = os.open(path or "/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def fileno(self) -> int:
        return self._fd

    @cached_property
    def route(self) -> Netlink:
        with inside(self._fd):
            return Netlink(rtnl.NETLINK_ROUTE)

    @cached_property
    def nft(self) -> Nft:
        with inside(self._fd):
            return Nft()

    @cached_property
    def conntrack(self) -> Conntrack:
        with inside(self._fd):
            return Conntrack()

    def sysctl(self, settings: dict[str, str]) -> None:
        """Set entries under /proc/sys/net. One that the kernel does not have is left out: the feature is not there either."""
        with inside(self._fd):
            for name, value in settings.items():
                with suppress(FileNotFoundError):
                    Path("/proc/sys/net", name).write_text(value)

    def require(self, name: str, remedy: str) -> None:
        """Raises OSError with the remedy where the kernel has no such entry under /proc/sys/net."""
        with inside(self._fd):
            if not Path("/proc/sys/net", name).exists():
                raise OSError(remedy)

    def close(self) -> None:
        for name in ("route", "nft", "conntrack"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def ensure(name: str) -> Namespace:
    """The pinned namespace of that name, made if it is not there."""
    path = PINS / name
    if not _pinned(path):
        path.touch(mode=0o444)
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.unshare(CLONE_NEWNET), "make a network namespace")
            try:
                _mount("/proc/thread-self/ns/net", path, MS_BIND)
            finally:
                _check(_libc.setns(home, CLONE_NEWNET), "return to the host's network namespace")
        finally:
            os.close(home)
    return Namespace(path)


def remove(name: str) -> None:
    """Take the pin away; the kernel dismantles the namespace by and by. Links that others wait for are to be deleted before."""
    path = PINS / name
    if _pinned(path):
        _check(_libc.umount2(str(path).encode(), MNT_DETACH), f"unmount {path}")
    path.unlink(missing_ok=True)


def pinned(prefix: str) -> list[str]:
    """The names that begin with the prefix, half-made ones included."""
    return sorted(entry.name for entry in PINS.iterdir() if entry.name.startswith(prefix)) if PINS.is_dir() else []
