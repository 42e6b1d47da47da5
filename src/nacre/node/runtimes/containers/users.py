"""Who a container's process is: `user[:group]` and more groups, looked up in the guest's own files, with Docker's rules and words."""

from pathlib import Path

from msgspec import Struct

from nacre.node.runtimes.containers import inside
from nacre.node.runtimes.containers.slots import IDS_PER_SLOT


class Identity(Struct):
    """Numbers as the guest sees them."""

    uid: int
    gid: int
    groups: list[int]
    home: str


class _User(Struct):
    name: str
    uid: int
    gid: int
    home: str


class _Group(Struct):
    name: str
    gid: int
    members: list[str]


def _rows(text: str, fields: int) -> list[list[str]]:
    rows = (line.split(":") for line in text.splitlines() if line and not line.startswith("#"))
    return [row for row in rows if len(row) >= fields and row[2].isdigit()]


def _users(rootfs: Path) -> list[_User]:
    rows = _rows(inside.read(rootfs, "/etc/passwd"), 6)
    return [_User(row[0], int(row[2]), int(row[3]), row[5]) for row in rows if row[3].isdigit()]


def _groups(rootfs: Path) -> list[_Group]:
    rows = _rows(inside.read(rootfs, "/etc/group"), 3)
    return [_Group(row[0], int(row[2]), [name for name in ":".join(row[3:]).split(",") if name]) for row in rows]


def _number(text: str) -> int | None:
    """The id that the text is. Raises ValueError for one that a guest has not."""
    if not text.isascii() or not text.isdigit():
        return None
    if int(text) >= IDS_PER_SLOT:
        raise ValueError(f"uids and gids must be in range 0-{IDS_PER_SLOT - 1}: {text}")
    return int(text)


def _group_id(groups: list[_Group], text: str) -> int:
    number = _number(text)
    found = next((group.gid for group in groups if group.name == text), number)
    if found is None:
        raise ValueError(f"unable to find group {text}: no matching entries in group file")
    return _checked(found, text)


def _checked(number: int, text: str) -> int:
    if number >= IDS_PER_SLOT:
        raise ValueError(f"uids and gids must be in range 0-{IDS_PER_SLOT - 1}: {text} is {number}")
    return number


def identify(rootfs: Path, user: str, more: tuple[str, ...] = ()) -> Identity:
    """Raises ValueError where a name is not known, or an id too large.

    A number need not be in the files. Without a group a user has its own and all that name it; a number that is not there has
    group 0. `more` comes on top.
    """
    name, _, group = user.partition(":")
    users, groups = _users(rootfs), _groups(rootfs)
    number = _number(name or "0")
    known = next((entry for entry in users if entry.name == name or entry.uid == number), None)
    if known is None and number is None:
        raise ValueError(f"unable to find user {name}: no matching entries in passwd file")
    uid = known.uid if known else number or 0
    gid, supplementary = (known.gid if known else 0), list[int]()
    if group:
        gid = _group_id(groups, group)
    elif known:
        supplementary = [entry.gid for entry in groups if known.name in entry.members]
    supplementary += [_group_id(groups, entry) for entry in more]
    ids = [_checked(entry, user) for entry in dict.fromkeys([gid, *supplementary])]
    return Identity(_checked(uid, name), _checked(gid, group or name), ids, (known.home if known else "") or "/")
