"""PostgreSQL, by psycopg 3: several processes may work over one database.

Domain code is written for one writer at a time, and so it is here: a transaction that writes takes one advisory lock of the whole database
first (`pg_advisory_xact_lock`), and each of its statements sees all that was committed before. So whatever holds on SQLite holds here: a
claim, a quota, a unique name, a revision. The lock costs one round trip, goes with its transaction however that ends, and is given in turn.
A process commits what it has queued in one transaction, as on SQLite, but lets others have their turn after TURN_S.

Reads take no lock: each is one snapshot (REPEATABLE READ, READ ONLY). Small ones run in the loop on a connection of their own (a round trip
to a database on the same machine takes some 50 µs), others in a few threads.
"""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import msgspec
import psycopg
import sqlalchemy as sa
from psycopg.adapt import Loader
from psycopg.pq import ExecStatus, TransactionStatus

from nacre.store.engine import Job, NotStorable, StoreError

T = TypeVar("T")

READERS = 4
TURN_S = 0.02
"""How long one process writes while another may be waiting."""
ATTEMPTS_MAX = 3
"""How often a group is begun, when the database took it back or went away before the commit."""
CONNECT_TIMEOUT_S = 3
REST_S = 0.5
"""After a connection could not be made, none is tried for so long: whoever asks is told at once."""
SETTLE_S = 10.0
"""How long a commit whose answer was lost is asked for."""
LISTEN_TURN_S = 1.0
CHANNEL = "nacre"
PAYLOAD_BYTES_MAX = 7900
"""NOTIFY takes less than 8000 bytes."""
WRITERS = 0x6E616372
"""The advisory lock of those who write."""
OWNER = WRITERS + 1
"""The advisory lock of the one process that serves."""
OWN_WAIT_S = 30.0
"""A process that has just died, or its machine, is noticed sooner."""
SETTINGS = " ".join(
    f"-c {name}={value}"
    for name, value in {
        # A process that was stopped in the middle of its turn must not keep all others from theirs.
        "idle_in_transaction_session_timeout": "15s",
        "lock_timeout": "30s",
        "statement_timeout": "60s",
        "tcp_keepalives_idle": 5,
        "tcp_keepalives_interval": 2,
        "tcp_keepalives_count": 3,
        "timezone": "UTC",
    }.items()
)
_CONNECT: dict[str, Any] = {
    "autocommit": True,
    "connect_timeout": CONNECT_TIMEOUT_S,
    "options": SETTINGS,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
_BEGIN_READ = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_BEGIN_WRITE = f"BEGIN; SELECT pg_advisory_xact_lock({WRITERS})".encode()
_STANDBY = psycopg.errors.ReadOnlySqlTransaction
"""The server is not the primary any more."""
_AGAIN = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
_MINE = "SELECT pg_current_xact_id_if_assigned()::text"
_TIMELINE = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"
"""Another one after a standby has become the primary: numbers of transactions that it never heard of are given once more there."""
_NOW = "SELECT pg_current_snapshot()::text"

log = logging.getLogger("nacre.store")


class _Number(Loader):
    """A NUMERIC, which is what the database makes of a sum of integers, as Python's own number."""

    def load(self, data: Any) -> int | float:
        text = bytes(data).decode()
        return int(text) if text.lstrip("-").isdigit() else float(text)


class _Lost(Exception):
    """The connection went away. `committing`: while the transaction's commit was on its way."""

    def __init__(self, cause: BaseException, *, committing: bool = False) -> None:
        super().__init__(str(cause).strip() or type(cause).__name__)
        self.committing = committing


class _Session:
    """One connection, made when it is needed and again after it was lost. One thread at a time uses it."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._conn: sa.Connection | None = None
        self.raw: psycopg.Connection[Any]
        """The driver's own connection. SQLAlchemy lets go of one that is lost before we have asked it what it knows."""
        self._rest_until_s = 0.0

    def open(self) -> sa.Connection:
        """Raises StoreError."""
        if self._conn is not None:
            return self._conn
        if time.monotonic() < self._rest_until_s:
            raise StoreError("the database cannot be reached")
        try:
            self._conn = self._engine.connect()
        except (psycopg.Error, sa.exc.DBAPIError) as error:
            self._rest_until_s = time.monotonic() + REST_S
            raise StoreError(f"the database cannot be reached: {_said(error)}") from error
        raw = self._conn.connection.dbapi_connection
        assert isinstance(raw, psycopg.Connection)
        self.raw = raw
        return self._conn

    @property
    def is_open(self) -> bool:
        return self._conn is not None

    def run(self, command: bytes) -> None:
        """A command without parameters or rows that anybody looks at. Raises psycopg.Error."""
        result = self.raw.pgconn.exec_(command)
        if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
            if not self.lives():
                raise psycopg.OperationalError(result.get_error_message())
            raise psycopg.errors.error_from_result(result)

    def lives(self) -> bool:
        return self._conn is not None and not self.raw.broken and not self.raw.closed

    def read(self, fn: Callable[[sa.Connection], T]) -> T:
        """`fn` on one snapshot; once more on a new connection if the old one turns out to be lost."""
        fresh = self._conn is None
        conn = self.open()
        try:
            self.run(_BEGIN_READ)
            result = fn(conn)
            self.run(b"COMMIT")
            return result
        except BaseException as error:
            if self.lives():
                self.undo()
                raise _for_callers(error)  # noqa: B904
            self.drop()
            if fresh:
                raise StoreError(f"the database went away: {_said(error)}") from error
        return self.read(fn)

    def ask(self, question: str) -> str:
        """One value, in one round trip. Raises StoreError."""
        for _ in range(2):
            self.open()
            try:
                return str(self.raw.execute(question).fetchone()[0])  # type: ignore[index]
            except psycopg.Error as error:
                cause = error
                self.drop()
        raise StoreError(f"the database went away: {_said(cause)}")

    def undo(self) -> None:
        if not self.lives():
            self.drop()
            return
        try:
            self.run(b"ROLLBACK")
        except psycopg.Error:
            self.drop()

    def drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            with suppress(Exception):
                conn.invalidate()
            with suppress(Exception):
                conn.close()

    def close(self) -> None:
        self.drop()


class PostgreSQL:
    """Implements nacre.store.engine.Engine."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._engine = _engine(url, isolation_level="AUTOCOMMIT")
        self._reader = _Session(self._engine)
        self._writer = _Session(self._engine)
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._readers = threading.local()
        self._opened: list[_Session] = []
        self._listener: _Listener | None = None
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
            session = self._readers.session = _Session(self._engine)
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
                    return _fail(jobs, f"the database took the transaction back: {_said(error)}")
            except StoreError as error:
                return _fail(jobs, str(error))
            except BaseException as error:
                log.exception("a group of %d writes was rolled back", len(jobs))
                self._writer.undo()
                return _fail(jobs, f"the store could not commit: {_said(error)}")
        raise AssertionError

    def _attempt(self, jobs: Sequence[Job]) -> int:
        """Raises _Lost, StoreError, and psycopg.Error; then nothing of it stays."""
        if not self._writer.is_open:
            self._timeline = self._writer.ask(_TIMELINE)
        conn = self._writer.open()
        with self._watched():
            self._writer.run(_BEGIN_WRITE)
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
            if not self._writer.lives() or isinstance(_cause(error), (*_AGAIN, _STANDBY)):
                raise
            job.error = _for_callers(error)
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
            cause = _cause(error)
            if not self._writer.lives() or isinstance(cause, _STANDBY):
                raise _Lost(error) from error
            if isinstance(cause, _AGAIN):
                raise cause from error
            raise

    def _number_and_notify(self, announced: Sequence[tuple[str, Any]]) -> str | None:
        """The transaction's number, None where nothing was written; and what it announces goes out with its commit."""
        assert self._listener is not None
        row = self._writer.raw.execute(_MINE).fetchone()
        for payload in _payloads(self._listener.pid, announced):
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
        engine = _engine(self._url)
        try:
            with engine.begin() as conn:
                conn.exec_driver_sql("SET LOCAL statement_timeout = 0")
                conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS})")
                fn(conn)
        except sa.exc.OperationalError as error:
            raise StoreError(f"the database did not do it: {_said(error)}") from error
        finally:
            engine.dispose()

    def listen(self, hear: Callable[[list[tuple[str, Any]] | None], None]) -> None:
        self._listener = _Listener(self._url, hear)

    def hearing(self) -> bool:
        return self._listener is not None and self._listener.pid != 0

    def own(self, lost: Callable[[], None]) -> bool:
        assert self._listener is not None
        return self._listener.own(lost)

    def close_writer(self) -> None:
        self._writer.close()

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        self._pool.shutdown(wait=True)
        for session in (self._reader, *self._opened):
            session.close()
        self._engine.dispose()


