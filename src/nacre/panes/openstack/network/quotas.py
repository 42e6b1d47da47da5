"""Quotas."""

from typing import Any

import msgspec

from nacre.cloud.network import quotas
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.call import convert
from nacre.panes.edge.resource import envelope
from nacre.panes.openstack.network.shapes import Limit

_Quota = msgspec.defstruct(
    "Quota",
    [(name, Limit | msgspec.UnsetType, msgspec.UNSET) for name in quotas.DEFAULTS],
    kw_only=True,
    forbid_unknown_fields=True,
)
_IGNORED = frozenset({"tenant_id", "project_id", "force", "check_limit"})
"""Named by clients beside the limits; the path says the project, and limits below the use are always taken, as Neutron does."""


async def listing(call: Call) -> Reply:
    found = await call.read(quotas.changed)
    shown = [{**limits, "tenant_id": project_id, "project_id": project_id} for project_id, limits in found.items()]
    return Reply({"quotas": shown})


async def show(call: Call) -> Reply:
    return Reply({"quota": await call.read(quotas.limits, call.path["project_id"])})


async def default(call: Call) -> Reply:
    return Reply({"quota": quotas.DEFAULTS})


async def details(call: Call) -> Reply:
    return Reply({"quota": await call.read(quotas.details, call.path["project_id"])})


async def update(call: Call) -> Reply:
    sent: dict[str, Any] = envelope(await call.body(dict[str, Any]), "quota")
    checked = msgspec.to_builtins(convert({name: value for name, value in sent.items() if name not in _IGNORED}, _Quota))
    return Reply({"quota": await call.write(quotas.set_limits, call.path["project_id"], checked)})


async def delete(call: Call) -> Reply:
    await call.write(quotas.reset, call.path["project_id"])
    return Reply(status=204)


_ITEM = "/v2.0/quotas/{project_id}"
_GET = "network:get_quota"
ROUTES: tuple[Route, ...] = (
    Route("GET", "/v2.0/quotas", listing, "network:list_quotas", "List the projects with quotas of their own"),
    Route("GET", _ITEM, show, _GET, "Show a project's quotas"),
    Route("GET", f"{_ITEM}/default", default, _GET, "Show the default quotas"),
    Route("GET", f"{_ITEM}/details", details, _GET, "Show a project's quotas and their use"),
    Route("GET", f"{_ITEM}/details.json", details, _GET, "Show a project's quotas and their use"),
    Route("PUT", _ITEM, update, "network:update_quota", "Update a project's quotas"),
    Route("DELETE", _ITEM, delete, "network:delete_quota", "Reset a project's quotas"),
)
