"""Byte streams between a client of the API and a guest: what the frames of a dial-back's WebSocket mean.

A binary message is one byte that names the channel, then the payload. Data flows both ways until each side has said that it is done;
the node's last word is `Exit` or `Failure`, then it closes. Whoever reads slowly slows the other side: nothing is buffered without bound.
"""

from enum import IntEnum
from typing import Literal, get_args

import msgspec
from msgspec import Struct

CHUNK_BYTES = 256 * 1024
"""The payload of one message at most."""


class Channel(IntEnum):
    """What a message's first byte says of the rest."""

    STDIN = 0
    """From the client: bytes for the process, or the body of an upload (a tar for archive_put and build contexts)."""
    STDOUT = 1
    """From the node: what the process says, or the body of a download."""
    STDERR = 2
    CONTROL = 3
    """A msgpack value of `FromClient` or `FromGuest`."""


Whole = Literal[
    "console",
    "survey",
    "resize",
    "top",
    "changes",
    "size",
    "exec_state",
    "archive_stat",
    "signal",
    "volumes_usage",
    "check",
    "meters",
]
Open = Literal["exec", "attach", "logs", "stats", "archive_get", "archive_put", "export", "commit", "disk"]
WHOLE: frozenset[str] = frozenset(get_args(Whole))
OPEN: frozenset[str] = frozenset(get_args(Open))
"""kind: its params, and what comes.

exec          id, argv, env, cwd, user, tty, stdin, privileged, h, w -> Started(pid), STDOUT/STDERR, Exit(code).
              It goes on when the client goes, as Docker's does. `env` comes on top of the guest's; cwd and user are the guest's where empty
attach        stdin, stdout, stderr -> Started, STDOUT/STDERR as they come, Exit(code) at the guest's end. A guest that does not run
              is waited for, and its first word is heard
logs          stdout, stderr, follow, since, until (seconds), timestamps, tail (-1: all) -> STDOUT/STDERR;
              one message per line where timestamps are asked for
stats         stream (bool) -> STDOUT: one JSON document of raw cgroup and interface figures per message
resize        h, w -> nothing: the size of the guest's terminal, or of the exec's that `exec` names
top           ps_args -> JSON {Titles, Processes};  changes -> JSON [{Path, Kind}]
archive_stat  path, name -> JSON {name,size,mode,mtime,linkTarget}
size          -> JSON {SizeRw, SizeRootFs}: bytes that the guest wrote, and these with its image's
exec_state    exec -> JSON {running, exit_code, pid}: exit_code None of one that runs, or that this node knows nothing of
signal        signal (its number), to the guest's first process -> nothing
archive_get   path, name (as the client called the guest) -> STDOUT: a tar
archive_put   path, name, no_overwrite_dir_non_dir, copy_uidgid; STDIN: a tar -> Exit(0)
volumes_usage ids -> JSON {volume id: bytes}, without those that are not here or whose driver does not say
check         of a network: a `probes.Probe` -> msgpack `probes.Probed`
meters        of a router -> msgpack {label id: [packets, bytes]}
export        -> STDOUT: a tar of the whole root file system
disk          of a guest that does not run -> STDOUT: all that it has written, in the runtime's own form, Exit(0). Only the same runtime on the
              host to which it goes reads it (see `guests.Origin`)
commit        pause -> STDOUT: a tar of what the guest changed (an OCI layer with whiteouts, uncompressed), Exit(0)
"""


class Resize(Struct, tag="resize", frozen=True):
    """The client's terminal has other dimensions now."""

    h: int
    w: int


class CloseStdin(Struct, tag="close_stdin", frozen=True):
    """The client will send nothing more."""


class Started(Struct, tag="started", frozen=True):
    """The process runs, or the stream is established: what failed before this is a `Failure`, and nothing was begun."""

    pid: int = 0
    tty: bool = False


class Exit(Struct, tag="exit", frozen=True):
    """The end. `code` is the process's exit status, None where there is no process that ended."""

    code: int | None = None


class Failure(Struct, tag="failure", frozen=True):
    """It could not be done. `kind`: not_found, conflict, invalid, unavailable; `exec_127` and `exec_126` for a command that is not there,
    or cannot be run."""

    kind: str
    message: str


FromClient = Resize | CloseStdin
FromGuest = Started | Exit | Failure

_encoder = msgspec.msgpack.Encoder()
_from_client = msgspec.msgpack.Decoder(FromClient)
_from_guest = msgspec.msgpack.Decoder(FromGuest)


def control(message: FromClient | FromGuest) -> bytes:
    """The payload of a message on the control channel."""
    return _encoder.encode(message)


def from_client(payload: bytes) -> FromClient:
    """Raises msgspec.DecodeError."""
    message: FromClient = _from_client.decode(payload)
    return message


def from_guest(payload: bytes) -> FromGuest:
    """Raises msgspec.DecodeError."""
    message: FromGuest = _from_guest.decode(payload)
    return message
