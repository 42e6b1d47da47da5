"""Guests that are written down while they run, and go on from there: here, or on another host. The steps that block, each in a thread.

CRIU does it (https://criu.org). What it must not take along or bring back is `external`: the node mounts or makes it anew on either host. The
user namespace, the network namespace and the cgroups are new ones; processes, memory, open files, sockets, pipes, the terminal, timers and
the clock of their uptime go along. Images come from another host as its disks do, but they are not checked as those are: who may restore
here is whom this host's CRIU believes (docs/decisions/0033-live-migration.md).
"""

import contextlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from nacre.node.runtimes.containers.container import Containers
from nacre.node.runtimes.containers.criu import swrk
from nacre.node.runtimes.containers.launcher import LaunchError
from nacre.node.runtimes.containers.layout import GuestPaths
from nacre.node.runtimes.containers.slots import IDS_PER_SLOT, write_whole
from nacre.protocol.guests import Guest

DUMP_WAIT_S = 600.0
"""How long CRIU may write; a guest of 64 GB at 200 MB/s takes 330 s."""
HELPER_END_WAIT_S = 630.0
"""How long a node that begins waits for what its predecessor began."""
LOOK_S = 0.02
DEVICES = ("null", "zero", "full", "tty", "random", "urandom")
"""The host's devices that a guest of a user namespace has by bind mounts; `null` hides files of /proc, too."""
_HELPER = Path(__file__).parent / "criu" / "helper.py"
_DUMPED, _MOUNTS = "dumped", "mounts.json"
_COOKIE = re.compile(r"/[A-Za-z0-9_./=,:@+-]*")


class _Bind(Struct):
    destination: str
    source: str = ""
    type: str = ""


class _Bundle(Struct):
    mounts: list[_Bind] = []


def is_whole(paths: GuestPaths) -> bool:
    """Whether a checkpoint lies there that CRIU has written to its end."""
    return (paths.checkpoint / _DUMPED).exists()


def discard(paths: GuestPaths) -> None:
    """Raises OSError."""
    if paths.checkpoint.parent.is_dir():
        shutil.rmtree(paths.checkpoint.parent)


def make_folder(paths: GuestPaths) -> None:
    """An empty one; an earlier checkpoint is discarded. Raises OSError.

    CRIU reads some images as the guest's root, one of them before that one's ids are known to the kernel, by a descriptor of their folder.
    """
    discard(paths)
    paths.checkpoint.parent.mkdir(mode=0o700)
    paths.checkpoint.mkdir()
    paths.checkpoint.chmod(0o755)


