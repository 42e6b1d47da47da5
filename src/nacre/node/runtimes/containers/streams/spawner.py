"""Starts processes in running guests: a small process beside the node, so that a fork costs little.

Its argument is a SOCK_SEQPACKET socket to the node. A request is `spawn ID` with descriptors: the request itself (a JSON file), a pidfd of the
guest's first process, and the three of the new process. Answers are JSON: {id, pid}, with the terminal's master where one was asked
for, or {id, code, error}; and at the end {id, exit}. The processes are this one's children. It outlives the node while any of them
runs, and goes on reading what they say, so that a restart of the node ends none.

A spare child waits for the next request: to fork takes as long as half of what comes after it.
"""

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import sys
from typing import Any

import entering  # type: ignore[import-not-found]  # Beside this file: it runs as a script, apart from the package.

MESSAGE_BYTES_MAX = 64 << 10
DESCRIPTORS_MAX = 7
READ_BYTES = 64 << 10
SPARE_AFTER_S = 0.01
"""How long nothing must have happened until the next spare is forked: what was just started wants the CPU now."""


class Child:
    """One request, from its fork to its exit."""

    def __init__(self, ident: str, reports: socket.socket, kept: list[int]) -> None:
        self.ident = ident
        self.reports = reports
        self.kept = kept
        """What the node reads of it; held here as well, so that it never writes to nobody."""
        self.pid = 0
        self.error: dict[str, Any] | None = None
        self.master: int | None = None
        self.began = False


