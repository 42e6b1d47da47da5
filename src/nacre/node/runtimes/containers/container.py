"""The steps of a container's life that block: each runs in a thread, may be repeated, and goes on from what is there.

`build` and `unmake` make and undo folders and mounts in the host's mount namespace; `launch` runs in a launcher's thread;
`halt` and `clear` end processes and leave neither cgroup nor runtime state.
"""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from nacre.node import metadata
from nacre.node.drivers import Attached, Plugged
from nacre.node.images import UnpackedImage
from nacre.node.init.seed import write_seed, write_tree
from nacre.node.metadata import Tree
from nacre.node.runtimes.containers import box as walled
from nacre.node.runtimes.containers import bundle, consent, console, etc, injecting, kernel, processors, volumes
from nacre.node.runtimes.containers.cgroups import Cgroups
from nacre.node.runtimes.containers.entry import entry
from nacre.node.runtimes.containers.launcher import Launcher
from nacre.node.runtimes.containers.layout import GuestPaths, Layout
from nacre.node.runtimes.containers.pidfds import ended_within, open_pid, try_open
from nacre.node.runtimes.containers.records import Record, Seat
from nacre.node.runtimes.containers.slots import Slots, write_whole
from nacre.node.runtimes.containers.trash import Trash
from nacre.node.volumes.throttle import block_io
from nacre.protocol.containers import Container
from nacre.protocol.guests import Guest

STOP_WAIT_S = 10.0
STOP_WAIT_S_MAX = 3600.0
"""The longest that anybody may ask for."""
"""How long a guest of one process may take to stop after its signal, as Docker has it."""
INIT_STOP_WAIT_S = 60.0
"""How long an init system may take to end all its services, as Nova has it (shutdown_timeout)."""
KILL_WAIT_S = 10.0
MONITOR_WAIT_S = 5.0
"""How long conmon may take to write the exit status and end."""
SCANS_MAX = 50


class Neighbour(Struct):
    """A guest whose namespaces another one shares."""

    guest_id: str
    slot: int
    """That of its network namespace."""
    network_id: str
    """The guest whose network that is: it may share another's, too."""


class Bound(Struct):
    """What a container has beyond itself."""

    attached: dict[str, Attached] = {}
    """Its volumes, by id."""
    network: Neighbour | None = None
    pid: Neighbour | None = None
    ipc: Neighbour | None = None


