"""COPY and ADD: from a tree into a layer, without a container. Blocks; called in threads."""

import hashlib
import json
import posixpath
import re
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from nacre.cloud.builds import trees
from nacre.cloud.builds.context import plain
from nacre.cloud.builds.ignore import compiled
from nacre.cloud.builds.trees import FILE, FOLDER, LINK, WHITEOUT, Node, Tree, clean
from nacre.cloud.errors import Invalid

READ_BYTES = 1 << 20
USERS_BYTES_MAX = 1 << 20
UNPACKED_BYTES_MAX = 16 << 30
"""What ADD unpacks of one archive at most."""
_WILD = re.compile(r"[*?\[\\]")
_MODE = re.compile(r"[0-7]{1,4}")
_ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")


class Source(NamedTuple):
    """`path` lies in `tree`; `name` is what it was called by. An archive that `unpacks` is taken for what is in it."""

    tree: Tree
    path: str
    name: str
    unpacks: bool = False

    @property
    def node(self) -> Node:
        found = self.tree.get(self.path)
        assert found is not None
        return found


@dataclass(frozen=True)
class Copy:
    """`target` is absolute, and ends with a slash where it must be a folder."""

    verb: str
    sources: tuple[Source, ...]
    target: str
    chown: str = ""
    mode: int | None = None


def written(path: Path, name: str, *, mode: int = 0o644, mtime: int = 0) -> Source:
    """A file of the scratch folder as a source: what a here-document says, what was fetched."""
    node = Node(FILE, mode, mtime=mtime, size=path.stat().st_size, path=path)
    tree = Tree()
    tree.put(clean(name), node)
    return Source(tree, clean(name), name)


def mode_of(text: str) -> int | None:
    """--chmod. Raises Invalid."""
    if not text:
        return None
    if not _MODE.fullmatch(text):
        raise Invalid(f"invalid chmod value {text!r}: it must be an octal number")
    return int(text, 8)


def choose(verb: str, tree: Tree, sources: list[str]) -> list[tuple[str, str]]:
    """(path, the name that it was called by) of what the sources mean. Raises Invalid in the engine's words."""
    found: list[tuple[str, str]] = []
    for source in sources:
        wanted = clean(source)
        if _WILD.search(source):
            rule = compiled(wanted)
            matched = sorted(path for path in tree.paths() if path and rule.fullmatch(path))
        else:
            matched = [wanted]
        for name in matched:
            path = tree.resolve(name)
            if tree.get(path) is None:
                raise Invalid(
                    f"{verb} failed: file not found in build context or excluded by .dockerignore: "
                    f"stat {source}: file does not exist"
                )
            found.append((path, name))
    if not found:
        raise Invalid(f"{verb} failed: no source files were specified")
    return found


def digest(copy: Copy) -> str:
    """What is copied, in one word for the cache: names, modes, owners and bytes, not times."""
    hasher = hashlib.sha256()
    with _Files() as files:
        for source in copy.sources:
            if source.node.kind == FILE:
                hasher.update(posixpath.basename(source.name).encode(errors="surrogateescape") + b"\0")
            for each, node in source.tree.walk(source.path):
                head = [each[len(source.path) :], node.kind, node.mode, node.uid, node.gid, node.size, node.target]
                hasher.update(json.dumps(head).encode())
                if node.kind == FILE:
                    for chunk in files.chunks(node):
                        hasher.update(chunk)
    kind = "multi" if len(copy.sources) > 1 else ("dir" if copy.sources[0].node.kind == FOLDER else "file")
    return f"{kind}:{hasher.hexdigest()}"


class _Files:
    """Tars that are read here and there, each opened once."""

    def __init__(self) -> None:
        self._open: dict[Path, IO[bytes]] = {}

    def __enter__(self) -> "_Files":
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._open.values():
            file.close()

    def at(self, node: Node) -> IO[bytes]:
        assert node.path is not None
        file = self._open.get(node.path)
        if file is None:
            file = self._open[node.path] = node.path.open("rb")
        file.seek(node.offset)
        return file

    def chunks(self, node: Node) -> Iterator[bytes]:
        file, left = self.at(node), node.size
        while left > 0:
            chunk = file.read(min(READ_BYTES, left))
            if not chunk:
                raise Invalid("unexpected EOF: the archive is cut off")
            left -= len(chunk)
            yield chunk


def write(copy: Copy, base: Tree, out: Path, scratch: Path) -> None:
    """The layer that the copy makes over `base`. Raises Invalid."""
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as tar, _Files() as files:
        _Layer(copy, base, tar, files, scratch).make()


def folder(base: Tree, path: str, out: Path) -> None:
    """The layer that makes one folder (WORKDIR). Raises Invalid."""
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as tar, _Files() as files:
        _Layer(Copy("WORKDIR", (), path), base, tar, files, out.parent).folder(base.resolve(path))


