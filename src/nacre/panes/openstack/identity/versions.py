"""The version documents, by which clients find the API: https://docs.openstack.org/api-ref/identity/v3/#api-versions."""

from typing import Any

from nacre.panes.edge import Call, Reply, Route

VERSION_ID = "v3.14"
UPDATED = "2020-04-07T00:00:00Z"
MEDIA_TYPES = [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}]


def _version(call: Call) -> dict[str, Any]:
    return {
        "id": VERSION_ID,
        "status": "stable",
        "updated": UPDATED,
        "links": [{"rel": "self", "href": f"{call.base_url}/v3/"}],
        "media-types": MEDIA_TYPES,
    }


async def list_versions(call: Call) -> Reply:
    return Reply({"versions": {"values": [_version(call)]}}, 300, {"Location": f"{call.base_url}/v3/", "Vary": "X-Auth-Token"})


async def show_version(call: Call) -> Reply:
    return Reply({"version": _version(call)})


ROUTES: tuple[Route, ...] = (
    Route("GET", "", list_versions, None, "List the versions of the API"),
    Route("GET", "/v3", show_version, None, "Show version 3"),
)
