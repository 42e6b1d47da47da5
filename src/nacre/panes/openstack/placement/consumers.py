"""Consumers: what a server has been given, and what a project uses."""

from typing import Any

from nacre.cloud.errors import Invalid
from nacre.cloud.placement import operations, rules
from nacre.panes.edge import Call, Reply
from nacre.panes.openstack.placement.query import check_names
from nacre.panes.openstack.placement.render import consumer, owner, reply

ALL_TYPES = "all"


async def allocations(call: Call) -> Reply:
    """A consumer that has none, or is not there, has an empty set."""
    found = await call.read(operations.allocation_of_consumer, call.path["consumer_uuid"])
    if found is None:
        return reply(call, {"allocations": {}})
    host, server = found
    given = {host["id"]: {"resources": rules.resources(server), "generation": host["generation"]}}
    return reply(call, {"allocations": given, **owner(call, server), **consumer(call, server)}, [server])


async def usages(call: Call) -> Reply:
    typed = call.at_least(38)
    query = call.query
    check_names(query, frozenset({"project_id", "user_id"} | ({"consumer_type"} if typed else set())))
    if not query.get("project_id"):
        raise Invalid("Invalid query string parameters: 'project_id' is a required property.", field="project_id")
    count, used = await call.read(operations.usages_of_project, query["project_id"], query.get("user_id"))
    if not typed:
        return reply(call, {"usages": used})
    wanted = query.get("consumer_type", rules.CONSUMER_TYPE)
    shown: dict[str, Any] = {"consumer_count": count, **used}
    if wanted not in (ALL_TYPES, rules.CONSUMER_TYPE) or not count:
        return reply(call, {"usages": {}})
    return reply(call, {"usages": {wanted: shown}})
