"""The node's side of the spawner: one helper process that starts others in guests, and tells how they end."""

import asyncio
import contextlib
import errno
import itertools
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct

MESSAGE_BYTES_MAX = 64 << 10
SPAWN_WAIT_S = 30.0
"""How long a process may take until its own program runs: a busy host, or a guest whose files do not answer."""
_SCRIPT = Path(__file__).with_name("spawner.py")


class SpawnError(OSError):
    """The process was not started. `code`: 126 or 127 as a shell would exit, 0 for a request that makes no sense, -1 for a failure of ours."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(errno.ENOEXEC, message)
        self.message, self.code = message, code


class Spec(Struct):
    """What is to run in a guest, resolved: the spawner's request."""

    pid: int
    """The guest's first process."""
    cgroups: list[str]
    argv: list[str]
    env: list[str]
    cwd: str
    user: str
    uid: int
    gid: int
    groups: list[int]
    bounding: list[int]
    """Capabilities by number."""
    rlimits: list[tuple[str, int, int]]
    no_new_privileges: bool
    seccomp: str
    """The filter in base64, as the bundle has it; empty: none."""
    tty: bool
    h: int
    w: int


class Process:
    """A process in a guest. Whoever has it closes the descriptors."""

    def __init__(self, pid: int, stdin: int | None, outputs: tuple[int, ...], ended: "asyncio.Future[int]") -> None:
        self.pid = pid
        self.stdin = stdin
        """What is written here, it reads. With a terminal the same descriptor as the only output."""
        self.outputs = outputs
        """stdout and stderr, or the terminal alone; not blocking."""
        self.ended = ended
        """Its exit status."""


class Spawner:
    """Belongs to one event loop."""

    def __init__(self, adopt: Callable[[int], None]) -> None:
        self._adopt = adopt
        """Moves the helper out of the node's own cgroup: it outlives the node while something runs."""
        self._socket: socket.socket | None = None
        self._numbers = itertools.count(1)
        self._starting: dict[str, asyncio.Future[tuple[int, int | None]]] = {}
        self._running: dict[str, asyncio.Future[int]] = {}
        self._helper: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()

    async def _ready(self) -> socket.socket:
        async with self._lock:
            if self._socket is None:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    self._helper = await asyncio.create_subprocess_exec(
                        sys.executable, "-I", "-S", "-c", _start(theirs.fileno()), pass_fds=(theirs.fileno(),), start_new_session=True,
                        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, cwd="/",
                    )  # fmt: skip
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(self._adopt, self._helper.pid)
                ours.setblocking(False)
                asyncio.get_running_loop().add_reader(ours.fileno(), self._hear)
                self._socket = ours
        return self._socket

    async def warm(self) -> None:
        """Have the helper ready before somebody waits for it. Raises OSError."""
        await self._ready()

    async def start(self, spec: Spec, *, stdin: bool) -> Process:
        """Start it. Raises SpawnError, and OSError where the host cannot."""
        way = await self._ready()
        ident = str(next(self._numbers))
        loop = asyncio.get_running_loop()
        begun: asyncio.Future[tuple[int, int | None]] = loop.create_future()
        ended: asyncio.Future[int] = loop.create_future()
        self._starting[ident], self._running[ident] = begun, ended
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            sent, kept = _descriptors(spec, stdin, theirs, ours)
            try:
                socket.send_fds(way, [f"spawn {ident}".encode()], sent)
                async with asyncio.timeout(SPAWN_WAIT_S):
                    pid, terminal = await begun
            except TimeoutError:
                raise SpawnError(f"the process did not start within {SPAWN_WAIT_S:.0f} s", -1) from None
            except BaseException:
                self._running.pop(ident, None)
                raise
            finally:
                self._starting.pop(ident, None)
            ours.pop_all()
        if terminal is not None:
            os.set_blocking(terminal, False)
            return Process(pid, terminal, (terminal,), ended)
        return Process(pid, kept[0], kept[1:], ended)  # type: ignore[arg-type]

    def _hear(self) -> None:
        assert self._socket is not None
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._socket, MESSAGE_BYTES_MAX, 1)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                self._lost()
                return
            self._take(json.loads(data), fds)

    def _take(self, message: dict[str, Any], fds: list[int]) -> None:
        ident = message["id"]
        if "exit" in message:
            ended = self._running.pop(ident, None)
            if ended is not None and not ended.done():
                ended.set_result(message["exit"])
            return
        begun = self._starting.get(ident)
        if begun is None or begun.done():
            for fd in fds:
                os.close(fd)
        elif "error" in message:
            begun.set_exception(SpawnError(message["error"], message["code"]))
        else:
            begun.set_result((message["pid"], fds[0] if fds else None))

    def _lost(self) -> None:
        """The helper died: what it started is not known of any more; the next start makes a new one."""
        assert self._socket is not None
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        self._socket = None
        futures: list[asyncio.Future[Any]] = [*self._starting.values(), *self._running.values()]
        for future in futures:
            if not future.done():
                future.set_exception(SpawnError("the helper that starts processes in guests died", -1))
        self._starting.clear()
        self._running.clear()

    async def close(self) -> None:
        """Let go: the helper ends as soon as nothing runs that it started."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None


def _start(fd: int) -> str:
    return (
        f"import sys; sys.path.insert(0, {str(_SCRIPT.parent)!r}); sys.argv = ['spawner', '{fd}']; import spawner; spawner.main()"
    )


def _pipe(theirs: contextlib.ExitStack, ours: contextlib.ExitStack, *, writes: bool) -> tuple[int, int]:
    """A pipe: (its end, our end, which does not block). `writes`: we write."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    its, own = (reader, writer) if writes else (writer, reader)
    theirs.callback(os.close, its)
    ours.callback(os.close, own)
    os.set_blocking(own, False)
    return its, own


def _descriptors(
    spec: Spec, stdin: bool, theirs: contextlib.ExitStack, ours: contextlib.ExitStack
) -> tuple[list[int], list[int | None]]:
    """What is sent along (request, pidfd, the three, and our reading ends for the helper to hold), and what we keep."""
    request = os.memfd_create("request", os.MFD_CLOEXEC)
    theirs.callback(os.close, request)
    os.write(request, json.dumps({name: getattr(spec, name) for name in spec.__struct_fields__}).encode())
    os.lseek(request, 0, os.SEEK_SET)
    pidfd = os.pidfd_open(spec.pid)
    theirs.callback(os.close, pidfd)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    theirs.callback(os.close, null)
    if spec.tty:
        return [request, pidfd, null, null, null], []
    given, written = _pipe(theirs, ours, writes=True) if stdin else (null, None)
    out, read_out = _pipe(theirs, ours, writes=False)
    err, read_err = _pipe(theirs, ours, writes=False)
    return [request, pidfd, given, out, err, read_out, read_err], [written, read_out, read_err]
