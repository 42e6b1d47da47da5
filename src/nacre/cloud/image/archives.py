"""Archives of images on their way in: OCI layouts, docker archives (also of `docker save`) and tars of a root file system.

Everything here blocks and is called in a thread. The bytes are hostile: counts and sizes have bounds, nothing is written under a name out
of the archive, and what cannot be read raises BrokenArchive.
"""

import bz2
import gzip
import hashlib
import lzma
import os
import tarfile
import tempfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec

from nacre.cloud.errors import CloudError, Invalid
from nacre.cloud.image import manifests

OUTER_MEMBERS_MAX = 8192
"""An archive of images has a few names for each layer; what has more is a root file system."""
DOCUMENT_BYTES_MAX = manifests.CONFIG_BYTES_MAX
LINKS_MAX = 4
IMAGES_MAX = 256
READ_BYTES = 1 << 20
_SHELLS = frozenset({"bin/sh", "usr/bin/sh"})
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOSTILE = (
    *(tarfile.TarError, lzma.LZMAError, zlib.error, OSError, EOFError, LookupError),
    *(TypeError, ValueError, AttributeError, RecursionError),
)


class BrokenArchive(Exception):
    """The bytes are no archive of an image; the text says why."""


@dataclass(frozen=True)
class ArchiveLayer:
    """A layer as it lies in the archive. `name` None: the whole file is the layer."""

    name: str | None
    diff_id: str
    media_type: str


@dataclass(frozen=True)
class ArchiveImage:
    config: bytes
    layers: tuple[ArchiveLayer, ...]
    names: tuple[str, ...] = ()
    """The names that the archive gives it (`docker save`)."""


@dataclass
class Archive:
    """An open archive. `images` are in it; `open` gives a layer's bytes."""

    file: IO[bytes]
    images: list[ArchiveImage] = field(default_factory=list)
    _tar: tarfile.TarFile | None = None
    _members: dict[str, tarfile.TarInfo] = field(default_factory=dict)

    def open(self, layer: ArchiveLayer) -> IO[bytes]:
        """Raises BrokenArchive."""
        if layer.name is None:
            self.file.seek(0)
            return self.file
        return self._open(layer.name)

    def close(self) -> None:
        self.file.close()

    def scan(self) -> set[str]:
        """Read the names, as far as an archive of images has them."""
        self._tar = tarfile.open(fileobj=self.file, mode="r:")  # noqa: SIM115
        for count, member in enumerate(self._tar):
            self._members[os.path.normpath(member.name)] = member
            if count >= OUTER_MEMBERS_MAX:
                break
        return set(self._members)

    def _open(self, name: str) -> IO[bytes]:
        assert self._tar is not None
        member = self._members.get(os.path.normpath(name))
        for _ in range(LINKS_MAX):  # `docker save` writes a layer that is there twice as a link.
            if member is None or not member.issym():
                break
            member = self._members.get(os.path.normpath(os.path.join(os.path.dirname(member.name), member.linkname)))
        found = self._tar.extractfile(member) if member is not None and (member.isreg() or member.islnk()) else None
        if found is None:
            raise BrokenArchive(f"the archive lacks {name}")
        return found

    def read(self, name: str) -> bytes:
        with self._open(name) as file:
            data = file.read(DOCUMENT_BYTES_MAX + 1)
        if len(data) > DOCUMENT_BYTES_MAX:
            raise BrokenArchive(f"{name} is larger than {DOCUMENT_BYTES_MAX} bytes")
        return data

    def document(self, name: str) -> Any:
        return msgspec.json.decode(self.read(name))


def open_archive(path: Path, scratch: Path, bytes_max: int, *, root_file_system: bool = True) -> Archive:
    """Raises BrokenArchive. Compressed archives are unpacked into an unnamed file in `scratch`, `bytes_max` long at most."""
    file: IO[bytes] = path.open("rb")
    try:
        compressed = decompressed(file)
        if compressed is not file:
            file = _unpacked(file, compressed, scratch, bytes_max)
        archive = Archive(file)
        names = archive.scan()
        if "manifest.json" in names:
            archive.images = _docker(archive)
        elif "index.json" in names:
            archive.images = _oci(archive)
        elif root_file_system:
            archive.images = [_root_file_system(file, names)]
        else:
            raise BrokenArchive("the archive has neither a manifest.json nor an index.json")
        return archive
    except BrokenArchive:
        file.close()
        raise
    except CloudError as error:
        file.close()
        raise BrokenArchive(error.message) from error
    except HOSTILE as error:
        file.close()
        raise BrokenArchive(f"{type(error).__name__}: {error}") from error


def decompressed(file: IO[bytes]) -> Any:
    """The file, or a reader of what is compressed in it. Raises BrokenArchive for zstd, which nothing here reads."""
    magic = file.read(6)
    file.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if magic.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMAFile(file)
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        raise BrokenArchive("the archive is compressed with zstd: use gzip")
    return file


