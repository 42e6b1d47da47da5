"""Transactions. Domain code is plain functions of a connection; this file decides where and when they run.

On SQLite (WAL) reads run in the event loop, each in a snapshot of its own, and writes in one thread that commits in
groups: it takes what is queued, gives each job a savepoint, and commits (and syncs to disk) once for all of them. A job that
raises is rolled back to its savepoint alone. Nothing is announced and no future resolves before the commit is on disk.
"""

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Hashable
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import msgspec
import sqlalchemy as sa

P = ParamSpec("P")
T = TypeVar("T")
Watcher = Callable[[str, Any], None]

GROUP_JOBS_MAX = 64
"""Jobs that share one commit."""
BUSY_TIMEOUT_MS = 10_000
CACHE_KIB = 32_768
REMEMBERED_MAX = 10_000
"""Values that `remember` keeps between two commits."""

log = logging.getLogger("nacre.store")


class StoreError(Exception):
    """The store could not do its work (disk full, database locked or damaged). Nothing of the transaction is left."""


def announce(conn: sa.Connection, topic: str, value: Any = None) -> None:
    """Tell the watchers of `topic` once this transaction is committed; never if it is rolled back. A hint: it may be lost with the process."""
    conn.info.setdefault("announced", []).append((topic, value))


class _Job:
    __slots__ = ("announced", "call", "error", "future", "result")

    def __init__(self, call: Callable[[sa.Connection], Any], future: "asyncio.Future[Any]") -> None:
        self.call = call
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None
        self.announced: list[tuple[str, Any]] = []


class Store:
    """The embedded store. `url` is an SQLAlchemy URL, so far `sqlite:///PATH`."""

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(
            url, isolation_level="AUTOCOMMIT", json_deserializer=msgspec.json.decode, connect_args={"check_same_thread": False}
        )
        if self._engine.dialect.name != "sqlite":
            raise StoreError(f"the store {self._engine.dialect.name} is not supported yet; use sqlite:///PATH")
        sa.event.listen(self._engine, "connect", _set_pragmas)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._watchers: dict[str, set[Watcher]] = {}
        self._remembered: dict[Hashable, Any] = {}
        self._reader = self._engine.connect()
        self._reader_raw = _raw(self._reader)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._write_jobs, name="store-writer", daemon=True)
        self._thread.start()

    async def read(self, fn: Callable[Concatenate[sa.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn` on one snapshot of the store. It must not write."""
        return self.read_now(fn, *args, **kwargs)

    def read_now(self, fn: Callable[Concatenate[sa.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        self._reader_raw.execute("BEGIN")
        try:
            return fn(self._reader, *args, **kwargs)
        finally:
            self._reader_raw.execute("COMMIT")

    def remember(self, key: Hashable, fn: Callable[[sa.Connection], T]) -> T:
        """`fn` of the store as of the last commit: what was read under this key is read again only after something was written.

        Exact, as every write of this store goes through this object, and forgotten before any writer is answered.
        """
        if key in self._remembered:
            return cast(T, self._remembered[key])
        value = self.read_now(fn)
        if len(self._remembered) < REMEMBERED_MAX:
            self._remembered[key] = value
        return value

    async def write(self, fn: Callable[Concatenate[sa.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn` in a write transaction and return once it is on disk. What `fn` raises comes out here, and nothing of it stays.

        A cancelled caller (a client that hung up) does not undo a write that was already taken up.
        """
        loop = asyncio.get_running_loop()
        self._loop = loop
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put(_Job(lambda conn: fn(conn, *args, **kwargs), future))
        return await asyncio.shield(future)

    async def alone(self, fn: Callable[[sa.Connection], None]) -> None:
        """Run `fn` in a transaction on a connection of its own, for tools that manage transactions by themselves (Alembic)."""
        await asyncio.to_thread(self._alone, fn)

    def _alone(self, fn: Callable[[sa.Connection], None]) -> None:
        engine = sa.create_engine(self._engine.url)
        # The driver would begin a transaction late and leave DDL outside of it: it must not, and we begin by ourselves.
        sa.event.listen(engine, "connect", lambda raw, record: setattr(raw, "isolation_level", None))
        sa.event.listen(engine, "begin", lambda conn: conn.exec_driver_sql("BEGIN IMMEDIATE"))
        with engine.begin() as conn:
            fn(conn)
        engine.dispose()

    def watch(self, topic: str, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher(topic, value)` in the loop after each commit that announced the topic. Returns the call that ends it."""
        watchers = self._watchers.setdefault(topic, set())
        watchers.add(watcher)

        def unwatch() -> None:
            watchers.discard(watcher)
            if not watchers:
                self._watchers.pop(topic, None)

        return unwatch

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join()
        self._reader.close()
        self._engine.dispose()

    def _write_jobs(self) -> None:
        conn = self._engine.connect()
        raw = _raw(conn)
        ended = False
        while not ended:
            first = self._jobs.get()
            if first is None:
                break
            jobs = [first]
            while len(jobs) < GROUP_JOBS_MAX:
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if job is None:
                    ended = True
                    break
                jobs.append(job)
            _run_group(conn, raw, jobs)
            self._deliver_from_thread(jobs)
        conn.close()

    def _deliver_from_thread(self, jobs: list[_Job]) -> None:
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        # The loop may close between the test and the call: then nobody waits for these jobs any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._deliver, jobs)

    def _deliver(self, jobs: list[_Job]) -> None:
        self._remembered.clear()
        for job in jobs:
            if not job.future.done():
                if job.error is not None:
                    job.future.set_exception(job.error)
                else:
                    job.future.set_result(job.result)
        for job in jobs:
            for topic, value in job.announced:
                for watcher in tuple(self._watchers.get(topic, ())):
                    watcher(topic, value)


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


def _run_group(conn: sa.Connection, raw: sqlite3.Connection, jobs: list[_Job]) -> None:
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


def _run_job(conn: sa.Connection, raw: sqlite3.Connection, job: _Job) -> None:
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
