"""What a crash leaves of uploads, and how it is undone."""

import asyncio
import logging
import shutil

import sqlalchemy as sa

from nacre.cloud.core import Cloud
from nacre.cloud.image import imports
from nacre.cloud.image.data import drop, read_config
from nacre.cloud.image.spool import SPOOL
from nacre.cloud.image.tables import images
from nacre.store.schema import now

log = logging.getLogger("nacre.image")


async def recover(cloud: Cloud) -> None:
    """Once, before the only API process serves: uploads that its predecessor had taken up are queued again, and their bytes go."""
    await cloud.store.write(requeue)
    await cloud.store.write(imports.give_up)
    await asyncio.to_thread(shutil.rmtree, cloud.settings.state / SPOOL, True)
    cloud.blobs.sweep(alone=True)
    for digest in list(cloud.blobs.digests()):
        drop(cloud, digest)
    await read_configs(cloud)


def requeue(conn: sa.Connection) -> int:
    """Returns how many images were in the middle of an upload."""
    interrupted = images.update().where(images.c.upload_id.is_not(None))
    return conn.execute(interrupted.values(status="queued", upload_id=None, updated_at=now())).rowcount


async def read_configs(cloud: Cloud) -> None:
    """Images for containers that came before their configs were read."""
    for ident, digest in cloud.store.read_now(_unread):
        try:
            known = await read_config(cloud, cloud.blobs.path(digest))
        except OSError as error:
            log.warning("the data of image %s cannot be read: %s", ident, error)
            continue
        await cloud.store.write(_know, ident, known)


def _unread(conn: sa.Connection) -> list[tuple[str, str]]:
    where = (images.c.container_format == "docker", images.c.docker_id.is_(None), images.c.digest.is_not(None))
    return [(row.id, row.digest) for row in conn.execute(sa.select(images.c.id, images.c.digest).where(*where))]


def _know(conn: sa.Connection, ident: str, known: dict[str, object]) -> None:
    conn.execute(images.update().where(images.c.id == ident).values(**known))
