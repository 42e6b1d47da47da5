"""Every domain's tables in one place, and the schema's way from nothing, or from an earlier version, to this one.

A fresh database is made at once from the metadata and stamped; one of an earlier version walks the migrations. A test holds both ways
against each other. `python -m nacre.cloud.schema MESSAGE` drafts a migration from the difference.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from nacre.cloud.builds import tables as builds
from nacre.cloud.compute import tables as compute
from nacre.cloud.containers import tables as containers
from nacre.cloud.discovery import tables as discovery
from nacre.cloud.hosts import tables as hosts
from nacre.cloud.identity import tables as identity
from nacre.cloud.image import tables as image
from nacre.cloud.network import tables as network
from nacre.cloud.processes import tables as processes
from nacre.cloud.stacks import tables as stacks
from nacre.cloud.volumes import tables as volumes
from nacre.store import Store, StoreError, metadata

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = [
    "HEAD",
    "builds",
    "compute",
    "containers",
    "discovery",
    "hosts",
    "identity",
    "image",
    "metadata",
    "network",
    "prepare",
    "processes",
    "stacks",
    "upgrade",
    "volumes",
]

HEAD = "0013"
"""The newest migration: the schema that this code needs."""
OLDEST = "0012"
"""The oldest one whose code may serve over it."""
SEEDS: tuple[tuple[sa.Table, dict[str, object]], ...] = (
    (processes.schema_state, {"id": "schema", "oldest": OLDEST}),
    (identity.identity_state, {"id": "identity", "generation": 0}),
)
"""Rows that a new schema comes with."""
MIGRATIONS = Path(__file__).parent.parent / "store" / "migrations"

log = logging.getLogger("nacre.store")

_version = sa.Table("alembic_version", sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))


async def prepare(store: Store) -> None:
    """Bring the store to this schema. Raises StoreError on a database of a newer version than this code may serve over."""
    version = store.read_now(current)
    if version == HEAD:
        return
    if version is not None and version > HEAD and store.read_now(oldest) <= HEAD:
        log.warning("the store is at %s, which this code (%s) may still serve over: another API process is newer", version, HEAD)
        return
    await (store.write(make) if version is None else store.alone(upgrade))


def current(conn: sa.Connection) -> str | None:
    """The database's version; None for an empty database."""
    if not sa.inspect(conn).has_table(_version.name):
        return None
    return str(conn.execute(sa.select(_version.c.version_num)).scalar_one())


def oldest(conn: sa.Connection) -> str:
    """The oldest version whose code may serve over this database: while several API processes are replaced one by one, those of two versions
    do. A migration that only adds leaves it; one that takes something away, which the version before it still needs, raises it."""
    return str(conn.execute(sa.select(processes.schema_state.c.oldest)).scalar_one())


def make(conn: sa.Connection) -> None:
    """Everything at once, in an empty database; nothing where another process was quicker."""
    if current(conn) is not None:
        return
    metadata.create_all(conn)
    _version.create(conn)
    conn.execute(_version.insert().values(version_num=HEAD))
    for table, values in SEEDS:
        conn.execute(table.insert().values(values))


def tables_in(conn: sa.Connection) -> list[str]:
    """Whatever tables there are."""
    return sorted(sa.inspect(conn).get_table_names())


def drop(conn: sa.Connection) -> None:
    """Nothing of it is left."""
    _version.drop(conn, checkfirst=True)
    metadata.drop_all(conn)


def upgrade(conn: sa.Connection, version: str = HEAD) -> None:
    """Walk the migrations that the database has not seen, up to that version."""
    from alembic import command
    from alembic.util import CommandError

    config = _config()
    config.attributes["connection"] = conn
    try:
        command.upgrade(config, version)
    except CommandError as error:
        raise StoreError(f"the database is of a schema that this version does not know: {error}") from error


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["metadata"] = metadata
    return config


def draft(message: str) -> None:
    """Write the next migration's draft: the difference between the last version and the tables."""
    from alembic import command

    number = f"{len(list((MIGRATIONS / 'versions').glob('[0-9]*.py'))) + 1:04}"
    engine = sa.create_engine("sqlite://")
    with engine.connect() as conn:
        config = _config()
        config.attributes["connection"] = conn
        command.upgrade(config, "head")
        command.revision(config, message, autogenerate=True, rev_id=number)


if __name__ == "__main__":
    draft(sys.argv[1])
