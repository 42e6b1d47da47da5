"""Patches of an image's locations, where the operator allows them: one operation at a time.

add /locations/-  {url, metadata, validation_data}    the data is fetched (the first place), or held against the image's (a further one)
replace /locations  [{url, metadata}]                 the same places with other metadata; the first place of an image without any
remove /locations/N                                   not the last one
"""

import re
from typing import Annotated, Any

import msgspec

from nacre.cloud.errors import Conflict, Forbidden, Invalid
from nacre.cloud.image import imports, locations, tasks
from nacre.cloud.image.intake import Intake
from nacre.cloud.image.policies import POLICIES
from nacre.cloud.image.rules import Row
from nacre.cloud.policy import check
from nacre.panes.edge import Call
from nacre.panes.edge.call import convert
from nacre.panes.openstack.image import fetching
from nacre.panes.openstack.image.patch import Operation

_PATH = re.compile(r"/locations(?:/(-|0|[1-9][0-9]{0,3}))?")


class Place(msgspec.Struct, forbid_unknown_fields=True):
    """One location."""

    url: Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]
    metadata: dict[str, Any]
    validation_data: dict[str, Any] | None = None


def about(operations: list[Operation]) -> bool:
    """Whether a patch is about locations."""
    return any(isinstance(path, str) and path.startswith("/locations") for _, path, _ in operations)


async def change(call: Call, operations: list[Operation]) -> None:
    """Raises Invalid, Conflict, Forbidden, NotFound; then nothing is changed."""
    if len(operations) != 1:
        raise Invalid("Locations are changed by a patch of one operation.", field="path")
    ((op, path, operation),) = operations
    match = _PATH.fullmatch(path)
    if match is None:
        raise Invalid(f"Invalid JSON pointer for this resource: {path!r}", field="path")
    image_id, at = call.path["image_id"], match[1]
    if op == "remove" and at not in (None, "-"):
        check("delete_image_location", POLICIES["delete_image_location"], call.context, call.path)
        await call.write(locations.remove, image_id, int(at))
        return
    check("set_image_location", POLICIES["set_image_location"], call.context, call.path)
    if op == "add" and at is not None:
        await _add(call, image_id, convert(operation.get("value"), Place))
    elif op in ("add", "replace") and at is None:
        await _replace(call, image_id, convert(operation.get("value"), list[Place]))
    else:
        raise Forbidden(f"The operation {op!r} is not for {path}.", field="op")


async def _replace(call: Call, image_id: str, wanted: list[Place]) -> None:
    _, known = await call.read(locations.for_change, image_id)
    if not known and len(wanted) == 1:
        await _add(call, image_id, wanted[0])
        return
    await call.write(locations.describe, image_id, [{"url": each.url, "metadata": each.metadata} for each in wanted])


async def _add(call: Call, image_id: str, place: Place) -> None:
    """Answers when the data is there and has been looked at: what is active can be read."""
    url = call.cloud.settings.imports.check_url(place.url, "url")
    image, _ = await call.read(locations.for_change, image_id)
    kept = {"url": place.url, "metadata": place.metadata}
    stream = fetching.chunks(call.cloud.settings.imports, url)
    if image["status"] == "active":
        _hold_against(image, place.validation_data or {})
        async with Intake(call.cloud) as intake:
            blob = await intake.stream(stream)
            await call.write(locations.add, image_id, kept, blob.digest)
        return
    validation = imports.check_validation(place.validation_data) if place.validation_data else {}
    asked = {"image_id": image_id, "loc_url": place.url, "validation_data": validation}
    task = await call.write(imports.begin, image_id, asked, call.cloud.process_id, "location_import")
    await imports.carry_out(call.cloud, call.context, task, stream, {**kept, "validation_data": validation, "hashed": False})
    ended = await call.read(tasks.get, task["id"])
    if ended["status"] != "success":
        raise Invalid(ended["message"], field="url")


def _hold_against(image: Row, wanted: dict[str, Any]) -> None:
    """What is said of a further place must be what is known of the image. Raises Conflict."""
    for name in ("checksum", "os_hash_algo", "os_hash_value"):
        if name in wanted and wanted[name] != image[name]:
            raise Conflict(f"The {name} of image {image['id']} is {image[name]}, not {str(wanted[name])[:160]}.", field=name)
