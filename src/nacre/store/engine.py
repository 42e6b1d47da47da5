"""Transactions. Domain code is plain functions of a connection; this file decides where and when they run.

Writes run in one thread that commits in groups: it takes what is queued, gives each job a savepoint, and commits (and syncs to disk) once
for all of them. A job that raises is rolled back to its savepoint alone. Nothing is announced and no future resolves before the commit
is on disk. What lies beneath is an engine: SQLite in this file's directory (`embedded`), or PostgreSQL (`postgresql`), over which several
processes may work at once.
"""

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import sqlalchemy as sa

P = ParamSpec("P")
T = TypeVar("T")
Watcher = Callable[[str, Any], None]

GROUP_JOBS_MAX = 64
"""Jobs that share one commit."""
CLOSE_S = 10.0
REMEMBERED_MAX = 10_000
"""Values that `remember` keeps between two commits."""

log = logging.getLogger("nacre.store")


class StoreError(Exception):
    """The store could not do its work (disk full, database locked, damaged or not to be reached). Nothing of the transaction is left, unless
    its connection was lost while it committed and nobody could tell how that ended: the message says so then."""


class Fenced(StoreError):
    """Others have taken this process for dead (`Store.write_while`): nothing of its transaction is left."""


class NotStorable(ValueError):
    """A value that the database cannot keep or compare with (PostgreSQL: a NUL in a text). Nothing of the transaction is left."""


def announce(conn: sa.Connection, topic: str, value: Any = None) -> None:
    """Tell the watchers of `topic` once this transaction is committed; never if it is rolled back. A hint: it may be lost with the process."""
    conn.info.setdefault("announced", []).append((topic, value))


class Job:
    """One call of `write` on its way through the writer's thread."""

    __slots__ = ("announced", "call", "error", "future", "result")

    def __init__(self, call: Callable[[sa.Connection], Any], future: "asyncio.Future[Any]") -> None:
        self.call = call
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None
        self.announced: list[tuple[str, Any]] = []


class Engine(Protocol):
    """A database, and how transactions are made on it."""

    shared: bool
    """Whether other processes may work over the same database."""

    def read_now(self, fn: Callable[[sa.Connection], T]) -> T:
        """In the caller's thread, which is always the same one."""

    async def read(self, fn: Callable[[sa.Connection], T]) -> T: ...

    def state(self) -> Hashable:
        """Something that is another one after any other process's commit; this process's own are known without it."""

    def run_group(self, jobs: Sequence[Job]) -> int:
        """In the writer's thread: run and commit the first so many of the jobs, and return how many; each has its result or error then."""

    def alone(self, fn: Callable[[sa.Connection], None]) -> None: ...

    def listen(self, hear: Callable[[list[tuple[str, Any]] | None], None]) -> None:
        """Call `hear`, in a thread, with what other processes announce; with None when something may have been missed."""

    @property
    def epoch(self) -> str:
        """Another one after a standby has become the primary: what was committed last may be lost. As of the last write."""

    def write_while(self, row: sa.Select[Any]) -> None:
        """From now on a transaction is made only if this, asked in it, finds a row; else Fenced is what comes of its jobs."""

    def lead(self, changed: Callable[[bool], None]) -> None:
        """From now on be, as soon as no other process is, the one that does what one process alone may do. `changed` is called, in any
        thread, with whether this process is it."""

    def close_writer(self) -> None:
        """The writer's thread ends."""

    def close(self) -> None: ...


def _open(url: str) -> Engine:
    # Each is imported where it is used: the one takes no time at the start of the other.
    if url.startswith(("postgresql:", "postgres:")):
        from nacre.store.postgresql import PostgreSQL

        return PostgreSQL(url)
    if url.startswith("sqlite:"):
        from nacre.store.embedded import SQLite

        return SQLite(url)
    raise StoreError(f"the store {url.partition(':')[0]} is not supported; use sqlite:///PATH or postgresql://USER@HOST/DATABASE")


