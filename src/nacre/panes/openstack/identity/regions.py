"""A region's own call: PUT makes one with the id of the path."""

from typing import Any

from nacre.cloud.errors import Invalid
from nacre.cloud.identity import regions
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.resource import envelope
from nacre.panes.openstack.identity.dialect import DIALECT
from nacre.panes.openstack.identity.resources import REGIONS


async def put(call: Call) -> Reply:
    """Raises Conflict when the id is taken."""
    sent = envelope(await call.body(dict[str, Any]), "region")
    ident = call.path["region_id"]
    if sent.get("id", ident) != ident:
        raise Invalid("The id of the body differs from the one of the path.", field="id")
    row = await call.write(regions.operations.create, REGIONS.values(DIALECT, call, {**sent, "id": ident}, "create"))
    return Reply({"region": DIALECT.one(call, REGIONS, row)}, 201)


ROUTES: tuple[Route, ...] = (
    Route("PUT", "/v3/regions/{region_id}", put, "identity:create_region", "Create a region with an id of one's choice"),
)