class _Layer:
    """One layer while it is written."""

    def __init__(self, copy: Copy, base: Tree, tar: tarfile.TarFile, files: _Files, scratch: Path) -> None:
        self._copy, self._base, self._tar, self._files, self._scratch = copy, base, tar, files, scratch
        self._owner = owner_of(copy.chown, base) if copy.chown else (0, 0)
        self._written: set[str] = set()

    def make(self) -> None:
        copy = self._copy
        target = self._base.resolve(copy.target)
        is_folder = copy.target.endswith("/") or len(copy.sources) > 1
        if len(copy.sources) > 1 and not copy.target.endswith("/"):
            raise Invalid(
                f"When using {copy.verb} with more than one source file, the destination must be a directory and end with a /"
            )
        there = self._base.get(target)
        if there is not None and there.kind != FOLDER and is_folder:
            raise Invalid(f"{copy.verb} failed: cannot copy to non-directory: /{target}")
        is_folder = is_folder or (there is not None and there.kind == FOLDER)
        for source in copy.sources:
            if source.node.kind == FOLDER:
                self._tree(source.tree, source.path, target)
            elif source.unpacks and self._unpacked(source.node, target):
                continue
            else:
                path = posixpath.join(target, posixpath.basename(source.name)) if is_folder else target
                self._put(path, self._owned(source.node))

    def _owned(self, node: Node) -> Node:
        """Owner and mode as the instruction says: root's without a word."""
        mode = node.mode if self._copy.mode is None or node.kind == LINK else self._copy.mode
        return node._replace(uid=self._owner[0], gid=self._owner[1], mode=mode)

    def _tree(self, tree: Tree, path: str, target: str) -> None:
        there = self._base.get(target)
        if there is not None and there.kind != FOLDER:
            raise Invalid(f"{self._copy.verb} failed: cannot copy to non-directory: /{target}")
        for each, node in tree.walk(path):
            within = each[len(path) :].lstrip("/")
            if within or there is None:
                self._put(posixpath.join(target, within).rstrip("/"), self._owned(node))

    def _unpacked(self, node: Node, target: str) -> bool:
        """Whether it was an archive: then it is unpacked, with the owners that it names."""
        if node.kind != FILE:
            return False
        tree = _archive(self._files, node, self._scratch)
        if tree is None:
            return False
        there = self._base.get(target)
        if there is not None and there.kind != FOLDER:
            raise Invalid(f"ADD failed: cannot unpack to non-directory: /{target}")
        for each, inner in tree.walk(""):
            if each or there is None:
                owned = self._owned(inner) if self._copy.chown or self._copy.mode is not None else inner
                self._put(posixpath.join(target, each).rstrip("/"), owned if each else Node(FOLDER, 0o755, *self._owner))
        return True

    def folder(self, path: str) -> None:
        """Make sure of a folder and those above: one that is there is written as it is, so that the layer changes nothing of it."""
        if path in self._written:
            return
        if path:
            self.folder(path.rpartition("/")[0])
        there = self._base.get(path)
        if there is not None and there.kind != FOLDER:
            raise Invalid(f"{self._copy.verb} failed: /{path} is not a directory")
        if path:
            self._entry(path, there or Node(FOLDER, 0o755, *self._owner, mtime=int(time.time())))

    def _put(self, path: str, node: Node) -> None:
        if posixpath.basename(path).startswith(WHITEOUT):
            raise Invalid(f"{self._copy.verb} failed: /{path}: names that begin with {WHITEOUT} are the layers' own")
        if not path:
            return
        above = path.rpartition("/")[0]
        if above not in self._written:
            self.folder(above)
        there = self._base.get(path)
        if node.kind != FOLDER and there is not None and there.kind == FOLDER:
            raise Invalid(f"{self._copy.verb} failed: cannot overwrite the directory /{path} with a file")
        self._entry(path, node)

    def _entry(self, path: str, node: Node) -> None:
        info = tarfile.TarInfo(path)
        info.mode, info.uid, info.gid, info.mtime = node.mode, node.uid, node.gid, node.mtime
        if node.kind == FILE:
            info.size = node.size
            self._tar.addfile(info, self._files.at(node))
        elif node.kind == FOLDER:
            info.type = tarfile.DIRTYPE
            self._tar.addfile(info)
            self._written.add(path)
        elif node.kind == LINK:
            info.type, info.linkname, info.mode = tarfile.SYMTYPE, node.target, 0o777
            self._tar.addfile(info)
        else:
            raise Invalid(f"{self._copy.verb} failed: /{path} is neither a file nor a folder nor a symbolic link")
        self._tar.members = []  # type: ignore[attr-defined]


def _archive(files: _Files, node: Node, scratch: Path) -> Tree | None:
    """What is in an archive; None when it is none: then ADD is COPY."""
    head = files.at(node).read(min(node.size, 512))
    if not head.startswith(_ARCHIVES) and head[257:262] != b"ustar":
        return None
    copy = scratch / f"added-{time.monotonic_ns()}"
    with copy.open("wb") as out:
        for chunk in files.chunks(node):
            out.write(chunk)
    try:
        found = trees.members(plain(copy, copy.with_suffix(".tar"), UNPACKED_BYTES_MAX), layer=False)
    except Invalid:
        return None
    tree = Tree()
    tree.add(found)
    return tree


def owner_of(text: str, base: Tree) -> tuple[int, int]:
    """--chown=user[:group], names or numbers, of the image's own files. Raises Invalid."""
    user, colon, group = text.partition(":")
    group = group if colon else user
    uid = _ident(base, "etc/passwd", user, "uid for user")
    return uid, _ident(base, "etc/group", group, "gid for group")


def _ident(base: Tree, path: str, name: str, what: str) -> int:
    if name.isdecimal() and len(name) <= 10:
        return int(name)
    for line in (base.read(path, USERS_BYTES_MAX) or b"").decode(errors="replace").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[0] == name and fields[2].isdecimal():
            return int(fields[2])
    kind = what.rpartition(" ")[2]
    raise Invalid(f"unable to convert uid/gid chown string to host mapping: can't find {what} {name}: no such {kind}: {name}")
