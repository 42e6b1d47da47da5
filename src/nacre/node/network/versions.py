"""The node's side of published ports by IPv6: listening sockets on the host, handed to the process that carries what comes (`crossing`)."""

import contextlib
import errno
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

BACKLOG = 128
WITHOUT_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
BIND_WAIT_S, BIND_PAUSE_S = 1.0, 0.05
"""A process that the node before this one left lets go of its sockets in a moment."""
_FOLDER = str(Path(__file__).parent)


class Listen(Struct, frozen=True):
    """A port of an IPv6 address of the host (`::`: all of them), and where in IPv4 it leads. `asked`: the address was asked for by name."""

    address: str
    port: int
    to: str
    to_port: int
    asked: bool

    @property
    def key(self) -> str:
        return f"[{self.address}]:{self.port}>{self.to}:{self.to_port}"


class Crossings:
    """Used in the driver's worker thread."""

    def __init__(self) -> None:
        self._held: dict[str, socket.socket] = {}
        """By key the listening sockets; the process has them too."""
        self._way: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def hold(self, wanted: Mapping[str, Listen]) -> dict[str, str]:
        """Serve these (by the forward's id) and no others. Returns the ids whose port is somebody else's, with the cause.

        On a host without IPv6 what means every address is served by IPv4 alone.
        """
        if self._process is not None and self._process.poll() is not None:
            self.close()  # It died: another one takes over.
        keys = {each.key for each in wanted.values()}
        for key in self._held.keys() - keys:
            self._held.pop(key).close()
            self._say(f"stop {key}")
        refused = {}
        for ident, each in wanted.items():
            if each.key in self._held:
                continue
            try:
                listener = _listener(each.address, each.port)
                self._held[each.key] = listener
                self._say(f"serve {each.key} {each.to} {each.to_port}", listener)
            except OSError as error:
                if error.errno in WITHOUT_IPV6 and not each.asked:
                    continue
                if error.errno != errno.EADDRINUSE and error.errno not in WITHOUT_IPV6:
                    raise
                refused[ident] = f"listen tcp [{each.address}]:{each.port}: {error.strerror}"
        return refused

    def _say(self, message: str, listener: socket.socket | None = None) -> None:
        if self._way is None:
            self._start()
        assert self._way is not None
        socket.send_fds(self._way, [message.encode()], [] if listener is None else [listener.fileno()])

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        code = f"import sys; sys.path.insert(0, {_FOLDER!r}); sys.argv = ['crossing', '{theirs.fileno()}']; import crossing; crossing.main()"
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", code],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
            )
        self._way = ours

    def close(self) -> None:
        """Let go: open connections go on until they end."""
        for held in self._held.values():
            held.close()
        self._held.clear()
        if self._way is not None:
            self._way.close()
            self._way = None
        if self._process is not None:
            self._process.poll()
            self._process = None


def _listener(address: str, port: int) -> socket.socket:
    end = time.monotonic() + BIND_WAIT_S
    while True:
        with contextlib.ExitStack() as stack:
            made = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                made.bind((address, port))
                made.listen(BACKLOG)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > end:
                    raise
                time.sleep(BIND_PAUSE_S)
                continue
            stack.pop_all()
            return made
