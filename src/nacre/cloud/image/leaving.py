"""Servers that outlive their image: its bytes are kept for them, and go with the last one that names them.

A transaction in which a server lets go of an image notes the digests; the sweeper drops those that nobody names. It drops first and forgets
then, so a process that dies in between costs a repetition.
"""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.core import Cloud
from nacre.cloud.image.data import drop_all
from nacre.cloud.image.tables import images, left_blobs
from nacre.store import Prepared, insert

Row = dict[str, Any]

SWEEP_EVERY_S = 5.0

_KNOWN = Prepared(sa.select(images.c.id).where(images.c.id == sa.bindparam("ident")))


def leave(conn: sa.Connection, image: Row | None) -> None:
    """A server does not start from this image any more (as its row kept it). Nothing is to be done while the image itself is there."""
    if image is None or _KNOWN.first(conn, ident=image["id"]) is not None:
        return
    digests = {image["digest"], *(layer["digest"] for layer in image.get("layers") or ())} - {None}
    if digests:
        conn.execute(insert(left_blobs).on_conflict_do_nothing(), [{"digest": digest} for digest in sorted(digests)])


async def sweep(cloud: Cloud) -> None:
    """One turn."""
    digests = cloud.store.read_now(_noted)
    if digests:
        drop_all(cloud, digests)
        await cloud.store.write(_forget, digests)


def _noted(conn: sa.Connection) -> list[str]:
    return list(conn.execute(sa.select(left_blobs.c.digest)).scalars())


def _forget(conn: sa.Connection, digests: list[str]) -> None:
    conn.execute(left_blobs.delete().where(left_blobs.c.digest.in_(digests)))
