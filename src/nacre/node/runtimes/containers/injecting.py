"""What a server's maker has put into it: root's password and files, written into its root file system before a boot, when nobody else
changes that. How a running guest gets another password is in `passwords`."""

from pathlib import Path

from nacre.node.runtimes.containers import inside
from nacre.protocol.guests import InjectedFile

SHADOW_MODE = 0o640
AGES = ":19000:0:99999:7:::"
"""What follows the password in a line of /etc/shadow that is new: as Debian has it, never expiring."""


def write_password(rootfs: Path, password_hash: str, owner: int) -> None:
    """Root's password, in the root file system of a guest that does not run. Raises OSError, ValueError."""
    lines = inside.read(rootfs, "/etc/shadow").splitlines()
    inside.write(rootfs, "/etc/shadow", _text(_with_hash(lines, password_hash)), owner=owner, mode=SHADOW_MODE)
    users = inside.read(rootfs, "/etc/passwd").splitlines()
    shadowed = [_with_field(line, "x") if line.startswith("root:") else line for line in users]
    if shadowed != users:
        inside.write(rootfs, "/etc/passwd", _text(shadowed), owner=owner)


def _with_hash(lines: list[str], password_hash: str) -> list[str]:
    if not any(line.startswith("root:") for line in lines):
        return [f"root:{password_hash}{AGES}", *lines]
    return [_with_field(line, password_hash) if line.startswith("root:") else line for line in lines]


def _with_field(line: str, value: str) -> str:
    name, _, rest = line.partition(":")
    return f"{name}:{value}:{rest.partition(':')[2]}"


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")


def write_files(rootfs: Path, files: tuple[InjectedFile, ...], owner: int) -> None:
    """Files of the server's maker, in the root file system of a guest that does not run. Raises OSError."""
    for file in files:
        inside.write(rootfs, file.path, file.contents, owner=owner)
