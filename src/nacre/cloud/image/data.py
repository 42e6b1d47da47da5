"""An image's bytes on their way in: queued -> saving -> active, or back to queued with nothing left.

    begin (claims the image)  ->  bytes to a blob, with its hashes  ->  finish (one transaction)  ->  active
    any failure               ->  abandon                           ->  queued, and the blob is dropped

The config of an image for containers is read as its data arrives. An archive stays the one blob that it came as: its checksum is the
uploader's, and what was uploaded is what is downloaded. It is taken apart when its layers are needed one by one (`taken_apart`).

Staged data (`stage`, then `import`) goes queued -> uploading -> active. Each upload has an id, so that the end of one whose image was
deleted or given to another meanwhile changes nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import sqlalchemy as sa

from nacre.cloud.context import Context
from nacre.cloud.core import Cloud
from nacre.cloud.errors import Conflict, Forbidden, Gone, Invalid, NotFound, TooLarge
from nacre.cloud.image import archives, layered, manifests, operations, rules
from nacre.cloud.image.rules import Row
from nacre.cloud.image.spool import spool
from nacre.cloud.image.tables import images
from nacre.cloud.processes import unfinished
from nacre.store.blobs import Blob, BlobsFull, BlobTooLarge
from nacre.store.schema import new_id, now


async def receive(cloud: Cloud, ctx: Context, image_id: str, stream: AsyncIterator[bytes], stage: bool = False) -> None:
    """Take the data of a queued image. Raises Conflict (not queued), TooLarge, InsufficientStorage, Gone (deleted meanwhile)."""
    upload_id = new_id()
    kept = False
    try:
        image = await cloud.store.write(begin, ctx, image_id, upload_id, stage, cloud.process_id)
        await fill(cloud, image, stream, lambda conn, blob, known: finish(conn, image_id, upload_id, blob, known, stage))
        kept = True
    finally:
        if not kept:
            await unfinished.undo(cloud, abandon, upload_id)


async def fill(
    cloud: Cloud, image: Row, stream: AsyncIterator[bytes], finish: Callable[[sa.Connection, Blob, Row], None]
) -> None:
    """The bytes of an image that was claimed: kept, looked at, and named by what `finish` writes, with what else is known of them."""
    blob: Blob | None = None
    try:
        blob = await _keep(cloud, stream)
        path = cloud.blobs.path(blob.digest)
        known: Row = {"virtual_size": rules.virtual_size(image["disk_format"], _header(path), blob.size)}
        if image["container_format"] == "docker":
            known |= await read_config(cloud, path)
        await cloud.store.write(finish, blob, known)
    finally:
        if blob is not None:
            cloud.blobs.release(blob.digest)
            drop(cloud, blob.digest)


async def _keep(cloud: Cloud, stream: AsyncIterator[bytes]) -> Blob:
    limit = cloud.settings.image_size_max_bytes
    try:
        blob: Blob = await cloud.blobs.write(stream, limit)
        return blob
    except BlobTooLarge:
        raise TooLarge(f"The image data is larger than the limit of {limit} bytes.") from None
    except BlobsFull as error:
        raise rules.InsufficientStorage(f"{error} Delete images that are not needed, or give the cloud more disk.") from error


async def read_config(cloud: Cloud, path: Path) -> Row:
    """`docker_id` and `config` of an image's data; both None when it is no archive that could be read."""
    async with spool(cloud) as scratch:
        try:
            config = await asyncio.to_thread(_config_of, path, scratch, cloud.settings.image_size_max_bytes)
        except archives.BrokenArchive:
            return {"docker_id": None, "config": None}
    document, _ = manifests.decode_config(config)
    return {"docker_id": manifests.digest_of(config), "config": document}


def _config_of(path: Path, scratch: Path, bytes_max: int) -> bytes:
    archive = archives.open_archive(path, scratch, bytes_max)
    archive.close()
    return archive.images[0].config


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(rules.HEADER_BYTES)


def drop(cloud: Cloud, digest: str) -> bool:
    """Delete a blob that no row names and nobody has pinned. Returns whether it is gone."""
    gone: bool = cloud.blobs.delete(digest, lambda: cloud.store.read_now(_is_named, digest))
    return gone


def drop_all(cloud: Cloud, digests: list[str]) -> None:
    """`drop` for what a deleted image named."""
    for digest in digests:
        drop(cloud, digest)


def _is_named(conn: sa.Connection, digest: str) -> bool:
    return operations.blob_of(conn, digest) is not None or layered.size_of_named(conn, digest) is not None


def begin(conn: sa.Connection, ctx: Context, image_id: str, upload_id: str, stage: bool, process_id: str) -> Row:
    image = operations.owned(conn, ctx, image_id)
    wanted = "uploading" if stage else "saving"
    if image["status"] != "queued":
        raise Conflict(f"Image status transition from {image['status']} to {wanted} is not allowed")
    check_formats(image)
    conn.execute(images.update().where(images.c.id == image_id).values(status=wanted, upload_id=upload_id, updated_at=now()))
    unfinished.begin(conn, process_id, "upload", upload_id)
    return image


def check_formats(image: Row) -> None:
    """Raises Invalid for an image of which it is not said what its data will be."""
    missing = [name for name in ("disk_format", "container_format") if image[name] is None]
    if missing:
        raise Invalid(f"Properties {', '.join(missing)} must be set prior to saving data.", field=missing[0])


def finish(conn: sa.Connection, image_id: str, upload_id: str, blob: Blob, found: Row, stage: bool) -> None:
    known = {
        **found,
        "size": blob.size,
        "checksum": blob.md5,
        "os_hash_algo": "sha512",
        "os_hash_value": blob.sha512,
    }
    values: Row = {"staged": known} if stage else {"status": "active", **known}
    changed = conn.execute(
        images.update()
        .where(images.c.id == image_id, images.c.upload_id == upload_id)
        .values(**values, digest=blob.digest, upload_id=None, updated_at=now())
    )
    if not changed.rowcount:
        raise Gone(f"Image {image_id} was deleted while its data was uploaded.")
    unfinished.end(conn, "upload", upload_id)


def abandon(conn: sa.Connection, upload_id: str) -> None:
    """The upload failed: as if it had not begun."""
    abandoned(conn, upload_id)
    unfinished.end(conn, "upload", upload_id)


def abandoned(conn: sa.Connection, upload_id: str) -> None:
    """The image that the upload (or import) had claimed is queued again."""
    values = {"status": "queued", "upload_id": None, "updated_at": now()}
    conn.execute(images.update().where(images.c.upload_id == upload_id).values(values))


def for_download(conn: sa.Connection, ctx: Context, image_id: str) -> Row:
    """The image whose data the caller may have; `digest` is None when there is none yet."""
    image = operations.get(conn, ctx, image_id)
    if image["status"] == "deactivated" and not ctx.is_admin:
        raise Forbidden("The requested image has been deactivated. Image data download is forbidden.")
    if image["status"] not in ("active", "deactivated"):
        image["digest"] = None
    return image


def path_of(cloud: Cloud, image: Row) -> Path:
    """Where an image's bytes lie. Raises NotFound when they are lost, which `audit` reports too."""
    path: Path = cloud.blobs.path(image["digest"])
    if not path.is_file():
        raise NotFound(f"The data of image {image['id']} is missing from the store.")
    return path
