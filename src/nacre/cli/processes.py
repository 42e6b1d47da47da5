"""Processes by pid file: a pid counts only together with its start time, so that a stale file never points at a stranger.

Only the standard library: the supervisor stays small.
"""

import json
import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path

TERM_WAIT_S = 15.0
"""How long a process may take to end by itself before it is killed."""
KILL_WAIT_S = 10.0


@dataclass(frozen=True)
class Process:
    """A process that was alive when it was found."""

    pid: int
    start: int
    """In clock ticks since boot (field 22 of /proc/PID/stat)."""
    boot_id: str

    def alive(self) -> bool:
        return start_of(self.pid) == self.start and boot_id() == self.boot_id


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_of(pid: int) -> int | None:
    """When a process started, or None when it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


def note(path: Path, pid: int) -> Process | None:
    """Writes a pid file; None when the process has ended already."""
    start = start_of(pid)
    if start is None:
        return None
    process = Process(pid, start, boot_id())
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps([process.pid, process.start, process.boot_id]))
    temporary.replace(path)
    return process


def find(path: Path) -> Process | None:
    """The process that a pid file names, if it is still that one and alive."""
    try:
        pid, start, boot = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    process = Process(pid, start, boot)
    return process if process.alive() else None


def signal_to(process: Process, number: signal.Signals) -> None:
    """Sends a signal to that very process, never to one that got its pid later."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if process.alive():
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)


def await_end(process: Process, timeout_s: float) -> bool:
    """True when the process has ended within the time."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        if not process.alive():
            return True
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        return bool(poller.poll(timeout_s * 1000))
    finally:
        os.close(descriptor)


def stop(path: Path, *, wait_s: float = TERM_WAIT_S) -> bool:
    """Ends the process of a pid file: SIGTERM, then SIGKILL. False when there was none. Removes the file."""
    process = find(path)
    if process is not None:
        signal_to(process, signal.SIGTERM)
        if not await_end(process, wait_s):
            signal_to(process, signal.SIGKILL)
            await_end(process, KILL_WAIT_S)
    path.unlink(missing_ok=True)
    return process is not None


def pss_kib(pid: int) -> int | None:
    """The memory that a process takes, its share of shared pages counted (KiB); None when it cannot be read."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), None)
