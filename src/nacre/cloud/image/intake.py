"""Bytes of layered images on their way into the store: kept and pinned until the rows that name them are committed.

async with Intake(cloud) as intake:
    blob = await intake.file(path)           pinned
    await cloud.store.write(layered.add, ...)
# what no row names is gone again, whatever happened
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import IO

from nacre.cloud.core import Cloud
from nacre.cloud.errors import Invalid, TooLarge
from nacre.cloud.image import archives, data, manifests, rules
from nacre.cloud.image.layered import Content, Layer
from nacre.store.blobs import Blob, BlobsFull, BlobTooLarge

READ_BYTES = 1 << 20


class Intake:
    """The blobs of one transfer. Belongs to one task."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self._pinned: list[str] = []

    async def __aenter__(self) -> "Intake":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for digest in self._pinned:
            self.cloud.blobs.release(digest)
        for digest in dict.fromkeys(self._pinned):
            data.drop(self.cloud, digest)

    async def stream(self, chunks: AsyncIterator[bytes]) -> Blob:
        """Raises TooLarge, InsufficientStorage, and what the stream raises."""
        limit = self.cloud.settings.image_size_max_bytes
        try:
            return self._pin(await self.cloud.blobs.write(chunks, limit))
        except BlobTooLarge:
            raise TooLarge(f"The image data is larger than the limit of {limit} bytes.") from None
        except BlobsFull as error:
            raise rules.InsufficientStorage(str(error)) from error

    async def document(self, content: bytes) -> Blob:
        return await self.stream(_once(content))

    async def file(self, path: Path, digest: str | None = None) -> Blob:
        """A file of the spool becomes a blob. Raises Invalid when it is not what its digest says."""
        try:
            return self._pin(await self.cloud.blobs.adopt(path, digest))
        except BlobsFull as error:
            raise rules.InsufficientStorage(str(error)) from error
        except ValueError as error:
            raise Invalid(f"invalid digest: {error}", code="DIGEST_INVALID") from None

    def _pin(self, blob: Blob) -> Blob:
        self._pinned.append(blob.digest)
        return blob

    async def content(self, config: bytes, layers: list[Layer]) -> Content:
        """Keep the config and an OCI manifest of ours over the layers."""
        kept = await self.document(config)
        manifest = manifests.make((kept.digest, kept.size), [(layer.digest, layer.size, layer.media_type) for layer in layers])
        document, _ = manifests.decode_config(config)
        return Content(kept.digest, document, kept.size, tuple(layers), (await self.document(manifest)).digest, len(manifest))

    async def of_archive(self, archive: archives.Archive, image: archives.ArchiveImage) -> Content:
        """An archive's image as layers. Raises Invalid when a layer is not what the config says."""
        layers = []
        for layer in image.layers:
            with await asyncio.to_thread(_opened, archive, layer) as file:
                blob = await self.stream(chunks_of(file))
            path = self.cloud.blobs.path(blob.digest)
            await asyncio.to_thread(_check, path, layer.diff_id, blob.digest, self.cloud.settings.image_size_max_bytes)
            kind = layer.media_type or (manifests.OCI_LAYER if blob.digest == layer.diff_id else manifests.OCI_LAYER_GZIP)
            layers.append(Layer(blob.digest, blob.size, kind, layer.diff_id))
        return await self.content(image.config, layers)


def _opened(archive: archives.Archive, layer: archives.ArchiveLayer) -> IO[bytes]:
    try:
        return archive.open(layer)
    except archives.BrokenArchive as error:
        raise archives.invalid(error) from None


def _check(path: Path, diff_id: str, digest: str, bytes_max: int) -> None:
    if digest == diff_id:
        return
    try:
        found = archives.diff_id_of(path, bytes_max)
    except archives.BrokenArchive as error:
        raise archives.invalid(error) from None
    if found != diff_id:
        raise Invalid(f"invalid diffID for layer: expected {diff_id!r}, got {found!r}")


async def chunks_of(file: IO[bytes]) -> AsyncIterator[bytes]:
    """A blocking file as a stream."""
    while chunk := await asyncio.to_thread(file.read, READ_BYTES):
        yield chunk


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