class Store:
    """The store. `url` is `sqlite:///PATH`, or libpq's `postgresql://USER@HOST:PORT/DATABASE`."""

    def __init__(self, url: str) -> None:
        self._engine = _open(url)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._watchers: dict[str, set[Watcher]] = {}
        self._remembered: dict[Hashable, Any] = {}
        self._remembered_at: Hashable = None
        """The state of the database of which all that is true."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._write_jobs, name="store-writer", daemon=True)
        self._thread.start()
        self._engine.listen(self._hear_from_thread)

    async def read(self, fn: Callable[Concatenate[sa.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn` on one snapshot of the store. It must not write. Raises StoreError."""
        return await self._engine.read(lambda conn: fn(conn, *args, **kwargs))

    def read_now(self, fn: Callable[Concatenate[sa.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The same at once, in the loop: for what is small."""
        return self._engine.read_now(lambda conn: fn(conn, *args, **kwargs))

    def remember(self, key: Hashable, fn: Callable[[sa.Connection], T]) -> T:
        """`fn` of the store as of the last commit: what was read under this key is read again only after something was written.

        Exact: this process's own writes forget before any writer is answered, those of others have changed the engine's state.
        """
        state = self._engine.state()
        if state != self._remembered_at:
            self._remembered.clear()
            self._remembered_at = state
        if key in self._remembered:
            return cast(T, self._remembered[key])
        value = self.read_now(fn)
        if len(self._remembered) < REMEMBERED_MAX:
            self._remembered[key] = value
        return value

    @property
    def shared(self) -> bool:
        """Whether other processes may work over the same database."""
        return self._engine.shared

    @property
    def epoch(self) -> str:
        """Another one after a standby has become the primary: what was committed last before that may be lost. As of the last write."""
        return self._engine.epoch

    def write_while(self, row: sa.Select[Any]) -> None:
        """From now on nothing is written but while that row is there, where other processes may take it away: what this process begins
        after, and what it was at, raises Fenced. The values in it are texts and numbers."""
        self._engine.write_while(row)

    def lead(self, changed: Callable[[bool], None]) -> None:
        """Stand for the one process that does what only one may do. `changed` is called in the loop with whether this process is it: at
        once where there is no other; and with False when it may be another one from now on."""
        self._loop = asyncio.get_running_loop()
        self._engine.lead(lambda leads: self._call_in_loop(changed, leads))

    async def write(self, fn: Callable[Concatenate[sa.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn` in a write transaction and return once it is on disk. What `fn` raises comes out here, and nothing of it stays.

        A cancelled caller (a client that hung up) does not undo a write that was already taken up.
        """
        loop = asyncio.get_running_loop()
        self._loop = loop
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put(Job(lambda conn: fn(conn, *args, **kwargs), future))
        return await asyncio.shield(future)

    async def alone(self, fn: Callable[[sa.Connection], None]) -> None:
        """Run `fn` in a transaction on a connection of its own, for tools that manage transactions by themselves (Alembic)."""
        await asyncio.to_thread(self._engine.alone, fn)

    def watch(self, topic: str, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher(topic, value)` in the loop after each commit that announced the topic, in whatever process. Returns the call that
        ends it. A value is JSON: what was a tuple there may be a list here. None says that anything may have been announced meanwhile:
        other processes could not be heard for a while, or the value was too long.
        """
        with contextlib.suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        watchers = self._watchers.setdefault(topic, set())
        watchers.add(watcher)

        def unwatch() -> None:
            watchers.discard(watcher)
            if not watchers:
                self._watchers.pop(topic, None)

        return unwatch

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            # A commit that waits for a synchronous standby waits for ever. How it ended is seen by who asks next.
            log.error("the store does not end what it is asked for: it is left")
            return
        self._engine.close()

    def _write_jobs(self) -> None:
        jobs: list[Job] = []
        ended = False
        while jobs or not ended:
            ended = self._collect(jobs) or ended
            if not jobs:
                continue
            done = self._engine.run_group(jobs)
            self._deliver_from_thread(jobs[:done])
            del jobs[:done]
        self._engine.close_writer()

    def _collect(self, jobs: list[Job]) -> bool:
        """Add what is queued, and wait where there is nothing at all. Returns whether the end was asked for."""
        while len(jobs) < GROUP_JOBS_MAX:
            try:
                job = self._jobs.get_nowait() if jobs else self._jobs.get()
            except queue.Empty:
                return False
            if job is None:
                return True
            jobs.append(job)
        return False

    def _deliver_from_thread(self, jobs: list[Job]) -> None:
        self._call_in_loop(self._deliver, jobs)

    def _call_in_loop(self, call: Callable[[Any], None], argument: Any) -> None:
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        # The loop may close between the test and the call: then nobody waits any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(call, argument)

    def _deliver(self, jobs: list[Job]) -> None:
        self._remembered.clear()
        for job in jobs:
            if not job.future.done():
                if job.error is not None:
                    job.future.set_exception(job.error)
                else:
                    job.future.set_result(job.result)
        for job in jobs:
            self._tell(job.announced)

    def _hear_from_thread(self, announced: list[tuple[str, Any]] | None) -> None:
        self._call_in_loop(self._hear, announced)

    def _hear(self, announced: list[tuple[str, Any]] | None) -> None:
        self._remembered.clear()
        self._tell([(topic, None) for topic in self._watchers] if announced is None else announced)

    def _tell(self, announced: Sequence[tuple[str, Any]]) -> None:
        for topic, value in announced:
            for watcher in tuple(self._watchers.get(topic, ())):
                watcher(topic, value)
