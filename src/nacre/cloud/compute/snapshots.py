"""Images of servers: https://docs.openstack.org/api-ref/compute/#create-image-createimage-action.

The image is there at once, queued; its bytes come from the host in the background: what the server changed becomes a layer on top of the image
that it was made from. One whose bytes never come is deleted, with its cause in the log.
"""

import asyncio
import logging
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from nacre.cloud.compute import quotas, timeline
from nacre.cloud.compute.actions import ready
from nacre.cloud.context import Context
from nacre.cloud.core import Cloud
from nacre.cloud.errors import CloudError, Conflict, Forbidden, NotFound
from nacre.cloud.image import commits, export, layered, manifests
from nacre.cloud.image import operations as images
from nacre.cloud.image.data import drop_all
from nacre.cloud.image.intake import Intake
from nacre.cloud.image.layered import Content, Layer
from nacre.cloud.image.tables import image_properties
from nacre.cloud.image.tables import images as table
from nacre.cloud.processes import unfinished
from nacre.store import StoreError
from nacre.store.schema import now

Row = dict[str, Any]

FROM_STATES = frozenset({"active", "stopped", "paused", "suspended"})
AT_ONCE = 4
"""Images that are being made at the same time; others wait."""
UNDER_WAY = ("queued", "saving")

log = logging.getLogger("nacre.compute")

_slots = asyncio.Semaphore(AT_ONCE)


class Rotation(Struct, frozen=True):
    """How many backups of a type a server keeps."""

    backup_type: str
    kept: int


async def create(
    cloud: Cloud, ctx: Context, ident: str, name: str, metadata: dict[str, str], rotation: Rotation | None = None
) -> Row:
    """The image's row, still without bytes; with a rotation a backup, whose predecessors go once it is whole.

    Raises NotFound, Conflict (state, or one is being made already), Forbidden (quota)."""
    kind = "snapshot" if rotation is None else "backup"
    row, image = await cloud.store.write(begin, ctx, ident, name, metadata, kind, cloud.process_id)
    cloud.background.start(_make(cloud, ctx, row, image["id"], rotation))
    return image


def begin(
    conn: sa.Connection, ctx: Context, ident: str, name: str, metadata: dict[str, str], kind: str, process_id: str
) -> tuple[Row, Row]:
    """The server and its image to be. The image's properties say what it comes from, as Nova's do."""
    verb = "createImage" if kind == "snapshot" else "createBackup"
    row = ready(conn, ctx, ident, verb, FROM_STATES)
    limit = quotas.limits_of(conn, row["project_id"])["metadata_items"]
    if 0 <= limit < len(metadata):
        raise Forbidden(f"Maximum number of metadata items exceeds {limit}", field="metadata")
    image = queue(conn, ctx, row, name, metadata, kind, verb)
    timeline.begin(conn, ctx, row, verb)
    unfinished.begin(conn, process_id, "snapshot", image["id"])
    return row, image


def queue(conn: sa.Connection, ctx: Context, row: Row, name: str, metadata: dict[str, str], kind: str, verb: str) -> Row:
    """The image's row, without bytes. Raises Conflict where another image of the server is on its way."""
    ident = row["id"]
    if _under_way(conn, ident):
        raise Conflict(f"Cannot '{verb}' instance {ident} while it is in task_state image_snapshot", code="InstanceInvalidState")
    own = {"image_type": kind, "instance_uuid": ident, "base_image_ref": row["image_id"] or "", "user_id": ctx.user_id}
    properties = {**row["image"].get("properties", {}), **own, **metadata}
    about: Row = {"name": name, "owner": row["project_id"], "min_disk": row["disk_gb"], "properties": properties}
    return images.create(conn, ctx, {**about, "container_format": "docker", "disk_format": "raw"})


