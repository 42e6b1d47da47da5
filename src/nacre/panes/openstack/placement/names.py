"""Resource classes and traits: those that the cloud accounts for and its hosts may have."""

import re

from nacre.cloud.errors import Invalid, NotFound
from nacre.cloud.hosts.traits import traits_of
from nacre.cloud.placement import operations, rules
from nacre.cloud.placement import traits as kept
from nacre.cloud.placement.operations import Wanted
from nacre.panes.edge import Call, Reply
from nacre.panes.openstack.placement.query import check_names
from nacre.panes.openstack.placement.render import reply

TRAIT = "[A-Z0-9_]{1,248}"


async def resource_classes(call: Call) -> Reply:
    return reply(call, {"resource_classes": [_resource_class(call, name) for name in rules.COLUMNS]})


async def resource_class(call: Call) -> Reply:
    name = call.path["name"]
    if name not in rules.COLUMNS:
        raise NotFound(f"No such resource class {name}.")
    return reply(call, _resource_class(call, name))


def _resource_class(call: Call, name: str) -> dict[str, object]:
    return {"name": name, "links": [{"rel": "self", "href": f"{call.service.prefix}/resource_classes/{name}"}]}


async def traits(call: Call) -> Reply:
    check_names(call.query, frozenset({"name", "associated"}))
    found = await call.read(kept.names)
    if "name" in call.query:
        found = _named(found, call.query["name"])
    if "associated" in call.query:
        hosts = await call.read(operations.providers, Wanted(), call.cloud.settings.ratios)
        used = {trait for host in hosts for trait in traits_of(host)}
        wanted = _flag(call.query["associated"])
        found = [trait for trait in found if (trait in used) is wanted]
    return reply(call, {"traits": found})


def _named(traits: list[str], text: str) -> list[str]:
    operator, _, value = text.partition(":")
    if operator == "startswith":
        return [trait for trait in traits if trait.startswith(value)]
    if operator == "in":
        return [trait for trait in traits if trait in value.split(",")]
    raise Invalid(f"Badly formatted name parameter: expected startswith:PREFIX or in:NAME,NAME, not {text!r}.", field="name")


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "1", "false", "0"):
        raise Invalid(f"The query parameter 'associated' must be true or false, not {text!r}.", field="associated")
    return text.lower() in ("true", "1")


async def trait(call: Call) -> Reply:
    """204 when it is there."""
    if call.path["name"] not in await call.read(kept.names):
        raise NotFound(f"No such trait: {call.path['name']}.")
    return Reply(status=204)


async def create_trait(call: Call) -> Reply:
    """201 when it is new, 204 when it was there."""
    name = call.path["name"]
    if re.fullmatch(f"CUSTOM_{TRAIT}", name) is None:
        raise Invalid(
            f"The trait {name!r} is invalid. A valid trait must start with CUSTOM_ and use A-Z, 0-9 and _.", field="name"
        )
    made = await call.write(kept.create, name)
    return Reply(status=201 if made else 204, headers={"Location": f"{call.service.prefix}/traits/{name}"})


async def delete_trait(call: Call) -> Reply:
    await call.write(kept.delete, call.path["name"])
    return Reply(status=204)
