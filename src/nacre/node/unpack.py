"""Unpack one image into a directory: `python -I unpack.py IMAGE TARGET SCRATCH`, standard library only, a process of its own.

Accepts an OCI archive (index.json), a docker archive (manifest.json) and a tar of a root file system, each gzipped or not.
With a fourth argument `layer`, IMAGE is one layer, which becomes a lower directory of an overlay: its whiteouts stay, in the
form of the kernel's overlayfs (kernel.org/doc/html/latest/filesystems/overlayfs.html, "whiteouts and opaque directories").
The bytes are hostile: the layers are applied after a chroot into TARGET, so that no name and no link leads out of it, and
device nodes are left out. Layer digests are checked. Writes a JSON object to stdout: `config`, the image's, and `implied`,
the directories that a layer has no entry for. On failure the cause is the last line of stderr.
Whiteouts as in the OCI image specification ("Image Layer Filesystem Changeset").
"""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import platform
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from typing import IO, Any

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
AUFS = ".wh..wh."
"""What begins so, but for OPAQUE, was a file of aufs's own."""
OVERLAY_OPAQUE = "trusted.overlay.opaque"
DOCUMENT_BYTES_MAX = 8 << 20
LAYERS_MAX = 256
MEMBERS_MAX = 4_000_000
INDEX_DEPTH_MAX = 4
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class BrokenImage(Exception):
    pass


def _decompressed(file: Any) -> Any:
    magic = file.read(6)
    file.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if magic.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMAFile(file)
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        return _from_zstd(file)
    return file


class _Zstd:
    """A file decompressed by zstd(1), which the standard library has no reader for."""

    def __init__(self, program: str, file: io.BufferedReader) -> None:
        os.lseek(file.fileno(), 0, os.SEEK_SET)  # A seek of the reader stays within its buffer.
        self._process = subprocess.Popen([program, "-dcq"], stdin=file, stdout=subprocess.PIPE)

    def read(self, size: int = -1) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        if not data and self._process.wait() != 0:
            raise BrokenImage("the image or a layer is broken: zstd cannot decompress it")
        return data


def _from_zstd(file: Any) -> Any:
    program = shutil.which("zstd")
    if program is None or not isinstance(file, io.BufferedReader):
        raise BrokenImage("the image or a layer is compressed with zstd, which this node cannot read: use gzip")
    return _Zstd(program, file)


class _Archive:
    """The outer tar of an OCI or docker archive, by name."""

    def __init__(self, file: IO[bytes]) -> None:
        self.tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115
        self.members: dict[str, tarfile.TarInfo] = {}
        for count, member in enumerate(self.tar):
            self.members[os.path.normpath(member.name)] = member
            if count > MEMBERS_MAX:
                raise BrokenImage(f"the archive has more than {MEMBERS_MAX} members")

    def open(self, name: str) -> IO[bytes]:
        member = self.members.get(os.path.normpath(name))
        for _ in range(INDEX_DEPTH_MAX):  # `docker save` writes a layer that is there twice as a link.
            if member is None or not member.issym():
                break
            member = self.members.get(os.path.normpath(os.path.join(os.path.dirname(member.name), member.linkname)))
        found = self.tar.extractfile(member) if member is not None and (member.isreg() or member.islnk()) else None
        if found is None:
            raise BrokenImage(f"the archive lacks {name}")
        return found

    def document(self, name: str) -> Any:
        with self.open(name) as file:
            data = file.read(DOCUMENT_BYTES_MAX + 1)
        if len(data) > DOCUMENT_BYTES_MAX:
            raise BrokenImage(f"{name} is larger than {DOCUMENT_BYTES_MAX} bytes")
        return json.loads(data)


def _blob(descriptor: dict[str, Any]) -> str:
    algorithm, _, value = str(descriptor["digest"]).partition(":")
    if algorithm not in ("sha256", "sha512") or not value.isalnum():
        raise BrokenImage(f"digest {descriptor['digest']!r} is not one of sha256 or sha512")
    return f"blobs/{algorithm}/{value}"


