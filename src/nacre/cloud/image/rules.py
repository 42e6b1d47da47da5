"""What an image may be: pure checks and computations. Source: https://docs.openstack.org/api-ref/image/v2/ and Glance's defaults."""

import struct
from typing import Any, Literal, NamedTuple

from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Forbidden, Invalid, TooLarge, Unavailable
from nacre.cloud.image.policies import POLICIES

Row = dict[str, Any]

DISK_FORMATS = ("ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "ploop", "iso", "gpt")
CONTAINER_FORMATS = ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")
VISIBILITIES = ("community", "public", "private", "shared")
MEMBER_STATUSES = ("pending", "accepted", "rejected")
PROPERTIES_MAX = 128
TAGS_MAX = 128
TAG_CHARACTERS_MAX = 255
MEMBERS_MAX = 128

READ_ONLY = frozenset(
    {
        "id",
        "status",
        "size",
        "virtual_size",
        "checksum",
        "os_hash_algo",
        "os_hash_value",
        "created_at",
        "updated_at",
        "self",
        "file",
        "schema",
        "direct_url",
        "stores",
    }
)
RESERVED = frozenset({"location", "deleted", "deleted_at", "digest", "staged", "upload_id"})
"""Names that are no attributes and may not become properties either."""
RESERVED_PREFIX = "os_glance"
BASE = frozenset(
    {
        "name",
        "visibility",
        "owner",
        "container_format",
        "disk_format",
        "min_disk",
        "min_ram",
        "protected",
        "os_hidden",
        "tags",
    }
)
"""The attributes that may be sent. Any other name is a property."""
FIXED_AFTER_QUEUED = frozenset({"container_format", "disk_format"})


class InsufficientStorage(Unavailable):
    """There is no space left for the image's data."""


class RangeNotSatisfiable(Invalid):
    """No byte of the data is in the range that is asked for."""


class Change(NamedTuple):
    """One operation of a JSON patch, on a top-level name."""

    op: Literal["add", "replace", "remove"]
    name: str
    value: Any = None


def check_names(names: Any) -> None:
    """Raises Forbidden for an attribute that only the cloud sets."""
    for name in names:
        if name in READ_ONLY:
            raise Forbidden(f"Attribute '{name}' is read-only.", field=name)
        if name in RESERVED or name.startswith(RESERVED_PREFIX):
            raise Forbidden(f"Attribute '{name}' is reserved.", field=name)
        if name == "locations":
            raise Forbidden("It's not allowed to add, replace or remove locations if locations are invisible.", field=name)


OPENING = {"public": "publicize_image", "community": "communitize_image"}
"""The policy rows for making an image visible to others than its project and its members."""


def check_visibility(ctx: Context, visibility: str) -> None:
    """Raises Forbidden when the caller may not give an image that visibility."""
    name = OPENING.get(visibility)
    if name is not None and not POLICIES[name].allows(ctx, {}):
        raise Forbidden(f"You are not authorized to complete {name} action.", field="visibility", policy=name)


def check_counts(properties: dict[str, str], tags: Any) -> None:
    """Raises TooLarge."""
    if len(properties) > PROPERTIES_MAX:
        raise TooLarge(f"The limit has been exceeded on the number of allowed image properties: {PROPERTIES_MAX}.")
    if len(tags) > TAGS_MAX:
        raise TooLarge(f"The limit has been exceeded on the number of allowed image tags: {TAGS_MAX}.")


def check_tag(tag: str) -> None:
    if not 0 < len(tag) <= TAG_CHARACTERS_MAX:
        raise Invalid(f"A tag has 1 to {TAG_CHARACTERS_MAX} characters.", field="tags")


def applied(ctx: Context, image: Row, changes: list[Change]) -> Row:
    """The image as the changes leave it, with all attributes, `properties` and `tags`. All of them hold, or none. Raises Forbidden, Conflict."""
    result = {**image, "properties": dict(image["properties"]), "tags": list(image["tags"])}
    for change in changes:
        check_names([change.name])
        if change.name in BASE:
            _change_attribute(ctx, result, change)
        else:
            _change_property(result["properties"], change)
    check_counts(result["properties"], result["tags"])
    return result


def _change_attribute(ctx: Context, image: Row, change: Change) -> None:
    name = change.name
    if change.op == "remove":
        raise Forbidden(f"Property '{name}' may not be removed.", field=name)
    if name == "owner" and change.value != image["owner"] and not ctx.is_admin:
        raise Forbidden("Owner can't be updated by non admin.", field=name)
    if name == "visibility" and change.value != image["visibility"]:
        check_visibility(ctx, change.value)
    if name in FIXED_AFTER_QUEUED and image["status"] != "queued" and change.value != image[name]:
        raise Forbidden(f"Attribute {name} can be only replaced for a queued image.", field=name)
    image[name] = sorted(set(change.value)) if name == "tags" else change.value


def _change_property(properties: dict[str, str], change: Change) -> None:
    if change.op != "add" and change.name not in properties:
        raise Conflict(f"Property {change.name} does not exist.", field=change.name)
    if change.op == "remove":
        del properties[change.name]
    else:
        properties[change.name] = change.value


def virtual_size(disk_format: str, header: bytes, size: int) -> int | None:
    """The size in bytes of the disk that the data holds, where its format says so. Raises Invalid for a qcow2 that would read another file.

    Source: QEMU's docs/interop/qcow2.txt: magic, version, backing file offset (u64), its length (u32), cluster bits (u32), size (u64); in
    version 3 the incompatible features follow at byte 72, of which bit 2 is an external data file.
    """
    if disk_format in ("raw", "iso", "ami", "ari", "aki"):
        return size
    if disk_format != "qcow2" or len(header) < 32 or header[:4] != b"QFI\xfb":
        return None
    version, backing, _, _, length = struct.unpack(">IQIIQ", header[4:32])
    features = struct.unpack(">Q", header[72:80])[0] if version >= 3 and len(header) >= 80 else 0
    if backing or features & 4:
        raise Invalid("A qcow2 image with a backing file or an external data file is not accepted.", field="disk_format")
    return int(length) if length < 2**63 else None


HEADER_BYTES = 128
"""How much of the data `virtual_size` looks at."""
