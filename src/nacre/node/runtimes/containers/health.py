"""Health checks: a command that is run in the guest again and again, and what comes of it (Dockerfile reference, HEALTHCHECK).

A check that hangs is killed. While a guest is paused it is not asked. The last probes are kept in memory only.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from nacre.node.runtimes.containers.container import Containers
from nacre.node.runtimes.containers.pidfds import ended, ended_within, open_pid
from nacre.node.runtimes.containers.records import Record
from nacre.protocol.containers import HealthCheck, Probe

OUTPUT_BYTES_MAX = 4096
PROBES_KEPT = 5
REPORT_EVERY_S = 10.0
"""Probes that change no status are told at most this often."""
INTERVAL_MIN_S = 0.001
KILLED_WAIT_S = 5.0
"""How long crun may take to see that the check was killed."""
_TIMED_OUT = -1


def command(check: HealthCheck) -> list[str] | None:
    """The argv, or None where the check is turned off."""
    kind, *words = check.test or ("NONE",)
    if kind == "CMD" and words:
        return words
    return ["/bin/sh", "-c", words[0]] if kind == "CMD-SHELL" and words else None


class Health:
    """The health checks of all guests of this node. Belongs to one event loop."""

    def __init__(self, containers: Containers, changed: Callable[[str], None]) -> None:
        self._containers, self._changed = containers, changed
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._probes: dict[str, deque[Probe]] = {}

    def begin(self, record: Record) -> None:
        """Check the guest from now on; one that is adopted keeps its status."""
        self.end(record.guest.id)
        container = record.guest.container
        argv = command(container.health) if container and container.health else None
        if argv is None:
            record.health, record.failing_streak = "", 0
            return
        self._probes[record.guest.id] = deque(maxlen=PROBES_KEPT)
        record.health = record.health or "starting"
        self._tasks[record.guest.id] = asyncio.create_task(self._check_forever(record, argv))

    def end(self, guest_id: str) -> None:
        """The guest does not run any more; what was seen stays to be read until it begins again."""
        task = self._tasks.pop(guest_id, None)
        if task is not None:
            task.cancel()

    def forget(self, guest_id: str) -> None:
        self.end(guest_id)
        self._probes.pop(guest_id, None)

    def probes(self, guest_id: str) -> tuple[Probe, ...]:
        return tuple(self._probes.get(guest_id, ()))

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for guest_id in list(self._tasks):
            self.end(guest_id)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _check_forever(self, record: Record, argv: list[str]) -> None:
        guest_id, told = record.guest.id, 0.0
        while True:
            check = record.guest.container.health if record.guest.container else None
            if check is None:
                return
            await asyncio.sleep(max(INTERVAL_MIN_S, _pause_s(record, check)))
            if await asyncio.to_thread(self._containers.cgroups.is_frozen, guest_id):
                continue
            probe = await self._probe(guest_id, argv, check)
            self._probes[guest_id].append(probe)
            before = record.health
            _judge(record, check, probe)
            if record.health != before or time.monotonic() - told >= REPORT_EVERY_S:
                told = time.monotonic()
                self._changed(guest_id)

    async def _probe(self, guest_id: str, argv: list[str], check: HealthCheck) -> Probe:
        begun = time.time()
        try:
            paths = self._containers.layout.guest(guest_id)
            run = Run(self._containers, guest_id, (paths.health_process, paths.health_pid_file))
            code, output = await run.run(argv, check.timeout_s or _DEFAULT_TIMEOUT_S)
        except OSError as error:
            code, output = _TIMED_OUT, f"the check could not be run: {error}"
        if code == _TIMED_OUT and not output:
            output = f"Health check exceeded timeout ({check.timeout_s:g}s)"
        return Probe(begun, time.time(), code, output)


_DEFAULT_TIMEOUT_S = 30.0
_DEFAULT_INTERVAL_S = 30.0


def _in_start_period(record: Record, check: HealthCheck) -> bool:
    return record.health == "starting" and time.time() - (record.started_at or 0.0) < check.start_period_s


def _pause_s(record: Record, check: HealthCheck) -> float:
    if _in_start_period(record, check) and check.start_interval_s:
        return check.start_interval_s
    return check.interval_s or _DEFAULT_INTERVAL_S


def _judge(record: Record, check: HealthCheck, probe: Probe) -> None:
    """A success makes it healthy at once; so many failures in a row unhealthy; those of the start period do not count."""
    if probe.exit_code == 0:
        record.health, record.failing_streak = "healthy", 0
    elif not _in_start_period(record, check):
        record.failing_streak += 1
        if record.failing_streak >= (check.retries or 3):
            record.health = "unhealthy"


class Run:
    """One command beside a guest's own process, as the same user with the same walls. The `files` (the process document, the pid) are
    no other command's at the time; the document, in which the environment may be secret, is nobody else's to read and goes afterwards."""

    def __init__(
        self, containers: Containers, guest_id: str, files: tuple[Path, Path], environment: Mapping[str, str] | None = None
    ) -> None:
        self._containers, self._guest_id = containers, guest_id
        self._more = [f"{name}={value}" for name, value in (environment or {}).items()]
        self._process, self._pid_file = files
        self._config = containers.layout.guest(guest_id).bundle / "config.json"
        self._output = bytearray()

    async def run(self, argv: list[str], timeout_s: float) -> tuple[int, str]:
        """The exit status (-1: it was killed because it hung) and the beginning of what it said. Raises OSError."""
        loop = asyncio.get_running_loop()
        reads, writes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(writes, True)
        try:
            pid = await loop.run_in_executor(self._containers.launcher.threads, self._spawn, argv, writes)
        except BaseException:
            os.close(reads)
            raise
        finally:
            os.close(writes)
        loop.add_reader(reads, self._drain, reads)
        reaped = False
        try:
            reaped = await _ended(pid, timeout_s)
            if not reaped:
                self._kill()
                await _ended(pid, KILLED_WAIT_S)
            self._drain(reads)
        finally:
            loop.remove_reader(reads)
            os.close(reads)
            if not reaped:
                self._kill()
            code = await asyncio.shield(asyncio.to_thread(reap, pid))
            self._process.unlink(missing_ok=True)
        text = self._output.decode(errors="replace")
        return (code, text) if reaped else (_TIMED_OUT, "")

    def _spawn(self, argv: list[str], output: int) -> int:
        document = msgspec.json.decode(self._config.read_bytes())["process"]
        changes = {"args": argv, "terminal": False, "env": [*document["env"], *self._more]}
        self._process.unlink(missing_ok=True)
        with os.fdopen(os.open(self._process, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(msgspec.json.encode({**document, **changes}))
        self._pid_file.unlink(missing_ok=True)
        return self._containers.launcher.spawn_exec(self._guest_id, self._process, self._pid_file, output)

    def _drain(self, reads: int) -> None:
        """Take what there is, keep the beginning: a check that talks much must not hang for it."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(reads, 65536):
                self._output += chunk[: max(0, OUTPUT_BYTES_MAX - len(self._output))]
            asyncio.get_running_loop().remove_reader(reads)

    def _kill(self) -> None:
        _kill(self._containers, self._guest_id, self._pid_file)


