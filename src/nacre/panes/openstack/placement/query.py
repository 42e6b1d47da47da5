"""Placement's query strings. A parameter that is not served is refused, as Placement's own schemas do."""

import re
from collections.abc import Mapping

from multidict import MultiMapping

from nacre.cloud.errors import Invalid
from nacre.cloud.placement.operations import Wanted
from nacre.panes.edge import Call
from nacre.panes.openstack.query import parse_integer

UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")
TRAIT = re.compile(r"!?[A-Z0-9_]{1,255}")
RESOURCE = re.compile(r"([A-Z0-9_]{1,255}):([0-9]{1,18})")
PROVIDERS_SINCE: Mapping[str, int] = {"name": 0, "uuid": 0, "resources": 4, "in_tree": 14, "required": 18}
FORBIDDEN_SINCE = 22


def check_names(query: MultiMapping[str], allowed: frozenset[str]) -> None:
    """Raises Invalid for a parameter that is not known, or given twice."""
    for name in query:
        if name not in allowed:
            raise _bad(f"Additional properties are not allowed ('{name}' was unexpected)", name)
        if len(query.getall(name)) > 1 and name != "required":
            raise Invalid(f"Invalid query string: {name} is given twice.", field=name, code="placement.query.duplicate_key")


def parse_providers(call: Call) -> Wanted:
    query = call.query
    check_names(query, frozenset(name for name, since in PROVIDERS_SINCE.items() if call.at_least(since)))
    for name in ("uuid", "in_tree"):
        if name in query and UUID.fullmatch(query[name]) is None:
            raise _bad(f"{query[name]!r} is not a 'uuid'", name)
    required = [trait for text in query.getall("required", []) for trait in text.split(",")]
    for trait in required:
        if TRAIT.fullmatch(trait) is None or (trait.startswith("!") and not call.at_least(FORBIDDEN_SINCE)):
            raise _bad(f"Expecting traits as TRAIT or !TRAIT, not {trait!r}", "required")
    return Wanted(
        name=query.get("name"),
        uuid=query.get("uuid"),
        in_tree=query.get("in_tree"),
        resources=_resources(query["resources"]) if "resources" in query else {},
        required=tuple(trait for trait in required if not trait.startswith("!")),
        forbidden=tuple(trait[1:] for trait in required if trait.startswith("!")),
    )


def _resources(text: str) -> dict[str, int]:
    """`VCPU:4,MEMORY_MB:1024`."""
    result = {}
    for part in text.split(","):
        match = RESOURCE.fullmatch(part)
        if match is None:
            raise _bad(f"Badly formed resources parameter: {part!r}; expected CLASS:AMOUNT", "resources")
        result[match[1]] = parse_integer(match[2], "resources", minimum=1)
    return result


def _bad(reason: str, name: str) -> Invalid:
    return Invalid(f"Invalid query string parameters: {reason}.", field=name, code="placement.query.bad_value")
