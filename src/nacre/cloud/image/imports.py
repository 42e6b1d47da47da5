"""Imports: an image's data comes from where it is already, and a task says how far that is.

    glance-direct    what was staged becomes the image's own                   at once
    glance-download  another image's data, formats and some of its properties  at once: bytes are shared by their digest
    copy-image       to all stores; there is one                               at once, nothing to do
    web-download     from a web server, as it is                               in the background: queued -> importing -> active
    location         the same, and the place is kept beside the data           in the background

A failure leaves the image queued, with `os_glance_failed_import`, and its cause in the task.
https://docs.openstack.org/api-ref/image/v2/#interoperable-image-import
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import sqlalchemy as sa

from nacre.cloud.context import Context
from nacre.cloud.core import Cloud
from nacre.cloud.errors import CloudError, Conflict, Invalid, NotFound
from nacre.cloud.image import data, operations, tasks
from nacre.cloud.image.rules import Row
from nacre.cloud.image.tables import image_layers, image_locations, image_properties, images
from nacre.cloud.processes import unfinished
from nacre.store import StoreError
from nacre.store.blobs import Blob
from nacre.store.schema import now

METHODS = ("glance-direct", "web-download", "glance-download", "copy-image")
COPIED_PREFIXES = ("hw_", "trait:", "os_distro", "os_secure_boot", "os_type")
"""The properties that glance-download brings along, as Glance's default has it."""
COPIED_COLUMNS = (
    *("disk_format", "container_format", "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value", "digest"),
    *("docker_id", "config", "manifest_digest", "parent"),
)
AT_ONCE = 16
"""Images whose data one process fetches at the same time; others wait."""
UNDER_WAY_MAX = 32
"""Images of one project whose data is being fetched, or waits for that."""
TOTAL_S = 12 * 3600.0
"""However slowly a server sends: then an import is given up."""
HASHES: Mapping[str, int] = {"sha256": 64, "sha512": 128}
"""What a place's data can be held against, and the hex digits of each."""

ENDED = "The API process ended before the import did."
_slots = asyncio.Semaphore(AT_ONCE)
log = logging.getLogger("nacre.image")


def import_staged(conn: sa.Connection, ctx: Context, image_id: str, asked: Row) -> Row:
    """Make the staged data the image's own. Returns the task. Raises Conflict."""
    image = operations.owned(conn, ctx, image_id)
    if image["status"] != "uploading" or image["staged"] is None:
        raise Conflict(f"Image needs to be staged before 'glance-direct' method can be used; its status is {image['status']}.")
    changes = {**image["staged"], "status": "active", "staged": sa.null(), "import_result": "success", "updated_at": now()}
    conn.execute(images.update().where(images.c.id == image_id).values(changes))
    return tasks.add(conn, ctx, "api_image_import", asked, image, "success")


def copy_to_stores(conn: sa.Connection, ctx: Context, image_id: str, asked: Row) -> Row:
    """An active image is in every store that there is. Returns the task. Raises Conflict."""
    image = operations.get(conn, ctx, image_id)
    if image["status"] != "active":
        raise Conflict(f"Only images with status active can be copied; its status is {image['status']}.")
    conn.execute(images.update().where(images.c.id == image_id).values(import_result="success"))
    return tasks.add(conn, ctx, "api_image_import", asked, image, "success")


def copy_image(conn: sa.Connection, ctx: Context, image_id: str, asked: Row, source_id: str) -> Row:
    """Another image's data become this one's too. Returns the task, which has failed when the source may not be had. Raises Conflict."""
    image = _queued(conn, ctx, image_id)
    try:
        source = data.for_download(conn, ctx, source_id)
        if source["digest"] is None or source["status"] != "active":
            raise Conflict(f"image {source_id} has no data")
    except CloudError as error:
        return fail_at_once(conn, ctx, image, asked, error.message)
    columns = {name: source[name] for name in COPIED_COLUMNS}
    changes = {**columns, "status": "active", "import_result": "success", "updated_at": now()}
    conn.execute(images.update().where(images.c.id == image_id).values(changes))
    _copy_layers(conn, source_id, image_id)
    _copy_properties(conn, source, image)
    return tasks.add(conn, ctx, "api_image_import", asked, image, "success")


def fail_at_once(conn: sa.Connection, ctx: Context, image: Row, asked: Row, message: str) -> Row:
    conn.execute(images.update().where(images.c.id == image["id"]).values(import_result="failure", updated_at=now()))
    return tasks.add(conn, ctx, "api_image_import", asked, image, "failure", message)


def refuse_source(conn: sa.Connection, ctx: Context, image_id: str, asked: Row, message: str) -> Row:
    """A task that failed before it began: there is no such source. Raises Conflict for an image that has data."""
    return fail_at_once(conn, ctx, _queued(conn, ctx, image_id), asked, message)


def _copy_layers(conn: sa.Connection, source_id: str, image_id: str) -> None:
    rows = conn.execute(sa.select(image_layers).where(image_layers.c.image_id == source_id)).mappings().all()
    if rows:
        conn.execute(image_layers.insert(), [{**row, "image_id": image_id} for row in rows])


def _copy_properties(conn: sa.Connection, source: Row, image: Row) -> None:
    brought = {name: value for name, value in source["properties"].items() if name.startswith(COPIED_PREFIXES)}
    kept = {name: value for name, value in image["properties"].items() if not name.startswith(COPIED_PREFIXES)}
    conn.execute(image_properties.delete().where(image_properties.c.image_id == image["id"]))
    rows = [{"image_id": image["id"], "name": name, "value": value} for name, value in {**kept, **brought}.items()]
    if rows:
        conn.execute(image_properties.insert(), rows)


