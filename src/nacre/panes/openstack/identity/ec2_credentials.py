"""OS-EC2: a user's access keys, https://docs.openstack.org/api-ref/identity/v3-ext/#os-ec2-api."""

from typing import Any

import msgspec

from nacre.cloud.collection import Row
from nacre.cloud.identity import ec2_credentials
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.openstack.identity.dialect import members
from nacre.panes.openstack.identity.resources import Id


class Ec2Body(msgspec.Struct):
    tenant_id: Id


def _shown(call: Call, row: Row) -> dict[str, Any]:
    href = f"{call.base_url}/v3/users/{row['user_id']}/credentials/OS-EC2/{row['access']}"
    return {**row, "links": {"self": href}}


async def create(call: Call) -> Reply:
    body = await call.body(Ec2Body)
    row = await call.write(ec2_credentials.create, call.path["user_id"], body.tenant_id)
    return Reply({"credential": _shown(call, row)}, 201)


async def listing(call: Call) -> Reply:
    rows = await call.read(ec2_credentials.list_of_user, call.path["user_id"])
    return Reply({"credentials": [_shown(call, row) for row in rows], "links": members(call)})


async def show(call: Call) -> Reply:
    row = await call.read(ec2_credentials.get, call.path["user_id"], call.path["access"])
    return Reply({"credential": _shown(call, row)})


async def delete(call: Call) -> Reply:
    await call.write(ec2_credentials.delete, call.path["user_id"], call.path["access"])
    return Reply(status=204)


_ALL = "/v3/users/{user_id}/credentials/OS-EC2"
_ONE = _ALL + "/{access}"
ROUTES: tuple[Route, ...] = (
    Route("POST", _ALL, create, "identity:ec2_create_credential", "Create an EC2 credential"),
    Route("GET", _ALL, listing, "identity:ec2_list_credentials", "List a user's EC2 credentials"),
    Route("GET", _ONE, show, "identity:ec2_get_credential", "Show an EC2 credential"),
    Route("DELETE", _ONE, delete, "identity:ec2_delete_credential", "Delete an EC2 credential"),
)
