"""The bodies of metadata definitions, typed, and the schema documents made of them."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from nacre.cloud.errors import Invalid
from nacre.cloud.image import metadefs
from nacre.cloud.image.rules import Row

T = TypeVar("T")
UNSET = msgspec.UNSET
Unset = msgspec.UnsetType

NAME_CHARACTERS_MAX = 80
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_CHARACTERS_MAX)]
NewName = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_CHARACTERS_MAX, pattern=r"^[^/\x00-\x1f\x7f]+\Z")]
"""It will be a segment of a path."""
Text = Annotated[str, msgspec.Meta(max_length=500)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Several = Annotated[list[T], msgspec.Meta(max_length=metadefs.CHILDREN_MAX)]
PropertyType = Literal["array", "boolean", "integer", "number", "object", "string"]


class Items(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What is in an array."""

    type: PropertyType | Unset = UNSET
    enum: list[Any] | Unset = UNSET


class Property(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A property's JSON schema, as far as definitions may use it."""

    title: Text
    type: PropertyType
    name: Name | Unset = UNSET
    description: str | Unset = UNSET
    operators: list[str] | Unset = UNSET
    minimum: float | int | Unset = UNSET
    maximum: float | int | Unset = UNSET
    maxLength: Count | Unset = UNSET  # noqa: N815
    minLength: Count | Unset = UNSET  # noqa: N815
    pattern: str | Unset = UNSET
    enum: list[Any] | Unset = UNSET
    readonly: bool | Unset = UNSET
    default: Any = UNSET
    items: Items | Unset = UNSET
    additionalItems: bool | Unset = UNSET  # noqa: N815
    maxItems: Count | Unset = UNSET  # noqa: N815
    minItems: Count | Unset = UNSET  # noqa: N815
    uniqueItems: bool | Unset = UNSET  # noqa: N815
    required: list[str] | Unset = UNSET


class NamedProperty(Property, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One that is sent by itself."""

    name: NewName


class Object(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Properties that belong together. What is only shown may come back and counts for nothing."""

    name: NewName
    description: str | Unset = UNSET
    properties: dict[Name, Property] | Unset = UNSET
    required: list[str] | Unset = UNSET
    schema: str | Unset = UNSET
    self: str | Unset = UNSET
    created_at: str | Unset = UNSET
    updated_at: str | Unset = UNSET


class Tag(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A tag, as it is sent and shown."""

    name: NewName
    created_at: str | Unset = UNSET
    updated_at: str | Unset = UNSET


class Tags(msgspec.Struct, forbid_unknown_fields=True):
    tags: Several[Tag]


class Association(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A resource type that a namespace is for. `prefix` stands before the names of properties there."""

    name: NewName
    prefix: Annotated[str, msgspec.Meta(max_length=80)] | Unset = UNSET
    properties_target: Annotated[str, msgspec.Meta(max_length=80)] | Unset = UNSET
    created_at: str | Unset = UNSET
    updated_at: str | Unset = UNSET


class Namespace(msgspec.Struct, kw_only=True):
    """What namespaces have of their own."""

    namespace: NewName
    display_name: Name | Unset | None = UNSET
    description: Text | Unset | None = UNSET
    visibility: Literal["public", "private"] | Unset = UNSET
    protected: bool | Unset = UNSET
    owner: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] | Unset = UNSET
    schema: str | Unset = UNSET
    self: str | Unset = UNSET
    created_at: str | Unset = UNSET
    updated_at: str | Unset = UNSET


class NamespaceCreate(Namespace, forbid_unknown_fields=True, kw_only=True):
    """With what it shall hold."""

    properties: dict[Name, Property] | Unset = UNSET
    objects: Several[Object] | Unset = UNSET
    tags: Several[Tag] | Unset = UNSET
    resource_type_associations: Several[Association] | Unset = UNSET


class NamespaceUpdate(Namespace, forbid_unknown_fields=True, kw_only=True):
    """What it holds is changed by calls of its own, and may come back here as it was shown."""

    properties: dict[str, Any] | Unset = UNSET
    objects: list[Any] | Unset = UNSET
    tags: list[Any] | Unset = UNSET
    resource_type_associations: list[Any] | Unset = UNSET


_ONLY_SHOWN = ("name", "schema", "self", "created_at", "updated_at")


def content(sent: Any) -> Row:
    """{name, content}: what is kept of an object, a property, a tag or an association."""
    kept = msgspec.to_builtins(sent)
    return {"name": kept.get("name"), "content": {name: value for name, value in kept.items() if name not in _ONLY_SHOWN}}


def given(values: "Iterable[T] | Unset") -> "Iterable[T]":
    return () if isinstance(values, Unset) else values


def check_name(name: str) -> None:
    """Raises Invalid for a name of a path that is too long."""
    if not 0 < len(name) <= NAME_CHARACTERS_MAX:
        raise Invalid(f"A name has 1 to {NAME_CHARACTERS_MAX} characters.", field="name")


def _document(name: str, shape: Any, *required: str) -> dict[str, Any]:
    """A schema document of Glance's kind: the JSON Schema of a Struct under its name."""
    (made,), parts = msgspec.json.schema_components([shape], ref_template="#/definitions/{name}")
    own = parts.pop(made["$ref"].rpartition("/")[2])
    shown = {"name": name, "properties": own["properties"], "additionalProperties": False, "required": list(required)}
    return shown | ({"definitions": parts} if parts else {})


def _many(name: str, item: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {name: {"type": "array", "items": item}, "schema": {"type": "string"}}
    properties |= {"first": {"type": "string"}, "next": {"type": "string"}}
    return {"name": name, "properties": properties, "links": [{"href": "{schema}", "rel": "describedby"}]}


_NAMESPACE = _document("namespace", NamespaceCreate, "namespace")
_OBJECT = _document("object", Object, "name")
_PROPERTY = _document("property", NamedProperty, "name", "title", "type")
_TAG = _document("tag", Tag, "name")
_ASSOCIATION = _document("resource_type_association", Association, "name")
SCHEMAS: dict[str, dict[str, Any]] = {
    "metadefs/namespace": _NAMESPACE,
    "metadefs/namespaces": _many("namespaces", _NAMESPACE),
    "metadefs/object": _OBJECT,
    "metadefs/objects": _many("objects", _OBJECT),
    "metadefs/property": _PROPERTY,
    "metadefs/properties": {
        "name": "properties",
        "properties": {"properties": {"type": "object", "additionalProperties": _PROPERTY}},
    },
    "metadefs/tag": _TAG,
    "metadefs/tags": _many("tags", _TAG),
    "metadefs/resource_type": _ASSOCIATION,
    "metadefs/resource_types": _many("resource_type_associations", _ASSOCIATION),
}