class Checkpoints:
    """CRIU at work on the guests of this host."""

    def __init__(self, parts: Containers, criu: str) -> None:
        self.parts, self.criu = parts, criu

    def dump(self, guest_id: str) -> None:
        """Write the guest down; then nothing of it runs. Raises LaunchError when it could not be, and it runs on as it did."""
        paths = self.parts.layout.guest(guest_id)
        pid = self.parts.first_pid(guest_id)
        if pid is None:
            raise LaunchError("it does not run")
        self._check(guest_id, pid)
        make_folder(paths)
        mounts = dict(_outer_mounts(pid, _binds(paths)))
        (paths.checkpoint / _MOUNTS).write_bytes(msgspec.json.encode(mounts))
        request = {
            "criu": self.criu,
            "images": str(paths.checkpoint),
            "pid": pid,
            "external": [f"mnt[{target}]:{target}" for target in mounts],
            "freezer": str(self.parts.cgroups.folder("freezer", guest_id) or ""),
        }
        file = paths.bundle / "freeze.json"
        file.write_bytes(msgspec.json.encode(request))
        argv = [*self._program(), self.parts.launcher.root_argument, "dump", str(file), guest_id]
        try:
            self.parts.launcher.spawn(argv, paths.root / "criu.err", DUMP_WAIT_S)
        except LaunchError:
            if not is_whole(paths):
                raise

    def _program(self) -> tuple[str, ...]:
        return (sys.executable, "-E", "-s", str(_HELPER))

    def _check(self, guest_id: str, first: int) -> None:
        """Raises LaunchError for processes that CRIU would leave behind, or that it would not bring back into their places."""
        cgroups = self.parts.cgroups
        own, pids = set(cgroups.places(guest_id)), set(cgroups.processes(guest_id))
        for pid in pids:
            try:
                if not set(cgroups.of_process(pid)) <= own:
                    raise LaunchError("its init system has put processes into cgroups of its own")
                if pid != first and _parent(pid) not in pids:
                    raise LaunchError("a command runs in it that was started from outside")
            except (FileNotFoundError, ProcessLookupError):
                continue  # It has ended.

    def await_helper(self, guest_id: str) -> None:
        """Wait for what an earlier node began. Raises LaunchError when it does not end."""
        deadline = time.monotonic() + HELPER_END_WAIT_S
        while any(self._is_at_work(pid) for pid, ident in self.parts.runtime_processes() if ident == guest_id):
            if time.monotonic() > deadline:
                raise LaunchError("CRIU does not end")
            time.sleep(LOOK_S)

    def _is_at_work(self, pid: int) -> bool:
        program = [os.fsencode(word) for word in self._program()]
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[: len(program)] == program
        return False

    def restore(self, guest: Guest, base_id: int) -> None:
        """The guest goes on, under a conmon of its own; whoever listens at the gate brings its ports. Raises LaunchError, OSError, ValueError."""
        paths = self.parts.layout.guest(guest.id)
        if not is_whole(paths):
            raise LaunchError("its checkpoint is not whole")
        _fit_ids(paths, base_id)
        request = {
            "criu": self.criu,
            "crun": self.parts.launcher.crun,
            "images": str(paths.checkpoint),
            "root": str(paths.rootfs),
            "external": [f"mnt[{target}]:{source}" for target, source in self._sources(guest.id, paths)],
            "cgroups": [str(path) for path in self.parts.cgroups.places(guest.id)],
            "gate": str(self.parts.layout.gate(guest.id)),
        }
        (paths.bundle / "thaw.json").write_bytes(msgspec.json.encode(request))
        self.parts.create(guest, {}, runtime=self._program())

    def _sources(self, guest_id: str, paths: GuestPaths) -> Iterator[tuple[str, str]]:
        """What lies on this host where the checkpoint says that something was mounted from outside. Raises ValueError for what it may not have."""
        try:
            mounts = msgspec.json.decode((paths.checkpoint / _MOUNTS).read_bytes(), type=dict[str, str])
        except msgspec.DecodeError as error:
            raise ValueError(f"the checkpoint does not say what was mounted: {error}") from error
        binds, cgroups = _binds(paths), {path.parents[1]: path for path in self.parts.cgroups.places(guest_id)}
        for target, kind in mounts.items():
            if _COOKIE.fullmatch(target) is None:
                raise ValueError(f"the checkpoint has a mount at {target!r}")
            if kind == "bind" and target in binds:
                yield target, binds[target]
            elif kind == "cgroup" and Path(target) in cgroups:
                yield target, str(cgroups[Path(target)])
            elif kind in DEVICES:
                yield target, f"/dev/{kind}"
            else:
                raise ValueError(f"this host has no {kind} for {target}")


def _binds(paths: GuestPaths) -> dict[str, str]:
    """Where the guest sees what of this host, by its bundle."""
    bundle = msgspec.json.decode((paths.bundle / "config.json").read_bytes(), type=_Bundle)
    return {each.destination: each.source for each in bundle.mounts if each.type == "bind"}


def _outer_mounts(pid: int, binds: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(where, what) of all that is mounted in the guest from outside of it: the bundle's, cgroups, devices."""
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        words = line.split()
        root, target, kind = words[3], words[4], words[words.index("-") + 1]
        if target in binds:
            yield target, "bind"
        elif kind in ("cgroup", "cgroup2"):
            yield target, "cgroup"
        elif root.lstrip("/") in DEVICES and kind in ("devtmpfs", "tmpfs"):
            yield target, root.lstrip("/")


def _fit_ids(paths: GuestPaths, base_id: int) -> None:
    """Have the guest's ids begin where they do on this host. Raises ValueError for a checkpoint that is not of a guest's user namespace."""
    images = list(paths.checkpoint.glob("userns-*.img"))
    if len(images) != 1:
        raise ValueError("the checkpoint is not of one user namespace")
    write_whole(images[0], swrk.with_ids(images[0].read_bytes(), base_id, IDS_PER_SLOT))
    for path in paths.checkpoint.iterdir():
        path.chmod(0o644)


def _parent(pid: int) -> int:
    """Raises FileNotFoundError for a process that has ended."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
