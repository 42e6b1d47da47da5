"""A guest's console log: what conmon writes, rotated by us so that the last megabyte stays and no line is lost.

logs/console.log is conmon's, each line with a time and a stream before it ("k8s-file"). When it is large it becomes part-N,
conmon is told to begin anew, and kept-N and part-N are folded into kept-(N+1): lines as they were, the last megabyte of text or
as much as the guest may keep. Whoever is killed in between leaves a part-N beside a kept of a higher number, which is then old news.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

from nacre.node.runtimes.containers.layout import GuestPaths
from nacre.node.runtimes.containers.slots import write_whole
from nacre.protocol.guests import Guest

KEPT_BYTES = 1 << 20
ROTATE_BYTES = 1 << 20
RAW_FACTOR = 4
"""A log of short lines, each with its 45 bytes of time and stream, takes so many times its text at most; beyond that the oldest go."""
READS_MAX = 100
"""How often a log is read again because it was rotated meanwhile."""
REOPEN_WAIT_S = 2.0
PREFIX_BYTES = len("2026-01-31T12:00:00.000000000+00:00 stdout F ")
_REOPEN_LOGS = b"2 0 0\n"


def kept_bytes(guest: Guest) -> int:
    """How much of the guest's log stays."""
    return max(KEPT_BYTES, guest.container.log_bytes_max if guest.container is not None else 0)


def decode(log: bytes) -> bytes:
    """The bytes that the guest wrote. A line is `time stream tag text`; tag P says that the text's line goes on."""
    parts = []
    for line in log.splitlines(keepends=True):
        fields = line.split(b" ", 3)
        if len(fields) < 4:
            continue  # Cut off by a kill in the middle of a write.
        parts.append(fields[3].rstrip(b"\n") if fields[2] == b"P" else fields[3])
    return b"".join(parts)


def _numbered(logs: Path, prefix: str) -> dict[int, Path]:
    return {int(path.name.removeprefix(prefix)): path for path in logs.glob(f"{prefix}*") if path.name[len(prefix) :].isdigit()}


def _last_lines(log: bytes, kept_bytes: int) -> bytes:
    """The end of the log: whole lines with so many bytes of text at least, unless they are mostly times."""
    log = log[-kept_bytes * RAW_FACTOR :]
    start = len(log)
    text = 0
    while start > 0 and text < kept_bytes:
        before = log.rfind(b"\n", 0, start - 1) + 1
        text += max(0, start - before - PREFIX_BYTES)
        start = before
    return log[start:]


def _settled(logs: Path, kept_bytes: int) -> tuple[int, bytes]:
    """The number of the next part, and the end of all that was rotated so far."""
    kept, parts = _numbered(logs, "kept-"), _numbered(logs, "part-")
    number = max(kept, default=0)
    data = kept[number].read_bytes() if kept else b""
    for part in sorted(key for key in parts if key >= number):
        data += parts[part].read_bytes()
        number = part + 1
    return number, _last_lines(data, kept_bytes) if len(data) > kept_bytes else data


def files(paths: GuestPaths) -> list[Path]:
    """The log's files, the oldest first; the last is the one that conmon writes."""
    kept, parts = _numbered(paths.logs, "kept-"), _numbered(paths.logs, "part-")
    number = max(kept, default=0)
    found = [kept[number]] if kept else []
    return [*found, *(parts[key] for key in sorted(parts) if key >= number), paths.logs / "console.log"]


def read(paths: GuestPaths) -> bytes:
    """The last megabyte of what the guest wrote."""
    if not paths.logs.is_dir():
        return b""
    data = b""
    for _ in range(READS_MAX):
        before = _files_now(paths.logs)
        try:
            _, data = _settled(paths.logs, KEPT_BYTES)
            data += (paths.logs / "console.log").read_bytes() if "console.log" in before else b""
        except FileNotFoundError:
            continue  # It was folded away meanwhile.
        if _files_now(paths.logs) == before:
            break
        # A rotation came in between: what was renamed after its place was read would be missing.
    return decode(data)[-KEPT_BYTES:]


def _files_now(logs: Path) -> dict[str, int]:
    """Which files there are, by name and inode: a rotation changes it."""
    with os.scandir(logs) as found:
        return {entry.name: entry.inode() for entry in found}


def needs_rotation(paths: GuestPaths, kept_bytes: int = KEPT_BYTES) -> bool:
    try:
        return (paths.logs / "console.log").stat().st_size > max(ROTATE_BYTES, kept_bytes // RAW_FACTOR)
    except FileNotFoundError:
        return False


def rotate(paths: GuestPaths, kept_bytes: int = KEPT_BYTES, rotated: Callable[[Path], None] | None = None) -> None:
    """Fold what conmon wrote into what is kept. Also before a start: the log of the boot before stays readable.

    `rotated` is told the new name of what conmon has been writing, before conmon begins another file.
    """
    logs, current = paths.logs, paths.logs / "console.log"
    number, _ = _settled(logs, kept_bytes)
    if current.exists():
        part = logs / f"part-{number}"
        current.rename(part)
        if rotated is not None:
            rotated(part)
        if _reopen(paths.bundle / "ctl"):
            deadline = time.monotonic() + REOPEN_WAIT_S
            while not current.exists() and time.monotonic() < deadline:
                time.sleep(0.002)
    number, data = _settled(logs, kept_bytes)
    write_whole(logs / f"kept-{number}", data)
    for old in (*_numbered(logs, "part-").items(), *_numbered(logs, "kept-").items()):
        if old[0] < number:
            old[1].unlink()


def _reopen(control: Path) -> bool:
    """Tell conmon to open its log anew. False when no conmon listens: then nobody writes either."""
    try:
        fd = os.open(control, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, _REOPEN_LOGS)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
