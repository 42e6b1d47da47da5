"""The version documents: which versions there are, and the one that is served."""

from nacre.cloud.collection import Row
from nacre.panes.edge import Call, Reply
from nacre.panes.openstack.compute.microversions import MICROVERSIONS

UPDATED = "2013-07-23T11:33:21Z"
"""The date that Nova's document bears for v2.1."""
MEDIA_TYPE = "application/vnd.openstack.compute+json;version=2.1"


def _document(call: Call) -> Row:
    return {
        "id": "v2.1",
        "status": "CURRENT",
        "version": str(MICROVERSIONS.maximum),
        "min_version": str(MICROVERSIONS.minimum),
        "updated": UPDATED,
        "links": [{"rel": "self", "href": f"{call.base_url}/v2.1/"}],
    }


def _frozen(call: Call) -> Row:
    """v2.0 is v2.1 without microversions: the same rows under another path."""
    return {
        "id": "v2.0",
        "status": "SUPPORTED",
        "version": "",
        "min_version": "",
        "updated": "2011-01-21T11:33:21Z",
        "links": [{"rel": "self", "href": f"{call.base_url}/v2/"}],
    }


async def index(call: Call) -> Reply:
    """All versions."""
    return Reply({"versions": [_frozen(call), _document(call)]})


async def show(call: Call) -> Reply:
    """v2.1 alone."""
    return _alone(_document(call), MEDIA_TYPE)


async def show_frozen(call: Call) -> Reply:
    """v2.0 alone."""
    return _alone(_frozen(call), MEDIA_TYPE.removesuffix(".1"))


def _alone(document: Row, media_type: str) -> Reply:
    document["links"] = [
        *document["links"],
        {"rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/api-ref/compute/"},
    ]
    document["media-types"] = [{"base": "application/json", "type": media_type}]
    return Reply({"version": document})
