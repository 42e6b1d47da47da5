"""A database that walked the migrations and one that was made at once are the same."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from nacre.cloud import schema
from nacre.store import Store, StoreError
from tests.postgres import on_postgresql, store_url


async def _walk(state: Path) -> Store:
    store = Store(store_url(state / "walked.sqlite"))
    await store.alone(schema.upgrade)
    return store


@pytest.fixture
def walked(tmp_path: Path) -> Store:
    import asyncio

    return asyncio.run(_walk(tmp_path))


def test_the_migrations_lead_to_the_tables_that_the_code_declares(walked: Store) -> None:
    def differences(conn: sa.Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(conn), schema.metadata))

    found = [one for one in walked.read_now(differences) if "alembic_version" not in str(one)]
    assert found == []
    assert walked.read_now(schema.current) == schema.HEAD
    walked.close()


def test_a_database_of_a_newer_version_is_refused_where_it_says_so(tmp_path: Path) -> None:
    import asyncio

    async def story() -> None:
        store = Store(store_url(tmp_path / "newer.sqlite"))
        await schema.prepare(store)
        await store.write(lambda conn: conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'"))
        # It only added to what this code knows: both may serve over it.
        await schema.prepare(store)
        await store.write(lambda conn: conn.exec_driver_sql("UPDATE schema_state SET oldest = '9998'"))
        with pytest.raises(StoreError, match="does not know"):
            await schema.prepare(store)
        store.close()

    asyncio.run(story())


def _filled(conn: sa.Connection) -> dict[str, int]:
    """A row in every table, with something in every column. Returns how many rows each table has."""
    found = sa.MetaData()
    found.reflect(conn)
    values: dict[tuple[str, str], object] = {}
    for table in found.sorted_tables:
        if table.name == "alembic_version":
            continue
        row = {column.name: _value(column, values) for column in table.columns}
        values.update({(table.name, name): value for name, value in row.items()})
        conn.execute(table.insert().values(row))
    return {table.name: conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() for table in found.sorted_tables}


def _value(column: sa.Column[object], parents: dict[tuple[str, str], object]) -> object:
    for key in column.foreign_keys:
        # A row that refers to its own table refers to itself.
        return parents.get((key.column.table.name, key.column.name), f"some {key.column.name}")
    if isinstance(column.type, sa.JSON):
        return {"kept": True}
    if isinstance(column.type, sa.Boolean):
        return True
    if isinstance(column.type, sa.Numeric | sa.Float | sa.Integer):
        return 7
    return f"some {column.name}"[: getattr(column.type, "length", None)]


def test_a_database_of_the_first_version_keeps_its_rows_on_the_way_to_the_newest(tmp_path: Path) -> None:
    import asyncio

    before: dict[str, int] = {}

    def first(conn: sa.Connection) -> dict[str, int]:
        schema.upgrade(conn, "0001")
        return _filled(conn)

    def counts(conn: sa.Connection, names: list[str]) -> dict[str, int]:
        return {name: conn.execute(sa.select(sa.func.count()).select_from(sa.table(name))).scalar_one() for name in names}

    def added(conn: sa.Connection) -> list[object]:
        hosts, servers, ports = schema.hosts.hosts, schema.compute.servers, schema.network.ports
        columns = (hosts.c.labels, servers.c.rebuilds, servers.c.old_flavor, ports.c.aliases)
        return [conn.execute(sa.select(column)).scalar_one() for column in columns]

    async def story() -> None:
        store = Store(store_url(tmp_path / "first.sqlite"))
        await store.alone(lambda conn: before.update(first(conn)))
        assert min(before.values()) == 1
        await schema.prepare(store)
        assert store.read_now(schema.current) == schema.HEAD
        # What was shared has an RBAC policy that says so, which counts among what its project has.
        assert store.read_now(counts, list(before)) == {**before, "network_usages": 2}
        assert store.read_now(added) == [{}, 0, None, []]
        if not on_postgresql():
            # The other one checks each row as it comes.
            broken = store.read_now(lambda conn: conn.exec_driver_sql("PRAGMA foreign_key_check").all())
            assert broken == []
        store.close()

    asyncio.run(story())
