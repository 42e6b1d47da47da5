"""Connections to PostgreSQL, made by libpq and made again after they were lost."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
import psycopg
import sqlalchemy as sa
from psycopg.adapt import Loader
from psycopg.pq import ExecStatus

from nacre.store.engine import NotStorable, StoreError

T = TypeVar("T")

CONNECT_TIMEOUT_S = 3
REST_S = 0.5
"""After a connection could not be made, none is tried for so long: whoever asks is told at once."""
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
CONNECT: dict[str, Any] = {
    "autocommit": True,
    "connect_timeout": CONNECT_TIMEOUT_S,
    "options": SETTINGS,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
_BEGIN_READ = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class _Number(Loader):
    """A NUMERIC, which is what the database makes of a sum of integers, as Python's own number."""

    def load(self, data: Any) -> int | float:
        text = bytes(data).decode()
        return int(text) if text.lstrip("-").isdigit() else float(text)


class Session:
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
            raise StoreError(f"the database cannot be reached: {said(error)}") from error
        raw = self._conn.connection.dbapi_connection
        assert isinstance(raw, psycopg.Connection)
        self.raw = raw
        return self._conn

    @property
    def is_open(self) -> bool:
        return self._conn is not None

    def run(self, command: bytes) -> int:
        """A command, or several, without parameters. Returns how many rows the last one found. Raises psycopg.Error."""
        result = self.raw.pgconn.exec_(command)
        if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
            if not self.lives():
                raise psycopg.OperationalError(result.get_error_message())
            raise psycopg.errors.error_from_result(result)
        return result.ntuples

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
                raise for_callers(error)  # noqa: B904
            self.drop()
            if fresh:
                raise StoreError(f"the database went away: {said(error)}") from error
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
        raise StoreError(f"the database went away: {said(cause)}")

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


def connecting(url: str, **options: Any) -> sa.Engine:
    """Connections are made by libpq, from the URL as it is: several hosts, sockets and certificates are its matter."""

    def connect() -> psycopg.Connection[Any]:
        conn = psycopg.connect(url, **CONNECT)
        conn.adapters.register_loader("numeric", _Number)
        return conn

    return sa.create_engine(
        "postgresql+psycopg://", creator=connect, poolclass=sa.pool.NullPool, json_deserializer=msgspec.json.decode, **options
    )


def cause_of(error: BaseException) -> BaseException:
    """What the driver said, out of SQLAlchemy's wrapping."""
    return error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig is not None else error


def said(error: BaseException) -> str:
    return str(cause_of(error)).strip() or type(error).__name__


def for_callers(error: BaseException) -> BaseException:
    """What the database could not do (a timeout, no space left) is the store's error; all else is what it is."""
    cause = cause_of(error)
    if isinstance(cause, psycopg.DataError):
        return NotStorable(said(cause))
    return StoreError(said(cause)) if isinstance(cause, psycopg.OperationalError | psycopg.InternalError) else error
