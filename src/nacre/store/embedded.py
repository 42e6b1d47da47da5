"""SQLite (WAL): reads in the loop, each in a snapshot of its own; one process."""

import logging
import sqlite3
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from nacre.store.engine import Job, StoreError

T = TypeVar("T")

BUSY_TIMEOUT_MS = 10_000
CACHE_KIB = 32_768

log = logging.getLogger("nacre.store")


class SQLite:
    """Implements nacre.store.engine.Engine."""

    shared = False
    epoch = ""

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(
            url, isolation_level="AUTOCOMMIT", json_deserializer=msgspec.json.decode, connect_args={"check_same_thread": False}
        )
        sa.event.listen(self._engine, "connect", _set_pragmas)
        self._reader = self._engine.connect()
        self._reader_raw = _raw(self._reader)
        self._writer: sa.Connection | None = None

    def read_now(self, fn: Callable[[sa.Connection], T]) -> T:
        self._reader_raw.execute("BEGIN")
        try:
            return fn(self._reader)
        finally:
            self._reader_raw.execute("COMMIT")

    async def read(self, fn: Callable[[sa.Connection], T]) -> T:
        return self.read_now(fn)

    def state(self) -> Hashable:
        """Always the same: every write goes through this process."""
        return 0

    def run_group(self, jobs: Sequence[Job]) -> int:
        if self._writer is None:
            self._writer = self._engine.connect()
        _run_group(self._writer, _raw(self._writer), jobs)
        return len(jobs)

    def alone(self, fn: Callable[[sa.Connection], None]) -> None:
        engine = sa.create_engine(self._engine.url)
        # The driver would begin a transaction late and leave DDL outside of it: it must not, and we begin by ourselves.
        sa.event.listen(engine, "connect", lambda raw, record: setattr(raw, "isolation_level", None))
        sa.event.listen(engine, "begin", lambda conn: conn.exec_driver_sql("BEGIN IMMEDIATE"))
        with engine.begin() as conn:
            fn(conn)
        engine.dispose()

    def listen(self, hear: Callable[[list[tuple[str, Any]] | None], None]) -> None:
        """There is nobody else."""

    def write_while(self, row: sa.Select[Any]) -> None:
        """There is nobody who could take it away."""

    def lead(self, changed: Callable[[bool], None]) -> None:
        changed(True)

    def close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def close(self) -> None:
        self._reader.close()
        self._engine.dispose()


def _raw(conn: sa.Connection) -> sqlite3.Connection:
    raw = conn.connection.dbapi_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw


def _set_pragmas(raw: sqlite3.Connection, _record: object) -> None:
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        f"cache_size=-{CACHE_KIB}",
        "temp_store=MEMORY",
    ):
        raw.execute(f"PRAGMA {pragma}")


def _run_group(conn: sa.Connection, raw: sqlite3.Connection, jobs: Sequence[Job]) -> None:
    try:
        raw.execute("BEGIN IMMEDIATE")
        for job in jobs:
            _run_job(conn, raw, job)
        raw.execute("COMMIT")
    except BaseException as error:
        log.exception("a group of %d writes was rolled back", len(jobs))
        if raw.in_transaction:
            raw.execute("ROLLBACK")
        for job in jobs:
            if job.error is None:
                job.error = StoreError(f"the store could not commit: {error}")
            job.announced = []


def _run_job(conn: sa.Connection, raw: sqlite3.Connection, job: Job) -> None:
    raw.execute("SAVEPOINT job")
    conn.info["announced"] = job.announced
    try:
        job.result = job.call(conn)
        raw.execute("RELEASE job")
    except Exception as error:
        if not raw.in_transaction:
            raise
        raw.execute("ROLLBACK TO job")
        raw.execute("RELEASE job")
        job.error = error
        job.announced = []
