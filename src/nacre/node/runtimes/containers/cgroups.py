"""Control groups: version 1, version 2, and hosts that have both. What the host can enforce is found by trying.

A guest's cgroup is /nacre-<cloud id>/<guest id> in every hierarchy; all conmons share /nacre-<cloud id>/monitors, so that
stopping the node's service does not take them with it.
"""

import contextlib
import errno
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from nacre.node.runtimes.containers import kernel
from nacre.protocol.guests import Limits

MONITORS = "monitors"
CPU_PERIOD_US = 100_000
SHARES_PER_VCPU = 1024
PIDS_MAX = 32768
"""No guest may have more processes, whatever it asks for: it would take the host's numbers."""
REMOVE_TRIES_MAX = 200
REMOVE_PAUSE_S = 0.01
HOT_EVERY_S = 0.003
"""Less than the shortest grace period of the kernel."""
HOT_GUESTS_MAX = 2
"""More guests than this that are made at once keep the lock warm by themselves."""
_SYSTEMD_NAME = "name=systemd"
_DELEGATED = ("cgroup.procs", "tasks", "cgroup.threads", "cgroup.subtree_control", "memory.oom.group")
_ROOT = Path("/sys/fs/cgroup")
_WANTED_V2 = ("cpu", "memory", "pids", "io", "cpuset")


