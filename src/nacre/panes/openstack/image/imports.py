"""Imports, the tasks that tell of them, the places an image is from, and the store that everything ends up in."""

import uuid
from typing import Annotated, Any

import msgspec

from nacre.cloud.errors import Conflict, Forbidden, Invalid, NotFound
from nacre.cloud.image import imports, operations, tasks
from nacre.cloud.image.policies import POLICIES
from nacre.cloud.image.rules import Row
from nacre.cloud.policy import check
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.times import seconds
from nacre.panes.openstack.image import fetching, query, render
from nacre.panes.openstack.image.images import values_of
from nacre.panes.openstack.query import parse_limit
from nacre.store import Criterion, Query

INTERFACES = ("public", "internal", "admin")
LIMIT_DEFAULT = 25
LIMIT_MAX = 1000
Word = Annotated[str, msgspec.Meta(max_length=2048)]


class Method(msgspec.Struct, omit_defaults=True):
    """How the data shall come."""

    name: Word
    uri: Word | None = None
    glance_image_id: Word | None = None
    glance_region: Word | None = None
    glance_service_interface: Word = "public"


class ImportBody(msgspec.Struct, omit_defaults=True):
    """What a client asks for. There is one store, so that all of them are that one."""

    method: Method
    stores: Annotated[list[Word], msgspec.Meta(min_length=1, max_length=64)] | None = None
    all_stores: bool = False
    all_stores_must_succeed: bool = True


async def import_image(call: Call) -> Reply:
    body = await call.body(ImportBody)
    image_id, method = call.path["image_id"], body.method
    _check_stores(body)
    asked = {"image_id": image_id, "import_req": msgspec.to_builtins(body), "backend": [render.STORE]}
    if method.name == "glance-direct":
        await call.write(imports.import_staged, image_id, asked)
    elif method.name == "copy-image":
        check("copy_image", POLICIES["copy_image"], call.context, call.path)
        await call.write(imports.copy_to_stores, image_id, asked)
    elif method.name == "glance-download":
        await _copy_from_here(call, method, asked)
    elif method.name == "web-download":
        if method.uri is None:
            raise Invalid("The method web-download needs a uri.", field="method.uri")
        url = call.cloud.settings.imports.check_url(method.uri)
        task = await call.write(imports.begin, image_id, asked, call.cloud.process_id)
        _carry_out(call, task, str(url))
    else:
        known = ", ".join(imports.METHODS)
        raise Invalid(f"Unknown import method name {method.name!r}; there is {known}.", field="method")
    return Reply(status=202)


def _check_stores(body: ImportBody) -> None:
    if body.stores is not None and body.all_stores:
        raise Invalid("stores and all_stores cannot be asked for together.", field="stores")
    for name in body.stores or ():
        if name != render.STORE:
            raise Conflict(f"Store {name!r} is not there; there is {render.STORE}.", field="stores")


async def _copy_from_here(call: Call, method: Method, asked: Row) -> None:
    """The one Glance that can be asked is this one."""
    try:
        source_id = str(uuid.UUID(method.glance_image_id or ""))
    except ValueError:
        raise Invalid("image id does not look like a UUID", field="method.glance_image_id") from None
    region, interface = method.glance_region, method.glance_service_interface
    if region not in (None, call.cloud.settings.region) or interface not in INTERFACES:
        message = f"There is no image service in region {region!r} with interface {interface!r}."
        await call.write(imports.refuse_source, call.path["image_id"], asked, message)
    else:
        await call.write(imports.copy_image, call.path["image_id"], asked, source_id)


def _carry_out(call: Call, task: Row, uri: str, place: Row | None = None) -> None:
    rules = call.cloud.settings.imports
    stream = fetching.chunks(rules, rules.check_url(uri))
    call.cloud.background.start(imports.carry_out(call.cloud, call.context, task, stream, place))


class LocationBody(msgspec.Struct):
    url: Word
    validation_data: dict[str, Any] | None = None


async def add_location(call: Call) -> Reply:
    """The data is fetched from there, held against what was said of it, and kept; the place is remembered."""
    body = await call.body(LocationBody)
    call.cloud.settings.imports.check_url(body.url, "url")
    validation = imports.check_validation(body.validation_data) if body.validation_data else {}
    asked = {"image_id": call.path["image_id"], "loc_url": body.url, "validation_data": validation}
    task = await call.write(imports.begin, call.path["image_id"], asked, call.cloud.process_id, "location_import")
    _carry_out(call, task, body.url, {"url": body.url, "validation_data": validation})
    return Reply(status=202)


async def list_locations(call: Call) -> Reply:
    rows = await call.read(imports.locations, call.path["image_id"])
    return Reply([{"url": row["url"], "metadata": row["metadata"]} for row in rows])


