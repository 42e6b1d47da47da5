"""Slots: a user namespace and a network namespace that it owns, with 65,536 ids of their own, made before a guest needs them.

The network namespace must belong to the user namespace: in one that the host owns port 80 cannot be bound and ping fails.
A slot is the folder slots/<n>, whose files `user` and `net` bear the namespaces by bind mounts in the host's mount namespace.
Slot n's ids begin at block * 2^27 + n * 2^16; the block is this cloud's own on this host (a claim in /run/nacre-ids).
A slot serves one guest and is destroyed with it: nothing of one tenant is met by another.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from nacre.node.network.nft import Nft
from nacre.node.runtimes.containers import kernel
from nacre.node.runtimes.containers.layout import RUN, Layout

IDS_PER_SLOT = 65536
SLOTS_PER_BLOCK = 2048
BLOCKS = range(4, 16)
"""Below lie the host's own users and /etc/subuid; above 2^31 programs that read ids as signed go wrong."""
POOL_SLOTS = 8
"""How many slots are kept ready."""
REFILL_PAUSE_S = 0.05
"""How long after a slot was taken the next one is made, unless few are left: the guest that took it wants the CPU now."""
CLAIMS = RUN / "nacre-ids"
_MUTED = "nacre_muted"
_MUTE = f"""
table inet {_MUTED} {{
  chain in {{ type filter hook input priority -300; policy drop; iifname "lo" accept; }}
  chain out {{ type filter hook output priority -300; policy drop; oifname "lo" accept; }}
}}
"""
"""While a guest is restored its sockets are not there yet: the kernel would answer for them that nobody listens."""
_NS_GET_NSTYPE = 0xB703
_HELPER_WAIT_S = 10.0
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


class _Block(msgspec.Struct):
    block: int


