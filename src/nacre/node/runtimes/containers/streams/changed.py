"""What a guest changed: its overlay's upper folder held against the image below it (overlayfs(5), "Whiteouts and opaque directories").

A helper process of the node (see files.py): standard library. Both trees are walked by open folders and names in them, so that the guest,
which may be at work in the upper one, leads nobody astray.
"""

import contextlib
import ctypes
import json
import os
import stat
import sys
from collections.abc import Iterator
from typing import Any

import tars  # type: ignore[import-not-found]  # Beside this file: it runs as a script, apart from the package.

DEPTH_MAX = 512
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
MODIFIED, ADDED, DELETED = 0, 1, 2
"""As the Docker API numbers them (ContainerChanges)."""
_CLONE_NEWNS = 0x00020000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REC, _MS_PRIVATE = 1, 2, 4, 1 << 14, 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)
_OPAQUE = "trusted.overlay.opaque"
_NOT_READ = ("trusted.overlay.redirect", "trusted.overlay.metacopy")
"""Marks of an overlay that refers to other places of the image: such a one is not ours."""


class Change:
    """One name: `folder` is the open folder in the upper tree, which stays open until the next one is asked for."""

    def __init__(self, kind: int, path: str, folder: int, name: str, about: os.stat_result, *, opaque: bool = False) -> None:
        self.kind, self.path, self.folder, self.name, self.about = kind, path, folder, name, about
        self.opaque = opaque
        """A folder that hides what the image has there."""


class Walk:
    """`left_out`: paths that the runtime mounts over, which are no change of the guest's."""

    def __init__(self, base: int, left_out: set[str]) -> None:
        self._base, self._left_out = base, left_out

    def run(self, upper: str, lower: str) -> Iterator[Change]:
        with _opened(upper) as up, _opened(lower) as low:
            yield from self._folder(up, low, "", 0)

    def _folder(self, up: int, low: int | None, path: str, depth: int) -> Iterator[Change]:
        if depth > DEPTH_MAX:
            raise OSError(f"folders lie more than {DEPTH_MAX} deep")
        for name in sorted(os.listdir(up)):
            full = f"{path}/{name}"
            if full in self._left_out or name.startswith(WHITEOUT):
                continue
            try:
                about = os.lstat(name, dir_fd=up)
            except FileNotFoundError:
                continue
            before = _lstat(name, low)
            if stat.S_ISDIR(about.st_mode):
                yield from self._inner(up, low, full, name, about, before, depth)
            elif stat.S_ISCHR(about.st_mode) and about.st_rdev == 0:
                if before is not None:
                    yield Change(DELETED, full, up, name, about)
            elif not (stat.S_ISCHR(about.st_mode) or stat.S_ISBLK(about.st_mode) or stat.S_ISSOCK(about.st_mode)):
                yield Change(ADDED if before is None else MODIFIED, full, up, name, about)

    def _inner(
        self, up: int, low: int | None, full: str, name: str, about: os.stat_result, before: os.stat_result | None, depth: int
    ) -> Iterator[Change]:
        """A folder comes before what is in it; one that only bears mount points, or was touched for them, is no change."""
        was_folder = before is not None and stat.S_ISDIR(before.st_mode)
        try:
            fd = os.open(name, tars.FOLDER, dir_fd=up)
        except (FileNotFoundError, NotADirectoryError):
            return
        below: int | None = None
        try:
            marks = set(os.listxattr(fd))
            if marks.intersection(_NOT_READ):
                raise OSError(f"{full}: the overlay refers to another folder of the image")
            opaque = was_folder and _OPAQUE in marks and os.getxattr(fd, _OPAQUE) == b"y"
            if was_folder and not opaque:
                below = os.open(name, tars.FOLDER, dir_fd=low)
            inner = self._folder(fd, below, full, depth + 1)
            first = next(inner, None)
            if first is not None or opaque or not self._is_only_touched(full, about, before):
                kind = MODIFIED if before is not None else ADDED
                yield Change(kind, full, up, name, about, opaque=opaque)
            if first is not None:
                yield first
            yield from inner
        finally:
            os.close(fd)
            if below is not None:
                os.close(below)

    def _is_only_touched(self, full: str, about: os.stat_result, before: os.stat_result | None) -> bool:
        """Whether nothing of the folder differs but what the runtime did to it."""
        touched = any(path.startswith(full + "/") for path in self._left_out)
        if before is None or not stat.S_ISDIR(before.st_mode):
            return touched
        same = (about.st_mode, about.st_uid - self._base, about.st_gid - self._base) == (
            before.st_mode,
            before.st_uid,
            before.st_gid,
        )
        return same and (touched or about.st_mtime_ns == before.st_mtime_ns)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    fd = os.open(path, tars.FOLDER)
    try:
        yield fd
    finally:
        os.close(fd)


