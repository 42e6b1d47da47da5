"""os-volume_attachments: this cloud has no block storage yet, so no server has a volume, and no volume can be found."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType, field

from nacre.cloud.compute import servers
from nacre.cloud.errors import Invalid, NotFound
from nacre.panes.edge import Call, Reply
from nacre.panes.edge.call import decode
from nacre.panes.openstack.compute.dialect import body_under, check_ranges
from nacre.panes.openstack.compute.schemas import Boolean, DeviceTag, Uuid


class VolumeAttachment(Struct, forbid_unknown_fields=True):
    """The body of POST /servers/{id}/os-volume_attachments."""

    volume_id: Uuid = field(name="volumeId")
    device: str | None = None
    tag: DeviceTag | UnsetType = UNSET
    delete_on_termination: Boolean | UnsetType = UNSET


RANGES: dict[str, tuple[int, int | None]] = {"tag": (49, None), "delete_on_termination": (79, None)}


async def index(call: Call) -> Reply:
    await call.read(servers.get, call.path["server_id"])
    return Reply({"volumeAttachments": []})


async def create(call: Call) -> Reply:
    sent = await body_under(call, "volumeAttachment", VolumeAttachment)
    check_ranges(call, sent, RANGES)
    await call.read(servers.get, call.path["server_id"])
    raise _no_volume(sent.volume_id)


async def update(call: Call) -> Reply:
    sent = await body_under(call, "volumeAttachment", dict[str, Any])
    await call.read(servers.get, call.path["server_id"])
    if not isinstance(sent.get("volumeId"), str):
        raise Invalid("Invalid input for field/attribute volumeId. It must be a volume's id.", field="volumeAttachment.volumeId")
    raise _no_volume(call.path["volume_id"])


async def one(call: Call) -> Reply:
    """GET and DELETE."""
    await call.read(servers.get, call.path["server_id"])
    raise NotFound(f"Instance {call.path['server_id']} is not attached to volume {call.path['volume_id']}", code="VolumeNotFound")


async def assist_snapshot(call: Call) -> Reply:
    """POST /os-assisted-volume-snapshots, by which block storage asks for a snapshot of an attached volume."""
    sent = await body_under(call, "snapshot", dict[str, Any])
    for name, kind in (("volume_id", str), ("create_info", dict)):
        if not isinstance(sent.get(name), kind):
            raise Invalid(
                f"Invalid input for field/attribute snapshot. {name!r} is a required property.", field=f"snapshot.{name}"
            )
    raise _no_device(sent["volume_id"])


async def delete_assisted(call: Call) -> Reply:
    """DELETE /os-assisted-volume-snapshots/{id}?delete_info={JSON}."""
    sent = decode(call.query.get("delete_info", "").encode(), dict[str, Any])
    if not isinstance(sent.get("volume_id"), str):
        raise Invalid("delete_info must be in JSON format and hold a volume_id.", field="delete_info")
    raise _no_device(sent["volume_id"])


def _no_volume(ident: str) -> NotFound:
    return NotFound(f"Volume {ident} could not be found.", code="VolumeNotFound")


def _no_device(ident: str) -> Invalid:
    return Invalid(f"No volume Block Device Mapping with id {ident}.", field="volume_id", code="VolumeBDMNotFound")
