"""PostgreSQL, by psycopg 3: several processes may work over one database.

Domain code is written for one writer at a time, and so it is here: a transaction that writes takes one advisory lock of the whole database
first (`pg_advisory_xact_lock`), and each of its statements sees all that was committed before. So whatever holds on SQLite holds here: a
claim, a quota, a unique name, a revision. The lock costs one round trip, goes with its transaction however that ends, and is given in turn.
A process commits what it has queued in one transaction, as on SQLite, but lets others have their turn after TURN_S.

Reads take no lock: each is one snapshot (REPEATABLE READ, READ ONLY). Small ones run in the loop on a connection of their own (70 µs with a
database on the same machine), others in a few threads.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg.pq import TransactionStatus

from nacre.store.connections import REST_S, Session, cause_of, connecting, for_callers, said
from nacre.store.engine import Fenced, Job, StoreError
from nacre.store.listening import CHANNEL, Listener, payloads

T = TypeVar("T")

READERS = 4
TURN_S = 0.02
"""How long one process writes while another may be waiting."""
ATTEMPTS_MAX = 3
"""How often a group is begun, when the database took it back or went away before the commit."""
SETTLE_S = 10.0
"""How long a commit whose answer was lost is asked for."""
WRITERS = 0x6E616372
"""The advisory lock of those who write."""
_BEGIN_WRITE = f"BEGIN; SELECT pg_advisory_xact_lock({WRITERS})".encode()
_STANDBY = psycopg.errors.ReadOnlySqlTransaction
"""The server is not the primary any more."""
_AGAIN = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
_MINE = "SELECT pg_current_xact_id_if_assigned()::text"
_TIMELINE = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"
"""Another one after a standby has become the primary: numbers of transactions that it never heard of are given once more there."""
_NOW = "SELECT pg_current_snapshot()::text"

log = logging.getLogger("nacre.store")


class _Lost(Exception):
    """The connection went away. `committing`: while the transaction's commit was on its way."""

    def __init__(self, cause: BaseException, *, committing: bool = False) -> None:
        super().__init__(str(cause).strip() or type(cause).__name__)
        self.committing = committing


