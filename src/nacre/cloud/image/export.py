"""Images on their way out: an OCI layout that is a docker archive too (oci-layout, index.json, manifest.json), always the same bytes.

An archive is planned first (names and sizes), so that its length is known, and then streamed from the blobs.
"""

import asyncio
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from nacre.cloud.image import manifests

BLOCK = tarfile.BLOCKSIZE
END = tarfile.RECORDSIZE
READ_BYTES = 1 << 20
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


@dataclass(frozen=True)
class Source:
    """A blob with its size; of a layer also its diff id."""

    digest: str
    size: int


@dataclass(frozen=True)
class Exported:
    """One image to write: its manifest (bytes of ours), its config and layers, and its names (`name:tag`)."""

    manifest: Source
    media_type: str
    config: Source
    layers: tuple[Source, ...]
    names: tuple[str, ...] = ()


Member = tuple[str, bytes | Source]


def plan(images: list[Exported]) -> list[Member]:
    """The members of the archive, in order. Blobs that several images share are there once."""
    index: list[dict[str, Any]] = []
    listed: list[dict[str, Any]] = []
    blobs: dict[str, Source] = {}
    for image in images:
        base = {"mediaType": image.media_type, "digest": image.manifest.digest, "size": image.manifest.size}
        tagged: list[dict[str, Any]] = [
            {
                **base,
                "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]},
            }
            for name in image.names
        ]
        index += tagged or [base]
        layers = [_path(layer.digest) for layer in image.layers]
        listed.append({"Config": _path(image.config.digest), "RepoTags": list(image.names) or None, "Layers": layers})
        blobs |= {source.digest: source for source in (image.manifest, image.config, *image.layers)}
    document = {"schemaVersion": 2, "mediaType": manifests.OCI_INDEX, "manifests": index}
    return [
        ("oci-layout", LAYOUT),
        ("index.json", manifests.encode(document)),
        ("manifest.json", manifests.encode(listed)),
        *((_path(digest), blobs[digest]) for digest in sorted(blobs)),
    ]


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def size_of(members: list[Member]) -> int:
    """The archive's length in bytes."""
    total = sum(BLOCK + _padded(_length(content)) for _, content in members)
    total += 2 * BLOCK
    return total + -total % END


def _length(content: bytes | Source) -> int:
    return len(content) if isinstance(content, bytes) else content.size


def _padded(size: int) -> int:
    return size + -size % BLOCK


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, 0
    return info.tobuf(tarfile.GNU_FORMAT)


async def stream(members: list[Member], paths: dict[str, Path]) -> AsyncIterator[bytes]:
    """The archive's bytes. All blobs are opened first: what is deleted meanwhile is still read. Raises OSError before the first byte."""
    files: dict[str, IO[bytes]] = {}
    try:
        for digest, path in paths.items():
            files[digest] = await asyncio.to_thread(path.open, "rb")
        written = 0
        for name, content in members:
            size = _length(content)
            yield _header(name, size)
            if isinstance(content, bytes):
                yield content
            else:
                while chunk := await asyncio.to_thread(files[content.digest].read, READ_BYTES):
                    yield chunk
            yield b"\0" * (-size % BLOCK)
            written += BLOCK + _padded(size)
        yield b"\0" * (size_of(members) - written)
    finally:
        for file in files.values():
            file.close()