class Slots:
    """Thread-safe; every method blocks and belongs into a thread."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lock = threading.Lock()
        self._ready: list[int] = []
        self._used: set[int] = set()
        self._block = 0
        # Its own thread: it enters the new network namespaces, which no other work may see.
        self._maker = ThreadPoolExecutor(1, "slots")
        self._hurry = threading.Event()
        """Set while somebody waits for the maker."""

    def start(self, used: set[int]) -> None:
        """Claim the block of ids, adopt the slots that are there: those of guests as used, whole ones as ready, others go."""
        self._block = self._claim_block(bool(used))
        self._layout.slots.mkdir(parents=True, exist_ok=True)
        self._used = set(used)
        for slot in self._on_disk() - used:
            if self.is_whole(slot):
                self._ready.append(slot)
            else:
                self._undo(slot)
        self.refill()

    def base_id(self, slot: int) -> int:
        return self._block * SLOTS_PER_BLOCK * IDS_PER_SLOT + slot * IDS_PER_SLOT

    def network_namespace(self, slot: int) -> Path:
        return self._layout.slots / str(slot) / "net"

    def user_namespace(self, slot: int) -> Path:
        return self._layout.slots / str(slot) / "user"

    def is_pooled(self, slot: int) -> bool:
        """Whether the slot waits for a guest, or is being made."""
        with self._lock:
            return slot in self._ready or slot in self._used

    def take_ready(self) -> int | None:
        """A slot for a new guest, if one is ready. Does not block."""
        with self._lock:
            if not self._ready:
                return None
            slot = self._ready.pop()
            self._used.add(slot)
        self.refill()
        return slot

    def take(self) -> int:
        """A slot for a new guest. Raises OSError when all are in use, or one cannot be made."""
        ready = self.take_ready()
        if ready is not None:
            return ready
        with self._lock:
            slot = self._free_number()
            self._used.add(slot)
        try:
            self.ensure(slot)
        except OSError:
            self.destroy(slot)
            raise
        self.refill()
        return slot

    def ensure(self, slot: int) -> None:
        """Make the slot's namespaces again where they are gone: after a restart of the host."""
        if not self.is_whole(slot):
            self._hurry.set()
            try:
                self._maker.submit(self._make, slot).result()
            finally:
                self._hurry.clear()

    def adopt(self, slot: int, pid: int) -> None:
        """The namespaces of a guest that is being restored take the place of the slot's own, muted. Raises OSError."""
        self._maker.submit(self._adopt, slot, pid).result()

    def _adopt(self, slot: int, pid: int) -> None:
        for kind, pin in (("user", self.user_namespace(slot)), ("net", self.network_namespace(slot))):
            kernel.unmount_all(pin)
            kernel.mount(f"/proc/{pid}/ns/{kind}", pin, flags=kernel.MS_BIND)
        _prepare_network(self.network_namespace(slot))
        self._nft(slot, _MUTE)

    def unmute(self, slot: int) -> None:
        """Its guest is whole again, and may be spoken with (again: no change). Raises OSError."""
        # Made before it is taken away: so it may be done twice.
        self._maker.submit(self._nft, slot, f"{_MUTE}delete table inet {_MUTED}").result()

    def _nft(self, slot: int, commands: str) -> None:
        kernel.set_namespace(self.network_namespace(slot), kernel.CLONE_NEWNET)
        try:
            nft = Nft()
            try:
                nft.run(commands)
            finally:
                nft.close()
        finally:
            kernel.set_namespace(f"/proc/{os.getpid()}/ns/net", kernel.CLONE_NEWNET)

    def destroy(self, slot: int) -> None:
        self._undo(slot)
        with self._lock:
            self._used.discard(slot)

    def refill(self) -> None:
        """Bring the pool up to its size, in its own thread, while others go on."""
        if len(self._ready) < POOL_SLOTS:
            with contextlib.suppress(RuntimeError):  # Closed meanwhile.
                self._maker.submit(self._make_ready)

    def close(self) -> None:
        self._hurry.set()
        self._maker.shutdown(wait=True, cancel_futures=True)

    def _make_ready(self) -> None:
        if len(self._ready) >= POOL_SLOTS // 2:
            self._hurry.wait(REFILL_PAUSE_S)
        with self._lock:
            if len(self._ready) >= POOL_SLOTS:
                return
            try:
                slot = self._free_number()
            except OSError:
                return  # All ids are in use: `take` says so to whoever asks.
            self._used.add(slot)
        try:
            self._make(slot)
        except OSError:
            self.destroy(slot)  # The next `take` makes its own, and reports the cause if that fails too.
            return
        with self._lock:
            self._used.discard(slot)
            self._ready.append(slot)
        self.refill()

    def _free_number(self) -> int:
        taken = self._used | set(self._ready)
        for slot in range(SLOTS_PER_BLOCK):
            if slot not in taken:
                return slot
        raise OSError(errno.ENOSPC, f"all {SLOTS_PER_BLOCK} ranges of ids on this host are in use")

    def _on_disk(self) -> set[int]:
        return {int(entry.name) for entry in self._layout.slots.iterdir() if entry.name.isdigit()}

    def is_whole(self, slot: int) -> bool:
        """Whether its namespaces are there. Does not block."""
        return _is_namespace(self.user_namespace(slot)) and _is_namespace(self.network_namespace(slot))

    def _make(self, slot: int) -> None:
        self._undo(slot)
        self.user_namespace(slot).parent.mkdir(parents=True)
        with _unshared() as process:
            ids = f"0 {self.base_id(slot)} {IDS_PER_SLOT}"
            Path(f"/proc/{process.pid}/uid_map").write_text(ids)
            Path(f"/proc/{process.pid}/gid_map").write_text(ids)
            for kind, pin in (("user", self.user_namespace(slot)), ("net", self.network_namespace(slot))):
                pin.touch()
                kernel.mount(f"/proc/{process.pid}/ns/{kind}", pin, flags=kernel.MS_BIND)
        _prepare_network(self.network_namespace(slot))

    def _undo(self, slot: int) -> None:
        for pin in (self.network_namespace(slot), self.user_namespace(slot)):
            kernel.unmount_all(pin)
            pin.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self.user_namespace(slot).parent.rmdir()

    def _claim_block(self, needed: bool) -> int:
        """The block that this cloud had before, or a free one. Raises OSError when another cloud holds what guests here need."""
        CLAIMS.mkdir(mode=0o755, parents=True, exist_ok=True)
        if self._layout.ids.exists():
            block = msgspec.json.decode(self._layout.ids.read_bytes(), type=_Block).block
            if self._claim(block):
                return block
            if needed:
                raise OSError(errno.EBUSY, "another cloud took this one's ids while it was down", str(CLAIMS / str(block)))
        for block in BLOCKS:
            # First the file, then the claim: a claim whose holder has no such file is taken for a dead cloud's.
            write_whole(self._layout.ids, msgspec.json.encode(_Block(block)))
            if self._claim(block):
                return block
        self._layout.ids.unlink()
        raise OSError(errno.ENOSPC, f"all {len(BLOCKS)} blocks of ids are claimed by other clouds on this host", str(CLAIMS))

    def _claim(self, block: int) -> bool:
        owner, claim = str(self._layout.state), CLAIMS / str(block)
        try:
            claim.symlink_to(owner)
        except FileExistsError:
            holder = os.readlink(claim)
            if holder == owner:
                return True
            if (Path(holder) / self._layout.ids.name).exists():
                return False
            # Its state directory was deleted: there is no such cloud any more.
            claim.unlink(missing_ok=True)
            return self._claim_again(claim, owner)
        return True

    def _claim_again(self, claim: Path, owner: str) -> bool:
        try:
            claim.symlink_to(owner)
        except FileExistsError:
            return False
        return True

    def purge(self) -> None:
        """Undo every slot and give the claim back."""
        if self._layout.slots.is_dir():
            for slot in self._on_disk():
                self._undo(slot)
        for claim in CLAIMS.iterdir() if CLAIMS.is_dir() else ():
            if os.readlink(claim) == str(self._layout.state):
                claim.unlink()
        with contextlib.suppress(OSError):
            CLAIMS.rmdir()


