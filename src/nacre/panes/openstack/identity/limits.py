"""Unified limits' own calls: several are made at once, and the model: https://docs.openstack.org/api-ref/identity/v3/#unified-limits."""

from typing import Any

from nacre.cloud.collection import Collection
from nacre.cloud.errors import Invalid
from nacre.cloud.identity import limits
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.resource import Resource
from nacre.panes.openstack.identity.dialect import DIALECT, members
from nacre.panes.openstack.identity.resources import LIMITS, REGISTERED_LIMITS


async def _create(call: Call, resource: Resource, collection: Collection) -> Reply:
    """The body holds a list, and so does the answer."""
    sent = (await call.body(dict[str, Any])).get(resource.plural)
    if not isinstance(sent, list) or not 0 < len(sent) <= limits.BATCH_MAX:
        raise Invalid(f"The body must hold a list of 1 to {limits.BATCH_MAX} under {resource.plural!r}.", field=resource.plural)
    values = [resource.values(DIALECT, call, each, "create") for each in sent]
    rows = await call.write(limits.create_all, collection, values)
    return Reply({resource.plural: [DIALECT.one(call, resource, row) for row in rows], "links": members(call)}, 201)


async def create_registered(call: Call) -> Reply:
    return await _create(call, REGISTERED_LIMITS, limits.registered)


async def create(call: Call) -> Reply:
    return await _create(call, LIMITS, limits.operations)


async def show_model(call: Call) -> Reply:
    return Reply({"model": limits.MODEL})


ROUTES: tuple[Route, ...] = (
    Route("POST", "/v3/registered_limits", create_registered, "identity:create_registered_limit", "Register limits"),
    Route("POST", "/v3/limits", create, "identity:create_limit", "Create limits"),
    Route("GET", "/v3/limits/model", show_model, "identity:get_limit_model", "Show how limits are enforced"),
)
