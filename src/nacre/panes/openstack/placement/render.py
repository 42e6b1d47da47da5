"""Hosts and servers as Placement shows them."""

from collections.abc import Sequence
from email.utils import formatdate
from typing import Any

from nacre.cloud.placement import rules
from nacre.cloud.placement.rules import Row
from nacre.panes.edge import Call, Reply

GENERATION = "resource_provider_generation"
LINKS_SINCE = {"inventories": 0, "usages": 0, "aggregates": 1, "traits": 6, "allocations": 11}


def provider(call: Call, row: Row) -> dict[str, Any]:
    own = f"{call.service.prefix}/resource_providers/{row['id']}"
    links = [{"rel": "self", "href": own}]
    links += [{"rel": name, "href": f"{own}/{name}"} for name, since in LINKS_SINCE.items() if call.at_least(since)]
    shown = {"uuid": row["id"], "name": row["hostname"], "generation": row["generation"], "links": links}
    if call.at_least(14):
        shown |= {"parent_provider_uuid": None, "root_provider_uuid": row["id"]}
    return shown


def consumer(call: Call, server: Row) -> dict[str, Any]:
    """What the version tells of the consumer of an allocation."""
    return {"consumer_generation": server["generation"]} if call.at_least(28) else {}


def owner(call: Call, server: Row) -> dict[str, Any]:
    shown = {"project_id": server["project_id"], "user_id": server["user_id"]} if call.at_least(12) else {}
    if call.at_least(38):
        shown["consumer_type"] = rules.CONSUMER_TYPE
    return shown


def reply(call: Call, body: dict[str, Any], rows: Sequence[Row] = ()) -> Reply:
    """With the time of the youngest row, or now when there is none."""
    headers = {}
    if call.at_least(15):
        youngest = max((row["updated_at"] for row in rows), default=None)
        headers = {"Last-Modified": formatdate(youngest, usegmt=True), "Cache-Control": "no-cache"}
    return Reply(body, headers=headers)
