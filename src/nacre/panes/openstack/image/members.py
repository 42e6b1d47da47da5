"""Members of shared images."""

import msgspec

from nacre.cloud.image import members
from nacre.panes.edge import Call, Reply
from nacre.panes.openstack.image import render


class MemberCreate(msgspec.Struct):
    member: str


class MemberUpdate(msgspec.Struct):
    status: str


async def listing(call: Call) -> Reply:
    rows = await call.read(members.find, call.path["image_id"])
    return Reply({"members": [render.member(row) for row in rows], "schema": "/v2/schemas/members"})


async def show(call: Call) -> Reply:
    return Reply(render.member(await call.read(members.get, call.path["image_id"], call.path["member_id"])))


async def create(call: Call) -> Reply:
    sent = await call.body(MemberCreate)
    return Reply(render.member(await call.write(members.create, call.path["image_id"], sent.member)))


async def update(call: Call) -> Reply:
    sent = await call.body(MemberUpdate)
    row = await call.write(members.set_status, call.path["image_id"], call.path["member_id"], sent.status)
    return Reply(render.member(row))


async def delete(call: Call) -> Reply:
    await call.write(members.delete, call.path["image_id"], call.path["member_id"])
    return Reply(status=204)
