"""Statements that run thousands of times a second.

SQLAlchemy builds, looks up and wraps a statement anew for each execution: 0.2 to 0.7 ms for a wide row on one core, twenty times what SQLite
itself takes. A `Prepared` is compiled once and run on the driver's own cursor, with the same conversions of types.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import sqlalchemy as sa

from nacre.store.portable import texts

_decode = msgspec.json.Decoder().decode
_Convert = Callable[[Any], Any]


def among(column: sa.ColumnElement[Any], name: str = "ids") -> sa.ColumnElement[bool]:
    """The column is one of the texts of a list, given as one parameter: any number of them, and one statement for all numbers."""
    return column.in_(sa.select(texts(sa.bindparam(name, type_=sa.JSON)).c.value))


class Prepared:
    """A statement with plain bound parameters (`sa.bindparam("name")`; texts, numbers and JSON values, no lists).

    An INSERT takes its row's columns by their names; what is left out has the column's default. Any statement raises KeyError for a
    parameter that is missing, and sa.exc.IntegrityError where a constraint says no.
    """

    def __init__(self, statement: sa.Select[Any] | sa.UpdateBase) -> None:
        self._statement = statement
        self._compiled: dict[str, _Compiled] = {}
        """By the name of the dialect."""

    def rows(self, conn: sa.Connection, **parameters: Any) -> list[dict[str, Any]]:
        """All rows (of a SELECT, or of RETURNING), as dicts keyed by the names of the columns."""
        compiled = self._compiled.get(conn.dialect.name) or self._compile(conn.dialect)
        with compiled.cursor(conn) as cursor:
            cursor.execute(compiled.sql, compiled.values(parameters))
            return [compiled.converted(row) for row in cursor.fetchall()]

    def first(self, conn: sa.Connection, **parameters: Any) -> dict[str, Any] | None:
        """The first row, or None."""
        rows = self.rows(conn, **parameters)
        return rows[0] if rows else None

    def scalars(self, conn: sa.Connection, **parameters: Any) -> list[Any]:
        """The first column of all rows."""
        return [next(iter(row.values())) for row in self.rows(conn, **parameters)]

    def scalar(self, conn: sa.Connection, **parameters: Any) -> Any:
        """The first column of the first row, or None."""
        return next(iter(self.scalars(conn, **parameters)), None)

    def run(self, conn: sa.Connection, **parameters: Any) -> int:
        """Execute; how many rows it changed."""
        return self.run_all(conn, (parameters,))

    def run_all(self, conn: sa.Connection, many: Sequence[Mapping[str, Any]]) -> int:
        """Execute once for each set of parameters; how many rows that changed."""
        compiled = self._compiled.get(conn.dialect.name) or self._compile(conn.dialect)
        with compiled.cursor(conn) as cursor:
            if len(many) == 1:
                cursor.execute(compiled.sql, compiled.values(many[0]))
            else:
                cursor.executemany(compiled.sql, [compiled.values(parameters) for parameters in many])
            return int(cursor.rowcount)

    def _compile(self, dialect: sa.Dialect) -> "_Compiled":
        self._compiled[dialect.name] = compiled = _Compiled(self._statement, dialect)
        return compiled


class _Compiled:
    """The statement in one database's words."""

    def __init__(self, statement: sa.Select[Any] | sa.UpdateBase, dialect: sa.Dialect) -> None:
        keys = _numbered_elsewhere(statement) if dialect.name != "sqlite" else None
        compiled = (statement.inline() if keys and isinstance(statement, sa.Insert) else statement).compile(
            dialect=dialect, column_keys=keys
        )
        assert isinstance(compiled, sa.sql.compiler.SQLCompiler)
        shown = statement.selected_columns if isinstance(statement, sa.Select) else statement.exported_columns
        columns = [(column.name, _converter(column.type, dialect)) for column in shown]
        self.sql = compiled.string
        self._names = tuple(name for name, _ in columns)
        self._converters = [(name, convert) for name, convert in columns if convert is not None]
        self._named = not dialect.positional
        self._order: Sequence[str] = tuple(compiled.binds if self._named else compiled.positiontup or ())
        binders = {name: bind.type.dialect_impl(dialect).bind_processor(dialect) for name, bind in compiled.binds.items()}
        self._binders: dict[str, _Convert] = {name: binder for name, binder in binders.items() if binder is not None}
        self._constants = {name: bind.effective_value for name, bind in compiled.binds.items() if not bind.required}
        self._defaults: list[tuple[str, _Convert]] = []
        """Columns of an INSERT whose default is made anew for each row."""
        if isinstance(statement, sa.Insert):
            self._take_defaults(statement.table)

    @contextmanager
    def cursor(self, conn: sa.Connection) -> Iterator[Any]:
        cursor = conn.connection.cursor()
        try:
            yield cursor
        except conn.dialect.loaded_dbapi.IntegrityError as error:
            raise sa.exc.IntegrityError(self.sql, None, error) from error
        finally:
            cursor.close()

    def values(self, parameters: Mapping[str, Any]) -> Any:
        """The parameters as the driver takes them: in the statement's order, or by their names."""
        if self._constants:
            parameters = {**self._constants, **parameters}
        for name, make in self._defaults:
            if name not in parameters:
                parameters = {**parameters, name: make(None)}
        binders = self._binders
        values = [binders[name](parameters[name]) if name in binders else parameters[name] for name in self._order]
        return dict(zip(self._order, values, strict=True)) if self._named else values

    def converted(self, values: tuple[Any, ...]) -> dict[str, Any]:
        row = dict(zip(self._names, values, strict=True))
        for name, convert in self._converters:
            value = row[name]
            if value is not None:
                row[name] = convert(value)
        return row

    def _take_defaults(self, table: Any) -> None:
        for column in table.c:
            if column.name in self._order:
                made = getattr(column.default, "arg", None)
                if callable(made):
                    self._defaults.append((column.name, made))
                elif made is not None or column.nullable or column.autoincrement is True:
                    self._constants[column.name] = made


def _numbered_elsewhere(statement: sa.Select[Any] | sa.UpdateBase) -> list[str] | None:
    """The columns of a plain INSERT into a table that numbers its rows: all but the number, for which SQLite takes a NULL and others do not."""
    if not isinstance(statement, sa.Insert) or not isinstance(statement.table, sa.Table):
        return None
    number = statement.table.autoincrement_column
    return None if number is None else [column.name for column in statement.table.c if column is not number]


def _converter(kind: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> _Convert | None:
    if dialect.name != "sqlite":
        # psycopg makes Python's own of everything by itself, JSON included.
        return None
    if isinstance(kind, sa.JSON):
        return _decode
    return kind.dialect_impl(dialect).result_processor(dialect, None)
