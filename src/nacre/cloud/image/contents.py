"""What is in an image: its layers, taken out of an archive where need be, and archives made of layers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import sqlalchemy as sa

from nacre.cloud.core import Cloud
from nacre.cloud.errors import Invalid, NotFound
from nacre.cloud.image import archives, export, layered, manifests
from nacre.cloud.image.intake import Intake
from nacre.cloud.image.layered import Content
from nacre.cloud.image.rules import Row
from nacre.cloud.image.spool import spool
from nacre.cloud.image.tables import images


async def of_image(cloud: Cloud, row: Row) -> Content:
    """The image's content in layers; an archive is taken apart first, once. Raises Invalid when it cannot be, NotFound when bytes are lost."""
    if row["manifest_digest"] is None:
        await take_apart(cloud, row)
    row = cloud.store.read_now(_fresh, row["id"])
    layers = cloud.store.read_now(layered.layers_of, [row["id"]])[row["id"]]
    manifest = await read_blob(cloud, row["manifest_digest"])
    config = await read_blob(cloud, row["docker_id"])
    kind = manifests.decode(manifest, "").media_type if b'"mediaType"' in manifest else manifests.OCI_MANIFEST
    return Content(row["docker_id"], row["config"], len(config), tuple(layers), row["manifest_digest"], len(manifest), kind)


def _fresh(conn: sa.Connection, image_id: str) -> Row:
    row = conn.execute(sa.select(images).where(images.c.id == image_id)).mappings().first()
    if row is None:
        raise NotFound(f"No such image: {image_id}")
    return dict(row)


async def read_blob(cloud: Cloud, digest: str) -> bytes:
    """A document's bytes. Raises NotFound when they are lost."""
    path: Path = cloud.blobs.path(digest)
    try:
        return await asyncio.to_thread(path.read_bytes)
    except FileNotFoundError:
        raise NotFound(f"The data {digest} is missing from the store.") from None


async def take_apart(cloud: Cloud, row: Row) -> None:
    """Keep the layers of an archive, one by one, beside it. A root file system that is not compressed is its own layer: nothing is copied."""
    limit = cloud.settings.image_size_max_bytes
    async with spool(cloud) as scratch, Intake(cloud) as intake:
        path = cloud.blobs.path(row["digest"])
        try:
            archive = await asyncio.to_thread(archives.open_archive, path, scratch, limit)
        except archives.BrokenArchive as error:
            raise archives.invalid(error) from None
        except FileNotFoundError:
            raise NotFound(f"The data of image {row['id']} is missing from the store.") from None
        try:
            content = await intake.of_archive(archive, archive.images[0])
        finally:
            archive.close()
        await cloud.store.write(_attach, row["id"], content)


def _attach(conn: sa.Connection, image_id: str, content: Content) -> None:
    row = _fresh(conn, image_id)
    if row["manifest_digest"] is None:
        layered.attach(conn, image_id, content)


def members(chosen: list[tuple[Content, tuple[str, ...]]]) -> list[export.Member]:
    """The members of an archive of these images under these names."""
    listed = []
    for content, names in chosen:
        plain = content.exported
        listed.append(export.Exported(plain.manifest, plain.media_type, plain.config, plain.layers, names))
    return export.plan(listed)


def stream(cloud: Cloud, planned: list[export.Member]) -> AsyncIterator[bytes]:
    """The archive's bytes. Raises NotFound before the first one when a blob is lost."""
    paths = {content.digest: cloud.blobs.path(content.digest) for _, content in planned if not isinstance(content, bytes)}
    lost = [digest for digest, path in paths.items() if not path.is_file()]
    if lost:
        raise NotFound(f"The data {lost[0]} is missing from the store.")
    return export.stream(planned, paths)


async def load(cloud: Cloud, path: Path, intake: Intake, scratch: Path) -> list[tuple[Content, tuple[str, ...]]]:
    """The images of an archive, as layers, with their names. Raises Invalid."""
    limit = cloud.settings.image_size_max_bytes
    try:
        archive = await asyncio.to_thread(archives.open_archive, path, scratch, limit, root_file_system=False)
    except archives.BrokenArchive as error:
        raise Invalid(str(error)) from None
    try:
        return [(await intake.of_archive(archive, image), image.names) for image in archive.images]
    finally:
        archive.close()
