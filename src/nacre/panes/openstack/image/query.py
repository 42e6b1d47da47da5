"""Image's query strings: filters with `in:` and comparison prefixes, `sort=key:dir` or sort_key and sort_dir, limit and marker."""

import csv
from collections.abc import Collection
from typing import Literal

from multidict import MultiMapping

from nacre.cloud.errors import Invalid
from nacre.cloud.image import rules
from nacre.cloud.image.operations import Wanted
from nacre.panes.edge import times
from nacre.panes.openstack.query import parse_integer, parse_limit
from nacre.store import Criterion, Query
from nacre.store.listing import Operator

LIMIT_DEFAULT = 25
LIMIT_MAX = 1000
VALUES_MAX = 500
"""Values in one `in:`."""
Direction = Literal["asc", "desc"]

IN_FILTERS = frozenset({"id", "name", "status", "container_format", "disk_format"})
TEXT_FILTERS = frozenset({"owner", "checksum", "os_hash_algo", "os_hash_value"})
COUNT_FILTERS = frozenset({"min_ram", "min_disk", "size", "virtual_size"})
BOOLEAN_FILTERS = frozenset({"protected", "os_hidden"})
MOMENT_FILTERS = frozenset({"created_at", "updated_at"})
SIZE_FILTERS: dict[str, Operator] = {"size_min": "ge", "size_max": "le"}
MOMENT_OPERATORS: dict[str, Operator] = {"gt": "gt", "gte": "ge", "lt": "lt", "lte": "le", "eq": "eq", "neq": "ne"}
PAGING = frozenset({"limit", "marker", "sort", "sort_key", "sort_dir"})
WANTED = frozenset({"visibility", "member_status", "tag"})
SORT_KEYS = frozenset(
    {
        *("name", "status", "container_format", "disk_format", "size", "virtual_size", "id", "created_at", "updated_at"),
        *("min_ram", "min_disk", "owner", "protected", "os_hidden", "visibility", "checksum"),
    }
)


def parse(query: MultiMapping[str]) -> tuple[Query, Wanted]:
    """Raises Invalid. A name that is no attribute filters by the property of that name."""
    criteria: list[Criterion] = []
    properties: dict[str, str] = {}
    for name in dict.fromkeys(query.keys()):
        if name in PAGING or name in WANTED:
            continue
        text = query[name]
        found = _criterion(name, text)
        if found is None:
            properties[name] = text
        else:
            criteria.append(found)
    if "os_hidden" not in query:
        criteria.append(Criterion("os_hidden", "eq", False))
    limit = parse_limit(query, LIMIT_MAX) if "limit" in query else LIMIT_DEFAULT
    found_sort = sorting(query, SORT_KEYS)
    return Query(tuple(criteria), found_sort, limit, query.get("marker")), _wanted(query, properties)


def _criterion(name: str, text: str) -> Criterion | None:
    if name in IN_FILTERS:
        if text.startswith("in:"):
            return Criterion(name, "in", _values(text.removeprefix("in:"), name))
        return Criterion(name, "eq", text)
    if name in TEXT_FILTERS:
        return Criterion(name, "eq", text)
    if name in COUNT_FILTERS:
        return Criterion(name, "eq", parse_integer(text, name))
    if name in SIZE_FILTERS:
        return Criterion("size", SIZE_FILTERS[name], parse_integer(text, name))
    if name in BOOLEAN_FILTERS:
        return Criterion(name, "eq", _boolean(text, name))
    if name in MOMENT_FILTERS:
        return _moment(text, name)
    return None


def _values(text: str, name: str) -> list[str]:
    """`a,"b,c"`: commas part, quotes keep them."""
    try:
        values = next(csv.reader([text], strict=True), [])
    except csv.Error:
        raise Invalid(f"Invalid filter value {text!r} for {name}: a quote is open.", field=name) from None
    if len(values) > VALUES_MAX:
        raise Invalid(f"A filter takes at most {VALUES_MAX} values.", field=name)
    return values


def _boolean(text: str, name: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise Invalid(f"Invalid value {text!r} for {name}: it must be true or false.", field=name)
    return text.lower() == "true"


def _moment(text: str, name: str) -> Criterion:
    """`gte:2026-01-01T00:00:00Z`; without an operator, that very second."""
    prefix, colon, rest = text.partition(":")
    if colon and prefix in MOMENT_OPERATORS:
        return Criterion(name, MOMENT_OPERATORS[prefix], times.parse(rest, name))
    if colon and prefix.isalpha():
        raise Invalid(f"Unable to filter on a unknown operator {prefix!r}.", field=name)
    return Criterion(name, "eq", times.parse(text, name))


def _wanted(query: MultiMapping[str], properties: dict[str, str]) -> Wanted:
    visibility = query.get("visibility")
    if visibility is not None and visibility not in (*rules.VISIBILITIES, "all"):
        raise Invalid(f"Invalid visibility value: {visibility}", field="visibility")
    member_status = query.get("member_status", "accepted")
    if member_status not in (*rules.MEMBER_STATUSES, "all"):
        raise Invalid(f"Invalid status: {member_status}", field="member_status")
    tags = tuple(dict.fromkeys(query.getall("tag", [])))
    if len(tags) > rules.TAGS_MAX or len(properties) > rules.PROPERTIES_MAX:
        raise Invalid("There are too many filters.", field="tag")
    return Wanted(visibility, member_status, tags, properties)


def sorting(query: MultiMapping[str], known: Collection[str]) -> tuple[tuple[str, Direction], ...]:
    """Raises Invalid for a key that is not among `known`."""
    if "sort" in query and ("sort_key" in query or "sort_dir" in query):
        raise Invalid("Old and new sorting syntax cannot be combined", field="sort")
    if "sort" in query:
        parts = [part.strip().partition(":") for part in query["sort"].split(",")]
        return tuple((_key(name, known), _direction(direction if colon else "desc")) for name, colon, direction in parts)
    keys = query.getall("sort_key", [])
    directions = query.getall("sort_dir", [])
    if not keys:
        keys = ["created_at"]
    if len(directions) == 1:
        directions = directions * len(keys)
    if directions and len(directions) != len(keys):
        raise Invalid("Number of sort dirs does not match the number of sort keys", field="sort_dir")
    checked = (_key(name, known) for name in keys)
    return tuple(zip(checked, map(_direction, directions or ["desc"] * len(keys)), strict=True))


def _key(name: str, known: Collection[str]) -> str:
    if name not in known:
        raise Invalid(f"Invalid sort key: {name}. It must be one of the following: {', '.join(sorted(known))}.", field="sort_key")
    return name


def _direction(text: str) -> Direction:
    if text == "asc":
        return "asc"
    if text == "desc":
        return "desc"
    raise Invalid(f"Invalid sort direction: {text}", field="sort_dir")
