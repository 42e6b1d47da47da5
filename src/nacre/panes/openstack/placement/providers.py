"""Resource providers: the hosts, what they have, and what is used of it."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from nacre.cloud.errors import NotFound
from nacre.cloud.hosts.traits import traits_of
from nacre.cloud.placement import operations, rules
from nacre.cloud.placement import traits as kept
from nacre.cloud.placement.rules import Row
from nacre.panes.edge import Call, Reply
from nacre.panes.openstack.placement import names
from nacre.panes.openstack.placement.query import parse_providers
from nacre.panes.openstack.placement.render import GENERATION, consumer, provider, reply


async def listing(call: Call) -> Reply:
    rows = await call.read(operations.providers, parse_providers(call), call.cloud.settings.ratios)
    return reply(call, {"resource_providers": [provider(call, row) for row in rows]}, rows)


async def show(call: Call) -> Reply:
    row = await _host(call)
    return reply(call, provider(call, row), [row])


async def inventories(call: Call) -> Reply:
    row = await _host(call)
    return _of_host(call, row, {"inventories": rules.inventories(row)})


async def inventory(call: Call) -> Reply:
    row, name = await _host(call), call.path["resource_class"]
    found = rules.inventories(row).get(name)
    if found is None:
        raise NotFound(f"No inventory of class {name} for {row['id']}")
    return _of_host(call, row, found)


async def usages(call: Call) -> Reply:
    row = await _host(call)
    return _of_host(call, row, {"usages": rules.usages(row)})


async def allocations(call: Call) -> Reply:
    row, servers = await call.read(operations.allocations_of_provider, call.path["uuid"])
    shown = {server["id"]: {"resources": rules.resources(server), **consumer(call, server)} for server in servers}
    return _of_host(call, row, {"allocations": shown})


async def aggregates(call: Call) -> Reply:
    """Compute's host aggregates."""
    row = await _host(call)
    if call.at_least(19):
        return _of_host(call, row, {"aggregates": row["aggregates"]})
    return reply(call, {"aggregates": row["aggregates"]}, [row])


async def traits(call: Call) -> Reply:
    row = await _host(call)
    return _of_host(call, row, {"traits": sorted(traits_of(row))})


class Traits(Struct, forbid_unknown_fields=True):
    resource_provider_generation: Annotated[int, Meta(ge=0)]
    traits: Annotated[list[Annotated[str, Meta(pattern=names.TRAIT)]], Meta(max_length=kept.TRAITS_MAX)]


async def set_traits(call: Call) -> Reply:
    """All that an operator gives it. Those that follow from what the host is are its own, and stay."""
    wanted = await call.body(Traits)
    row = await call.write(kept.give, call.path["uuid"], wanted.traits, wanted.resource_provider_generation)
    return _of_host(call, row, {"traits": sorted(traits_of(row))})


async def delete_traits(call: Call) -> Reply:
    await call.write(kept.give, call.path["uuid"], [], None)
    return Reply(status=204)


async def _host(call: Call) -> Row:
    return await call.read(operations.whole, call.path["uuid"], call.cloud.settings.ratios)


def _of_host(call: Call, row: Row, body: dict[str, Any]) -> Reply:
    return reply(call, {**body, GENERATION: row["generation"]}, [row])
