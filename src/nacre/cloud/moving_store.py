"""A cloud's store from one database into another: all in one transaction of the new one, which is empty before and whole after.

The transaction leaves a mark with the digest of what it brought. Whoever was interrupted after it, and comes again, sees by that mark that
the work is done; a database that holds anything else is refused.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from nacre.cloud import schema
from nacre.store import Store, StoreError

BATCH_ROWS = 500


class Moved(NamedTuple):
    tables: int
    rows: int


async def move(source_url: str, target_url: str) -> Moved:
    """Nobody may write into the source meanwhile. Raises StoreError."""
    source = Store(source_url)
    try:
        await schema.prepare(source)
        target = Store(target_url)
        try:
            moved: list[Moved] = []
            # One snapshot of the source, in this thread, while the target's transaction runs in another.
            brought = source.read_now(_read_all)
            await target.alone(lambda conn: moved.append(_bring(conn, brought)))
            return moved[0]
        finally:
            target.close()
    finally:
        source.close()


class _Brought(NamedTuple):
    rows: dict[str, list[dict[str, Any]]]
    digest: str


def _read_all(conn: sa.Connection) -> _Brought:
    digest = hashlib.sha256()
    rows = {}
    for table in schema.metadata.sorted_tables:
        found = [dict(row) for row in conn.execute(sa.select(table).order_by(*table.primary_key.columns)).mappings()]
        digest.update(repr((table.name, [tuple(row.items()) for row in found])).encode())
        rows[table.name] = _parents_first(table, found)
    return _Brought(rows, digest.hexdigest())


def _bring(conn: sa.Connection, brought: _Brought) -> Moved:
    rows = sum(len(each) for each in brought.rows.values())
    moved = Moved(len(brought.rows), rows)
    mark = f"nacre store move {brought.digest}"
    there = schema.tables_in(conn)
    if there:
        said = conn.exec_driver_sql("SELECT obj_description(to_regclass('alembic_version'), 'pg_class')").scalar()
        if said == mark:
            return moved
        raise StoreError(f"the database is not empty: it has {len(there)} tables, {there[0]} among them; give an empty one")
    schema.make(conn)
    for table, _ in schema.SEEDS:
        conn.execute(table.delete())  # It comes with the rest.
    for table in schema.metadata.sorted_tables:
        for batch in _batches(brought.rows[table.name]):
            conn.execute(table.insert(), batch)
        _count(conn, table, len(brought.rows[table.name]))
        _go_on_counting(conn, table)
    conn.exec_driver_sql(f"COMMENT ON TABLE alembic_version IS '{mark}'")
    return moved


def _batches(rows: Sequence[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    for start in range(0, len(rows), BATCH_ROWS):
        yield rows[start : start + BATCH_ROWS]


def _parents_first(table: sa.Table, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that refer to others of their own table come after those."""
    links = [
        (key.parent.name, key.column.name)
        for key in table.foreign_keys
        if key.column.table is table and key.parent is not key.column
    ]
    if not links:
        return rows
    there: dict[str, set[Any]] = {name: set() for _, name in links}
    ordered: list[dict[str, Any]] = []
    waiting = rows
    while waiting:
        ready = [
            row for row in waiting if all(row[child] in (None, row[name]) or row[child] in there[name] for child, name in links)
        ]
        if not ready:
            raise StoreError(f"rows of {table.name} refer to others that are not there")
        ordered += ready
        for name in there:
            there[name].update(row[name] for row in ready)
        placed = {id(row) for row in ready}
        waiting = [row for row in waiting if id(row) not in placed]
    return ordered


def _count(conn: sa.Connection, table: sa.Table, expected: int) -> None:
    found = conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
    if found != expected:
        raise StoreError(f"{table.name}: {found} rows of {expected} arrived")


def _go_on_counting(conn: sa.Connection, table: sa.Table) -> None:
    """A column that the database numbers goes on after the highest number that came."""
    column = table.autoincrement_column
    if column is None:
        return
    sequence = conn.execute(sa.select(sa.func.pg_get_serial_sequence(table.name, column.name))).scalar()
    highest = conn.execute(sa.select(sa.func.max(column))).scalar()
    if sequence is not None and highest is not None:
        conn.execute(sa.select(sa.func.setval(sequence, highest)))