def _oci(archive: _Archive) -> tuple[dict[str, Any], list[tuple[str, str | None]]]:
    """The image's config and its layers (name in the archive, digest) for this machine's architecture."""
    found = archive.document("index.json")
    architecture = _MACHINES.get(platform.machine(), platform.machine())
    for _ in range(INDEX_DEPTH_MAX):
        if "manifests" not in found:
            break
        choices = found["manifests"]
        fitting = [entry for entry in choices if entry.get("platform", {}).get("architecture", architecture) == architecture]
        if not fitting:
            raise BrokenImage(f"the archive has no image for {architecture}")
        found = archive.document(_blob(fitting[0]))
    config = archive.document(_blob(found["config"]))
    return config, [(_blob(layer), str(layer["digest"])) for layer in found["layers"]]


def _docker(archive: _Archive) -> tuple[dict[str, Any], list[tuple[str, str | None]]]:
    manifest = archive.document("manifest.json")[0]
    return archive.document(manifest["Config"]), [(str(name), None) for name in manifest["Layers"]]


def _check(file: IO[bytes], digest: str) -> None:
    algorithm, _, value = digest.partition(":")
    hasher = hashlib.new(algorithm)
    while chunk := file.read(1 << 20):
        hasher.update(chunk)
    if hasher.hexdigest() != value:
        raise BrokenImage(f"a layer's bytes are not those of its digest {digest}")
    file.seek(0)


def _remove(path: str) -> None:
    try:
        kind = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISDIR(kind):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _whiteout(path: str, seen: set[str]) -> None:
    """Take away what lower layers have: one name, or (opaque) all of a directory but what this layer brought itself."""
    parent, name = os.path.split(path)
    if name != OPAQUE:
        _remove(os.path.join(parent, name[len(WHITEOUT) :]))
        return
    if not os.path.isdir(parent):
        return
    for entry in os.listdir(parent):
        if os.path.join(parent, entry) not in seen:
            _remove(os.path.join(parent, entry))


def _set_metadata(member: tarfile.TarInfo, path: str) -> None:
    os.chown(path, member.uid, member.gid, follow_symlinks=False)
    if not member.issym():
        os.chmod(path, member.mode & 0o7777)
    for key, value in member.pax_headers.items():
        name = key.removeprefix("SCHILY.xattr.")
        if name != key and name.startswith(("user.", "security.capability")):
            os.setxattr(path, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)
    os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)


def _apply_member(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    if member.isdir():
        if not os.path.isdir(path) or os.path.islink(path):
            _remove(path)
            os.mkdir(path)
    elif member.islnk():
        _remove(path)
        os.link("/" + os.path.normpath(member.linkname).lstrip("/"), path, follow_symlinks=False)
        return
    elif member.issym():
        _remove(path)
        os.symlink(member.linkname, path)
    elif member.isfifo():
        _remove(path)
        os.mkfifo(path)
    elif member.isreg():
        _remove(path)
        source = tar.extractfile(member)
        assert source is not None
        with open(path, "xb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    else:
        return  # A device node: a guest gets its devices from the runtime.
    _set_metadata(member, path)


def _hide(whiteouts: list[str], implied: set[str]) -> None:
    """Mark in a layer that stays by itself what it hides of those below. A name that it brings too hides only what lay under it."""
    opaque = {os.path.dirname(path) for path in whiteouts if os.path.basename(path) == OPAQUE}
    for path in whiteouts:
        parent, name = os.path.split(path)
        hidden = parent if name == OPAQUE else os.path.join(parent, name[len(WHITEOUT) :])
        _make_parents(os.path.join(hidden, ".") if name == OPAQUE else hidden, implied)
        if os.path.isdir(hidden) and not os.path.islink(hidden):
            os.setxattr(hidden, OVERLAY_OPAQUE, b"y")
        elif not os.path.lexists(hidden) and parent not in opaque:
            os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0))


