"""Images as Nova once passed them on from Glance (until 2.35; an image's metadata until 2.38). What can be changed is the
metadata, and whether there is the image at all."""

from typing import Any

from nacre.cloud.collection import Row
from nacre.cloud.errors import Invalid, NotFound
from nacre.cloud.image import operations as images
from nacre.cloud.image.data import drop_all
from nacre.cloud.image.operations import Wanted
from nacre.cloud.image.rules import Change
from nacre.panes.edge import Call, Reply, times
from nacre.panes.openstack.compute import schemas
from nacre.panes.openstack.compute.dialect import limit_of, links, with_next
from nacre.panes.openstack.query import parse_integer
from nacre.store import Criterion, Page, Query

STATUS = {"active": ("ACTIVE", 100), "queued": ("SAVING", 0), "saving": ("SAVING", 50), "importing": ("SAVING", 50)}
"""Glance's status -> Nova's, and the progress that Nova makes of it."""
UNKNOWN = ("UNKNOWN", 0)


def _links(call: Call, ident: str) -> list[Row]:
    own = call.cloud.settings.base_url
    alternate = {"rel": "alternate", "type": "application/vnd.openstack.image", "href": f"{own}/image/images/{ident}"}
    return [*links(call, f"/images/{ident}"), alternate]


def _brief(call: Call, row: Row) -> Row:
    return {"id": row["id"], "name": row["name"], "links": _links(call, row["id"])}


def _whole(call: Call, row: Row) -> Row:
    status, progress = STATUS.get(row["status"], UNKNOWN)
    return {
        **_brief(call, row),
        "status": status,
        "progress": progress,
        "minDisk": row["min_disk"],
        "minRam": row["min_ram"],
        "created": times.seconds(row["created_at"]),
        "updated": times.seconds(row["updated_at"]),
        "metadata": row["properties"],
        "OS-EXT-IMG-SIZE:size": row["size"],
    }


def _query(call: Call) -> Query:
    query = call.query
    criteria = []
    if "name" in query:
        criteria.append(Criterion("name", "eq", query["name"]))
    if "status" in query:
        wanted = query["status"].upper()
        criteria.append(Criterion("status", "in", [name for name, (shown, _) in STATUS.items() if shown == wanted]))
    if "changes-since" in query:
        criteria.append(Criterion("updated_at", "ge", times.parse(query["changes-since"], "changes-since")))
    for name, column in (("minDisk", "min_disk"), ("minRam", "min_ram")):
        if name in query:
            criteria.append(Criterion(column, "eq", parse_integer(query[name], name)))
    return Query(tuple(criteria), limit=limit_of(call), marker=query.get("marker"))


def _wanted(call: Call) -> Wanted:
    """`server` may be a server's URL; `type` is snapshot, backup or base."""
    properties = {}
    if "server" in call.query:
        properties["instance_uuid"] = call.query["server"].rpartition("/")[2]
    if "type" in call.query:
        properties["image_type"] = call.query["type"]
    return Wanted(properties=properties)


async def _list(call: Call, render: Any) -> Reply:
    page: Page = await call.read(images.find, _query(call), _wanted(call))
    return Reply(with_next(call, {"images": [render(call, row) for row in page.rows]}, "images", page))


async def index(call: Call) -> Reply:
    return await _list(call, _brief)


async def detail(call: Call) -> Reply:
    return await _list(call, _whole)


async def _one(call: Call) -> Row:
    try:
        return await call.read(images.get, call.path["image_id"])
    except NotFound:
        raise NotFound("Image not found.", code="ImageNotFound") from None


async def show(call: Call) -> Reply:
    return Reply({"image": _whole(call, await _one(call))})


async def list_metadata(call: Call) -> Reply:
    return Reply({"metadata": (await _one(call))["properties"]})


async def show_metadata(call: Call) -> Reply:
    properties = (await _one(call))["properties"]
    key = call.path["key"]
    if key not in properties:
        raise NotFound("Metadata item was not found", code="MetadataItemNotFound")
    return Reply({"meta": {key: properties[key]}})


async def delete(call: Call) -> Reply:
    await _one(call)
    drop_all(call.cloud, await call.write(images.delete, call.path["image_id"]))
    return Reply(status=204)


async def _change(call: Call, wanted: dict[str, str], *, replace: bool) -> Row:
    """Set properties; with `replace`, take away all others."""
    properties = (await _one(call))["properties"]
    changes = [Change("replace" if name in properties else "add", name, value) for name, value in wanted.items()]
    if replace:
        changes += [Change("remove", name) for name in properties if name not in wanted]
    changed: Row = (await call.write(images.update, call.path["image_id"], changes))["properties"]
    return changed


async def add_metadata(call: Call) -> Reply:
    sent = (await call.body(schemas.ImageMetadata)).metadata
    return Reply({"metadata": await _change(call, sent, replace=False)})


async def replace_metadata(call: Call) -> Reply:
    sent = (await call.body(schemas.ImageMetadata)).metadata
    return Reply({"metadata": await _change(call, sent, replace=True)})


async def set_metadata(call: Call) -> Reply:
    meta = (await call.body(schemas.ImageMetadataItem)).meta
    key = call.path["key"]
    if key not in meta:
        raise Invalid("Request body and URI mismatch", field="meta")
    await _change(call, meta, replace=False)
    return Reply({"meta": meta})


async def delete_metadata(call: Call) -> Reply:
    key = call.path["key"]
    if key not in (await _one(call))["properties"]:
        raise NotFound("Invalid metadata key", code="MetadataItemNotFound")
    await call.write(images.update, call.path["image_id"], [Change("remove", key)])
    return Reply(status=204)