def _unpacked(file: IO[bytes], compressed: Any, scratch: Path, bytes_max: int) -> IO[bytes]:
    copy = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115
    try:
        size = 0
        while chunk := compressed.read(READ_BYTES):
            size += len(chunk)
            if size > bytes_max:
                raise BrokenArchive(f"the archive is larger than {bytes_max} bytes when unpacked")
            copy.write(chunk)
        copy.seek(0)
    except BaseException:
        copy.close()
        raise
    finally:
        file.close()
    return copy


def _blob(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or not value.isalnum():
        raise BrokenArchive(f"digest {digest!r} is not a sha256")
    return f"blobs/{algorithm}/{value}"


def _oci(archive: Archive) -> list[ArchiveImage]:
    """The images of an OCI layout (image-layout.md), of an index the one for this platform."""
    index = archive.document("index.json")
    found = []
    for entry in index["manifests"][:IMAGES_MAX]:
        manifest = manifests.decode(archive.read(_blob(str(entry["digest"]))), str(entry.get("mediaType") or ""))
        if manifest.is_index:
            chosen = manifests.fitting(manifest)
            if chosen is None:
                raise BrokenArchive(f"the archive has no image for {manifests.ARCHITECTURE}")
            manifest = manifests.decode(archive.read(_blob(chosen.digest)), chosen.media_type)
        if manifest.config is None:
            raise BrokenArchive("an index within an index is not followed")
        config = archive.read(_blob(manifest.config.digest))
        annotations = entry.get("annotations") or {}
        name = annotations.get("io.containerd.image.name") or ""
        layers = [(_blob(layer.digest), layer.media_type) for layer in manifest.layers]
        found.append(_image(config, layers, (str(name),) if name else ()))
    if not found:
        raise BrokenArchive("the archive has no image")
    return found


def _docker(archive: Archive) -> list[ArchiveImage]:
    """The images of a docker archive: https://github.com/moby/moby, image/spec/v1.2.md."""
    found = []
    for entry in archive.document("manifest.json")[:IMAGES_MAX]:
        config = archive.read(str(entry["Config"]))
        names = tuple(str(name) for name in entry.get("RepoTags") or ())
        found.append(_image(config, [(str(name), "") for name in entry["Layers"]], names))
    if not found:
        raise BrokenArchive("the archive has no image")
    return found


def _image(config: bytes, layers: list[tuple[str, str]], names: tuple[str, ...]) -> ArchiveImage:
    _, diff_ids = manifests.decode_config(config)
    if len(diff_ids) != len(layers):
        raise BrokenArchive(f"invalid manifest, layers length mismatch: expected {len(diff_ids)}, got {len(layers)}")
    made = tuple(ArchiveLayer(name, diff_id, kind) for (name, kind), diff_id in zip(layers, diff_ids, strict=True))
    return ArchiveImage(config, made, names)


def _root_file_system(file: IO[bytes], names: set[str]) -> ArchiveImage:
    diff_id = _hash(file)
    command = ["sh"] if names & _SHELLS else None
    config = manifests.encode(config_of(diff_id, {"Cmd": command} if command else {}, "Made from a root file system"))
    return ArchiveImage(config, (ArchiveLayer(None, diff_id, manifests.OCI_LAYER),))


def config_of(diff_id: str, settings: dict[str, Any], comment: str, created: str | None = None) -> dict[str, Any]:
    """The OCI config of an image of one layer."""
    moment = {"created": created} if created else {}
    return {
        "architecture": manifests.ARCHITECTURE,
        "os": "linux",
        **moment,
        "config": {"Env": [PATH], **settings},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{**moment, "comment": comment}],
    }


def _hash(file: IO[bytes]) -> str:
    file.seek(0)
    return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"  # type: ignore[arg-type]


def diff_id_of(path: Path, bytes_max: int) -> str:
    """The sha256 of a layer's tar, whether it is compressed or not. Raises BrokenArchive."""
    hasher, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            reader = decompressed(file)
            while chunk := reader.read(READ_BYTES):
                size += len(chunk)
                if size > bytes_max:
                    raise BrokenArchive(f"a layer is larger than {bytes_max} bytes when unpacked")
                hasher.update(chunk)
    except HOSTILE as error:
        raise BrokenArchive(f"{type(error).__name__}: {error}") from error
    return f"sha256:{hasher.hexdigest()}"


def check_tar(path: Path, bytes_max: int) -> None:
    """That a layer is a tar at all. Raises BrokenArchive."""
    try:
        with path.open("rb") as file, tarfile.open(fileobj=decompressed(file), mode="r|") as tar:
            tar.next()
    except HOSTILE as error:
        raise BrokenArchive(f"{type(error).__name__}: {error}") from error


def invalid(error: BrokenArchive) -> Invalid:
    return Invalid(str(error))
