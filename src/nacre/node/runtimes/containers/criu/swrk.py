"""The conversation with `criu swrk` (criu.org/RPC): protocol buffers over a SOCK_SEQPACKET socket, as far as dump and restore need them.

Standard library only: the helper beside it is a small process of its own.
"""

import array
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

MESSAGE_BYTES_MAX = 64 << 10
DESCRIPTORS_MAX = 4
DUMP, RESTORE, NOTIFY = 1, 2, 6
"""criu_req_type"""
CLONE_NEWNET = 0x40000000
IGNORE_CGROUPS = 0
LOCK_BY_NFTABLES = 2
_FIELDS = {
    "images_dir_fd": 1,
    "pid": 2,
    "tcp_established": 5,
    "file_locks": 8,
    "log_level": 9,
    "log_file": 10,
    "notify_scripts": 12,
    "root": 13,
    "link_remap": 18,
    "manage_cgroups": 24,
    "manage_cgroups_mode": 34,
    "ghost_limit": 35,
    "external": 37,
    "empty_ns": 38,
    "freeze_cgroup": 44,
    "orphan_pts_master": 50,
    "network_lock": 64,
}
"""The fields of criu_opts in CRIU's images/rpc.proto."""

Notified = Callable[[str, int, list[int]], None]
"""(what, the first process's pid where it is told, descriptors): whatever it raises ends the work."""


class CriuError(Exception):
    """CRIU's own words."""


def varint(number: int) -> bytes:
    out = b""
    while True:
        number, low = number >> 7, number & 0x7F
        out += bytes([low | (0x80 if number else 0)])
        if not number:
            return out


def field(number: int, value: int | str | bytes) -> bytes:
    """One field of a message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def decode(message: bytes) -> dict[int, list[Any]]:
    """Field number -> its values: numbers, or the bytes of strings and messages. Raises ValueError."""
    found: dict[int, list[Any]] = {}
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        value: Any
        if tag & 7 == 0:
            value, at = _read_varint(message, at)
        elif tag & 7 == 2:
            length, at = _read_varint(message, at)
            value, at = message[at : at + length], at + length
        else:
            raise ValueError(f"a field of wire type {tag & 7}")
        found.setdefault(tag >> 3, []).append(value)
    return found


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise ValueError("a number without an end")
        byte = message[at]
        number, at, shift = number | (byte & 0x7F) << shift, at + 1, shift + 7
        if byte < 0x80:
            return number, at


def options(values: dict[str, Any]) -> bytes:
    """criu_opts: a list is a repeated field."""
    out = b""
    for name, value in values.items():
        for one in value if isinstance(value, list) else [value]:
            out += field(_FIELDS[name], one)
    return out


def call(
    criu: str, kind: int, values: dict[str, Any], notified: Notified, before: Callable[[], None], kept: Sequence[int]
) -> dict[int, list[Any]]:
    """Have CRIU do it; its answer (criu_resp). `before` runs in its process first, which keeps the descriptors `kept`. Raises CriuError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        _become(criu, theirs, before, kept)
    theirs.close()
    try:
        ours.send(field(1, kind) + field(2, options(values)) + field(3, True))
        while True:
            answer, descriptors = _receive(ours)
            if answer.get(1, [0])[0] != NOTIFY:
                return answer
            told = decode(answer[5][0])
            try:
                notified(told[1][0].decode(), told.get(2, [0])[0], descriptors)
            except Exception:
                ours.send(field(1, NOTIFY) + field(3, False))
                raise
            ours.send(field(1, NOTIFY) + field(3, True))
    except OSError as error:
        raise CriuError(f"criu ended: {error.strerror}") from error
    finally:
        ours.close()
        os.waitpid(pid, 0)


def _receive(way: socket.socket) -> tuple[dict[int, list[Any]], list[int]]:
    data, ancillary, _, _ = way.recvmsg(MESSAGE_BYTES_MAX, socket.CMSG_LEN(DESCRIPTORS_MAX * 4))
    descriptors = array.array("i")
    for _, _, given in ancillary:
        descriptors.frombytes(given[: len(given) - len(given) % descriptors.itemsize])
    if not data:
        raise CriuError("criu ended without an answer")
    return decode(data), list(descriptors)


def _become(criu: str, way: socket.socket, before: Callable[[], None], kept: Sequence[int]) -> None:
    try:
        before()
        for fd in (way.fileno(), *kept):
            os.set_inheritable(fd, True)
        os.execv(criu, [criu, "swrk", str(way.fileno())])  # noqa: S606
    except OSError as error:
        os.write(2, f"criu cannot be started: {error}\n".encode())
    finally:
        os._exit(127)


def id_maps(image: bytes) -> tuple[bytes, list[tuple[int, int, int]]]:
    """A userns image: its first eight bytes (magic numbers), and the entries (first, lower first, count) of its map of users. Raises ValueError."""
    head, length = image[:8], int.from_bytes(image[8:12], "little")
    message = decode(image[12 : 12 + length])
    return head, [tuple(decode(entry)[number][0] for number in (1, 2, 3)) for entry in message.get(1, [])]


def with_ids(image: bytes, base: int, count: int) -> bytes:
    """The same user namespace on a host where the guest's ids begin at `base`. Raises ValueError for one that is not such a guest's."""
    head, entries = id_maps(image)
    if [(first, size) for first, _, size in entries] != [(0, count)]:
        raise ValueError(f"the checkpoint's user namespace is not a guest's: {entries}")
    entry = field(1, 0) + field(2, base) + field(3, count)
    message = field(1, entry) + field(2, entry)
    return head + len(message).to_bytes(4, "little") + message