class Spawner:
    """The process's loop: requests, words of the children on their way, and their ends."""

    def __init__(self, node: socket.socket) -> None:
        self.node: socket.socket | None = node
        self.selector = selectors.DefaultSelector()
        self.children: dict[int, Child] = {}
        """By pid, once it is known."""
        self.waiting: set[Child] = set()
        self.statuses: dict[int, int] = {}
        """Of processes that ended before their pid was told."""
        self.spare: socket.socket | None = None
        """The way to a child that waits for a request."""

    def run(self) -> None:
        assert self.node is not None
        wake, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self.selector.register(wake, selectors.EVENT_READ, None)
        self.selector.register(self.node, selectors.EVENT_READ, self.hear)
        while self.node is not None or self.children or self.waiting:
            events = self.selector.select(SPARE_AFTER_S if self.spare is None and self.node is not None else None)
            if not events:
                self.spare = self.prepare()
            for key, _ in events:
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake, 4096)
                else:
                    key.data()
            self.reap()

    def hear(self) -> None:
        assert self.node is not None
        data, fds, _, _ = socket.recv_fds(self.node, MESSAGE_BYTES_MAX, DESCRIPTORS_MAX)
        if not data:
            self.orphaned()
            return
        word, _, ident = data.decode().partition(" ")
        if word == "spawn":
            self.spawn(ident, fds)
        for fd in fds:
            os.close(fd)

    def orphaned(self) -> None:
        """The node has gone. What the processes say is read and thrown away."""
        assert self.node is not None
        self.selector.unregister(self.node)
        self.node.close()
        self.node = None
        for child in [*self.children.values(), *self.waiting]:
            self.drain(child)

    def drain(self, child: Child) -> None:
        for fd in child.kept:
            os.set_blocking(fd, False)
            self.selector.register(fd, selectors.EVENT_READ, lambda fd=fd: self.discard(child, fd))

    def discard(self, child: Child, fd: int) -> None:
        with contextlib.suppress(BlockingIOError):
            try:
                data = os.read(fd, READ_BYTES)
            except OSError as error:
                data = b"" if not isinstance(error, BlockingIOError) else b"-"
            if not data:
                self.selector.unregister(fd)
                child.kept.remove(fd)
                os.close(fd)

    def prepare(self) -> socket.socket:
        """Fork a child that waits for its request; the way to it, on which it reports as well."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            self.wait(theirs)
        theirs.close()
        return ours

    def wait(self, way: socket.socket) -> None:
        """In the child. It holds nothing of other requests: their terminals and pipes end when they end."""
        signal.set_wakeup_fd(-1)
        entering.close_all_but({way.fileno()})
        fds: list[int] = []
        with contextlib.suppress(OSError):
            fds = socket.recv_fds(way, 1, DESCRIPTORS_MAX)[1]
        if fds:
            self.enter(fds, way.fileno())
        os._exit(0)

    def spawn(self, ident: str, fds: list[int]) -> None:
        way, self.spare = self.spare or self.prepare(), None
        try:
            socket.send_fds(way, [b"."], fds[:5])
        except OSError:  # Somebody has killed it while it waited.
            way.close()
            way = self.prepare()
            socket.send_fds(way, [b"."], fds[:5])
        child = Child(ident, way, [os.dup(fd) for fd in fds[5:]])
        self.waiting.add(child)
        self.selector.register(way, selectors.EVENT_READ, lambda: self.told(child))

    def enter(self, fds: list[int], channel: int) -> None:
        """In the child. The middle process reports its own child's pid and ends."""
        try:
            with open(os.dup(fds[0])) as file:
                request: dict[str, Any] = json.load(file)
            entering.join_cgroups(request["cgroups"])
            for number, fd in enumerate(fds[2:5]):
                os.dup2(fd, number)
            entering.join_namespaces(fds[1], request["pid"])
            pid = entering.fork_into()
            if pid:
                os.write(channel, json.dumps({"pid": pid}).encode())
                os._exit(0)
            entering.become(request, channel)
        except entering.Refused as error:
            report = {"error": str(error), "code": error.code}
        except ProcessLookupError:
            report = {"error": "the guest has ended", "code": -1}
        except BaseException as error:
            report = {"error": f"{type(error).__name__}: {error}", "code": -1}
        with contextlib.suppress(OSError):
            os.write(channel, json.dumps(report).encode())
        os._exit(127)

    def told(self, child: Child) -> None:
        """A word of the child's on its way; the end of the channel says that its own program runs."""
        data, fds, _, _ = socket.recv_fds(child.reports, MESSAGE_BYTES_MAX, 1)
        if fds:
            child.master = fds[0]
        elif data:
            report = json.loads(data)
            child.pid = report.get("pid", child.pid)
            child.error = report if "error" in report else child.error
        else:
            self.begin(child)

    def begin(self, child: Child) -> None:
        self.selector.unregister(child.reports)
        child.reports.close()
        self.waiting.discard(child)
        if child.error is not None or not child.pid:
            error = child.error or {"error": "the process ended before its program began", "code": -1}
            self.say({"id": child.ident, **error})
            self.statuses.pop(child.pid, None)
            self.forget(child)
            return
        child.began = True
        self.children[child.pid] = child
        self.say({"id": child.ident, "pid": child.pid}, child.master)
        if child.master is not None:
            child.kept.append(child.master)
        if self.node is None:
            self.drain(child)
        if child.pid in self.statuses:
            self.ended(child.pid, self.statuses.pop(child.pid))

    def say(self, message: dict[str, Any], fd: int | None = None) -> None:
        if self.node is None:
            return
        with contextlib.suppress(OSError):
            socket.send_fds(self.node, [json.dumps(message).encode()], [] if fd is None else [fd])

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.ended(pid, status)

    def ended(self, pid: int, status: int) -> None:
        child = self.children.pop(pid, None)
        if child is None:
            if self.waiting:
                self.statuses[pid] = status
            return
        code = os.waitstatus_to_exitcode(status)
        self.say({"id": child.ident, "exit": code if code >= 0 else 128 - code})
        self.forget(child)

    def forget(self, child: Child) -> None:
        for fd in child.kept:
            if self.node is None and fd in self.selector.get_map():
                self.selector.unregister(fd)
            os.close(fd)
        child.kept.clear()
        if not self.waiting:
            self.statuses.clear()


def main() -> None:
    os.umask(0o022)
    # What is here now stays: no collection touches, and so copies, these pages in a child.
    gc.freeze()
    Spawner(socket.socket(fileno=int(sys.argv[1]))).run()