class _Listener:
    """A thread that hears what other processes announce."""

    def __init__(self, url: str, hear: Callable[[list[tuple[str, Any]] | None], None]) -> None:
        self.pid = 0
        """The backend's, by which this process knows its own announcements; 0 while nothing is heard."""
        self._url = url
        self._hear = hear
        self._ended = threading.Event()
        self._lost: Callable[[], None] | None = None
        """Set where this process is to be the one that serves."""
        self._owning = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store-listener", daemon=True)
        self._thread.start()

    def own(self, lost: Callable[[], None]) -> bool:
        self._lost = lost
        return self._owning.wait(OWN_WAIT_S)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                with psycopg.connect(self._url, **_CONNECT) as conn:
                    self._listen(conn)
            except psycopg.Error as error:
                if self.pid:
                    log.warning("other processes are not heard: %s", _said(error))
            self.pid = 0
            self._ended.wait(REST_S)

    def _listen(self, conn: psycopg.Connection[Any]) -> None:
        conn.execute(f"LISTEN {CHANNEL}")
        self.pid = conn.info.backend_pid
        # What was announced before is not heard of any more.
        self._hear(None)
        mine = False
        while not self._ended.is_set():
            if self._lost is not None and not mine:
                mine = self._take_ownership(conn, self._lost)
            for notice in conn.notifies(timeout=LISTEN_TURN_S):
                self._take(notice.payload)
                if self._ended.is_set():
                    return

    def _take_ownership(self, conn: psycopg.Connection[Any], lost: Callable[[], None]) -> bool:
        """The lock goes with this connection: after a lost one it may be another process's."""
        row = conn.execute(f"SELECT pg_try_advisory_lock({OWNER})").fetchone()
        mine = row is not None and bool(row[0])
        if mine:
            self._owning.set()
        elif self._owning.is_set():
            log.error("another process serves over this database now")
            lost()
        return mine

    def _take(self, payload: str) -> None:
        sender, announced = json.loads(payload)
        if sender != self.pid:
            self._hear([(topic, value) for topic, value in announced])

    def close(self) -> None:
        self._ended.set()
        self._thread.join()


