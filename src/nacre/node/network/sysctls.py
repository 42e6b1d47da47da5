"""The host's own sysctls that we change: what they were is noted, and the last cloud that needs them puts them back."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

NOTES = Path("/run/nacre-sysctls")
"""A directory under /run, since a reboot resets the sysctls too; shared by all the clouds of a machine, and locked as a whole."""
FILE = NOTES / "notes.json"
OPEN_TRIES = 100


class Note(Struct):
    original: str
    holders: list[str]


def _path(name: str) -> Path:
    return Path("/proc/sys", name)


def _current(name: str) -> str:
    return _path(name).read_text().strip()


@contextmanager
def _locked() -> Iterator[None]:
    """Hold the directory, which is there only while there are notes."""
    for _ in range(OPEN_TRIES):
        NOTES.mkdir(mode=0o700, exist_ok=True)
        try:
            descriptor = os.open(NOTES, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                yield
                return
            # Another cloud took the last note away while we waited.
        finally:
            os.close(descriptor)
    raise OSError(f"{NOTES} goes and comes without end")


def _read() -> dict[str, Note]:
    return msgspec.json.decode(FILE.read_bytes(), type=dict[str, Note]) if FILE.exists() else {}


def _save(notes: dict[str, Note]) -> None:
    """In one stroke: a kill leaves the notes as they were or as they shall be, never empty."""
    draft = NOTES / "draft"
    if notes:
        draft.write_bytes(msgspec.json.encode(notes))
        draft.replace(FILE)
    else:
        FILE.unlink(missing_ok=True)
        draft.unlink(missing_ok=True)
        NOTES.rmdir()


def claim(cloud_id: str, settings: dict[str, str]) -> None:
    """Set entries under /proc/sys (`net/ipv4/ip_forward`). The note is on disk before the change is made."""
    wanted = {name: value for name, value in settings.items() if _path(name).exists()}
    if not NOTES.exists() and all(_current(name) == value for name, value in wanted.items()):
        return
    with _locked():
        notes = _read()
        for name, value in wanted.items():
            if name not in notes and _current(name) == value:
                # It was so before any of us came.
                continue
            note = notes.setdefault(name, Note(_current(name), []))
            if cloud_id not in note.holders:
                note.holders.append(cloud_id)
        _save(notes)
        for name, value in wanted.items():
            if _current(name) != value:
                _path(name).write_text(value)


def release(cloud_id: str) -> None:
    """Let go of all; what no other cloud needs is as it was."""
    if not NOTES.exists():
        return
    with _locked():
        notes = _read()
        for name, note in list(notes.items()):
            note.holders = [holder for holder in note.holders if holder != cloud_id]
            if note.holders:
                continue
            if _path(name).exists():
                _path(name).write_text(note.original)
            del notes[name]
        _save(notes)
