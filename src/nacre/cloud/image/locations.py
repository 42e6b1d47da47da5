"""An image's locations: the places on the web that it is from. https://docs.openstack.org/api-ref/image/v2/#update-image (locations).

Whatever the place, the data is fetched into the store: a location is what it was made from, not where it is read. Shown, and set by
an owner, only where the operator allows that (image_import.show_locations), as Glance's show_multiple_locations does.
"""

from collections.abc import Sequence

import sqlalchemy as sa

from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Forbidden, Invalid, NotFound
from nacre.cloud.image import operations
from nacre.cloud.image.rules import Row
from nacre.cloud.image.tables import image_locations, images
from nacre.store.schema import now

LOCATIONS_MAX = 10
"""Glance's image_location_quota."""
_table = image_locations


def of_images(conn: sa.Connection, ctx: Context, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """image id -> [{url, metadata}], in their order. Data that came another way is in the store, under its digest."""
    found: dict[str, list[Row]] = {row["id"]: [] for row in rows}
    select = sa.select(_table).where(_table.c.image_id.in_(list(found))).order_by(_table.c.image_id, _table.c.position)
    for each in conn.execute(select).mappings():
        found[each["image_id"]].append({"url": each["url"], "metadata": each["metadata"]})
    for row in rows:
        if not found[row["id"]] and row["digest"] is not None and row["status"] in ("active", "deactivated"):
            found[row["id"]].append({"url": f"nacre:///{row['digest']}", "metadata": {}})
    return found


def for_change(conn: sa.Connection, ctx: Context, image_id: str) -> tuple[Row, list[Row]]:
    """An image that the caller may change, and the places that it is from. Raises NotFound, Forbidden."""
    image = operations.owned(conn, ctx, image_id)
    rows = conn.execute(sa.select(_table).where(_table.c.image_id == image_id).order_by(_table.c.position)).mappings()
    return image, [dict(row) for row in rows]


def add(conn: sa.Connection, ctx: Context, image_id: str, place: Row, digest: str) -> None:
    """One more place of which the data is the same. Raises Conflict when it is not, Invalid when there are too many."""
    image, known = for_change(conn, ctx, image_id)
    if image["status"] != "active" or image["digest"] != digest:
        raise Conflict(f"What is at {place['url']} is not the data of image {image_id}.", field="url")
    if any(row["url"] == place["url"] for row in known):
        raise Invalid(f"Image {image_id} has the location {place['url']} already.", field="url")
    if len(known) >= LOCATIONS_MAX:
        raise Invalid(f"An image has at most {LOCATIONS_MAX} locations.", field="locations")
    position = known[-1]["position"] + 1 if known else 0
    row = {"image_id": image_id, "position": position, "url": place["url"], "metadata": place["metadata"]}
    conn.execute(_table.insert().values(row))
    _touch(conn, image_id)


def describe(conn: sa.Connection, ctx: Context, image_id: str, wanted: Sequence[Row]) -> None:
    """The same places with other metadata. Raises Invalid for other places."""
    _, known = for_change(conn, ctx, image_id)
    if [row["url"] for row in known] != [each["url"] for each in wanted]:
        raise Invalid("Replacing locations changes their metadata only; add and remove change what there is.", field="locations")
    for row, each in zip(known, wanted, strict=True):
        mine = (_table.c.image_id == image_id, _table.c.position == row["position"])
        conn.execute(_table.update().where(*mine).values(metadata=each["metadata"]))
    _touch(conn, image_id)


def remove(conn: sa.Connection, ctx: Context, image_id: str, index: int) -> None:
    """Raises NotFound, Forbidden for the last one."""
    _, known = for_change(conn, ctx, image_id)
    if not 0 <= index < len(known):
        raise NotFound(f"Image {image_id} has no location {index}.", field="locations")
    if len(known) == 1:
        raise Forbidden("Cannot delete locations: it is the last one of the image.", field="locations")
    conn.execute(_table.delete().where(_table.c.image_id == image_id, _table.c.position == known[index]["position"]))
    _touch(conn, image_id)


def _touch(conn: sa.Connection, image_id: str) -> None:
    conn.execute(images.update().where(images.c.id == image_id).values(updated_at=now()))
