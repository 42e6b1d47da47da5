"""Starts conmon and crun, from threads of its own.

On a hybrid cgroup host bookworm's crun refuses to work while it sees the version 2 hierarchy. The launcher's threads then
live in a mount namespace of their own, a slave of the host's in which that hierarchy is unmounted; it is pinned, so that
every later node uses the same one. All else, and every mount of a guest, stays in the host's namespace.

posix_spawn forks by vfork: the child never copies this process's memory.
"""

import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from nacre.node.runtimes.containers import kernel
from nacre.node.runtimes.containers.layout import GuestPaths, Layout
from nacre.node.runtimes.containers.pidfds import ended_within as readable_within
from nacre.protocol.containers import Container

CREATE_WAIT_S = 60.0
"""How long conmon and crun may take to create a container."""
COMMAND_WAIT_S = 60.0
WORKERS = 4
LOG_BYTES_MAX = 64 << 20
"""conmon throws the whole log away at this size; the node rotates long before, unless a guest writes faster than it looks."""
MESSAGE_BYTES_MAX = 64 << 10
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_SYNC_FD = 3


class LaunchError(Exception):
    """conmon or crun failed; the text is its own last line."""


class _Sync(msgspec.Struct):
    """What conmon says when the container is created (conmon's API version 1)."""

    data: int
    message: str = ""


class Launcher:
    """Calls crun and conmon, in threads that see no version 2 hierarchy on a hybrid host."""

    def __init__(self, layout: Layout, crun: str, conmon: str) -> None:
        self._layout = layout
        self._crun, self._conmon = crun, conmon
        self._hidden: Path | None = None
        self._settle: Callable[[], None] = lambda: None
        self._threads: ThreadPoolExecutor | None = None

    def start(self, hidden: Path | None, settle: Callable[[], None] = lambda: None) -> None:
        """Make or join the mount namespace without `hidden` (the version 2 hierarchy of a hybrid host), and the threads.

        Each thread calls `settle` before anything else.
        """
        self._settle = settle
        self._layout.crun_root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._hidden = hidden
        if hidden is not None:
            for directory in (self._layout.guests, self._layout.slots):
                _share(directory)
            self._pin_namespace()
        self._threads = ThreadPoolExecutor(WORKERS, "launcher", initializer=self._enter)

    def _pin_namespace(self) -> None:
        pin = self._layout.mount_namespace
        if any(entry.target == str(pin) for entry in kernel.mounts()):
            return
        pin.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A mount namespace can only be pinned below a private mount: a propagated one would hold itself alive.
        kernel.unmount_all(pin.parent)
        kernel.mount(str(pin.parent), pin.parent, flags=kernel.MS_BIND)
        kernel.mount("none", pin.parent, flags=kernel.MS_PRIVATE)
        pin.touch()
        done = threading.Event()
        made: Future[int] = Future()
        thread = threading.Thread(target=self._hold_namespace, args=(made, done), daemon=True)
        thread.start()
        try:
            kernel.mount(f"/proc/self/task/{made.result()}/ns/mnt", pin, flags=kernel.MS_BIND)
        finally:
            done.set()
            thread.join()

    def _hold_namespace(self, made: Future[int], done: threading.Event) -> None:
        try:
            kernel.unshare(kernel.CLONE_NEWNS)
            kernel.mount("none", Path("/"), flags=kernel.MS_REC | kernel.MS_SLAVE)
            assert self._hidden is not None
            kernel.unmount_all(self._hidden)
        except OSError as error:
            made.set_exception(error)
            return
        made.set_result(threading.get_native_id())
        done.wait(COMMAND_WAIT_S)

    def _enter(self) -> None:
        if self._hidden is not None:
            kernel.unshare(kernel.CLONE_FS)
            kernel.set_namespace(self._layout.mount_namespace, kernel.CLONE_NEWNS)
        self._settle()

    @property
    def crun(self) -> str:
        return self._crun

    @property
    def root_argument(self) -> str:
        """By which every process of this cloud's runtime is known (see `Containers.runtime_processes`)."""
        return f"--root={self._layout.crun_root}"

    @property
    def threads(self) -> ThreadPoolExecutor:
        assert self._threads is not None, "start() comes first"
        return self._threads

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    def create(
        self, guest_id: str, paths: GuestPaths, container: Container | None = None, *, runtime: tuple[str, ...] = ()
    ) -> int:
        """Create the container under a new conmon; the pid of its first process, which waits for `run`. Raises LaunchError.

        Another `runtime` than crun may stand behind conmon, a program with its first arguments: one that restores.
        """
        argv = [self._conmon, "--api-version", "1", "-c", guest_id, "-u", guest_id, "-n", guest_id]
        program, *first = runtime or (self._crun,)
        argv += ["-r", program]
        for argument in (*first, self.root_argument):
            argv += ["--runtime-arg", argument]
        argv += ["-b", str(paths.bundle)]
        argv += ["-p", str(paths.pid_file), "-P", str(paths.monitor_pid_file), "--exit-dir", str(paths.exit_file.parent)]
        argv += ["--full-attach", "--no-sync-log", "--log-level", "error", *_streams(paths, container)]
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            pid = self._spawn(argv, paths.bundle / "conmon.err", sync=writer)
            os.close(writer)
            writer = -1
            _reap(pid, COMMAND_WAIT_S)
            answer = _read_line(reader, CREATE_WAIT_S)
        finally:
            os.close(reader)
            if writer >= 0:
                os.close(writer)
        try:
            sync = msgspec.json.decode(answer, type=_Sync)
        except msgspec.DecodeError:
            raise LaunchError(_last_line(paths.bundle / "conmon.err") or "conmon ended without a word") from None
        if sync.data <= 0:
            raise LaunchError(_cause(sync.message) or _last_line(paths.bundle / "conmon.err") or "crun create failed")
        return sync.data

    def run(self, guest_id: str, paths: GuestPaths) -> None:
        """Let the created container's first process go. Raises LaunchError."""
        if not self._release(guest_id):
            self._command(paths, "start", guest_id)

    def _release(self, guest_id: str) -> bool:
        """What `crun start` does for a container without hooks: a byte into the fifo on which the first process waits.

        To load crun once more takes a quarter of a container's whole time. False where this crun does it in another way.
        """
        fifo = self._layout.crun_root / guest_id / "exec.fifo"
        try:
            fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fifo.unlink()
            return os.write(fd, b"0") == 1
        finally:
            os.close(fd)

    def update(self, guest_id: str, paths: GuestPaths, resources: bytes) -> None:
        """Set other limits on a running container. Raises LaunchError."""
        file = paths.bundle / "resources.json"
        file.write_bytes(resources)
        self._command(paths, "update", "-r", str(file), guest_id)

    def spawn_exec(self, guest_id: str, process: Path, pid_file: Path, output: int) -> int:
        """Run what the process document says beside the guest's own process; the pid of the crun that waits for it.

        Both streams go to `output`. The caller reaps crun, whose exit status is the process's.
        """
        argv = [self._crun, f"--root={self._layout.crun_root}", "exec", "--process", str(process), "--pid-file", str(pid_file)]
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ]
        return _posix_spawn([*argv, guest_id], _ENVIRONMENT, actions)

    def spawn(self, argv: list[str], errors: Path, wait_s: float) -> None:
        """Run a program in a session of its own and wait for its end: it goes on when the node ends. Raises LaunchError."""
        actions = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1)]
        actions.append((os.POSIX_SPAWN_OPEN, 2, str(errors), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        pid = os.posix_spawn(argv[0], argv, _ENVIRONMENT, file_actions=actions, setsid=True, setsigdef=_SIGNALS, setsigmask=())
        if _reap(pid, wait_s) != 0:
            raise LaunchError(_last_line(errors) or f"{argv[0]} failed")

    def _command(self, paths: GuestPaths, *arguments: str) -> None:
        errors = paths.root / "crun.err"
        pid = self._spawn([self._crun, f"--root={self._layout.crun_root}", *arguments], errors)
        status = _reap(pid, COMMAND_WAIT_S)
        if status != 0:
            raise LaunchError(_last_line(errors) or f"crun {arguments[0]} failed with exit status {status}")

    def _spawn(self, argv: list[str], errors: Path, sync: int | None = None) -> int:
        actions: list[Any] = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, str(errors), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        ]
        environment = dict(_ENVIRONMENT)
        if sync is not None:
            actions.append((os.POSIX_SPAWN_DUP2, sync, _SYNC_FD))
            environment["_OCI_SYNCPIPE"] = str(_SYNC_FD)
        return _posix_spawn(argv, environment, actions)


def _posix_spawn(argv: list[str], environment: dict[str, str], actions: list[Any]) -> int:
    return os.posix_spawn(argv[0], argv, environment, file_actions=actions, setsigdef=_SIGNALS, setsigmask=())


def _streams(paths: GuestPaths, container: Container | None) -> list[str]:
    """What conmon does with the process's terminal or pipes, and where it writes what the process says."""
    log = ["-l", f"k8s-file:{paths.logs / 'console.log'}", "--log-size-max", str(LOG_BYTES_MAX)]
    if container is None:
        return ["-t", *log]
    found = ["-t"] if container.tty else []
    if container.open_stdin:
        found += ["-i"] if container.stdin_once else ["-i", "--leave-stdin-open"]
    return found + (["-l", "none"] if container.log_driver == "none" else log)


_SIGNALS = tuple(set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})