class PostgreSQL:
    """Implements nacre.store.engine.Engine."""

    shared = True

    def __init__(self, url: str) -> None:
        self._url = url
        self._engine = connecting(url, isolation_level="AUTOCOMMIT")
        self._reader = Session(self._engine)
        self._writer = Session(self._engine)
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._readers = threading.local()
        self._opened: list[Session] = []
        self._listener: Listener | None = None
        self._begin = _BEGIN_WRITE
        self._timeline = ""
        """Of the server that the writer is connected to."""
        self._reader.read(_check)

    def read_now(self, fn: Callable[[sa.Connection], T]) -> T:
        return self._reader.read(fn)

    async def read(self, fn: Callable[[sa.Connection], T]) -> T:
        return await asyncio.wrap_future(self._pool.submit(self._read, fn))

    def _read(self, fn: Callable[[sa.Connection], T]) -> T:
        session = getattr(self._readers, "session", None)
        if session is None:
            session = self._readers.session = Session(self._engine)
            self._opened.append(session)
        return session.read(fn)

    def state(self) -> Hashable:
        """The transactions that are at work or done: no two snapshots between which one was committed are the same."""
        return self._reader.ask(_NOW)

    def run_group(self, jobs: Sequence[Job]) -> int:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                return self._attempt(jobs)
            except _Lost as lost:
                self._writer.drop()
                if lost.committing or attempt == ATTEMPTS_MAX:
                    return _fail(jobs, f"the database went away: {lost}")
            except _AGAIN as error:
                self._writer.undo()
                if attempt == ATTEMPTS_MAX:
                    return _fail(jobs, f"the database took the transaction back: {said(error)}")
            except StoreError as error:
                return _fail(jobs, str(error), type(error))
            except BaseException as error:
                log.exception("a group of %d writes was rolled back", len(jobs))
                self._writer.undo()
                return _fail(jobs, f"the store could not commit: {said(error)}")
        raise AssertionError

    def _attempt(self, jobs: Sequence[Job]) -> int:
        """Raises _Lost, StoreError (Fenced), and psycopg.Error; then nothing of it stays."""
        if not self._writer.is_open:
            self._timeline = self._writer.ask(_TIMELINE)
        conn = self._writer.open()
        with self._watched():
            if not self._writer.run(self._begin):
                self._writer.run(b"ROLLBACK")
                raise Fenced("the other API processes took this one for dead, and undid what it had under way")
            done = self._run_jobs(conn, jobs)
            if all(job.error is not None for job in jobs[:done]):
                self._writer.run(b"ROLLBACK")
                return done
            announced = [each for job in jobs[:done] for each in job.announced]
            number = self._number_and_notify(announced)
        try:
            with self._watched():
                self._writer.run(b"COMMIT")
        except _Lost as lost:
            self._writer.drop()
            if number is not None and not self._committed(number):
                raise _Lost(lost, committing=True) from lost
        return done

    def _run_jobs(self, conn: sa.Connection, jobs: Sequence[Job]) -> int:
        """How many were run: those whose turn has come."""
        end = time.monotonic() + TURN_S
        for number, job in enumerate(jobs):
            if number and time.monotonic() > end:
                return number
            if len(jobs) == 1:
                self._run_job(conn, job, undo=None)
                continue
            self._writer.run(b"RELEASE job; SAVEPOINT job" if number else b"SAVEPOINT job")
            self._run_job(conn, job, undo=b"ROLLBACK TO job")
        return len(jobs)

    def _run_job(self, conn: sa.Connection, job: Job, *, undo: bytes | None) -> None:
        """`undo`: others share the transaction, which must go on if this one fails."""
        job.result, job.error, job.announced = None, None, []
        conn.info["announced"] = job.announced
        try:
            job.result = job.call(conn)
            if self._writer.raw.info.transaction_status is TransactionStatus.INERROR:
                raise StoreError("a statement of the transaction failed, and whoever sent it went on")
        except Exception as error:
            if not self._writer.lives() or isinstance(cause_of(error), (*_AGAIN, _STANDBY)):
                raise
            job.error = for_callers(error)
            job.announced = []
            if undo is not None:
                self._writer.run(undo)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Makes a lost connection a _Lost, and lets what the driver says out of SQLAlchemy's wrapping."""
        try:
            yield
        except _Lost:
            raise
        except Exception as error:
            cause = cause_of(error)
            if not self._writer.lives() or isinstance(cause, _STANDBY):
                raise _Lost(error) from error
            if isinstance(cause, _AGAIN):
                raise cause from error
            raise

    def _number_and_notify(self, announced: Sequence[tuple[str, Any]]) -> str | None:
        """The transaction's number, None where nothing was written; and what it announces goes out with its commit."""
        assert self._listener is not None
        row = self._writer.raw.execute(_MINE).fetchone()
        for payload in payloads(self._listener.pid, announced):
            self._writer.raw.execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload))
        return None if row is None else row[0]

    def _committed(self, number: str) -> bool:
        """Ask the database, once it is there again, how a commit ended whose answer was lost. False also where it cannot say: a standby
        that has taken over may have it or not."""
        end = time.monotonic() + SETTLE_S
        while time.monotonic() < end:
            try:
                if self._writer.ask(_TIMELINE) != self._timeline:
                    self._writer.drop()
                    return False
                row = self._writer.raw.execute("SELECT pg_xact_status(%s::text::xid8)", (number,)).fetchone()
                if row is not None and row[0] != "in progress":
                    return bool(row[0] == "committed")
            except (StoreError, psycopg.Error):
                self._writer.drop()
            time.sleep(REST_S / 5)
        return False

    def alone(self, fn: Callable[[sa.Connection], None]) -> None:
        engine = connecting(self._url)
        try:
            with engine.begin() as conn:
                conn.exec_driver_sql("SET LOCAL statement_timeout = 0")
                conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS})")
                fn(conn)
        except sa.exc.OperationalError as error:
            raise StoreError(f"the database did not do it: {said(error)}") from error
        finally:
            engine.dispose()

    def listen(self, hear: Callable[[list[tuple[str, Any]] | None], None]) -> None:
        self._listener = Listener(self._url, hear)

    @property
    def epoch(self) -> str:
        return self._timeline

    def write_while(self, row: sa.Select[Any]) -> None:
        # It goes along with the lock, and sees all that was committed by those who had it before.
        text = str(row.compile(dialect=self._engine.dialect, compile_kwargs={"literal_binds": True}))
        self._begin = _BEGIN_WRITE + b"; " + text.encode()

    def lead(self, changed: Callable[[bool], None]) -> None:
        assert self._listener is not None
        self._listener.lead(changed)

    def close_writer(self) -> None:
        self._writer.close()

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        self._pool.shutdown(wait=True)
        for session in (self._reader, *self._opened):
            session.close()
        self._engine.dispose()


def _check(conn: sa.Connection) -> None:
    """Raises StoreError for a database in which things would be sorted in another order than everywhere else, or lost."""
    collation, encoding = conn.exec_driver_sql(
        "SELECT datcollate, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"
    ).one()
    if collation not in ("C", "POSIX") or encoding != "UTF8":
        raise StoreError(
            f"the database has the collation {collation} and the encoding {encoding}; make one with"
            " createdb --template=template0 --encoding=UTF8 --locale=C NAME"
        )


def _fail(jobs: Sequence[Job], message: str, kind: type[StoreError] = StoreError) -> int:
    for job in jobs:
        job.error = kind(message)
        job.announced = []
    return len(jobs)