def _under_way(conn: sa.Connection, server_id: str) -> bool:
    of_server = sa.select(image_properties.c.image_id).where(
        image_properties.c.name == "instance_uuid", image_properties.c.value == server_id
    )
    return conn.execute(sa.select(table.c.id).where(table.c.id.in_(of_server), table.c.status.in_(UNDER_WAY))).first() is not None


async def _make(cloud: Cloud, ctx: Context, server: Row, image_id: str, rotation: Rotation | None) -> None:
    made = False
    try:
        await bring(cloud, server, image_id)
        made = True
        if rotation is not None:
            await _rotate(cloud, ctx, server["id"], rotation)
    except (CloudError, StoreError, OSError) as error:
        log.warning("image %s of server %s was not made: %s [%s]", image_id, server["id"], error, ctx.request_id)
    finally:
        if not made:
            await unfinished.undo(cloud, _drop, image_id)


async def _rotate(cloud: Cloud, ctx: Context, server_id: str, rotation: Rotation) -> None:
    """The newest backups stay. One that is protected, or somebody else's by now, stays too."""
    for old in cloud.store.read_now(outdated, ctx, server_id, rotation.backup_type, rotation.kept):
        try:
            drop_all(cloud, await cloud.store.write(images.delete, ctx, old))
        except CloudError as error:
            log.warning("backup %s of server %s stays: %s", old, server_id, error)


async def bring(cloud: Cloud, server: Row, image_id: str) -> None:
    """The image's bytes: what the server changed, as one layer more on its image's. Raises CloudError, OSError; nothing is kept then."""
    async with _slots:
        await cloud.store.write(_saving, image_id)
        config, layers = await commits.base_of(cloud, server["image"])
        async with Intake(cloud) as intake:
            stream = await cloud.hosts.open(server["host_id"], "commit", server["id"], {"pause": True})
            blob = await intake.stream(commits.layer_of(stream))
            layers.append(Layer(blob.digest, blob.size, manifests.OCI_LAYER, blob.digest))
            commits.note(config, blob.digest, "", f"image of server {server['id']}", "")
            content = await intake.content(manifests.encode(config), layers)
            await cloud.store.write(_finish, image_id, content)


def _saving(conn: sa.Connection, image_id: str) -> None:
    conn.execute(table.update().where(table.c.id == image_id, table.c.status == "queued").values(status="saving"))


def _finish(conn: sa.Connection, image_id: str, content: Content) -> None:
    """Raises NotFound when the image was deleted meanwhile."""
    size = export.size_of(export.plan([content.exported]))
    values = {"status": "active", "digest": content.manifest_digest, "size": size, "updated_at": now()}
    changed = conn.execute(table.update().where(table.c.id == image_id, table.c.status.in_(UNDER_WAY)).values(values))
    if not changed.rowcount:
        raise NotFound(f"Image {image_id} was deleted while it was made.")
    layered.attach(conn, image_id, content)
    unfinished.end(conn, "snapshot", image_id)


def _drop(conn: sa.Connection, image_id: str) -> None:
    abandoned(conn, image_id)
    unfinished.end(conn, "snapshot", image_id)


def abandoned(conn: sa.Connection, image_id: str) -> None:
    """It will never be whole."""
    conn.execute(table.delete().where(table.c.id == image_id, table.c.status.in_(UNDER_WAY)))


def outdated(conn: sa.Connection, ctx: Context, server_id: str, backup_type: str, rotation: int) -> list[str]:
    """The server's backups of that type beyond the newest `rotation` ones, oldest last."""

    def having(name: str, value: str) -> sa.Select[tuple[str]]:
        return sa.select(image_properties.c.image_id).where(image_properties.c.name == name, image_properties.c.value == value)

    statement = (
        sa.select(table.c.id)
        .where(table.c.id.in_(having("instance_uuid", server_id)), table.c.id.in_(having("backup_type", backup_type)))
        .order_by(table.c.created_at.desc())
        .offset(rotation)
    )
    return list(conn.execute(statement).scalars())