def write_whole(path: Path, data: bytes) -> None:
    """Write the file so that whoever reads it after a crash sees the old bytes or the new ones, never a part."""
    scratch = path.with_name(path.name + ".new")
    scratch.write_bytes(data)
    os.replace(scratch, path)


@contextlib.contextmanager
def _unshared() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a new user and a new network namespace, which ends with the context."""
    argv = ["/bin/busybox", "unshare", "-U", "-n", "/bin/busybox", "cat"]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        process.stdin.write(b"\n")
        process.stdin.flush()
        if not process.stdout.read(1):
            cause = process.stderr.read().decode(errors="replace").strip()
            raise OSError(errno.EPERM, f"user and network namespaces cannot be made: {cause}")
        yield process
    finally:
        process.stdin.close()
        try:
            process.wait(_HELPER_WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        process.stderr.close()


def _is_namespace(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _prepare_network(namespace: Path) -> None:
    """Bring `lo` up (the guest has no CAP_NET_ADMIN) and set what Docker sets: ping and ports below 1024 for every user."""
    kernel.set_namespace(namespace, kernel.CLONE_NEWNET)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            request = bytearray(40)
            request[:2] = b"lo"
            fcntl.ioctl(control, _SIOCGIFFLAGS, request)
            flags = ctypes.c_short.from_buffer(request, 16)
            flags.value |= _IFF_UP
            del flags
            fcntl.ioctl(control, _SIOCSIFFLAGS, bytes(request))
        for name, value in (("ping_group_range", f"0 {IDS_PER_SLOT - 1}"), ("ip_unprivileged_port_start", "0")):
            Path("/proc/sys/net/ipv4", name).write_text(value)
    finally:
        kernel.set_namespace(f"/proc/{os.getpid()}/ns/net", kernel.CLONE_NEWNET)
