"""Images of earlier versions, as this one has them."""

import logging

import sqlalchemy as sa

from nacre.cloud.core import Cloud
from nacre.cloud.image.data import read_config
from nacre.cloud.image.tables import images

log = logging.getLogger("nacre.image")


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
