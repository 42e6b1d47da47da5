"""Metadata definitions over HTTP: namespaces, and in each the objects, properties, tags and resource types."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote, urlencode

import msgspec

from nacre.cloud.errors import Invalid
from nacre.cloud.image import metadefs
from nacre.cloud.image.metadefs import Kind
from nacre.cloud.image.rules import Row
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.route import Handler
from nacre.panes.edge.times import seconds
from nacre.panes.openstack.image import metadef_schemas as schemas
from nacre.panes.openstack.query import parse_limit
from nacre.store import Criterion, Query

LIMIT_DEFAULT = 25
LIMIT_MAX = 1000
_ROOT = "/v2/metadefs/namespaces"
_ONE = _ROOT + "/{namespace}"
SHOWN = ("namespace", "display_name", "description", "visibility", "protected", "owner")
SORT_KEYS = ("created_at", "updated_at", "namespace")


def _stamps(row: Row) -> dict[str, Any]:
    return {"created_at": seconds(row["created_at"]), "updated_at": seconds(row["updated_at"])}


def _association(row: Row) -> dict[str, Any]:
    return {"name": row["name"], **row["content"], **_stamps(row)}


def _namespace(row: Row) -> dict[str, Any]:
    shown = {name: row[name] for name in SHOWN if row[name] is not None}
    place = f"{_ROOT}/{quote(row['namespace'], safe='')}"
    associations = [_association(each) for each in row["associations"]]
    links = {"self": place, "schema": "/v2/schemas/metadefs/namespace"}
    return {**shown, **_stamps(row), **links, "resource_type_associations": associations}


def _object(row: Row) -> dict[str, Any]:
    return {"name": row["name"], **row["content"], **_stamps(row), "schema": "/v2/schemas/metadefs/object"}


def _property(row: Row) -> dict[str, Any]:
    return {"name": row["name"], **row["content"]}


def _tag(row: Row) -> dict[str, Any]:
    return {"name": row["name"], **_stamps(row)}


RENDER: Mapping[Kind, Any] = {"object": _object, "property": _property, "tag": _tag, "resource type": _association}


async def list_namespaces(call: Call) -> Reply:
    query = _query(call)
    page = await call.read(metadefs.find, query)
    parameters = [(name, text) for name, text in call.query.items() if name != "marker"]
    shown: dict[str, Any] = {"namespaces": [_namespace(row) for row in page.rows], "first": _link(parameters)}
    if page.more and page.rows:
        shown["next"] = _link([*parameters, ("marker", page.rows[-1]["namespace"])])
    return Reply({**shown, "schema": "/v2/schemas/metadefs/namespaces"})


def _link(parameters: list[tuple[str, str]]) -> str:
    return _ROOT + (f"?{urlencode(parameters)}" if parameters else "")


def _query(call: Call) -> Query:
    sent = call.query
    criteria = [Criterion(name, "eq", sent[name]) for name in ("visibility", "resource_types") if name in sent]
    key, direction = sent.get("sort_key", "created_at"), sent.get("sort_dir", "desc")
    if key not in SORT_KEYS:
        raise Invalid(f"sort_key is one of {', '.join(SORT_KEYS)}, not {key!r}.", field="sort_key")
    if direction not in ("asc", "desc"):
        raise Invalid(f"Invalid sort direction: {direction}", field="sort_dir")
    limit = parse_limit(sent, LIMIT_MAX) if "limit" in sent else LIMIT_DEFAULT
    way: Literal["asc", "desc"] = "asc" if direction == "asc" else "desc"
    return Query(tuple(criteria), ((key, way),), limit, sent.get("marker"))


async def create_namespace(call: Call) -> Reply:
    body = await call.body(schemas.NamespaceCreate)
    children: dict[Kind, Sequence[Row]] = {
        "resource type": [schemas.content(each) for each in schemas.given(body.resource_type_associations)],
        "property": [
            {"name": name, "content": schemas.content(each)["content"]}
            for name, each in (body.properties if isinstance(body.properties, dict) else {}).items()
        ],
        "object": [schemas.content(each) for each in schemas.given(body.objects)],
        "tag": [{"name": each.name, "content": {}} for each in schemas.given(body.tags)],
    }
    row = await call.write(metadefs.create, _values(body), children)
    location = f"{call.base_url}{_ROOT}/{quote(row['namespace'], safe='')}"
    return Reply(await _shown(call, row), 201, {"Location": location})


def _values(body: schemas.Namespace) -> Row:
    values = {name: getattr(body, name) for name in SHOWN}
    return {name: value for name, value in values.items() if value is not msgspec.UNSET}


async def _shown(call: Call, row: Row) -> dict[str, Any]:
    """A namespace with all that it holds."""
    shown = _namespace(row)
    kinds: tuple[tuple[Kind, str], ...] = (("object", "objects"), ("tag", "tags"))
    for kind, plural in kinds:
        found = await call.read(metadefs.children, kind, row["namespace"])
        if found:
            shown[plural] = [RENDER[kind](each) for each in found]
    properties = await call.read(metadefs.children, "property", row["namespace"])
    if properties:
        shown["properties"] = {each["name"]: each["content"] for each in properties}
    return shown


async def show_namespace(call: Call) -> Reply:
    """With `resource_type`, its prefix stands before the names of properties."""
    shown = await _shown(call, await call.read(metadefs.get, call.path["namespace"]))
    wanted = call.query.get("resource_type")
    prefixes = [each.get("prefix") for each in shown["resource_type_associations"] if each["name"] == wanted]
    if prefixes and prefixes[0]:
        _prefix(shown, prefixes[0])
        for each in shown.get("objects", ()):
            _prefix(each, prefixes[0])
    return Reply(shown)


def _prefix(holder: dict[str, Any], prefix: str) -> None:
    if "properties" in holder:
        holder["properties"] = {prefix + name: value for name, value in holder["properties"].items()}
    if "required" in holder:
        holder["required"] = [prefix + name for name in holder["required"]]


async def update_namespace(call: Call) -> Reply:
    body = await call.body(schemas.NamespaceUpdate)
    row = await call.write(metadefs.update, call.path["namespace"], _values(body))
    return Reply(_namespace(row))


async def delete_namespace(call: Call) -> Reply:
    await call.write(metadefs.delete, call.path["namespace"])
    return Reply(status=204)


async def list_resource_types(call: Call) -> Reply:
    rows = await call.read(metadefs.resource_types)
    shown = [{"name": row["name"], "created_at": seconds(row["created_at"])} for row in rows]
    return Reply({"resource_types": shown, "schema": "/v2/schemas/metadefs/resource_types"})


def _handlers(kind: Kind, plural: str, shape: Any) -> dict[str, Handler]:
    """The calls that kinds have in common."""
    render, parameter = RENDER[kind], kind.replace(" ", "_") + "_name"

    async def listing(call: Call) -> Reply:
        rows = await call.read(metadefs.children, kind, call.path["namespace"])
        if kind == "property":
            return Reply({"properties": {row["name"]: render(row) for row in rows}})
        shown: dict[str, Any] = {plural: [render(row) for row in rows]}
        if kind in ("object", "tag"):
            place = f"{_ROOT}/{quote(call.path['namespace'], safe='')}/{plural}"
            shown |= {"first": place, "schema": f"/v2/schemas/metadefs/{plural}"}
        return Reply(shown)

    async def create(call: Call) -> Reply:
        made = schemas.content(await call.body(shape))
        row = await call.write(metadefs.add, kind, call.path["namespace"], made["name"], made["content"])
        return Reply(render(row), 201)

    async def show(call: Call) -> Reply:
        return Reply(render(await call.read(metadefs.child, kind, call.path["namespace"], call.path[parameter])))

    async def update(call: Call) -> Reply:
        made, (namespace, name) = schemas.content(await call.body(shape)), (call.path["namespace"], call.path[parameter])
        return Reply(render(await call.write(metadefs.change, kind, namespace, name, made["name"], made["content"])))

    async def delete(call: Call) -> Reply:
        await call.write(metadefs.remove, kind, call.path["namespace"], call.path[parameter])
        return Reply(status=204)

    async def clear(call: Call) -> Reply:
        await call.write(metadefs.clear, kind, call.path["namespace"])
        return Reply(status=204)

    return {"list": listing, "create": create, "show": show, "update": update, "delete": delete, "clear": clear}


async def create_tag(call: Call) -> Reply:
    """The name is in the path, and there need be no body."""
    schemas.check_name(call.path["tag_name"])
    return Reply(_tag(await call.write(metadefs.add, "tag", call.path["namespace"], call.path["tag_name"], {})), 201)


async def set_tags(call: Call) -> Reply:
    body = await call.body(schemas.Tags)
    append = call.request.headers.get("X-Openstack-Append", "false").lower() == "true"
    rows = await call.write(metadefs.set_tags, call.path["namespace"], [tag.name for tag in body.tags], append)
    return Reply({"tags": [{"name": row["name"]} for row in rows]}, 201)


_OBJECTS = _handlers("object", "objects", schemas.Object)
_PROPERTIES = _handlers("property", "properties", schemas.NamedProperty)
_TAGS = _handlers("tag", "tags", schemas.Tag)
_ASSOCIATIONS = _handlers("resource type", "resource_type_associations", schemas.Association)
_OBJECT, _PROPERTY = _ONE + "/objects/{object_name}", _ONE + "/properties/{property_name}"
_TAG, _TYPE = _ONE + "/tags/{tag_name}", _ONE + "/resource_types/{resource_type_name}"

ROUTES: tuple[Route, ...] = (
    Route("GET", _ROOT, list_namespaces, "get_metadef_namespaces", "List namespaces of metadata definitions"),
    Route("POST", _ROOT, create_namespace, "add_metadef_namespace", "Create a namespace"),
    Route("GET", _ONE, show_namespace, "get_metadef_namespace", "Show a namespace with all that it holds"),
    Route("PUT", _ONE, update_namespace, "modify_metadef_namespace", "Update a namespace"),
    Route("DELETE", _ONE, delete_namespace, "delete_metadef_namespace", "Delete a namespace"),
    Route("GET", _ONE + "/objects", _OBJECTS["list"], "get_metadef_objects", "List a namespace's objects"),
    Route("POST", _ONE + "/objects", _OBJECTS["create"], "add_metadef_object", "Create an object in a namespace"),
    Route("DELETE", _ONE + "/objects", _OBJECTS["clear"], "delete_metadef_namespace", "Delete all objects of a namespace"),
    Route("GET", _OBJECT, _OBJECTS["show"], "get_metadef_object", "Show an object"),
    Route("PUT", _OBJECT, _OBJECTS["update"], "modify_metadef_object", "Update an object"),
    Route("DELETE", _OBJECT, _OBJECTS["delete"], "delete_metadef_object", "Delete an object"),
    Route("GET", _ONE + "/properties", _PROPERTIES["list"], "get_metadef_properties", "List a namespace's properties"),
    Route("POST", _ONE + "/properties", _PROPERTIES["create"], "add_metadef_property", "Create a property in a namespace"),
    Route(
        "DELETE", _ONE + "/properties", _PROPERTIES["clear"], "delete_metadef_namespace", "Delete all properties of a namespace"
    ),
    Route("GET", _PROPERTY, _PROPERTIES["show"], "get_metadef_property", "Show a property"),
    Route("PUT", _PROPERTY, _PROPERTIES["update"], "modify_metadef_property", "Update a property"),
    Route("DELETE", _PROPERTY, _PROPERTIES["delete"], "remove_metadef_property", "Delete a property"),
    Route("GET", _ONE + "/tags", _TAGS["list"], "get_metadef_tags", "List a namespace's tags"),
    Route("POST", _ONE + "/tags", set_tags, "add_metadef_tags", "Replace a namespace's tags, or add to them"),
    Route("DELETE", _ONE + "/tags", _TAGS["clear"], "delete_metadef_tags", "Delete all tags of a namespace"),
    Route("GET", _TAG, _TAGS["show"], "get_metadef_tag", "Show a tag"),
    Route("POST", _TAG, create_tag, "add_metadef_tag", "Create a tag in a namespace"),
    Route("PUT", _TAG, _TAGS["update"], "modify_metadef_tag", "Rename a tag"),
    Route("DELETE", _TAG, _TAGS["delete"], "delete_metadef_tag", "Delete a tag"),
    Route("GET", "/v2/metadefs/resource_types", list_resource_types, "list_metadef_resource_types", "List resource types"),
    Route(
        "GET",
        _ONE + "/resource_types",
        _ASSOCIATIONS["list"],
        "get_metadef_resource_type",
        "List the resource types that a namespace is for",
    ),
    Route(
        "POST",
        _ONE + "/resource_types",
        _ASSOCIATIONS["create"],
        "add_metadef_resource_type_association",
        "Make a namespace be for a resource type",
    ),
    Route(
        "DELETE",
        _TYPE,
        _ASSOCIATIONS["delete"],
        "remove_metadef_resource_type_association",
        "Make a namespace no longer be for a resource type",
    ),
)
