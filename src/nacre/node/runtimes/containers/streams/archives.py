"""Archives of a guest's files, in and out (docker cp, docker export): done as the guest's own root, in the guest's own root folder.

A helper process of the node (see files.py): standard library, no import after the guest's root is ours. It enters the namespaces of a guest
that runs. For one that does not it makes a mount namespace in which there is nothing but the guest's root file system with its volumes in
their places, and enters the guest's user namespace. Whatever links the guest puts in its way lead where they would lead the guest, and
nothing more can be read or written than the guest itself could.
"""

import contextlib
import json
import os
import posixpath
import select
import shutil
import stat
import sys
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import alone  # type: ignore[import-not-found]  # Beside this file: it runs as a script, apart from the package.
import entering  # type: ignore[import-not-found]  # Beside this file: it runs as a script, apart from the package.
import tars  # type: ignore[import-not-found]
from helping import Trouble  # type: ignore[import-not-found]

DEPTH_MAX = 512
MEMBERS_MAX = 4_000_000
_KERNEL = ("/proc", "/sys", "/dev")
_GO_BITS = (
    (stat.S_ISDIR, 1 << 31),
    (stat.S_ISLNK, 1 << 27),
    (stat.S_ISFIFO, 1 << 25),
    (stat.S_ISSOCK, 1 << 24),
    (stat.S_ISBLK, 1 << 26),
    (stat.S_ISCHR, 1 << 26 | 1 << 21),
)
"""os.FileMode of Go, whose type bits are not the kernel's."""
_GO_SPECIAL = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


def enter(request: dict[str, Any]) -> None:
    """Become the guest's root in the guest's root folder."""
    if request["pid"]:
        entering.join_namespaces(os.pidfd_open(request["pid"]), request["pid"])
        os.chdir("/")
        return
    namespace = os.open(request["user_namespace"], os.O_RDONLY | os.O_CLOEXEC)
    alone.enter_root(request["rootfs"])
    for target, tree in request["trees"]:
        alone.mount_tree(tree, target, request["base"])
    entering.join_user_namespace(namespace)


def _bears(place: str, path: str) -> bool:
    return path == place or path.startswith(place.rstrip("/") + "/")


def _check_is_there(path: str, request: dict[str, Any]) -> None:
    """What a guest has in memory is there while it runs: what lies in its place on the disk is not what the guest sees there."""
    if any(_bears(os.path.realpath(target), path) for target in request["away"]):
        raise Trouble(
            "conflict", f"{path} lies in a tmpfs, which is there while container {request['name']} runs: start it first"
        )


def _check_writable(path: str, request: dict[str, Any]) -> None:
    """A volume that lies over a root file system that is read-only may be written, and the other way round."""
    found = [(os.path.realpath(target), read_only) for target, read_only in request["volumes"].items()]
    bearing = [(len(place), read_only) for place, read_only in found if _bears(place, path)]
    if bearing and max(bearing)[1]:
        raise Trouble("invalid", "mounted volume is marked read-only")
    if not bearing and request["read_only"]:
        raise Trouble("invalid", "container rootfs is marked read-only")


def _missing(request: dict[str, Any]) -> Trouble:
    return Trouble("not_found", f"Could not find the file {request['path']} in container {request['name']}")


def _find(request: dict[str, Any]) -> tuple[str, str, os.stat_result]:
    """(path, its own name, what is there). A link at its end is followed only where the path says that it is a folder."""
    asked = "/" + request["path"].lstrip("/")
    follows = asked.endswith(("/", "/."))
    path = posixpath.normpath(asked)
    try:
        about = os.stat(path + "/.") if follows else os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(request) from None
    if follows:
        path = os.path.realpath(path)
    _check_is_there(os.path.realpath(path), request)
    name = "." if asked.endswith("/.") else posixpath.basename(posixpath.normpath(asked)) or "/"
    return path, name, about


def go_mode(mode: int) -> int:
    """As Go's os.FileMode has it."""
    found = mode & 0o777
    for test, bits in _GO_BITS:
        if test(mode):
            found |= bits
    for bit, bits in _GO_SPECIAL:
        if mode & bit:
            found |= bits
    return found


def look(request: dict[str, Any]) -> None:
    """JSON of the path's stat to stdout, as the header X-Docker-Container-Path-Stat has it."""
    path, name, about = _find(request)
    seconds, nanos = divmod(about.st_mtime_ns, 1_000_000_000)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanos:09}".rstrip("0").rstrip(".") + "Z"
    target = os.path.realpath(path) if stat.S_ISLNK(about.st_mode) else ""
    document = {"name": name, "size": about.st_size, "mode": go_mode(about.st_mode), "mtime": moment, "linkTarget": target}
    os.write(1, json.dumps(document).encode())


def get(request: dict[str, Any]) -> None:
    """A tar of the path to stdout, whose entries bear the path's last name."""
    path, name, about = _find(request)
    with open(1, "wb", buffering=0, closefd=False) as out:
        writer = tars.Writer(out, 0)
        if stat.S_ISDIR(about.st_mode):
            with _opened(path) as fd:
                writer.add(fd, ".", name.rstrip("/") or "", os.fstat(fd))
                _tree(writer, fd, name.strip("/"), 0, _of_the_kernel(path) if request["pid"] else frozenset())
        else:
            with _opened(posixpath.dirname(path)) as fd:
                writer.add(fd, posixpath.basename(path), name, about)
        writer.close()


def export(request: dict[str, Any]) -> None:
    """A tar of the root file system to stdout, without what is mounted over it."""
    with _opened(request["rootfs"]) as fd, open(1, "wb", buffering=0, closefd=False) as out:
        writer = tars.Writer(out, request["base"])
        _tree(writer, fd, "", 0)
        writer.close()