class Containers:
    """The steps of a container's life, each in a form that may be repeated."""

    def __init__(self, layout: Layout, cgroups: Cgroups, slots: Slots, launcher: Launcher, host: bundle.Host) -> None:
        self.layout, self.cgroups, self.slots, self.launcher, self.host = layout, cgroups, slots, launcher, host
        self.trash = Trash(layout.trash)
        self.created: Callable[[str], None] = lambda guest_id: None
        """Called between create and start, when conmon listens and nothing was said yet."""
        self.documents: Callable[[Guest], Tree] = lambda guest: metadata.documents(guest, [])
        """What a guest's config drive holds."""
        self.rotated: Callable[[str, Path], None] = lambda guest_id, part: None
        """Called when the guest's log goes on in another file: the name of the one before."""

    def build_disk(self, guest_id: str, seat: Seat, image: UnpackedImage, rescue: UnpackedImage | None = None) -> None:
        """Folders and mounts; with a rescue image those of its system as well, made anew. Raises OSError."""
        paths, base = self.layout.guest(guest_id), self.slots.base_id(seat.home)
        for directory in paths.directories:
            directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.slots.ensure(seat.slot)
        if not os.path.ismount(paths.rootfs):
            self._mount(paths, image, seat.home, base, paths.disk, paths.rootfs)
        self._wipe_rescue(paths)
        if rescue is not None:
            for directory in (paths.rescue_disk / "upper", paths.rescue_disk / "work", paths.rescue_rootfs):
                directory.mkdir(mode=0o711, parents=True, exist_ok=True)
            self._mount(paths, rescue, seat.home, base, paths.rescue_disk, paths.rescue_rootfs)

    def _wipe_rescue(self, paths: GuestPaths) -> None:
        """What was done in a rescue system goes as it ends."""
        if not paths.rescue_disk.is_dir():
            return
        kernel.unmount_all(paths.rescue_rootfs)
        shutil.rmtree(paths.rescue_disk)
        paths.rescue_rootfs.rmdir()

    def inject(self, guest: Guest, seat: Seat, known: Record) -> None:
        """Write what its maker put into the guest, as far as its files do not have it yet. Raises OSError, ValueError."""
        paths, base = self.layout.guest(guest.id), self.slots.base_id(seat.home)
        if guest.rescue is not None and guest.rescue.password_hash:
            injecting.write_password(paths.rescue_rootfs, guest.rescue.password_hash, base)
        if guest.password_hash and guest.password_hash != known.password_hash:
            injecting.write_password(paths.rootfs, guest.password_hash, base)
            known.password_hash = guest.password_hash
        if guest.files and not known.injected:
            injecting.write_files(paths.rootfs, guest.files, base)
            known.injected = True

    def write_bundle(self, guest: Guest, seat: Seat, image: UnpackedImage, plugged: tuple[Plugged, ...], bound: Bound) -> None:
        """Seed, files and the bundle. Raises OSError, ValueError, LookupError."""
        paths, base = self.layout.guest(guest.id), self.slots.base_id(seat.home)
        etc.write(paths, guest, plugged, base)
        try:
            box = guest.container
            config = self._server_bundle(guest, seat, image) if box is None else self._container_bundle(guest, box, seat, bound)
            (paths.bundle / "config.json").write_bytes(config)
        except Exception:
            self._release(paths)
            raise

    def _server_bundle(self, guest: Guest, seat: Seat, image: UnpackedImage) -> bytes:
        """A guest that boots as its image says, under an init of the image's or of ours."""
        paths, base = self.layout.guest(guest.id), self.slots.base_id(seat.home)
        rootfs = paths.rootfs if guest.rescue is None else paths.rescue_rootfs
        start = entry(rootfs, image.config, guest.instance.hostname)
        paths.seed.mkdir(mode=0o711, exist_ok=True)
        # The rescue system is there to repair the server, not to be made into it once more.
        instance = guest.instance if guest.rescue is None else msgspec.structs.replace(guest.instance, user_data=b"")
        write_seed(paths.seed, self.layout.busybox, instance, start.default_user, base)
        if guest.config_drive:
            write_tree(paths.config_drive, self.documents(guest), base)
        (paths.root / "stop-signal").write_text(f"{start.stop_signal} {INIT_STOP_WAIT_S if start.init else STOP_WAIT_S}")
        named = self.cgroups.delegate(guest.id, base) if start.init == "systemd" else None
        box = bundle.Box(
            hostname=guest.instance.hostname,
            base_id=base,
            user_namespace=self.slots.user_namespace(seat.home),
            cgroup=f"{self.cgroups.name}/{guest.id}",
            resources=self.cgroups.resources(guest.limits),
            mounts=bundle.server_mounts(
                paths,
                self.host,
                start.init,
                named,
                config_drive=guest.config_drive,
                rescued=guest.rescue is not None,
                cpuinfo=processors.write(paths.cpuinfo, guest.limits.vcpus),
            ),
            namespaces={**dict.fromkeys(bundle.NAMESPACES), "network": self.slots.network_namespace(seat.slot)},
            seccomp=self.host.seccomp,
        )
        return bundle.spec(rootfs, start.process, box, self.host)

    def _container_bundle(self, guest: Guest, container: Container, seat: Seat, bound: Bound) -> bytes:
        """A container of Docker's pane: one process and its walls."""
        paths, base = self.layout.guest(guest.id), self.slots.base_id(seat.home)
        consent.check(self.layout.state, guest.instance.project_id, container)
        user_namespace = self.slots.user_namespace(seat.home)
        process = walled.process(guest, container, paths.rootfs, base, self.host)
        shared = self._shared(paths, bound)
        sources = volumes.prepare(paths, container, bound.attached, user_namespace, base)
        resources = self.cgroups.resources(guest.limits, walled.device_rules(container) if self.host.device_rules else [])
        rates = block_io(bound.attached.values())
        box = walled.box(
            guest,
            container,
            base_id=base,
            user_namespace=user_namespace,
            cgroup=f"{self.cgroups.name}/{guest.id}",
            resources={**resources, "blockIO": resources.get("blockIO", {}) | rates} if rates else resources,
            mounts=walled.mounts(paths, container, self.host, shared, sources, base),
            namespaces=walled.namespaces(container, self.slots.network_namespace(seat.slot), shared),
        )
        return bundle.spec(paths.rootfs, process, box, self.host)

    def _shared(self, paths: GuestPaths, bound: Bound) -> walled.Shared:
        """The namespaces of those with whom the container shares some. Raises LookupError for one that does not run."""
        shared = walled.Shared()
        if bound.network is not None:
            self._pid_of(bound.network.guest_id)
            shared.network = self.slots.network_namespace(bound.network.slot)
            shared.etc = self.layout.guest(bound.network.network_id).etc
        if bound.pid is not None:
            shared.pid = Path(f"/proc/{self._pid_of(bound.pid.guest_id)}/ns/pid")
        if bound.ipc is not None:
            pid = self._pid_of(bound.ipc.guest_id)
            shared.ipc, shared.shm = Path(f"/proc/{pid}/ns/ipc"), paths.shm
            kernel.unmount_all(paths.shm)
            paths.shm.mkdir(exist_ok=True)
            kernel.mount_from_namespace(Path(f"/proc/{pid}/ns/mnt"), "/dev/shm", paths.shm)  # noqa: S108
        return shared

    def _pid_of(self, guest_id: str) -> int:
        pid = self.first_pid(guest_id)
        if pid is None:
            raise LookupError(f"cannot join the namespaces of a non running container: {guest_id}")
        return pid

    def _mount(self, paths: GuestPaths, image: UnpackedImage, home: int, base: int, disk: Path, rootfs: Path) -> None:
        _unmount_lowers(paths)
        upper = disk / "upper"
        # An id-mapped upper mounts read-only without an error, so the upper bears the mapped ids itself.
        os.chown(upper, base, base)
        upper.chmod(0o755)
        names = []
        try:
            for number, lower in enumerate(reversed(image.lowers)):
                place = paths.lower / str(number)
                place.mkdir(exist_ok=True)
                kernel.mount_idmapped(lower, place, self.slots.user_namespace(home))
                names.append(f"{paths.lower.name}/{number}")
            # Names from the guest's folder: the options of a mount must fit a page, however deep the state directory lies.
            data = f"lowerdir={':'.join(names)},upperdir={disk.name}/upper,workdir={disk.name}/work"
            kernel.mount_within(paths.root, "overlay", rootfs, kernel.MS_NODEV, data)
        finally:
            # The overlay keeps copies of its own; every mount here is copied into each new container's namespace.
            _unmount_lowers(paths)

    def create(self, guest: Guest, timings_ms: dict[str, float], *, runtime: tuple[str, ...] = ()) -> int:
        """Create the container; the pid of its first process, which waits. Raises LaunchError or OSError. `runtime`: see `Launcher.create`."""
        paths, begun = self.layout.guest(guest.id), time.monotonic()
        if paths.logs.is_dir():
            self.rotate(guest.id, console.kept_bytes(guest))
        for stale in (paths.exit_file, paths.pid_file, paths.monitor_pid_file):
            stale.unlink(missing_ok=True)
        pid = self.launcher.create(guest.id, paths, guest.container, runtime=runtime)
        timings_ms["create"] = (time.monotonic() - begun) * 1000
        return pid

    def run(self, guest_id: str, timings_ms: dict[str, float]) -> None:
        """Let the created container's first process go. Raises LaunchError."""
        begun = time.monotonic()
        self.created(guest_id)
        self.launcher.run(guest_id, self.layout.guest(guest_id))
        timings_ms["start"] = (time.monotonic() - begun) * 1000

    def rotate(self, guest_id: str, kept_bytes: int = console.KEPT_BYTES) -> None:
        """Begin another log file."""
        console.rotate(self.layout.guest(guest_id), kept_bytes, lambda part: self.rotated(guest_id, part))

    def release(self, guest_id: str) -> None:
        """Unmount what lay ready for the container: it has copies of its own, and every mount here is copied into each that comes.

        Not in a launcher's thread, whose mount namespace may be another one.
        """
        self._release(self.layout.guest(guest_id))

    def _release(self, paths: GuestPaths) -> None:
        volumes.release(paths)
        if paths.shm.is_dir():
            kernel.unmount_all(paths.shm)

    def settle(self, guest_id: str) -> None:
        """Put conmon into its own cgroup: the write waits for the kernel, the guest need not."""
        monitor = self.monitor_pid(guest_id)
        if monitor is not None:
            with contextlib.suppress(ProcessLookupError):
                self.cgroups.adopt_monitor(monitor)

    def update(self, guest: Guest) -> None:
        """Set the guest's limits while it runs. Raises LaunchError."""
        paths = self.layout.guest(guest.id)
        self.launcher.update(guest.id, paths, msgspec.json.encode(self.cgroups.resources(guest.limits)))
        if paths.cpuinfo.exists():
            processors.write(paths.cpuinfo, guest.limits.vcpus)

    def first_pid(self, guest_id: str) -> int | None:
        """The pid of the guest's first process while it lives."""
        pid = _read_int(self.layout.guest(guest_id).pid_file)
        return pid if pid is not None and self.cgroups.holds(guest_id, pid) and not _is_dead(pid) else None

    def monitor_pid(self, guest_id: str) -> int | None:
        """The pid of the guest's conmon while it lives."""
        pid = _read_int(self.layout.guest(guest_id).monitor_pid_file)
        return pid if pid is not None and guest_id in _arguments(pid) else None

    def exit_code(self, guest_id: str) -> int | None:
        return _read_int(self.layout.guest(guest_id).exit_file)

    def await_exit_code(self, guest_id: str) -> int | None:
        """The exit status of a guest whose first process has ended, as soon as conmon wrote it and went."""
        with open_pid(self.monitor_pid(guest_id)) as fd:
            if fd is not None:
                ended_within(fd, MONITOR_WAIT_S)
        return self.exit_code(guest_id)

    def ask_to_end(self, guest: Guest) -> tuple[int, float] | None:
        """Send the stop signal. A pidfd to wait on and how long, in seconds; None where nothing is to be waited for."""
        pid = self.first_pid(guest.id)
        if pid is None:
            return None
        with contextlib.suppress(OSError):
            self.cgroups.freeze(guest.id, False)
        number, wait_s = self._stop_rule(guest)
        # The kernel drops a signal that the first process of a pid namespace neither catches nor blocks: to wait would be in vain.
        if not _catches(pid, number):
            return None
        fd = try_open(pid)
        if fd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, number)
        return None if fd is None else (fd, wait_s)

    def _stop_rule(self, guest: Guest) -> tuple[int, float]:
        """The stop signal's number, and how many seconds it has."""
        if guest.container is not None:
            wait_s = guest.container.stop_timeout_s
            bounded = STOP_WAIT_S if wait_s is None else STOP_WAIT_S_MAX if wait_s < 0 else min(wait_s, STOP_WAIT_S_MAX)
            return signal_number(guest.container.stop_signal or "SIGTERM"), bounded
        name, _, wait = (self.layout.guest(guest.id).root / "stop-signal").read_text().partition(" ")
        return signal_number(name), float(wait or STOP_WAIT_S)

    def send(self, guest_id: str, number: int) -> bool:
        """Send a signal to the guest's first process. False when it does not run."""
        with open_pid(self.first_pid(guest_id)) as fd:
            if fd is None:
                return False
            try:
                signal.pidfd_send_signal(fd, number)
            except ProcessLookupError:
                return False
            return True

    def clear(self, guest_id: str) -> None:
        """Kill what runs of the guest, wait for conmon's last word, take away cgroups and the runtime's state. Raises OSError."""
        pid, monitor = self.first_pid(guest_id), self.monitor_pid(guest_id)
        with open_pid(pid) as first, open_pid(monitor) as second:
            self.cgroups.kill(guest_id, thorough=False)
            if first is not None:
                ended_within(first, KILL_WAIT_S)
            if second is not None and not ended_within(second, MONITOR_WAIT_S):
                signal.pidfd_send_signal(second, signal.SIGKILL)
        self.cgroups.remove(guest_id)
        shutil.rmtree(self.layout.crun_root / guest_id, ignore_errors=True)

    def kill_launchers(self, guest_ids: set[str]) -> None:
        """End every conmon and crun that a killed node left at work on these guests, whatever they had got to."""
        for _ in range(SCANS_MAX):
            found = [pid for pid, guest_id in self.runtime_processes() if guest_id in guest_ids]
            if not found:
                return
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    def runtime_processes(self) -> list[tuple[int, str]]:
        """Every conmon and crun of this cloud with its guest, by their command lines: both name our own crun root."""
        found, root = [], f"--root={self.layout.crun_root}"
        for entry_ in Path("/proc").iterdir():
            if entry_.name.isdigit():
                arguments = _arguments(int(entry_.name))
                if root in arguments:
                    found += [(int(entry_.name), word) for word in self.layout.known_in(arguments)]
        return found

    def unmount(self, guest_id: str) -> None:
        paths = self.layout.guest(guest_id)
        self._release(paths)
        for rootfs in (paths.rescue_rootfs, paths.rootfs):
            kernel.unmount_all(rootfs)
        _unmount_lowers(paths)

    def wipe_disk(self, guest_id: str) -> None:
        """Throw away what the guest wrote (a rebuild)."""
        self.unmount(guest_id)
        paths = self.layout.guest(guest_id)
        for disk in (paths.rescue_disk, paths.disk):
            if disk.is_dir():
                shutil.rmtree(disk)

    def unmake(self, guest_id: str, free: Iterable[int]) -> None:
        """Undo all of the guest but its files, and the slots that nobody else uses. Raises OSError."""
        self.clear(guest_id)
        self.unmount(guest_id)
        for slot in free:
            self.slots.destroy(slot)

    def forget(self, guest_id: str) -> None:
        """The files go last, and the record with them: until then another try knows what there is. Raises OSError.

        Blocks only while very many files wait for their deletion.
        """
        if self.trash.is_full:
            self.trash.settle()
        self.trash.take(self.layout.guest(guest_id).root)

    def close(self) -> None:
        """Let go of threads and helpers; the guests run on."""
        for part in (self.launcher, self.slots, self.cgroups, self.trash):
            part.close()

    def prepare_host(self, busybox: Path) -> None:
        """What all guests share: the folder of guests and a busybox of our own, linked into each seed."""
        self.layout.guests.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.trash.start()
        write_whole(self.layout.busybox, busybox.read_bytes())
        self.layout.busybox.chmod(0o755)


