"""Images: list, create, show, patch, delete, tags, deactivate and reactivate."""

from typing import Any
from urllib.parse import urlencode

from nacre.cloud.errors import Invalid
from nacre.cloud.image import data, operations, rules
from nacre.cloud.image.rules import Row
from nacre.panes.edge import Call, Reply
from nacre.panes.openstack.image import patch, query, render, schemas

IMPORT_METHODS = ("glance-direct",)


async def listing(call: Call) -> Reply:
    parsed, wanted = query.parse(call.query)
    page = await call.read(operations.find, parsed, wanted)
    parameters = [(name, text) for name, text in call.query.items() if name != "marker"]
    body: dict[str, Any] = {
        "images": [render.image(row) for row in page.rows],
        "first": _link(parameters),
        "schema": "/v2/schemas/images",
    }
    if page.more and page.rows:
        body["next"] = _link([*parameters, ("marker", page.rows[-1]["id"])])
    return Reply(body)


def _link(parameters: list[tuple[str, str]]) -> str:
    return "/v2/images" + (f"?{urlencode(parameters)}" if parameters else "")


async def create(call: Call) -> Reply:
    row = await call.write(operations.create, _values(await call.body(dict[str, Any])))
    headers = {
        "Location": f"{call.base_url}/v2/images/{row['id']}",
        "OpenStack-image-import-methods": ",".join(IMPORT_METHODS),
    }
    return Reply(render.image(row), 201, headers)


def _values(sent: dict[str, Any]) -> Row:
    """What was sent for a new image, as attributes and properties. Raises Invalid, Forbidden."""
    rules.check_names(sent.keys() - {"id"})
    checked = {name: schemas.value(name, value) for name, value in sent.items()}
    values = {name: value for name, value in checked.items() if name in schemas.SENT}
    if "id" in values:
        values["id"] = values["id"].lower()
    values["properties"] = {name: value for name, value in checked.items() if name not in schemas.SENT}
    return values


async def show(call: Call) -> Reply:
    return Reply(render.image(await call.read(operations.get, call.path["image_id"])))


async def update(call: Call) -> Reply:
    changes = patch.parse(call.request.content_type, await call.raw_body())
    return Reply(render.image(await call.write(operations.update, call.path["image_id"], changes)))


async def delete(call: Call) -> Reply:
    data.drop_all(call.cloud, await call.write(operations.delete, call.path["image_id"]))
    return Reply(status=204)


async def tasks(call: Call) -> Reply:
    """The image's imports that run in the background: none, an import is done when it is answered."""
    await call.read(operations.get, call.path["image_id"])
    return Reply({"tasks": []})


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


async def import_staged(call: Call) -> Reply:
    body = await call.body(dict[str, Any])
    method = body.get("method")
    name = method.get("name") if isinstance(method, dict) else None
    if name not in IMPORT_METHODS:
        raise Invalid(f"Unknown import method name {name!r}; there is {', '.join(IMPORT_METHODS)}.", field="method")
    await call.write(data.import_staged, call.path["image_id"])
    return Reply(status=202)
