"""A server's metadata: the whole of it, and item by item."""

from typing import Any

from nacre.cloud.compute import servers
from nacre.cloud.errors import Invalid, NotFound
from nacre.panes.edge import Call, Reply
from nacre.panes.openstack.compute import schemas
from nacre.panes.openstack.compute.dialect import body_under


async def index(call: Call) -> Reply:
    row = await call.read(servers.get, call.path["server_id"])
    return Reply({"metadata": row["metadata"]})


async def _set(call: Call, *, replace: bool) -> Reply:
    sent: dict[str, str] = await body_under(call, "metadata", schemas.Metadata)
    metadata = await call.write(servers.set_metadata, call.path["server_id"], sent, replace=replace)
    return Reply({"metadata": metadata})


async def add(call: Call) -> Reply:
    """Add these items, or change them."""
    return await _set(call, replace=False)


async def replace(call: Call) -> Reply:
    """Nothing but these items."""
    return await _set(call, replace=True)


async def show(call: Call) -> Reply:
    row = await call.read(servers.get, call.path["server_id"])
    key = call.path["key"]
    if key not in row["metadata"]:
        raise NotFound("Metadata item was not found", code="MetadataItemNotFound")
    return Reply({"meta": {key: row["metadata"][key]}})


async def update(call: Call) -> Reply:
    sent: dict[str, Any] = await body_under(call, "meta", schemas.Metadata)
    key = call.path["key"]
    if len(sent) != 1:
        raise Invalid("Invalid input for field/attribute meta. It must hold exactly one item.", field="meta")
    if key not in sent:
        raise Invalid("Request body and URI mismatch", field="meta")
    await call.write(servers.set_metadata, call.path["server_id"], sent, replace=False)
    return Reply({"meta": sent})


async def delete(call: Call) -> Reply:
    await call.write(servers.delete_metadata, call.path["server_id"], call.path["key"])
    return Reply(status=204)