def _make_parents(path: str, implied: set[str]) -> None:
    """The directories above the path that are not there yet. No entry has said whose they are: the layers below may know."""
    missing = []
    parent = os.path.dirname(path)
    while not os.path.lexists(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    for folder in reversed(missing):
        os.mkdir(folder, 0o755)
        implied.add(folder)


def _apply_layer(file: IO[bytes], *, alone: bool = False) -> set[str]:
    """Apply one layer to the root directory, which is the target's since the chroot. The directories that it implies.

    A layer `alone` hides nothing here: it keeps the marks that tell an overlay what to hide.
    """
    seen: set[str] = set()
    implied: set[str] = set()
    whiteouts: list[str] = []
    folders: list[tuple[str, float]] = []
    with tarfile.open(fileobj=file, mode="r|") as tar:
        for count, member in enumerate(tar):
            if count > MEMBERS_MAX:
                raise BrokenImage(f"a layer has more than {MEMBERS_MAX} members")
            path = "/" + os.path.normpath("/" + member.name).lstrip("/")
            name = os.path.basename(path)
            if name.startswith(AUFS) and name != OPAQUE:
                continue
            if name.startswith(WHITEOUT):
                whiteouts.append(path) if alone else _whiteout(path, seen)
                continue
            if path != "/":
                _make_parents(path, implied)
                _apply_member(tar, member, path)
            elif member.isdir():
                _set_metadata(member, path)
            if member.isdir():
                folders.append((path, member.mtime))
                implied.discard(path)
            while path != "/" and path not in seen:
                seen.add(path)
                path = os.path.dirname(path)
    _hide(whiteouts, implied)
    for path, mtime in folders:  # Filling a directory changed its time.
        if os.path.isdir(path) and not os.path.islink(path):
            os.utime(path, (mtime, mtime))
    return implied


def _seekable(image: str, scratch: str) -> IO[bytes]:
    """The image's tar, decompressed into an unnamed file where it was compressed."""
    file = open(image, "rb")  # noqa: SIM115
    plain = _decompressed(file)
    if plain is file:
        return file  # type: ignore[no-any-return]
    copy = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115
    shutil.copyfileobj(plain, copy, 1 << 20)
    copy.seek(0)
    return copy


def unpack_layer(image: str, target: str, scratch: str) -> dict[str, Any]:
    """One layer by itself, its bytes checked by whoever brought them."""
    with open(image, "rb") as file:
        plain = _decompressed(file)
        _enter(target)
        implied = _apply_layer(plain, alone=True)
    # Names are bytes: each is given as one character, which any JSON bears.
    return {"implied": [os.fsencode(path).decode("latin-1") for path in sorted(implied)]}


def unpack(image: str, target: str, scratch: str) -> dict[str, Any]:
    """An archive, its layers one over the other."""
    file = _seekable(image, scratch)
    archive = _Archive(file)
    opened: list[tuple[IO[bytes], str | None]] = []
    config: dict[str, Any] = {}
    if "index.json" in archive.members or "manifest.json" in archive.members:
        read = _oci if "index.json" in archive.members else _docker
        config, layers = read(archive)
        if len(layers) > LAYERS_MAX:
            raise BrokenImage(f"the image has more than {LAYERS_MAX} layers")
        opened = [(archive.open(name), digest) for name, digest in layers]
    else:
        file.seek(0)
        opened = [(file, None)]
    _enter(target)
    for layer, digest in opened:
        if digest is not None:
            _check(layer, digest)
        _apply_layer(_decompressed(layer))
    return {"config": config.get("config") or {}}


def _enter(target: str) -> None:
    _warm()
    os.chroot(target)
    os.chdir("/")
    os.umask(0)


def _warm() -> None:
    """Let tarfile import what it imports late, while the interpreter's library can still be found."""
    empty = io.BytesIO()
    with tarfile.open(fileobj=empty, mode="w:gz"):
        pass
    with tarfile.open(fileobj=io.BytesIO(empty.getvalue()), mode="r|*") as tar:
        list(tar)


# What broken or hostile bytes raise in the readers of tar, JSON and compressed data.
_HOSTILE = (tarfile.TarError, lzma.LZMAError, zlib.error, OSError, EOFError, LookupError, TypeError, ValueError, AttributeError)


def _main(run: Callable[[str, str, str], dict[str, Any]]) -> int:
    image, target, scratch = sys.argv[1:4]
    try:
        config = run(image, target, scratch)
    except BrokenImage as error:
        print(error, file=sys.stderr)
        return 1
    except _HOSTILE as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    json.dump(config, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(_main(unpack_layer if sys.argv[4:] == ["layer"] else unpack))