def _write(path: Path, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


class Cgroups:
    """The hierarchies of this host (version 1, 2 or both), and which limits they enforce."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.v2_only = False
        self.hybrid: Path | None = None
        """Where a hybrid host has its version 2 hierarchy: crun must not see it."""
        self._hierarchies: dict[str, Path] = {}
        self.enforced: set[str] = set()
        self.swap = False
        self.weighs_io = False
        self._heat = _Heat(self._processes_of)

    def detect(self) -> None:
        """Look at the host's hierarchies and make this cloud's cgroup. Raises OSError when the host has none that works."""
        for entry in kernel.mounts():
            if entry.kind == "cgroup2" and entry.target == str(_ROOT):
                self.v2_only = True
            elif entry.kind == "cgroup2" and entry.target.startswith(f"{_ROOT}/"):
                self.hybrid = Path(entry.target)
            elif entry.kind == "cgroup" and entry.target.startswith(f"{_ROOT}/"):
                self._hierarchies[entry.options.rpartition(" ")[2]] = Path(entry.target)
        if self.v2_only:
            self._hierarchies, self.hybrid = {"": _ROOT}, None
            self._enable_v2()
        elif not self._hierarchies:
            raise OSError(errno.ENODEV, "no cgroup hierarchy is mounted below /sys/fs/cgroup")
        else:
            self._enable_v1()

    def _processes_of(self, pid: int) -> Path:
        """The file of the process's own cgroup, in one of the hierarchies, into which processes are written. Raises OSError, LookupError."""
        return self.of_process(pid)[0] / "cgroup.procs"

    @contextlib.contextmanager
    def hot(self) -> Iterator[None]:
        """Around whatever will put a process into a cgroup soon: then the kernel does not wait for a grace period. Costs next to nothing."""
        with self._heat.kept():
            yield

    def close(self) -> None:
        self._heat.close()

    def _enable_v1(self) -> None:
        for options, root in self._hierarchies.items():
            (root / self.name / MONITORS).mkdir(parents=True, exist_ok=True)
            self.enforced.update(options.split(","))
            if "cpuset" in options.split(","):
                self._inherit_cpuset(root)
        memory = self._v1("memory")
        self.swap = memory is not None and (memory / "memory.memsw.limit_in_bytes").exists()
        block = self._v1("blkio")
        self.weighs_io = block is not None and (block / self.name / "blkio.weight").exists()

    def _inherit_cpuset(self, root: Path) -> None:
        """A new cpuset of version 1 is empty, and an empty one takes no process."""
        for part in (Path(self.name), Path(self.name) / MONITORS):
            for name in ("cpuset.cpus", "cpuset.mems"):
                if not (root / part / name).read_text().strip():
                    _write(root / part / name, (root / part.parent / name).read_text())

    def _enable_v2(self) -> None:
        for parent in (_ROOT, _ROOT / self.name):
            parent.mkdir(exist_ok=True)
            for controller in _WANTED_V2:
                try:
                    _write(parent / "cgroup.subtree_control", f"+{controller}")
                except OSError:
                    continue  # Not on this host: `enforced` says so below.
        (_ROOT / self.name / MONITORS).mkdir(exist_ok=True)
        self.enforced = set((_ROOT / self.name / "cgroup.subtree_control").read_text().split())
        self.swap = (_ROOT / self.name / MONITORS / "memory.swap.max").exists()
        self.weighs_io = any((_ROOT / self.name / MONITORS / name).exists() for name in ("io.weight", "io.bfq.weight"))

    def _v1(self, controller: str) -> Path | None:
        return next((root for options, root in self._hierarchies.items() if controller in options.split(",")), None)

    def _at(self, controller: str, guest_id: str) -> Path | None:
        """The guest's directory where the controller lives."""
        root = _ROOT if self.v2_only else self._v1(controller)
        return root / self.name / guest_id if root else None

    def folder(self, controller: str, guest_id: str) -> Path | None:
        """The guest's cgroup where the controller's counters are; None where this host has none."""
        return self._at(controller, guest_id)

    def resources(self, limits: Limits, devices: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        """The `linux.resources` of an OCI bundle. Docker's own figures come first, then Nova's quota:cpu_*, then what the flavor gives.

        A figure that this kernel has no controller for is left out, as Docker does it.
        """
        found: dict[str, Any] = {"devices": list(devices)} if devices else {}
        if "cpu" in self.enforced:
            found["cpu"] = _cpu(limits)
        if "cpuset" in self.enforced:
            sets = {"cpus": limits.cpuset_cpus, "mems": limits.cpuset_mems}
            found.setdefault("cpu", {}).update({name: value for name, value in sets.items() if value})
        if "memory" in self.enforced:
            found["memory"] = self._memory(limits)
        if "pids" in self.enforced:
            found["pids"] = {"limit": limits.pids if 0 < limits.pids < PIDS_MAX else PIDS_MAX}
        if limits.blkio_weight and self.weighs_io:
            found["blockIO"] = {"weight": limits.blkio_weight}
        return found

    def _memory(self, limits: Limits) -> dict[str, int]:
        memory = limits.memory_mb << 20 if limits.memory_bytes is None else limits.memory_bytes
        found = {"limit": memory}
        if limits.memory_reservation_bytes:
            found["reservation"] = limits.memory_reservation_bytes
        if self.swap:
            both = limits.memory_swap_bytes
            found["swap"] = memory + (limits.swap_mb << 20) if both is None else both
        return found

    def freeze(self, guest_id: str, frozen: bool) -> None:
        at = self._at("freezer", guest_id)
        if at is None:
            raise OSError(errno.ENOSYS, "this host has no freezer cgroup: guests cannot be paused")
        if self.v2_only:
            _write(at / "cgroup.freeze", "1" if frozen else "0")
        else:
            _write(at / "freezer.state", "FROZEN" if frozen else "THAWED")

    def is_frozen(self, guest_id: str) -> bool:
        at = self._at("freezer", guest_id)
        try:
            if at is None:
                return False
            if self.v2_only:
                return (at / "cgroup.freeze").read_text().strip() == "1"
            return (at / "freezer.state").read_text().strip() != "THAWED"
        except OSError:
            return False

    def is_still(self, guest_id: str) -> bool:
        """Whether the last process of a guest that is being frozen has stopped."""
        at = self._at("freezer", guest_id)
        try:
            if at is None:
                return True
            if self.v2_only:
                return "frozen 1" in (at / "cgroup.events").read_text().splitlines()
            return (at / "freezer.state").read_text().strip() == "FROZEN"
        except OSError:
            return True  # It has ended.

    def oom_kills(self, guest_id: str) -> int:
        """How often the kernel killed a process of the guest for memory, since its cgroup was made."""
        at = self._at("memory", guest_id)
        if at is None:
            return 0
        try:
            text = (at / ("memory.events" if self.v2_only else "memory.oom_control")).read_text()
        except OSError:
            return 0
        return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), 0)

    def delegate(self, guest_id: str, owner: int) -> Path | None:
        """Give the guest's systemd a cgroup of its own to manage: `owner` is the guest's root. Raises OSError.

        In version 2 that is the guest's cgroup, whose limits stay the host's (cgroups(7), Delegation). In version 1 only the
        hierarchy without a controller may be handed out: its path is the answer.
        """
        root = _ROOT if self.v2_only else self._v1(_SYSTEMD_NAME)
        if root is None:
            raise OSError(errno.ENODEV, f"systemd needs the hierarchy {_SYSTEMD_NAME}: mount it at {_ROOT / 'systemd'}")
        at = root / self.name / guest_id
        at.mkdir(exist_ok=True)
        os.chown(at, owner, owner)
        for name in _DELEGATED:
            with contextlib.suppress(FileNotFoundError):  # Each version has some of them.
                os.chown(at / name, owner, owner)
        return None if self.v2_only else at

    def adopt_monitor(self, pid: int) -> None:
        """Nothing is done where it is there already."""
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        there = {options: path for _, options, path in (line.split(":", 2) for line in lines)}
        for options, root in self._hierarchies.items():
            if there.get(options) != f"/{self.name}/{MONITORS}":
                _write(root / self.name / MONITORS / "cgroup.procs", str(pid))

    def enter_monitors(self) -> None:
        """Move the calling thread to where conmons belong, so that what it starts is born there. Only version 1 parts the threads of a process.

        `tasks` takes one thread, for which the kernel does not wait for anybody. Not where the CPU is shared out: all of this cloud's guests
        together weigh as much there as one process of the host's, and what makes them is not to wait behind them.
        """
        for options, root in () if self.v2_only else self._hierarchies.items():
            if "cpu" in options.split(","):
                continue
            with contextlib.suppress(OSError):  # `adopt_monitor` sees to what is not there.
                _write(root / self.name / MONITORS / "tasks", str(threading.get_native_id()))

    def processes(self, guest_id: str, *, thorough: bool = True) -> list[int]:
        """The guest's processes by their pids on the host, those in cgroups below its own too.

        All are in each hierarchy, unless something went wrong: only when `thorough` is every one looked at.
        """
        found: set[int] = set()
        for root in list(self._hierarchies.values())[: None if thorough else 1]:
            for folder, _, _ in os.walk(root / self.name / guest_id):
                try:
                    found.update(int(pid) for pid in Path(folder, "cgroup.procs").read_text().split())
                except OSError:
                    continue  # It went away, or a threaded cgroup: its processes show in the one above.
        return sorted(found)

    def holds(self, guest_id: str, pid: int) -> bool:
        """Whether the pid is a process of the guest's (and not one that got the number later)."""
        try:
            lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        except OSError:
            return False
        wanted = f"/{self.name}/{guest_id}"
        return any(path == wanted or path.startswith(wanted + "/") for path in (line.split(":", 2)[2] for line in lines))

    def of_process(self, pid: int) -> list[Path]:
        """The cgroups that the process is in, one for each hierarchy (an init system puts itself below the guest's own)."""
        found = {}
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, options, path = line.split(":", 2)
            for names, root in self._hierarchies.items():
                if set(options.split(",")) <= set(names.split(",")):
                    found[names] = root / path.lstrip("/")
        return list(found.values())

    def names(self) -> set[str]:
        """What lies in this cloud's cgroup: guests' ids and `monitors`."""
        found: set[str] = set()
        for root in self._hierarchies.values():
            _, folders, _ = next(os.walk(root / self.name), ("", [], []))
            found.update(folders)
        return found

    def places(self, guest_id: str) -> list[Path]:
        """The guest's cgroup in each hierarchy, whether it is there or not."""
        return [root / self.name / guest_id for root in self._hierarchies.values()]

    def paths(self, guest_id: str) -> list[Path]:
        return [path for path in self.places(guest_id) if path.is_dir()]

    def kill(self, guest_id: str, *, thorough: bool = True) -> None:
        """Kill all that is in the guest's cgroup; a frozen process dies only once it is thawed."""
        if self.is_frozen(guest_id):
            self.freeze(guest_id, False)
        for pid in self.processes(guest_id, thorough=thorough):
            if pid == os.getpid():
                continue  # Its launcher's threads are among the monitors.
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def remove(self, guest_id: str) -> None:
        """Kill what is left and take the cgroups away. Raises OSError when something does not go."""
        for attempt in range(REMOVE_TRIES_MAX):
            left = [root for root in self._hierarchies.values() if not _remove_tree(root / self.name / guest_id)]
            if not left:
                return
            self.kill(guest_id)
            time.sleep(REMOVE_PAUSE_S)
            if attempt == REMOVE_TRIES_MAX - 1:
                raise OSError(errno.EBUSY, "processes of the guest do not end", str(left[0]))

    def remove_all(self) -> None:
        """Take away this cloud's cgroup with all that is in it (`down --purge`)."""
        for name in self.names():
            self.remove(name)
        for root in self._hierarchies.values():
            _remove_tree(root / self.name)


