"""A server's tags (from 2.26 on)."""

from urllib.parse import quote

import sqlalchemy as sa

from nacre.cloud.compute import servers
from nacre.cloud.context import Context
from nacre.cloud.errors import Invalid, NotFound
from nacre.panes.edge import Call, Reply
from nacre.panes.edge.call import convert
from nacre.panes.openstack.compute import schemas
from nacre.panes.openstack.compute.dialect import body_under, name_field


def _not_found(ident: str, tag: str) -> NotFound:
    return NotFound(f"Server {ident} has no tag '{tag}'", code="InstanceTagNotFound")


def _add(conn: sa.Connection, ctx: Context, ident: str, tag: str) -> bool:
    """Whether the tag is new."""
    tags = servers.get(conn, ctx, ident)["tags"]
    if tag in tags:
        return False
    if len(tags) >= schemas.TAGS_MAX:
        raise Invalid(f"The number of tags exceeded the per-server limit {schemas.TAGS_MAX}", field="tag")
    servers.set_tags(conn, ctx, ident, [*tags, tag])
    return True


def _remove(conn: sa.Connection, ctx: Context, ident: str, tag: str) -> None:
    tags = servers.get(conn, ctx, ident)["tags"]
    if tag not in tags:
        raise _not_found(ident, tag)
    servers.set_tags(conn, ctx, ident, [name for name in tags if name != tag])


async def index(call: Call) -> Reply:
    row = await call.read(servers.get, call.path["server_id"])
    return Reply({"tags": row["tags"]})


async def replace(call: Call) -> Reply:
    sent: list[str] = await body_under(call, "tags", schemas.Tags)
    if len(set(sent)) != len(sent):
        raise Invalid("Invalid input for field/attribute tags. It has non-unique elements.", field="tags")
    return Reply({"tags": await call.write(servers.set_tags, call.path["server_id"], sent)})


async def clear(call: Call) -> Reply:
    await call.write(servers.set_tags, call.path["server_id"], [])
    return Reply(status=204)


async def show(call: Call) -> Reply:
    """204 when the server has the tag."""
    row = await call.read(servers.get, call.path["server_id"])
    if call.path["tag"] not in row["tags"]:
        raise _not_found(row["id"], call.path["tag"])
    return Reply(status=204)


async def add(call: Call) -> Reply:
    """201 for a new tag, 204 for one that was there."""
    ident, tag = call.path["server_id"], call.path["tag"]
    try:
        convert(tag, schemas.Tag)
    except Invalid as error:
        raise name_field(error, "tag") from None
    if not await call.write(_add, ident, tag):
        return Reply(status=204)
    location = f"{call.base_url}/v2.1/servers/{ident}/tags/{quote(tag, safe='')}"
    return Reply(status=201, headers={"Location": location})


async def remove(call: Call) -> Reply:
    await call.write(_remove, call.path["server_id"], call.path["tag"])
    return Reply(status=204)
