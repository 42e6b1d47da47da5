"""The versions document. Image has no microversions: a minor version says which calls and attributes there are.

Source: https://docs.openstack.org/api-ref/image/versions/. Those that stand for the image cache (2.14, 2.16) are left out: there is none.
"""

from typing import Any

from nacre.panes.edge import Call, Reply

CURRENT = 17
SUPPORTED = (15, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)


def document(base_url: str) -> dict[str, Any]:
    def version(minor: int, status: str) -> dict[str, Any]:
        return {"id": f"v2.{minor}", "status": status, "links": [{"rel": "self", "href": f"{base_url}/v2/"}]}

    return {"versions": [version(CURRENT, "CURRENT"), *(version(minor, "SUPPORTED") for minor in SUPPORTED)]}


async def choices(call: Call) -> Reply:
    """The root answers 300 Multiple Choices."""
    return Reply(document(call.base_url), 300)


async def versions(call: Call) -> Reply:
    return Reply(document(call.base_url))