def _lstat(name: str, folder: int | None) -> os.stat_result | None:
    if folder is None:
        return None
    try:
        return os.lstat(name, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _image(lowers: list[str], place: str) -> str:
    """The folder where the image can be read: its layers as one, in a mount namespace of our own."""
    if len(lowers) == 1:
        return lowers[0]
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    _check(_libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "mount /")
    # Short names by descriptors: the options of a mount must fit a page.
    names = [f"/proc/self/fd/{os.open(lower, tars.FOLDER)}" for lower in reversed(lowers)]
    data = f"lowerdir={':'.join(names)}".encode()
    _check(_libc.mount(b"overlay", os.fsencode(place), b"overlay", _MS_RDONLY | _MS_NODEV | _MS_NOSUID, data), "mount an overlay")
    return place


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def commit(walk: Walk, request: dict[str, Any]) -> None:
    """The layer, to stdout (OCI image specification, "Image Layer Filesystem Changeset")."""
    with open(1, "wb", buffering=0, closefd=False) as out:
        writer = tars.Writer(out, request["base"])
        for change in walk.run(request["upper"], request["lower"]):
            shown = change.path.lstrip("/")
            if change.kind == DELETED:
                folder, _, name = shown.rpartition("/")
                writer.mark(f"{folder}/{WHITEOUT}{name}".lstrip("/"), int(change.about.st_mtime))
                continue
            writer.add(change.folder, change.name, shown, change.about)
            if change.opaque:
                writer.mark(f"{shown}/{OPAQUE}", int(change.about.st_mtime))
        writer.close()


def changes(walk: Walk, request: dict[str, Any]) -> None:
    """JSON [{Path, Kind}] to stdout."""
    found = []
    with _opened(request["lower"]) as low:
        for change in walk.run(request["upper"], request["lower"]):
            found.append({"Path": change.path, "Kind": change.kind})
            if change.opaque:
                found += [{"Path": path, "Kind": DELETED} for path in _hidden(change, low)]
    sys.stdout.write(json.dumps(sorted(found, key=lambda entry: str(entry["Path"]))))


def _hidden(change: Change, low: int) -> list[str]:
    """What an opaque folder hides of the image."""
    fd = os.dup(low)
    try:
        for part in change.path.strip("/").split("/"):
            fd, before = os.open(part, tars.FOLDER, dir_fd=fd), fd
            os.close(before)
        own = os.open(change.name, tars.FOLDER, dir_fd=change.folder)
        try:
            return [f"{change.path}/{name}" for name in set(os.listdir(fd)) - set(os.listdir(own))]
        finally:
            os.close(own)
    finally:
        os.close(fd)


def size(walk: Walk, request: dict[str, Any]) -> None:
    """JSON: the bytes of the files that the guest wrote."""
    seen: dict[tuple[int, int], int] = {}
    for change in walk.run(request["upper"], request["lower"]):
        if change.kind != DELETED and stat.S_ISREG(change.about.st_mode):
            seen[change.about.st_dev, change.about.st_ino] = change.about.st_size
    sys.stdout.write(json.dumps(sum(seen.values())))


_WORK = {"commit": commit, "changes": changes, "size": size}


def main(request: dict[str, Any]) -> None:
    """`request`: work, upper, lowers (from the lowest up), place (an empty folder), base (the host's id of the guest's root), left_out."""
    request["lower"] = _image(request["lowers"], request["place"])
    _WORK[request["work"]](Walk(request["base"], set(request["left_out"])), request)
