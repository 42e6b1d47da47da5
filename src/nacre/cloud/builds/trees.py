"""File systems that lie in tars: a build's context, and the layers of an image one over the other. Nothing is unpacked.

Everything here blocks and is called in a thread. The bytes are hostile: counts have bounds, and a path that leads out stays at the root.
"""

import posixpath
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from nacre.cloud.errors import Invalid
from nacre.cloud.image import archives

MEMBERS_MAX = 1_000_000
LINKS_MAX = 255
"""Symbolic links on the way to one path, as in Linux's ELOOP."""
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
FILE, FOLDER, LINK, OTHER = "file", "dir", "link", "other"


class Node(NamedTuple):
    """`path` is the tar that holds a file's bytes from `offset` on; `target` is a symbolic link's text."""

    kind: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    target: str = ""
    path: Path | None = None
    offset: int = 0


class Members(NamedTuple):
    """One tar: what it has, and what it takes away of the layers below (`removed`), or hides (`opaque`)."""

    nodes: dict[str, Node]
    removed: list[str]
    opaque: list[str]


def clean(name: str) -> str:
    """A path from the root, without slashes at its ends; the root is empty. What leads out stays at the root."""
    return posixpath.normpath("/" + name).lstrip("/")


def members(path: Path, *, layer: bool) -> Members:
    """Of an uncompressed tar. Raises Invalid."""
    found = Members({}, [], [])
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for count, entry in enumerate(tar):
                if count >= MEMBERS_MAX:
                    raise Invalid(f"the archive has more than {MEMBERS_MAX} members")
                _take(found, entry, path, layer)
                tar.members = []  # type: ignore[attr-defined]
    except archives.HOSTILE as error:
        raise Invalid(f"the archive is broken: {type(error).__name__}: {error}") from None
    return found


def _take(found: Members, entry: tarfile.TarInfo, path: Path, layer: bool) -> None:
    name = clean(entry.name)
    folder, _, base = name.rpartition("/")
    if layer and base.startswith(WHITEOUT):
        if base == OPAQUE:
            found.opaque.append(folder)
        else:
            found.removed.append(f"{folder}/{base.removeprefix(WHITEOUT)}".lstrip("/"))
        return
    common = Node(FOLDER, entry.mode & 0o7777, entry.uid, entry.gid, int(entry.mtime))
    if entry.isdir():
        found.nodes[name] = common
    elif entry.issym():
        found.nodes[name] = common._replace(kind=LINK, target=entry.linkname)
    elif entry.islnk():
        other = found.nodes.get(clean(entry.linkname))
        if other is not None:
            found.nodes[name] = other
    elif entry.isreg() and not entry.issparse():
        found.nodes[name] = common._replace(kind=FILE, size=entry.size, path=path, offset=entry.offset_data)
    else:
        found.nodes[name] = common._replace(kind=OTHER)


class Tree:
    """A file system. Paths are as `clean` gives them."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {"": Node(FOLDER)}
        self._names: dict[str, set[str]] = {"": set()}

    def add(self, layer: Members) -> None:
        """Lay a tar over what is there."""
        for folder in layer.opaque:
            for name in list(self._names.get(folder, ())):
                self._remove(posixpath.join(folder, name))
        for path in layer.removed:
            self._remove(path)
        for path, node in layer.nodes.items():
            self.put(path, node)

    def put(self, path: str, node: Node) -> None:
        if not path:
            if node.kind == FOLDER:
                self._nodes[""] = node
            return
        folder, _, name = path.rpartition("/")
        if (above := self._nodes.get(folder)) is None or above.kind != FOLDER:
            self.put(folder, Node(FOLDER))
        if node.kind != FOLDER:
            self._remove(path)
        else:
            if path in self._nodes and self._nodes[path].kind != FOLDER:
                self._remove(path)
            self._names.setdefault(path, set())
        self._nodes[path] = node
        self._names[folder].add(name)

    def _remove(self, path: str) -> None:
        if not path or path not in self._nodes:
            return
        doomed = [path]
        while doomed:
            each = doomed.pop()
            doomed += [f"{each}/{name}" for name in self._names.pop(each, ())]
            self._nodes.pop(each, None)
        folder, _, name = path.rpartition("/")
        self._names[folder].discard(name)

    def get(self, path: str) -> Node | None:
        """What bears exactly this path; a symbolic link is not followed."""
        return self._nodes.get(path)

    def names(self, path: str) -> list[str]:
        return sorted(self._names.get(path, ()))

    def paths(self) -> list[str]:
        return list(self._nodes)

    def walk(self, path: str) -> Iterator[tuple[str, Node]]:
        """The path, then all below, each folder before what is in it."""
        todo = [path]
        while todo:
            each = todo.pop()
            yield each, self._nodes[each]
            todo += [posixpath.join(each, name) for name in reversed(self.names(each))]

    def resolve(self, path: str) -> str:
        """The path with every symbolic link followed, within the root; the part that is not there stays as it is. Raises Invalid."""
        parts, done, links = clean(path).split("/"), "", 0
        parts.reverse()
        while parts:
            part = parts.pop()
            if part in ("", "."):
                continue
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            ahead = f"{done}/{part}".lstrip("/")
            node = self._nodes.get(ahead)
            if node is None or node.kind != LINK:
                done = ahead
                continue
            links += 1
            if links > LINKS_MAX:
                raise Invalid(f"too many levels of symbolic links: {path}")
            if node.target.startswith("/"):
                done = ""
            parts += reversed(node.target.split("/"))
        return done

    def read(self, path: str, limit: int) -> bytes | None:
        """The bytes of a file, symbolic links followed; None where there is none. Raises Invalid when it is larger."""
        node = self._nodes.get(self.resolve(path))
        if node is None or node.kind != FILE:
            return None
        if node.size > limit:
            raise Invalid(f"{path} is larger than {limit} bytes")
        with opened(node) as file:
            return file.read(node.size)


def opened(node: Node) -> IO[bytes]:
    """The tar that holds a file, at its first byte: the caller reads `node.size` bytes."""
    assert node.path is not None
    file = node.path.open("rb")
    file.seek(node.offset)
    return file