def _queued(conn: sa.Connection, ctx: Context, image_id: str) -> Row:
    image = operations.owned(conn, ctx, image_id)
    if image["status"] != "queued":
        raise Conflict(f"Image status transition from {image['status']} to importing is not allowed")
    return image


def begin(conn: sa.Connection, ctx: Context, image_id: str, asked: Row, process_id: str, kind: str = "api_image_import") -> Row:
    """Claim a queued image for data that this process will bring. Returns the task. Raises Conflict, Invalid."""
    image = _queued(conn, ctx, image_id)
    data.check_formats(image)
    count = sa.select(sa.func.count()).where(images.c.owner == image["owner"], images.c.status == "importing")
    if conn.execute(count).scalar_one() >= UNDER_WAY_MAX:
        raise Conflict(f"{UNDER_WAY_MAX} images of this project are being imported already; wait for one of them.")
    task = tasks.add(conn, ctx, kind, asked, image, "processing")
    values = {"status": "importing", "upload_id": task["id"], "import_result": "", "updated_at": now()}
    conn.execute(images.update().where(images.c.id == image_id).values(values))
    unfinished.begin(conn, process_id, "import", task["id"])
    return task


async def carry_out(cloud: Cloud, ctx: Context, task: Row, stream: AsyncIterator[bytes], place: Row | None = None) -> None:
    """Bring the data of an image that `begin` claimed. `place` is where it is from, where that is kept: {url, metadata, validation_data,
    hashed}.

    Raises nothing but the cancellation: what goes wrong is in the task.
    """
    image_id, message = task["image_id"], ENDED
    done = False
    try:
        image = cloud.store.read_now(operations.get, ctx, image_id)
        async with _slots, asyncio.timeout(TOTAL_S):
            await data.fill(cloud, image, stream, lambda conn, blob, known: _finish(conn, task, blob, known, place))
        done = True
    except CloudError as error:
        message = error.message
    except TimeoutError:
        message = f"The data did not come within {TOTAL_S / 3600:.0f} hours."
    except OSError as error:
        message = f"The data could not be had: {error}"
    except StoreError as error:
        message = f"The data could not be kept: {error}"
    except Exception:
        log.exception("import %s of image %s failed", task["id"], image_id)
        message = "Unexpected failure; the log has it under this task's id."
    finally:
        if not done:
            await unfinished.undo(cloud, _fail, task, message)


def _finish(conn: sa.Connection, task: Row, blob: Blob, known: Row, place: Row | None) -> None:
    checked = _held_against(blob, (place or {}).get("validation_data") or {})
    if place is not None and not place.get("hashed", True):
        # What an owner says of a place is its word, not ours: the hashes that are shown are those that it gave.
        checked = {"checksum": None, "os_hash_algo": None, "os_hash_value": None} | checked
    data.finish(conn, task["image_id"], task["id"], blob, known, stage=False)
    unfinished.end(conn, "import", task["id"])
    conn.execute(images.update().where(images.c.id == task["image_id"]).values(import_result="success", **checked))
    if place is not None:
        row = {"image_id": task["image_id"], "position": 0, "url": place["url"], "metadata": place.get("metadata", {})}
        conn.execute(image_locations.insert().values(row))
    tasks.end(conn, task["id"], "success", {"image_id": task["image_id"]}, "")


def _held_against(blob: Blob, wanted: Row) -> Row:
    """The hash that was said, if the data has it. Raises Conflict."""
    if not wanted:
        return {}
    algorithm = wanted["os_hash_algo"]
    found = {"sha256": blob.digest.rpartition(":")[2], "sha512": blob.sha512}[algorithm]
    if found != wanted["os_hash_value"]:
        raise Conflict(f"The {algorithm} of the data is {found}, not {wanted['os_hash_value']}.")
    return {"os_hash_algo": algorithm, "os_hash_value": found}


def _fail(conn: sa.Connection, task: Row, message: str) -> None:
    mine = (images.c.id == task["image_id"], images.c.upload_id == task["id"])
    conn.execute(images.update().where(*mine).values(status="queued", upload_id=None, import_result="failure", updated_at=now()))
    tasks.end(conn, task["id"], "failure", None, message)
    unfinished.end(conn, "import", task["id"])


def abandoned(conn: sa.Connection, task_id: str) -> None:
    """The process that was at it is gone: its image is queued again."""
    data.abandoned(conn, task_id)
    tasks.end(conn, task_id, "failure", None, ENDED)


def check_validation(sent: Mapping[str, Any]) -> Row:
    """What data shall be held against: {os_hash_algo, os_hash_value}. Raises Invalid."""
    algorithm, value = sent.get("os_hash_algo"), sent.get("os_hash_value")
    if not isinstance(algorithm, str) or algorithm not in HASHES:
        raise Invalid(f"os_hash_algo is one of {', '.join(HASHES)}, not {algorithm!r}.", field="os_hash_algo")
    digits = isinstance(value, str) and len(value) == HASHES[algorithm] and all(c in "0123456789abcdef" for c in value)
    if not digits:
        raise Invalid(f"os_hash_value must be {HASHES[algorithm]} hex digits in lower case.", field="os_hash_value")
    return {"os_hash_algo": algorithm, "os_hash_value": value}


def locations(conn: sa.Connection, ctx: Context, image_id: str) -> list[Row]:
    """The places on the web that an image's data is from. Raises NotFound."""
    if "service" in ctx.roles and not ctx.is_admin:
        if conn.execute(sa.select(images.c.id).where(images.c.id == image_id)).first() is None:
            raise NotFound(f"No image found with ID {image_id}", code="ImageNotFound")
    else:
        operations.get(conn, ctx, image_id)
    select = sa.select(image_locations).where(image_locations.c.image_id == image_id).order_by(image_locations.c.position)
    return [dict(row) for row in conn.execute(select).mappings()]
