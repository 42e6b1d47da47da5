"""Query strings to `store.Query`: the parts that the services have in common."""

from collections.abc import Mapping
from typing import Any

from multidict import MultiMapping

from nacre.cloud.errors import Invalid
from nacre.panes.edge import times
from nacre.panes.edge.resource import FilterType, Resource
from nacre.store import Criterion
from nacre.store.listing import Operator

TRUE = frozenset({"true", "1", "yes", "on", "t", "y", ""})
FALSE = frozenset({"false", "0", "no", "off", "f", "n"})
INTEGER_MAX = 2**63 - 1


def parse_boolean(text: str, name: str) -> bool:
    """Raises Invalid."""
    if text.lower() in TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise Invalid(f"Invalid input for {name}: {text!r} is no boolean.", field=name)


def parse_integer(text: str, name: str, minimum: int = 0, maximum: int = INTEGER_MAX) -> int:
    """Raises Invalid, also for a number out of range."""
    try:
        value = int(text)
    except ValueError:
        raise Invalid(f"Invalid input for {name}: {text!r} is no integer.", field=name) from None
    if not minimum <= value <= maximum:
        raise Invalid(f"Invalid input for {name}: {text} is not in the range of {minimum} to {maximum}.", field=name)
    return value


def parse_limit(query: MultiMapping[str], maximum: int | None = None) -> int | None:
    """`limit`, at most `maximum`. Raises Invalid."""
    text = query.get("limit")
    if text is None:
        return maximum
    limit = parse_integer(text, "limit")
    return limit if maximum is None else min(limit, maximum)


def parse_value(text: str, kind: FilterType, name: str) -> Any:
    """A filter's value in the column's type. Raises Invalid."""
    if kind == "boolean":
        return parse_boolean(text, name)
    if kind == "integer":
        return parse_integer(text, name, minimum=-INTEGER_MAX)
    if kind == "moment":
        return times.parse(text, name)
    return text


def parse_filters(
    query: MultiMapping[str], resource: Resource, suffixes: Mapping[str, Operator] | None = None
) -> tuple[Criterion, ...]:
    """The parameters that are filterable attributes. One that is repeated matches any of its values; others are left to the caller."""
    criteria = []
    for key in dict.fromkeys(query.keys()):
        name, _, suffix = key.partition("__")
        attribute = resource.by_name.get(name)
        if attribute is None or attribute.filter is None or (suffix and suffix not in (suffixes or {})):
            continue
        values = [parse_value(text, attribute.filter, name) for text in query.getall(key)]
        if suffix and suffixes:
            criteria.append(Criterion(name, suffixes[suffix], values[0]))
        elif len(values) == 1:
            criteria.append(Criterion(name, "eq", values[0]))
        else:
            criteria.append(Criterion(name, "in", values))
    return tuple(criteria)