class _Heat:
    """Keeps the kernel's lock of all cgroups' members (cgroup_threadgroup_rwsem) from going idle while somebody is about to need it.

    Whoever puts a process into a cgroup first makes every fork and exit look at that lock, for which the kernel waits a grace period of RCU:
    8 ms and more. For another such period after that the next one goes through at once. So a thread writes a process into the cgroup where
    it is already, again and again for as long as a guest is being made: the wait falls together with the rest of the work. The process is
    there for nothing else, and ends with this one: the launcher's threads have left the cgroup of the rest of this process, and a write of
    this process would fetch them back.
    The mount option favordynmods (cgroups(7)) does the same for good and for the whole host, which is the administrator's to choose.
    """

    def __init__(self, processes_of: Callable[[int], Path]) -> None:
        """`processes_of`: the cgroup.procs of a process's own cgroup."""
        self._processes_of = processes_of
        self._wanted = 0
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        with self._changed:
            self._wanted += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="cgroup-heat", daemon=True)
                self._thread.start()
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._wanted -= 1

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        # Where this cannot be done the guests wait for the kernel, as they would without.
        with contextlib.suppress(OSError, LookupError), subprocess.Popen(["/bin/busybox", "cat"], stdin=subprocess.PIPE) as moved:
            while self._is_wanted():
                if self._wanted <= HOT_GUESTS_MAX:
                    _write(self._processes_of(moved.pid), str(moved.pid))
                time.sleep(HOT_EVERY_S)

    def _is_wanted(self) -> bool:
        """Waits until it is. False at the end."""
        with self._changed:
            while not self._wanted and not self._closed:
                self._changed.wait()
            return not self._closed


def _cpu(limits: Limits) -> dict[str, int]:
    extra = limits.extra_specs
    period = limits.cpu_period_us or int(extra.get("quota:cpu_period", CPU_PERIOD_US))
    quota = limits.cpu_quota_us or int(extra.get("quota:cpu_quota", period * limits.vcpus))
    shares = limits.cpu_shares or int(extra.get("quota:cpu_shares", SHARES_PER_VCPU * limits.vcpus))
    # No ceiling is no quota: a negative one reaches a cgroup of version 1 as a number that the kernel refuses.
    return {"period": period, "quota": quota, "shares": shares} if quota > 0 else {"shares": shares}


def _remove_tree(path: Path) -> bool:
    """Remove the cgroup and those below it. False while a process is in one of them."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        _, folders, _ = next(os.walk(path), ("", [], []))
        if not all([_remove_tree(path / name) for name in folders]):  # noqa: C419 - each is tried, whatever became of the others
            return False
        try:
            os.rmdir(path)
        except OSError:
            return not path.is_dir()
    return True