def _engine(url: str, **options: Any) -> sa.Engine:
    """Connections are made by libpq, from the URL as it is: several hosts, sockets and certificates are its matter."""

    def connect() -> psycopg.Connection[Any]:
        conn = psycopg.connect(url, **_CONNECT)
        conn.adapters.register_loader("numeric", _Number)
        return conn

    return sa.create_engine(
        "postgresql+psycopg://", creator=connect, poolclass=sa.pool.NullPool, json_deserializer=msgspec.json.decode, **options
    )


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


def _cause(error: BaseException) -> BaseException:
    """What the driver said, out of SQLAlchemy's wrapping."""
    return error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig is not None else error


def _said(error: BaseException) -> str:
    return str(_cause(error)).strip() or type(error).__name__


def _for_callers(error: BaseException) -> BaseException:
    """What the database could not do (a timeout, no space left) is the store's error; all else is what it is."""
    cause = _cause(error)
    if isinstance(cause, psycopg.DataError):
        return NotStorable(_said(cause))
    return StoreError(_said(cause)) if isinstance(cause, psycopg.OperationalError | psycopg.InternalError) else error


def _fail(jobs: Sequence[Job], message: str) -> int:
    for job in jobs:
        job.error = StoreError(message)
        job.announced = []
    return len(jobs)


def _payloads(sender: int, announced: Sequence[tuple[str, Any]]) -> Iterator[str]:
    """The announcements in as few notifications as hold them. A value that is too long is left out: its watchers look for themselves."""
    batch: list[str] = []
    size = 0
    for topic, value in dict.fromkeys((topic, json.dumps(value)) for topic, value in announced):
        text = f"[{json.dumps(topic)},{value}]"
        if len(text) > PAYLOAD_BYTES_MAX // 2:
            text = f"[{json.dumps(topic)},null]"
        if size + len(text) > PAYLOAD_BYTES_MAX - 32:
            yield _payload(sender, batch)
            batch, size = [], 0
        batch.append(text)
        size += len(text) + 1
    if batch:
        yield _payload(sender, batch)


def _payload(sender: int, batch: Sequence[str]) -> str:
    return f"[{sender},[{','.join(batch)}]]"
