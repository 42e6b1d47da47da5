"""The attributes of an image and of a member: one table that checks what is sent and makes the schema documents."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from nacre.cloud.errors import Invalid
from nacre.cloud.image import rules
from nacre.panes.edge import Call, Reply
from nacre.panes.edge.call import convert
from nacre.panes.openstack.image import metadef_schemas

NAME_CHARACTERS_MAX = 255
VALUE_CHARACTERS_MAX = 65_535
MIB_MAX = 2**31 - 1
UUID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"

Text = Annotated[str, msgspec.Meta(max_length=NAME_CHARACTERS_MAX)]
Tag = Annotated[str, msgspec.Meta(min_length=1, max_length=rules.TAG_CHARACTERS_MAX)]
Count = Annotated[int, msgspec.Meta(ge=0, le=MIB_MAX)]
DiskFormat: Any = Literal.__getitem__(rules.DISK_FORMATS)
ContainerFormat: Any = Literal.__getitem__(rules.CONTAINER_FORMATS)
Visibility: Any = Literal.__getitem__(rules.VISIBILITIES)
Status: Any = Literal[
    "queued", "saving", "active", "deactivated", "uploading", "importing", "killed", "deleted", "pending_delete"
]


@dataclass(frozen=True)
class Attribute:
    """`shape` is what msgspec checks. Read-only ones are shown and never taken."""

    name: str
    shape: Any
    description: str
    read_only: bool = False


IMAGE: tuple[Attribute, ...] = (
    Attribute("id", Annotated[str, msgspec.Meta(pattern=UUID)], "An identifier for the image"),
    Attribute("name", Text | None, "Descriptive name for the image"),
    Attribute("status", Status, "Status of the image", read_only=True),
    Attribute("visibility", Visibility, "Scope of image accessibility"),
    Attribute("protected", bool, "If true, image will not be deletable."),
    Attribute("os_hidden", bool, "If true, image will not appear in default image list response."),
    Attribute("checksum", str | None, "md5 hash of image contents.", read_only=True),
    Attribute("os_hash_algo", str | None, "Algorithm to calculate the os_hash_value", read_only=True),
    Attribute("os_hash_value", str | None, "Hexdigest of the image contents by os_hash_algo", read_only=True),
    Attribute("owner", Text | None, "Owner of the image"),
    Attribute("size", int | None, "Size of image file in bytes", read_only=True),
    Attribute("virtual_size", int | None, "Virtual size of image in bytes", read_only=True),
    Attribute("container_format", ContainerFormat | None, "Format of the container"),
    Attribute("disk_format", DiskFormat | None, "Format of the disk"),
    Attribute("created_at", str, "Date and time of image registration", read_only=True),
    Attribute("updated_at", str, "Date and time of the last image modification", read_only=True),
    Attribute("tags", list[Tag], "List of strings related to the image"),
    Attribute("min_ram", Count, "Amount of ram (in MB) required to boot image."),
    Attribute("min_disk", Count, "Amount of disk space (in GB) required to boot image."),
    Attribute("self", str, "An image self url", read_only=True),
    Attribute("file", str, "An image file url", read_only=True),
    Attribute("schema", str, "An image schema url", read_only=True),
    Attribute("stores", str, "The stores in which the image data is", read_only=True),
)
MEMBER: tuple[Attribute, ...] = (
    Attribute("member_id", str, "An identifier for the image member (tenantId)"),
    Attribute("image_id", str, "An identifier for the image"),
    Attribute("created_at", str, "Date and time of image member creation"),
    Attribute("updated_at", str, "Date and time of last modification of image member"),
    Attribute("status", Literal["pending", "accepted", "rejected"], "The status of this image member"),
    Attribute("schema", str, "An image member schema url", read_only=True),
)
SENT = {attribute.name: attribute for attribute in IMAGE if not attribute.read_only}


def value(name: str, sent: Any) -> Any:
    """An attribute's or property's value, checked. Raises Invalid, naming it."""
    attribute = SENT.get(name)
    if attribute is None:
        if not isinstance(sent, str):
            raise Invalid(f"Provided object does not match schema 'image': {name} is not of type 'string'.", field=name)
        if not 0 < len(name) <= NAME_CHARACTERS_MAX or len(sent) > VALUE_CHARACTERS_MAX:
            raise Invalid(f"The property {name[:NAME_CHARACTERS_MAX]!r} is too long, or has no name.", field=name)
        return sent
    try:
        return convert(sent, attribute.shape)
    except Invalid as error:
        reason = error.message.removeprefix("Invalid input: ")
        raise Invalid(f"Provided object does not match schema 'image': {name}: {reason}", field=name) from None


def _property(attribute: Attribute) -> dict[str, Any]:
    made = msgspec.json.schema(attribute.shape)
    alternatives = made.pop("anyOf", None)
    if alternatives is not None:
        for part in alternatives:
            made.update(part)
        made["type"] = [part["type"] for part in alternatives if "type" in part] or ["null", "string"]
    if "enum" in made:
        made["type"] = ["null", "string"] if None in made["enum"] else "string"
    if attribute.read_only:
        made["readOnly"] = True
    return {"description": attribute.description, **made}


IMAGE_SCHEMA: dict[str, Any] = {
    "name": "image",
    "properties": {attribute.name: _property(attribute) for attribute in IMAGE},
    "additionalProperties": {"type": "string"},
    "links": [
        {"href": "{self}", "rel": "self"},
        {"href": "{file}", "rel": "enclosure"},
        {"href": "{schema}", "rel": "describedby"},
    ],
}
MEMBER_SCHEMA: dict[str, Any] = {
    "name": "member",
    "properties": {attribute.name: _property(attribute) for attribute in MEMBER},
}


def _collection(name: str, item: dict[str, Any], paged: bool) -> dict[str, Any]:
    properties: dict[str, Any] = {name: {"type": "array", "items": item}, "schema": {"type": "string"}}
    links = [{"href": "{schema}", "rel": "describedby"}]
    if paged:
        properties |= {"first": {"type": "string"}, "next": {"type": "string"}}
        links += [{"href": "{first}", "rel": "first"}, {"href": "{next}", "rel": "next"}]
    return {"name": name, "properties": properties, "links": links}


TASK_SCHEMA: dict[str, Any] = {
    "name": "task",
    "properties": {
        **{name: {"type": "string"} for name in ("id", "type", "owner", "message", "image_id", "user_id", "request_id", "self")},
        **{name: {"type": "string"} for name in ("created_at", "updated_at", "expires_at", "schema")},
        "status": {"type": "string", "enum": ["pending", "processing", "success", "failure"]},
        "input": {"type": ["null", "object"]},
        "result": {"type": ["null", "object"]},
    },
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "image": IMAGE_SCHEMA,
    "images": _collection("images", IMAGE_SCHEMA, paged=True),
    "member": MEMBER_SCHEMA,
    "members": _collection("members", MEMBER_SCHEMA, paged=False),
    "task": TASK_SCHEMA,
    "tasks": _collection("tasks", TASK_SCHEMA, paged=True),
    **metadef_schemas.SCHEMAS,
}


def schema_of(name: str) -> Any:
    """The handler that shows one of the schemas."""

    async def show(call: Call) -> Reply:
        return Reply(SCHEMAS[name])

    return show