def _share(directory: Path) -> None:
    """Let mounts below the directory reach the slave namespace, also on a host whose root is private."""
    directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    over = kernel.mount_over(directory)
    if over.shared:
        return
    if over.target != str(directory):
        kernel.mount(str(directory), directory, flags=kernel.MS_BIND | kernel.MS_REC)
    kernel.mount("none", directory, flags=kernel.MS_SHARED)


def _reap(pid: int, timeout_s: float) -> int:
    """The child's exit status. One that takes longer than it may is killed."""
    fd = os.pidfd_open(pid)
    try:
        if not readable_within(fd, timeout_s):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    finally:
        os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _read_line(fd: int, timeout_s: float) -> bytes:
    data, deadline = b"", time.monotonic() + timeout_s
    while not data.endswith(b"\n") and len(data) < MESSAGE_BYTES_MAX:
        if not readable_within(fd, max(0.0, deadline - time.monotonic())):
            raise LaunchError(f"the container was not created within {timeout_s:.0f} s")
        chunk = os.read(fd, 4096)
        if not chunk:
            break
        data += chunk
    return data


def _cause(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _last_line(file: Path) -> str:
    try:
        return _cause(file.read_text(errors="replace")[-MESSAGE_BYTES_MAX:])
    except OSError as error:
        return f"{file.name} cannot be read: {error.strerror}" if error.errno != errno.ENOENT else ""
