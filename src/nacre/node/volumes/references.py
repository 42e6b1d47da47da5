"""Who uses a volume: one empty file per user, in a folder per volume. All of it survives a kill, and needs no lock.

A user is added by making its file, which fails once the folder is gone; the folder goes by rmdir(2), which fails while a user is left.
So another process of root on this host (Docker's volume plugin) may count its own uses in the same way.
"""

from pathlib import Path


class References:
    """`root` holds a folder for each volume."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, volume_id: str) -> None:
        """The volume may be used from now on."""
        (self.root / volume_id).mkdir(mode=0o700, parents=True, exist_ok=True)

    def is_open(self, volume_id: str) -> bool:
        return (self.root / volume_id).is_dir()

    def add(self, volume_id: str, user: str) -> None:
        """Raises FileNotFoundError when the volume is not there, or on its way out."""
        (self.root / volume_id / user).touch(mode=0o600)

    def drop(self, volume_id: str, user: str) -> bool:
        """Whether it was there."""
        try:
            (self.root / volume_id / user).unlink()
        except FileNotFoundError:
            return False
        return True

    def users(self, volume_id: str) -> list[str]:
        folder = self.root / volume_id
        return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []

    def close(self, volume_id: str) -> bool:
        """Nobody can use the volume any more; False while somebody does."""
        try:
            (self.root / volume_id).rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True