def _task(row: Row) -> dict[str, Any]:
    names = ("id", "type", "status", "owner", "image_id", "user_id", "request_id", "input", "result", "message")
    moments = {name: seconds(row[name]) for name in ("created_at", "updated_at", "expires_at") if row[name] is not None}
    return {**{name: row[name] for name in names}, **moments, "schema": "/v2/schemas/task", "self": f"/v2/tasks/{row['id']}"}


async def tasks_of_image(call: Call) -> Reply:
    return Reply({"tasks": [_task(row) for row in await call.read(tasks.of_image, call.path["image_id"])]})


TASK_SORT = ("created_at", "updated_at", "id", "status", "type")


async def list_tasks(call: Call) -> Reply:
    sent = call.query
    criteria = tuple(Criterion(name, "eq", sent[name]) for name in ("type", "status") if name in sent)
    limit = parse_limit(sent, LIMIT_MAX) if "limit" in sent else LIMIT_DEFAULT
    page = await call.read(tasks.find, Query(criteria, query.sorting(sent, TASK_SORT), limit, sent.get("marker")))
    parameters = [(name, text) for name, text in sent.items() if name != "marker"]
    hidden = ("input", "result", "message")
    shown = [{name: value for name, value in _task(row).items() if name not in hidden} for row in page.rows]
    body: dict[str, Any] = {"tasks": shown, "first": render.link("/v2/tasks", parameters), "schema": "/v2/schemas/tasks"}
    if page.more and page.rows:
        body["next"] = render.link("/v2/tasks", [*parameters, ("marker", page.rows[-1]["id"])])
    return Reply(body)


async def show_task(call: Call) -> Reply:
    return Reply(_task(await call.read(tasks.get, call.path["task_id"])))


class TaskInput(msgspec.Struct):
    import_from: Word
    import_from_format: Word
    image_properties: dict[str, Any]


class TaskBody(msgspec.Struct):
    type: Word
    input: TaskInput


async def create_task(call: Call) -> Reply:
    """Type import: an image is made and its data fetched."""
    body = await call.body(TaskBody)
    if body.type != "import":
        raise Invalid(f"There are tasks of type import only, not {body.type!r}.", field="type")
    call.cloud.settings.imports.check_url(body.input.import_from, "import_from")
    properties = {name: text for name, text in body.input.image_properties.items() if name != "locations"}
    values, asked = values_of(properties), msgspec.to_builtins(body.input)

    def make(conn: Any, ctx: Any) -> Row:
        image = operations.create(conn, ctx, values)
        return imports.begin(conn, ctx, image["id"], asked, call.cloud.process_id, "import")

    task = await call.write(make)
    _carry_out(call, task, body.input.import_from)
    return Reply(_task(task), 201, {"Location": f"{call.base_url}/v2/tasks/{task['id']}"})


async def import_info(call: Call) -> Reply:
    methods = {"description": "Import methods available.", "type": "array", "value": list(imports.METHODS)}
    return Reply({"import-methods": methods})


async def stores_info(call: Call) -> Reply:
    return Reply({"stores": [{"id": render.STORE, "description": "The cloud's own store.", "default": "true"}]})


async def stores_detail(call: Call) -> Reply:
    store = {"id": render.STORE, "description": "The cloud's own store.", "default": "true", "type": "file", "properties": {}}
    return Reply({"stores": [store]})


async def delete_from_store(call: Call) -> Reply:
    """An image lies in one store only, and it is not taken from its last one."""
    if call.path["store"] != render.STORE:
        raise NotFound(f"Store {call.path['store']} is not there; there is {render.STORE}.")
    image = await call.read(operations.get, call.path["image_id"])
    if image["status"] != "active":
        raise Conflict(f"Image {image['id']} is in no store; its status is {image['status']}.")
    raise Forbidden(f"Image {image['id']} is in no other store; delete the image instead.")


_IMAGE = "/v2/images/{image_id}"
ROUTES: tuple[Route, ...] = (
    Route("POST", _IMAGE + "/import", import_image, "import_image", "Import image data"),
    Route("GET", _IMAGE + "/tasks", tasks_of_image, "get_image", "List the tasks of an image"),
    Route("POST", _IMAGE + "/locations", add_location, "add_image_location", "Import image data from a place that is remembered"),
    Route("GET", _IMAGE + "/locations", list_locations, "fetch_image_location", "List the places that an image is from"),
    Route("GET", "/v2/tasks", list_tasks, "tasks_api_access", "List tasks"),
    Route("POST", "/v2/tasks", create_task, "tasks_api_access", "Create a task that imports an image"),
    Route("GET", "/v2/tasks/{task_id}", show_task, "tasks_api_access", "Show a task"),
    Route("GET", "/v2/info/import", import_info, "get_import_info", "Show import methods"),
    Route("GET", "/v2/info/stores", stores_info, "get_import_info", "List stores"),
    Route("GET", "/v2/info/stores/detail", stores_detail, "stores_info_detail", "List stores with their properties"),
    Route("DELETE", "/v2/stores/{store}/{image_id}", delete_from_store, "delete_image_location", "Take an image from a store"),
)
