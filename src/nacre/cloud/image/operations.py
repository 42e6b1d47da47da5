"""Images: create, list, show, change, delete, and what other domains ask of them.

A row is a dict of the table's columns with `properties` (name -> text) and `tags` (sorted). What the caller may not see is not found.
"""

from dataclasses import dataclass, field

import sqlalchemy as sa

from nacre.cloud import collection
from nacre.cloud.compute.tables import servers
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Forbidden, Invalid, NotFound
from nacre.cloud.image import layered, rules
from nacre.cloud.image.rules import Change, Row
from nacre.cloud.image.tables import image_members, image_properties, image_tags, images
from nacre.store import Prepared, among
from nacre.store.listing import Listing, Page, Query, columns_of
from nacre.store.schema import new_id, now

LISTING = Listing(
    sa.select(images),
    columns_of(
        images,
        *("id", "name", "status", "owner", "container_format", "disk_format", "size", "virtual_size", "checksum", "os_hash_algo"),
        *("os_hash_value", "min_disk", "min_ram", "protected", "os_hidden", "created_at", "updated_at", "visibility"),
    ),
    key=images.c.id,
    sort=(("created_at", "desc"),),
)

_BY_ID = Prepared(sa.select(images).where(images.c.id == sa.bindparam("ident")))
_PROPERTIES = Prepared(sa.select(image_properties).where(among(image_properties.c.image_id)))
_TAGS = Prepared(sa.select(image_tags).where(among(image_tags.c.image_id)).order_by(image_tags.c.tag))


@dataclass(frozen=True)
class Wanted:
    """What a list is narrowed to beyond plain columns. `visibility` None leaves out other projects' community images; `all` does not."""

    visibility: str | None = None
    member_status: str = "accepted"
    tags: tuple[str, ...] = ()
    properties: dict[str, str] = field(default_factory=dict)


def create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    """`values`: attributes, `properties`, `tags`, perhaps `id`. Raises Forbidden, Conflict (the id is taken), TooLarge."""
    properties = values.pop("properties", {})
    tags = sorted(set(values.pop("tags", ())))
    rules.check_names([*values.keys() - {"id"}, *properties])
    rules.check_counts(properties, tags)
    if "owner" in values and values["owner"] != ctx.project_id and not ctx.is_admin:
        raise Forbidden("You are not permitted to create images owned by another project.", field="owner")
    rules.check_visibility(ctx, values.get("visibility", "shared"))
    moment = now()
    row = {"id": new_id(), "owner": ctx.project_id, "visibility": "shared", "status": "queued", **values}
    if _exists(conn, row["id"]):
        raise Conflict(f"Image ID {row['id']} already exists!", field="id")
    conn.execute(images.insert().values(**row, created_at=moment, updated_at=moment))
    _set_properties(conn, row["id"], properties)
    _set_tags(conn, row["id"], tags)
    return get(conn, ctx, row["id"])


def get(conn: sa.Connection, ctx: Context, image_id: str) -> Row:
    row = _BY_ID.first(conn, ident=image_id)
    if row is None or not (_is_open(ctx, row) or _is_visible(conn, ctx, image_id)):
        raise _not_found(image_id)
    return _whole(conn, [row])[0]


def _is_open(ctx: Context, row: Row) -> bool:
    """Most may be shown without a look at who they are shared with."""
    return (
        ctx.is_admin
        or row["visibility"] in ("public", "community")
        or (ctx.project_id is not None and row["owner"] == ctx.project_id)
    )


def _is_visible(conn: sa.Connection, ctx: Context, image_id: str) -> bool:
    return conn.execute(sa.select(images.c.id).where(images.c.id == image_id, _visible(ctx))).first() is not None


def find(conn: sa.Connection, ctx: Context, query: Query, wanted: Wanted) -> Page:
    page = collection.find(conn, LISTING, query, *_narrowed(ctx, wanted))
    return Page(_whole(conn, page.rows), page.more)


