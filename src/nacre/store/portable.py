"""What SQLite and PostgreSQL spell differently, under one name each. New SQL takes these and nothing of a dialect's own.

`insert` is an INSERT with `on_conflict_do_update` and `on_conflict_do_nothing`, which both databases understand.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

__all__ = ["Insert", "elements", "greatest", "insert", "texts"]


class _Each(FunctionElement[Any]):
    """The elements of the JSON array at a place within a column; no rows where there is none."""

    name = "each"
    inherit_cache = True


class _EachText(_Each):
    """The same for an array of texts."""

    name = "each_text"
    inherit_cache = True


def elements(column: sa.ColumnElement[Any], *place: str) -> sa.TableValuedAlias:
    """The JSON array at that place (keys from the outside in) as a table; `c.value["key"].as_string()` is a member of an element."""
    return _Each(column, *(sa.literal_column(_quoted(key)) for key in place)).table_valued(sa.column("value", sa.JSON))


def texts(value: sa.ColumnElement[Any]) -> sa.TableValuedAlias:
    """A JSON array of texts as a table with the column `value`."""
    return _EachText(value).table_valued(sa.column("value", sa.Text))


def greatest(one: sa.ColumnElement[Any], other: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The greater of two values that are not NULL."""
    return sa.case((one > other, one), else_=other)


def _quoted(key: str) -> str:
    if not key.isidentifier():
        raise ValueError(f"{key!r} is no plain name")
    return f"'{key}'"


@compiles(_Each, "sqlite")
def _each_in_sqlite(element: _Each, compiler: Any, **options: Any) -> str:
    column, *place = (compiler.process(clause, **options) for clause in element.clauses)
    path = ".".join(("$", *(key.strip("'") for key in place)))
    return f"json_each({column}, '{path}')"


@compiles(_Each, "postgresql")
def _each_in_postgresql(element: _Each, compiler: Any, **options: Any) -> str:
    column, *place = (compiler.process(clause, **options) for clause in element.clauses)
    value = " -> ".join((column, *place))
    unpack = "json_array_elements_text" if isinstance(element, _EachText) else "json_array_elements"
    # What is no array would be an error; SQLite has no rows for it.
    return f"{unpack}(CASE WHEN json_typeof({value}) = 'array' THEN {value} END)"