def kill_check(containers: Containers, guest_id: str) -> None:
    """Kill what an earlier node had begun to run in the guest, if it runs still: a health check, the change of a password."""
    paths = containers.layout.guest(guest_id)
    for pid_file in (paths.health_pid_file, paths.password_pid_file):
        _kill(containers, guest_id, pid_file)
    for process in (paths.health_process, paths.password_process):
        process.unlink(missing_ok=True)


def _kill(containers: Containers, guest_id: str, pid_file: Path) -> None:
    """Kill the command's process with its group, if it runs: it is of the guest's cgroup, and begun by the crun that has its file."""
    try:
        pid = int(pid_file.read_text())
    except (FileNotFoundError, ValueError):
        return
    with open_pid(pid) as fd:
        if fd is None or not containers.cgroups.holds(guest_id, pid) or not _begun_with(pid, pid_file):
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
            signal.pidfd_send_signal(fd, signal.SIGKILL)


def _begun_with(pid: int, pid_file: Path) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return str(pid_file).encode() in Path(f"/proc/{fields[1]}/cmdline").read_bytes()
    except OSError:
        return False


async def _ended(pid: int, timeout_s: float) -> bool:
    with open_pid(pid) as fd:
        return fd is None or await ended(fd, timeout_s)


def reap(pid: int) -> int:
    """The exit status of a child that has ended or is about to; one that does not end is killed."""
    with open_pid(pid) as fd:
        if fd is not None and not ended_within(fd, KILLED_WAIT_S):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code
