"""Keeps the API and node processes running: starts them, and starts again one that ended, with backoff.

    python -m nacre.cli.supervisor CONFIG

It holds the lock run/supervisor.lock while it lives, so there is one per cloud. Its children are sessions of their own and outlive it when it is
killed; the next supervisor finds them by their pid files and goes on watching. SIGTERM ends the children in order (node, then API) and itself.
Only the standard library and nacre.cli.processes, so that it takes little memory.
"""

import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nacre.cli import processes

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 10.0
LOG_BYTES_MAX = 64 << 20
"""A log that is longer becomes the one older part (NAME.log.1)."""
LOG_CHECK_EVERY_S = 60.0
STEADY_S = 30.0
"""A process that ran this long starts with the first backoff again."""


@dataclass
class Child:
    """One process to keep running."""

    name: str
    command: list[str]
    env: dict[str, str]
    user: str | None
    """None: as the supervisor itself."""
    pid_file: Path
    log: Path
    process: processes.Process | None = None
    popen: "subprocess.Popen[bytes] | None" = None
    pidfd: int = -1
    backoff_s: float = BACKOFF_FIRST_S
    started_at: float = field(default_factory=time.monotonic)
    retry_at: float = 0.0

    def adopt(self) -> bool:
        """Takes over a process that an earlier supervisor left."""
        self.process = processes.find(self.pid_file)
        return self.process is not None and self.watch()

    def start(self) -> None:
        self.started_at = time.monotonic()
        identity: dict[str, Any] = {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": []}
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                self.command,
                env=self.env,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o022,
                **identity,
            )
        self.process = processes.note(self.pid_file, self.popen.pid)
        self.watch()

    def watch(self) -> bool:
        assert self.process is not None or self.popen is not None
        pid = self.process.pid if self.process is not None else self.popen.pid  # type: ignore[union-attr]
        try:
            self.pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        return True

    def reap(self) -> str:
        """Notes that the process ended, decides when it starts again, and says how it ended."""
        os.close(self.pidfd)
        self.pidfd = -1
        code = self.popen.wait() if self.popen is not None else None
        self.popen, self.process = None, None
        self.pid_file.unlink(missing_ok=True)
        if time.monotonic() - self.started_at > STEADY_S:
            self.backoff_s = BACKOFF_FIRST_S
        self.retry_at = time.monotonic() + self.backoff_s
        wait_s, self.backoff_s = self.backoff_s, min(self.backoff_s * 2, BACKOFF_MAX_S)
        if code is None:
            how = "ended"
        elif code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        else:
            how = f"exited with {code}"
        return f"{self.name} {how}; it starts again in {wait_s:g} s"


class Supervisor:
    """The loop over the children's pidfds and the signals."""

    def __init__(self, children: list[Child]) -> None:
        self.children = children
        self.stopping = False
        self.wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def stop(self, *_: object) -> None:
        self.stopping = True

    def start(self, child: Child) -> None:
        try:
            child.start()
        except (OSError, subprocess.SubprocessError) as error:
            child.retry_at = time.monotonic() + BACKOFF_MAX_S
            say(f"{child.name} could not be started: {error}")
        else:
            say(f"{child.name} started (pid {child.popen.pid if child.popen else 0})")

    def run(self) -> None:
        for child in self.children:
            if child.adopt():
                say(f"{child.name} runs already (pid {child.process.pid if child.process else 0})")
        while not self.stopping:
            for child in self.children:
                if child.pidfd == -1 and time.monotonic() >= child.retry_at:
                    self.start(child)
            self.wait()
        for child in reversed(self.children):
            processes.stop(child.pid_file)
            say(f"{child.name} stopped")

    def wait(self) -> None:
        """Until a child ends, a signal comes, or the next start is due."""
        poller = select.poll()
        poller.register(self.wake_read, select.POLLIN)
        for child in self.children:
            if child.pidfd != -1:
                poller.register(child.pidfd, select.POLLIN)
        due = [child.retry_at for child in self.children if child.pidfd == -1]
        wait_s = min([LOG_CHECK_EVERY_S, *(moment - time.monotonic() for moment in due)])
        ready = {descriptor for descriptor, _ in poller.poll(max(0.0, wait_s * 1000 + 1))}
        if self.wake_read in ready:
            os.read(self.wake_read, 4096)
        for child in self.children:
            if child.pidfd in ready and not self.stopping:
                say(child.reap())
            cut(child.log)


def cut(log: Path) -> None:
    """Keeps a log bounded. Its writers append, so they go on at the new end; a line written during the copy may be lost."""
    if log.stat().st_size > LOG_BYTES_MAX:
        shutil.copyfile(log, log.with_suffix(".log.1"))
        os.truncate(log, 0)


def say(line: str) -> None:
    print(time.strftime("%Y-%m-%dT%H:%M:%S%z"), line, flush=True)


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text())
    run_dir = Path(config["run"])
    lock = os.open(run_dir / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another supervisor runs; this one leaves")
        return
    children = [
        Child(
            name=row["name"],
            command=row["command"],
            env=row["env"],
            user=row["user"],
            pid_file=run_dir / f"{row['name']}.pid",
            log=Path(row["log"]),
        )
        for row in config["children"]
    ]
    pid_file = run_dir / "supervisor.pid"
    supervisor = Supervisor(children)
    processes.note(pid_file, os.getpid())
    supervisor.run()
    pid_file.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
