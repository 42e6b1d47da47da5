"""Filtering, sorting and paging of a collection, compiled to SQL. Every list of every dialect goes through here.

A dialect parses its own query string into a `Query`; a `Listing` says which names may be used and what column stands behind each.
Paging is by marker (the id of the last item seen): rows that come or go meanwhile never repeat or hide others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

Operator = Literal["eq", "ne", "in", "gt", "ge", "lt", "le", "contains", "icontains", "startswith", "endswith", "regex"]

_OPERATORS: dict[Operator, Callable[[Any, Any], sa.ColumnElement[bool]]] = {
    "eq": lambda column, value: column == value,
    "ne": lambda column, value: column != value,
    "in": lambda column, values: column.in_(values),
    "gt": lambda column, value: column > value,
    "ge": lambda column, value: column >= value,
    "lt": lambda column, value: column < value,
    "le": lambda column, value: column <= value,
    "contains": lambda column, value: column.contains(value, autoescape=True),
    "icontains": lambda column, value: sa.func.lower(column).contains(value.lower(), autoescape=True),
    "startswith": lambda column, value: column.startswith(value, autoescape=True),
    "endswith": lambda column, value: column.endswith(value, autoescape=True),
    "regex": lambda column, value: column.regexp_match(value),
}


class Criterion(NamedTuple):
    name: str
    operator: Operator
    value: Any


@dataclass(frozen=True)
class Query:
    """What a client asked a collection for. `limit` None is no limit; `reverse` pages backwards from the marker."""

    criteria: tuple[Criterion, ...] = ()
    sort: tuple[tuple[str, Literal["asc", "desc"]], ...] = ()
    limit: int | None = None
    marker: str | None = None
    reverse: bool = False


class UnknownMarker(LookupError):
    """No row of the collection (that the caller may see) has the marker's id."""


class UnknownName(LookupError):
    """The collection cannot be filtered or sorted by this name."""


@dataclass(frozen=True)
class Page:
    rows: list[dict[str, Any]]
    more: bool
    """Whether another page follows in the direction of paging."""


@dataclass(frozen=True)
class Listing:
    """How one collection is listed. `columns` maps the names that may be filtered and sorted by to their columns."""

    select: sa.Select[Any]
    columns: Mapping[str, sa.ColumnElement[Any]]
    key: sa.ColumnElement[str]
    sort: tuple[tuple[str, Literal["asc", "desc"]], ...] = ()
    custom: Mapping[str, Callable[[Criterion], sa.ColumnElement[bool]]] = field(default_factory=dict)
    """Criteria that are no single column (a tag, an address, a status derived from several columns)."""

    def run(self, conn: sa.Connection, query: Query, *where: sa.ColumnElement[bool]) -> Page:
        """The page that the query asks for, of the rows that meet `where` (what the caller may see). Raises UnknownMarker, UnknownName."""
        visible = self.select.where(*where) if where else self.select
        statement = visible.where(*(self._criterion(criterion) for criterion in query.criteria))
        order = [(self._column(name), direction) for name, direction in (query.sort or self.sort)]
        order.append((self.key, "asc"))
        if query.reverse:
            order = [(column, "asc" if direction == "desc" else "desc") for column, direction in order]
        if query.marker is not None:
            statement = statement.where(self._after(conn, visible, query.marker, order))
        statement = statement.order_by(*(_ordered(column, direction) for column, direction in order))
        if query.limit is not None:
            statement = statement.limit(query.limit + 1)
        result = conn.execute(statement)
        names = tuple(result.keys())
        rows = [dict(zip(names, row, strict=True)) for row in result.all()]
        more = query.limit is not None and len(rows) > query.limit
        rows = rows[: query.limit] if query.limit is not None else rows
        if query.reverse:
            rows.reverse()
        return Page(rows, more)

    def _criterion(self, criterion: Criterion) -> sa.ColumnElement[bool]:
        custom = self.custom.get(criterion.name)
        if custom is not None:
            return custom(criterion)
        return _OPERATORS[criterion.operator](self._column(criterion.name), criterion.value)

    def _column(self, name: str) -> sa.ColumnElement[Any]:
        try:
            return self.columns[name]
        except KeyError:
            raise UnknownName(name) from None

    def _after(
        self, conn: sa.Connection, visible: sa.Select[Any], marker: str, order: Sequence[tuple[sa.ColumnElement[Any], str]]
    ) -> sa.ColumnElement[bool]:
        """(a, b, id) > (marker's) spelled out, with NULL before everything."""
        found = conn.execute(visible.with_only_columns(*(column for column, _ in order)).where(self.key == marker)).first()
        if found is None:
            raise UnknownMarker(marker)
        alternatives = []
        for position, (column, direction) in enumerate(order):
            equal = [
                sa.sql.operators.is_(order[i][0], None) if found[i] is None else order[i][0] == found[i] for i in range(position)
            ]
            beyond = _beyond(column, direction, found[position])
            if beyond is not None:
                alternatives.append(sa.and_(*equal, beyond))
        return sa.or_(sa.false(), *alternatives)


def _ordered(column: sa.ColumnElement[Any], direction: str) -> sa.ColumnElement[Any]:
    """NULL before everything, which PostgreSQL must be told; not where there is none, so that an index still serves."""
    ordered = column.desc() if direction == "desc" else column.asc()
    if not getattr(column, "nullable", True):
        return ordered
    return ordered.nulls_last() if direction == "desc" else ordered.nulls_first()


def _beyond(column: sa.ColumnElement[Any], direction: str, value: Any) -> sa.ColumnElement[bool] | None:
    if direction == "asc":
        return column.is_not(None) if value is None else column > value
    return None if value is None else sa.or_(column < value, column.is_(None))


def columns_of(table: sa.Table, *names: str) -> dict[str, sa.ColumnElement[Any]]:
    """The named columns of a table (all of them if none is named), as a Listing's `columns`."""
    return {name: table.c[name] for name in (names or table.c.keys())}