def owned(conn: sa.Connection, ctx: Context, image_id: str) -> Row:
    """An image that the caller may change. Raises NotFound, and Forbidden for one that it only sees."""
    row = get(conn, ctx, image_id)
    if not ctx.sees(row["owner"]):
        raise Forbidden("You are not permitted to modify this image.")
    return row


def update(conn: sa.Connection, ctx: Context, image_id: str, changes: list[Change]) -> Row:
    """Raises Forbidden, Conflict, TooLarge; then nothing is changed."""
    image = owned(conn, ctx, image_id)
    changed = rules.applied(ctx, image, changes)
    columns = {name: changed[name] for name in rules.BASE - {"tags"}}
    conn.execute(images.update().where(images.c.id == image_id).values(**columns, updated_at=now()))
    if changed["properties"] != image["properties"]:
        conn.execute(image_properties.delete().where(image_properties.c.image_id == image_id))
        _set_properties(conn, image_id, changed["properties"])
    if changed["tags"] != image["tags"]:
        conn.execute(image_tags.delete().where(image_tags.c.image_id == image_id))
        _set_tags(conn, image_id, changed["tags"])
    return _one(conn, image_id)


def delete(conn: sa.Connection, ctx: Context, image_id: str) -> list[str]:
    """Returns the digests of its data, for the caller to drop once this is committed. Raises Forbidden for a protected image."""
    image = owned(conn, ctx, image_id)
    if image["protected"]:
        raise Forbidden(f"Image {image_id} is protected and cannot be deleted.")
    digests = layered.blobs_of(conn, image_id)
    conn.execute(images.delete().where(images.c.id == image_id))
    return digests


def add_tag(conn: sa.Connection, ctx: Context, image_id: str, tag: str) -> None:
    rules.check_tag(tag)
    image = owned(conn, ctx, image_id)
    if tag in image["tags"]:
        return
    rules.check_counts({}, [*image["tags"], tag])
    _set_tags(conn, image_id, [tag])
    _touch(conn, image_id)


def remove_tag(conn: sa.Connection, ctx: Context, image_id: str, tag: str) -> None:
    owned(conn, ctx, image_id)
    removed = conn.execute(image_tags.delete().where(image_tags.c.image_id == image_id, image_tags.c.tag == tag))
    if not removed.rowcount:
        raise NotFound(f"Image {image_id} has no tag {tag}.")
    _touch(conn, image_id)


def set_active(conn: sa.Connection, ctx: Context, image_id: str, active: bool) -> None:
    """Reactivate or deactivate: the data of a deactivated image is for admins only, and no server starts from it."""
    image = owned(conn, ctx, image_id)
    wanted, verb = ("active", "reactivate") if active else ("deactivated", "deactivate")
    if image["status"] not in ("active", "deactivated"):
        raise Forbidden(f"Not allowed to {verb} image in status '{image['status']}'.")
    conn.execute(images.update().where(images.c.id == image_id).values(status=wanted, updated_at=now()))


def for_server(conn: sa.Connection, ctx: Context, image_id: str) -> Row:
    """The image that a server is to start from. Raises Invalid as Nova does, for one that is not there (for the caller) or not active."""
    try:
        image = get(conn, ctx, image_id)
    except NotFound:
        raise Invalid("Can not find requested image", field="imageRef", code="ImageNotFound") from None
    if image["status"] != "active" or image["digest"] is None:
        raise Invalid(f"Image {image_id} is not active.", field="imageRef", code="ImageNotActive")
    return image | layers_for_host(conn, image)


def layers_for_host(conn: sa.Connection, image: Row) -> Row:
    """What the host needs to know of an image in layers, as a server keeps it: `digest` (the manifest's), `layers`, `config`."""
    layers = layered.layers_of(conn, [image["id"]])[image["id"]]
    if not layers:
        return {"layers": [], "config": {}}
    shown = [{"digest": layer.digest, "size_bytes": layer.size} for layer in layers]
    return {"digest": image["manifest_digest"], "layers": shown, "config": image["config"]}


