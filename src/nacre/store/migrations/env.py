"""Alembic's entry point: runs the migrations on the connection that the store hands over, and completes the drafts of new ones.

A column that may not be empty and comes to a table with rows needs a value for those rows: a draft takes the one that the tables' own
definition gives new rows.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from alembic import context
from alembic.operations.ops import AddColumnOp, MigrateOperation, ModifyTableOps, UpgradeOps
from alembic.util import CommandError


def _complete(_context: object, _revision: object, directives: list[Any]) -> None:
    for script in directives:
        for operation in _added(script.upgrade_ops_list):
            if not operation.column.nullable and operation.column.server_default is None:
                operation.column = _with_value(operation.table_name, operation.column)


def _added(operations: Iterable[MigrateOperation]) -> Iterator[AddColumnOp]:
    for operation in operations:
        if isinstance(operation, UpgradeOps | ModifyTableOps):
            yield from _added(operation.ops)
        elif isinstance(operation, AddColumnOp):
            yield operation


def _with_value(table: str, column: sa.Column[Any]) -> sa.Column[Any]:
    """The column with what rows that are there already have in it. Raises CommandError where nothing says what that is."""
    if not isinstance(column.default, sa.ColumnDefault):
        raise CommandError(f"{table}.{column.name}: rows that are there already need a value; give the column a default")
    value = column.default.arg(None) if callable(column.default.arg) else column.default.arg
    if isinstance(column.type, sa.JSON):
        value = json.dumps(value)
    # Each database has its own words for these two.
    words = {True: sa.true(), False: sa.false()}[value] if isinstance(value, bool) else str(value)
    return sa.Column(column.name, column.type, nullable=False, server_default=words)


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes.get("metadata"),
    render_as_batch=True,
    process_revision_directives=_complete,
)
context.run_migrations()
