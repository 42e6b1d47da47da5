"""Images: list, create, show, patch, delete, tags, deactivate and reactivate."""

from typing import Any

from nacre.cloud.image import data, imports, locations, operations, rules
from nacre.cloud.image.rules import Row
from nacre.panes.edge import Call, Reply
from nacre.panes.openstack.image import patch, places, query, render, schemas


async def listing(call: Call) -> Reply:
    parsed, wanted = query.parse(call.query)
    page = await call.read(operations.find, parsed, wanted)
    parameters = [(name, text) for name, text in call.query.items() if name != "marker"]
    body: dict[str, Any] = {
        "images": await _shown(call, page.rows),
        "first": render.link("/v2/images", parameters),
        "schema": "/v2/schemas/images",
    }
    if page.more and page.rows:
        body["next"] = render.link("/v2/images", [*parameters, ("marker", page.rows[-1]["id"])])
    return Reply(body)


async def create(call: Call) -> Reply:
    row = await call.write(operations.create, values_of(await call.body(dict[str, Any])))
    headers = {
        "Location": f"{call.base_url}/v2/images/{row['id']}",
        "OpenStack-image-import-methods": ",".join(imports.METHODS),
        "OpenStack-image-store-ids": render.STORE,
    }
    (shown,) = await _shown(call, [row])
    return Reply(shown, 201, headers)


async def _shown(call: Call, rows: list[Row]) -> list[dict[str, Any]]:
    """With their locations, where the operator has those shown."""
    if not call.cloud.settings.imports.show_locations:
        return [render.image(row) for row in rows]
    found = await call.read(locations.of_images, rows)
    return [{**render.image(row), "locations": found[row["id"]]} for row in rows]


def values_of(sent: dict[str, Any]) -> Row:
    """What was sent for a new image, as attributes and properties. Raises Invalid, Forbidden."""
    rules.check_names(sent.keys() - {"id"})
    checked = {name: schemas.value(name, value) for name, value in sent.items()}
    values = {name: value for name, value in checked.items() if name in schemas.SENT}
    if "id" in values:
        values["id"] = values["id"].lower()
    values["properties"] = {name: value for name, value in checked.items() if name not in schemas.SENT}
    return values


async def show(call: Call) -> Reply:
    (shown,) = await _shown(call, [await call.read(operations.get, call.path["image_id"])])
    return Reply(shown)


async def update(call: Call) -> Reply:
    sent = patch.split(call.request.content_type, await call.raw_body())
    if call.cloud.settings.imports.show_locations and places.about(sent):
        await places.change(call, sent)
        row = await call.read(operations.get, call.path["image_id"])
    else:
        row = await call.write(operations.update, call.path["image_id"], patch.changes(sent))
    (shown,) = await _shown(call, [row])
    return Reply(shown)


async def delete(call: Call) -> Reply:
    data.drop_all(call.cloud, await call.write(operations.delete, call.path["image_id"]))
    return Reply(status=204)


async def add_tag(call: Call) -> Reply:
    await call.write(operations.add_tag, call.path["image_id"], call.path["tag"])
    return Reply(status=204)


async def remove_tag(call: Call) -> Reply:
    await call.write(operations.remove_tag, call.path["image_id"], call.path["tag"])
    return Reply(status=204)


async def deactivate(call: Call) -> Reply:
    await call.write(operations.set_active, call.path["image_id"], False)
    return Reply(status=204)


async def reactivate(call: Call) -> Reply:
    await call.write(operations.set_active, call.path["image_id"], True)
    return Reply(status=204)