def _unmount_lowers(paths: GuestPaths) -> None:
    for place in paths.lower.iterdir() if paths.lower.is_dir() else ():
        kernel.unmount_all(place)
    kernel.unmount_all(paths.lower)


def _read_int(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _status(pid: int, field: str) -> str:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field + ":")), "")


def _is_dead(pid: int) -> bool:
    return _status(pid, "State")[:1] in ("Z", "X", "")


def _catches(pid: int, number: int) -> bool:
    """Whether the signal reaches the process: by a handler or, as init systems do it, blocked and then read or waited for."""
    masks = [int(_status(pid, field) or "0", 16) for field in ("SigCgt", "SigBlk")]
    return any(mask >> (number - 1) & 1 for mask in masks) or _awaits_signals(pid)


def _awaits_signals(pid: int) -> bool:
    """Whether the process is in sigtimedwait(2), as busybox's init and tini are: what it waits for does not show as blocked."""
    try:
        place = Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return False
    # A kernel that hides its symbols says 0 for every process that sleeps: then to wait in vain is the lesser harm.
    return "sigtimedwait" in place or (place in ("", "0") and _status(pid, "State")[:1] != "R")


def signal_number(text: str) -> int:
    """`SIGTERM`, `TERM`, `15` or `SIGRTMIN+3`, as an image's StopSignal may be written; SIGTERM where it makes no sense."""
    name, _, more = text.strip().upper().partition("+")
    try:
        number = int(name) if name.isdigit() else int(signal.Signals["SIG" + name.removeprefix("SIG")])
        return number + int(more or 0)
    except (KeyError, ValueError):
        return int(signal.SIGTERM)