def blob_of(conn: sa.Connection, digest: str) -> int | None:
    """The size in bytes of the data with that digest, if an image or a server names it; None when the bytes may go."""
    row = conn.execute(sa.select(images.c.size, images.c.staged).where(images.c.digest == digest).limit(1)).first()
    if row is None:
        # A server outlives its image: its host may have to fetch the bytes once more.
        for image in (servers.c.image, servers.c.rescue["image"]):
            size = conn.execute(
                sa.select(image["size"].as_integer()).where(image["digest"].as_string() == digest).limit(1)
            ).scalar()
            if size is not None:
                return int(size)
        return None
    return int(row.size if row.size is not None else row.staged["size"])


def _visible(ctx: Context) -> sa.ColumnElement[bool]:
    """What may be shown: an admin's all; else its own, public and community ones, and those shared with it."""
    if ctx.is_admin:
        return sa.true()
    return sa.or_(images.c.visibility.in_(("public", "community")), *_of_project(ctx, "all"))


def _of_project(ctx: Context, member_status: str) -> list[sa.ColumnElement[bool]]:
    if ctx.project_id is None:
        return []
    return [images.c.owner == ctx.project_id, _shared_with(ctx.project_id, member_status)]


def _shared_with(project_id: str, member_status: str) -> sa.ColumnElement[bool]:
    shared = sa.select(image_members.c.image_id).where(image_members.c.member_id == project_id)
    if member_status != "all":
        shared = shared.where(image_members.c.status == member_status)
    return sa.and_(images.c.visibility == "shared", images.c.id.in_(shared))


def _narrowed(ctx: Context, wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    where: list[sa.ColumnElement[bool]] = []
    if not ctx.is_admin:
        open_to_all = images.c.visibility.in_(("public", "community"))
        where.append(sa.or_(open_to_all, *_of_project(ctx, wanted.member_status)))
    if wanted.visibility is None:
        where.append(sa.or_(images.c.visibility != "community", images.c.owner == ctx.project_id))
    elif wanted.visibility != "all":
        where.append(images.c.visibility == wanted.visibility)
    for tag in wanted.tags:
        where.append(images.c.id.in_(sa.select(image_tags.c.image_id).where(image_tags.c.tag == tag)))
    for name, value in wanted.properties.items():
        having = sa.select(image_properties.c.image_id)
        where.append(images.c.id.in_(having.where(image_properties.c.name == name, image_properties.c.value == value)))
    return where


def _whole(conn: sa.Connection, rows: list[Row]) -> list[Row]:
    """Rows with their properties and tags."""
    by_id = {row["id"]: row for row in rows}
    for row in rows:
        row["properties"], row["tags"] = {}, []
    identities = list(by_id)
    for property_ in _PROPERTIES.rows(conn, ids=identities):
        by_id[property_["image_id"]]["properties"][property_["name"]] = property_["value"]
    for tag in _TAGS.rows(conn, ids=identities):
        by_id[tag["image_id"]]["tags"].append(tag["tag"])
    return rows


def _one(conn: sa.Connection, image_id: str) -> Row:
    """An image whoever asks: an admin's change of owner may have taken it out of the caller's sight."""
    row = conn.execute(sa.select(images).where(images.c.id == image_id)).mappings().one()
    return _whole(conn, [dict(row)])[0]


def _exists(conn: sa.Connection, image_id: str) -> bool:
    return conn.execute(sa.select(images.c.id).where(images.c.id == image_id)).first() is not None


def _not_found(image_id: str) -> NotFound:
    return NotFound(f"No image found with ID {image_id}", code="ImageNotFound")


def _touch(conn: sa.Connection, image_id: str) -> None:
    conn.execute(images.update().where(images.c.id == image_id).values(updated_at=now()))


def _set_properties(conn: sa.Connection, image_id: str, properties: dict[str, str]) -> None:
    if properties:
        conn.execute(
            image_properties.insert(),
            [{"image_id": image_id, "name": name, "value": value} for name, value in properties.items()],
        )


def _set_tags(conn: sa.Connection, image_id: str, tags: list[str]) -> None:
    if tags:
        conn.execute(image_tags.insert(), [{"image_id": image_id, "tag": tag} for tag in tags])