def _of_the_kernel(path: str) -> frozenset[int]:
    """The devices of what the kernel shows in a guest that runs, which is no file of its. What is asked for itself is given."""
    places = [place for place in _KERNEL if os.path.isdir(place)]
    return frozenset(os.stat(place).st_dev for place in places) - {os.stat(path).st_dev}


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    fd = os.open(path, tars.FOLDER & ~os.O_NOFOLLOW)
    try:
        yield fd
    finally:
        os.close(fd)


def _tree(writer: Any, folder: int, path: str, depth: int, shown_empty: frozenset[int] = frozenset()) -> None:
    if depth > DEPTH_MAX:
        raise OSError(f"folders lie more than {DEPTH_MAX} deep")
    for name in sorted(os.listdir(folder)):
        shown = f"{path}/{name}" if path else name
        try:
            about = os.lstat(name, dir_fd=folder)
            writer.add(folder, name, shown, about)
            if not stat.S_ISDIR(about.st_mode) or about.st_dev in shown_empty:
                continue
            fd = os.open(name, tars.FOLDER, dir_fd=folder)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # It went away meanwhile, or is not the guest's to read.
        try:
            _tree(writer, fd, shown, depth + 1, shown_empty)
        finally:
            os.close(fd)


def put(request: dict[str, Any]) -> None:
    """Take a tar from stdin and unpack it in the folder that the path names."""
    path = os.path.realpath("/" + request["path"].lstrip("/"))
    try:
        about = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(request) from None
    if not stat.S_ISDIR(about.st_mode):
        raise Trouble("invalid", "extraction point is not a directory")
    _check_is_there(path, request)
    _check_writable(path, request)
    os.write(1, b"\n")  # It may come.
    os.chdir(path)
    folders: list[tuple[str, float]] = []
    try:
        with open(0, "rb", buffering=tars.BLOCK_BYTES, closefd=False) as file, tarfile.open(fileobj=file, mode="r|*") as tar:
            for count, member in enumerate(tar):
                if count > MEMBERS_MAX:
                    raise Trouble("invalid", f"the archive has more than {MEMBERS_MAX} members")
                _apply(tar, member, request)
                if member.isdir():
                    folders.append((_name(member.name), member.mtime))
            while select.select([0], [], [], 0)[0] and os.read(0, tars.BLOCK_BYTES):
                pass
    except (tarfile.TarError, EOFError) as error:
        raise Trouble("invalid", f"Error processing tar file: {error}") from None
    for name, mtime in folders:
        with contextlib.suppress(OSError):
            os.utime(name, (mtime, mtime), follow_symlinks=False)


def _name(name: str) -> str:
    """Below the folder, whatever the member is called."""
    return posixpath.normpath("/" + name).lstrip("/") or "."


def _apply(tar: tarfile.TarFile, member: tarfile.TarInfo, request: dict[str, Any]) -> None:
    name = _name(member.name)
    _check_is_there(os.path.realpath(name), request)
    if name != ".":
        os.makedirs(posixpath.dirname(name) or ".", exist_ok=True)
        _make_room(name, member, strict=request["no_overwrite_dir_non_dir"])
    if member.isdir():
        if not os.path.isdir(name):
            os.mkdir(name)
    elif member.islnk():
        os.link(_name(member.linkname), name, follow_symlinks=False)
        return
    elif member.issym():
        os.symlink(member.linkname, name)
    elif member.isfifo():
        os.mkfifo(name)
    elif member.isreg():
        source = tar.extractfile(member)
        assert source is not None
        with open(name, "xb") as target:
            shutil.copyfileobj(source, target, tars.BLOCK_BYTES)
    else:
        return  # A device: a guest makes none.
    _set_metadata(member, name, request["owner"])


def _make_room(name: str, member: tarfile.TarInfo, *, strict: bool) -> None:
    try:
        about = os.lstat(name)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(about.st_mode) == member.isdir():
        if not member.isdir():
            os.unlink(name)
    elif strict and stat.S_ISDIR(about.st_mode):
        raise Trouble("invalid", f'cannot overwrite directory "{os.path.abspath(name)}" with non-directory "{os.getcwd()}"')
    elif strict:
        raise Trouble("invalid", f'cannot overwrite non-directory "{os.path.abspath(name)}" with directory "{os.getcwd()}"')
    elif stat.S_ISDIR(about.st_mode):
        shutil.rmtree(name)
    elif not (member.isdir() and os.path.isdir(name)):  # A link to a folder stands for it.
        os.unlink(name)


def _set_metadata(member: tarfile.TarInfo, name: str, owner: list[int] | None) -> None:
    uid, gid = owner or (member.uid, member.gid)
    if max(uid, gid) >= tars.IDS:  # The client's own ids, of which the guest has none.
        uid = gid = 0
    os.chown(name, uid, gid, follow_symlinks=False)
    if not member.issym():
        os.chmod(name, member.mode & 0o7777)
        for key, value in member.pax_headers.items():
            attribute = key.removeprefix("SCHILY.xattr.")
            if attribute != key and attribute.startswith(("user.", "security.capability")):
                os.setxattr(name, attribute, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)
    os.utime(name, (member.mtime, member.mtime), follow_symlinks=False)


_WORK = {"archive_stat": look, "archive_get": get, "archive_put": put}


def main(request: dict[str, Any]) -> None:
    """`request`: work, path, name (the container as the client called it), pid or rootfs and user_namespace, and each work's own."""
    if request["work"] == "export":
        export(request)
        return
    tars.warm()
    enter(request)
    _WORK[request["work"]](request)


sys.setrecursionlimit(10_000)
