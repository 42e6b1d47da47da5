"""A netlink socket: messages go out in batches, and each is answered by an acknowledgement or by its own error.

Why not pyroute2: the same port costs it ten times the CPU (docs/decisions/0010-netlink.md), and a batch of messages in one
system call is what makes a bulk apply cheap. The layout is that of netlink(7); extended errors are RFC-less kernel ABI
(NETLINK_EXT_ACK), and give the words of the kernel beside the errno.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200

NLMSG_ERROR = 2
NLMSG_DONE = 3

SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NETLINK_GET_STRICT_CHK = 12

NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF
NLMSGERR_ATTR_MSG = 1

BATCH_MESSAGES_MAX = 64
"""Messages in one system call, so that their acknowledgements fit into the receive buffer."""
RECEIVE_BYTES = 1 << 17
ANSWER_TIMEOUT_S = 60.0
"""The kernel answers in microseconds, but waits for its own locks while it dismantles namespaces."""

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERRNO = struct.Struct("=i")


class NetlinkError(OSError):
    """The kernel refused a message. `strerror` says which, and why in the kernel's own words where it has some."""


class Message(NamedTuple):
    type: int
    flags: int
    body: bytes
    what: str
    """For the error, what was to be done: `add link n1234-0a1b`."""
    ignore: frozenset[int] = frozenset()
    """Errnos that mean: it is so already."""


class Answer(NamedTuple):
    type: int
    body: bytes


def attr(kind: int, payload: bytes) -> bytes:
    length = 4 + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    return attr(kind | NLA_F_NESTED, b"".join(parts))


def text(kind: int, value: str) -> bytes:
    return attr(kind, value.encode() + b"\0")


def u8(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack("=B", value))


def u32(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack("=I", value))


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes of a message's body from `offset` on; of a repeated kind the last."""
    found: dict[int, bytes] = {}
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            break
        found[kind & NLA_TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


class Netlink:
    """One socket, bound to the network namespace in which the calling thread stood when it was made. Not for several threads at once."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
            self._socket.setsockopt(SOL_NETLINK, option, 1)
        self._socket.settimeout(ANSWER_TIMEOUT_S)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def request(self, messages: Iterable[Message]) -> None:
        """Send all the messages, in order. The kernel goes on after one that it refuses; then the first refusal is raised as NetlinkError."""
        pending = list(messages)
        refused: NetlinkError | None = None
        for start in range(0, len(pending), BATCH_MESSAGES_MAX):
            error = self._batch(pending[start : start + BATCH_MESSAGES_MAX])
            refused = refused or error
        if refused is not None:
            raise refused

    def _batch(self, messages: Sequence[Message]) -> NetlinkError | None:
        first = self._sequence + 1
        self._sequence += len(messages)
        self._socket.sendall(
            b"".join(
                _HEADER.pack(16 + len(m.body), m.type, m.flags | NLM_F_REQUEST | NLM_F_ACK, first + i, 0)
                + m.body
                + bytes(-len(m.body) % 4)
                for i, m in enumerate(messages)
            )
        )
        missing = len(messages)
        errors: dict[int, NetlinkError] = {}
        while missing:
            for kind, flags, sequence, body in self._receive():
                if kind != NLMSG_ERROR or sequence < first:
                    continue
                missing -= 1
                message = messages[sequence - first]
                error = _refusal(message.what, flags, body)
                if error is not None and error.errno not in message.ignore:
                    errors[sequence] = error
        return errors[min(errors)] if errors else None

    def dump(self, kind: int, body: bytes, what: str) -> list[Answer]:
        """All the objects of a kind. Raises NetlinkError."""
        return self._ask(kind, NLM_F_DUMP, body, what)

    def get(self, kind: int, body: bytes, what: str) -> Answer | None:
        """One object, or None when there is none (ENODEV, ENOENT). Raises NetlinkError."""
        try:
            return next(iter(self._ask(kind, NLM_F_ACK, body, what)), None)
        except NetlinkError as error:
            if error.errno in (errno.ENODEV, errno.ENOENT):
                return None
            raise

    def _ask(self, kind: int, flags: int, body: bytes, what: str) -> list[Answer]:
        self._sequence += 1
        self._socket.sendall(_HEADER.pack(16 + len(body), kind, flags | NLM_F_REQUEST, self._sequence, 0) + body)
        found: list[Answer] = []
        while True:
            for answer, answer_flags, sequence, payload in self._receive():
                if sequence != self._sequence:
                    continue
                if answer == NLMSG_DONE:
                    return found
                if answer == NLMSG_ERROR:
                    error = _refusal(what, answer_flags, payload)
                    if error is not None:
                        raise error
                    return found
                found.append(Answer(answer, payload))

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        data = self._socket.recv(RECEIVE_BYTES)
        offset = 0
        while offset + 16 <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            if length < 16:
                return
            yield kind, flags, sequence, data[offset + 16 : offset + length]
            offset += (length + 3) & ~3


def _refusal(what: str, flags: int, body: bytes) -> NetlinkError | None:
    number = -_ERRNO.unpack_from(body)[0]
    if number == 0:
        return None
    words = os.strerror(number)
    if flags & NLM_F_ACK_TLVS:
        # Behind the errno stands the header of the refused message (NETLINK_CAP_ACK), then the extended answer.
        said = attributes(body, 20).get(NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode(errors="replace")
        words = f"{words}: {said}" if said else words
    return NetlinkError(number, f"{what}: {words}")
