"""Where facts are read from: files of the kernel's and the system's, under a root that tests may choose."""

import os
from pathlib import Path

FILE_BYTES_MAX = 256 * 1024


class Source:
    """Reads small files; what is not there, or not to be read, is empty."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        return self.root / name

    def text(self, name: str) -> str:
        """A file without the white space around its content."""
        try:
            with self.path(name).open("rb") as file:
                return file.read(FILE_BYTES_MAX).decode("utf-8", "replace").strip("\0 \t\n")
        except OSError:
            return ""

    def lines(self, name: str) -> list[str]:
        return self.text(name).splitlines()

    def names(self, folder: str) -> list[str]:
        """What is in a folder, sorted."""
        try:
            return sorted(os.listdir(self.path(folder)))
        except OSError:
            return []

    def exists(self, name: str) -> bool:
        return self.path(name).exists()

    def pairs(self, name: str, separator: str) -> dict[str, str]:
        """Lines of NAME separator VALUE; quotes around values are taken off."""
        found = {}
        for line in self.lines(name):
            key, present, value = line.partition(separator)
            if present and not key.startswith("#"):
                found[key.strip()] = value.strip().strip("\"'")
        return found


def size_text(count: float) -> str:
    """Bytes as Facter shows them: 23.54 GiB."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.2f} {unit}"
        count /= 1024
    raise AssertionError


def share_text(part: float, whole: float) -> str:
    """A part of a whole as Facter shows it: 3.80%."""
    return f"{part / whole * 100:.2f}%" if whole else "100%"
