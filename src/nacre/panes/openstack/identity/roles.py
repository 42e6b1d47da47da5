"""Which role implies which: https://docs.openstack.org/api-ref/identity/v3/#list-implied-inference-roles-for-role."""

from typing import Any

from nacre.cloud.collection import Row
from nacre.cloud.identity import roles
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.openstack.identity.dialect import members


def _role(call: Call, row: Row) -> dict[str, Any]:
    return {"id": row["id"], "name": row["name"], "links": {"self": f"{call.base_url}/v3/roles/{row['id']}"}}


def _pair(call: Call, prior: Row, implied: Row) -> dict[str, Any]:
    href = f"{call.base_url}/v3/roles/{prior['id']}/implies/{implied['id']}"
    inference = {"prior_role": _role(call, prior), "implies": _role(call, implied)}
    return {"role_inference": inference, "links": {"self": href}}


def _list(call: Call, prior: Row, implied: list[Row]) -> dict[str, Any]:
    return {"prior_role": _role(call, prior), "implies": [_role(call, row) for row in implied]}


async def list_inferences(call: Call) -> Reply:
    found = await call.read(roles.list_inferences)
    return Reply({"role_inferences": [_list(call, prior, implied) for prior, implied in found], "links": members(call)})


async def list_implied(call: Call) -> Reply:
    found = await call.read(roles.list_inferences, call.path["role_id"])
    prior, implied = found[0]
    return Reply({"role_inference": _list(call, prior, implied), "links": members(call)})


async def imply(call: Call) -> Reply:
    prior, implied = await call.write(roles.imply, call.path["role_id"], call.path["implied_role_id"])
    return Reply(_pair(call, prior, implied), 201)


async def show(call: Call) -> Reply:
    prior, implied = await call.read(roles.get_implied, call.path["role_id"], call.path["implied_role_id"])
    return Reply(_pair(call, prior, implied))


async def check(call: Call) -> Reply:
    await call.read(roles.get_implied, call.path["role_id"], call.path["implied_role_id"])
    return Reply(status=204)


async def remove(call: Call) -> Reply:
    await call.write(roles.no_longer_imply, call.path["role_id"], call.path["implied_role_id"])
    return Reply(status=204)


_ITEM = "/v3/roles/{role_id}/implies/{implied_role_id}"
ROUTES: tuple[Route, ...] = (
    Route("GET", "/v3/role_inferences", list_inferences, "identity:list_role_inference_rules", "List which role implies which"),
    Route("GET", "/v3/roles/{role_id}/implies", list_implied, "identity:list_implied_roles", "List what a role implies"),
    Route("PUT", _ITEM, imply, "identity:create_implied_role", "Make a role imply another"),
    Route("GET", _ITEM, show, "identity:get_implied_role", "Show that a role implies another"),
    Route("HEAD", _ITEM, check, "identity:check_implied_role", "Check that a role implies another"),
    Route("DELETE", _ITEM, remove, "identity:delete_implied_role", "Make a role no longer imply another"),
)
