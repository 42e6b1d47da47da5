"""Directories that a layer implies: it has files in them and no entry for them, so it does not say whose they are.

Unpacked once for all images, such a layer bears them with root's name and mode 0755, and an overlay shows a directory as its
topmost layer has it. So an image in whose lower layers the directory is stated gets one layer more, on top of all, that bears
nothing but these directories, with the attributes that the image's layers state.
"""

import os
import shutil
import stat
from pathlib import Path

from msgspec import Struct

_OPAQUE = "trusted.overlay.opaque"


class Lower(Struct, frozen=True):
    """An unpacked layer, and the directories in it that it has no entry for (absolute, within it)."""

    rootfs: Path
    implied: frozenset[str] = frozenset()


def restated(lowers: list[Lower]) -> dict[str, Path]:
    """Directory -> whose attributes it must have, with all directories above it; layers from the lowest up."""
    wrong = {path for lower in lowers for path in lower.implied if _shown(lowers, path)[1]}
    above = {str(parent) for path in wrong for parent in Path(path).parents if str(parent) != "/"}
    found = {path: _shown(lowers, path)[0] for path in sorted(wrong | above)}
    return {path: source for path, source in found.items() if source is not None}


def make(target: Path, sources: dict[str, Path]) -> None:
    """Make these directories below `target`. Raises OSError."""
    for path, source in sources.items():
        place, seen = target / path.lstrip("/"), os.stat(source)
        place.mkdir()
        shutil.copystat(source, place)
        os.chown(place, seen.st_uid, seen.st_gid)
        place.chmod(stat.S_IMODE(seen.st_mode))
        if _is_opaque(place):
            os.removexattr(place, _OPAQUE)
    for path, source in sources.items():  # Filling a directory changed its time.
        seen = os.stat(source)
        os.utime(target / path.lstrip("/"), ns=(seen.st_atime_ns, seen.st_mtime_ns))


def _shown(lowers: list[Lower], path: str) -> tuple[Path | None, bool]:
    """The directory whose attributes an image shows there, and whether the overlay without more would show others."""
    first: Path | None = None
    for lower in reversed(lowers):
        place, covers = _look(lower.rootfs, path)
        if place is not None and path not in lower.implied:
            return place, first is not None
        first = first or place
        if covers:
            break
    return first, False


def _look(rootfs: Path, path: str) -> tuple[Path | None, bool]:
    """The layer's own directory of this path, or None; and whether it hides what the layers below have there."""
    place, covers = str(rootfs), False
    for name in path.strip("/").split("/"):
        place = os.path.join(place, name)
        try:
            mode = os.lstat(place).st_mode
        except FileNotFoundError:
            return None, covers
        if not stat.S_ISDIR(mode):
            return None, True
        covers = covers or _is_opaque(place)
    return Path(place), covers


def _is_opaque(place: str | Path) -> bool:
    try:
        return os.getxattr(place, _OPAQUE) == b"y"
    except OSError:
        return False
