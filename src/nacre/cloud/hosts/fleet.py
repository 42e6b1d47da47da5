"""The hosts as this process remembers them, so that placing a guest reads none of their rows but the one that is claimed.

What is remembered may lag behind the store. That never overbooks a host: the claim decides, in its transaction, on the host's row (see
`operations.take`); a plan made of something old costs another plan. And nobody is refused for it: before `NoValidHost` is raised, what is
remembered is held against the store.

It is kept fresh in three ways. A claim of this process is remembered as it is made, for the plans that come before its commit. Every change
of a row that matters here is announced once it is committed, by whatever process, and the row is read again. And every CHECK_EVERY_S the
generations of all rows are compared, for announcements are hints that may be lost, and claims are undone with their transaction.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from nacre.cloud.hosts import views
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.scheduler import HostView, NoValidHost, Plan, Ratios, Request, Snapshot
from nacre.store import Prepared, Store, announce
from nacre.store.schema import new_id

TOPIC = "hosts"
CHECK_EVERY_S = 5.0
SETTLE_S = 1.0
"""A claim that nobody announced for so long may have been undone: its host's row is read again."""
BOOKS = ("claimed_vcpus", "claimed_memory_mb", "claimed_disk_gb", "guests", "generation")
"""Columns that a claim changes, under the same names in a HostView."""

_CLAIMED = BOOKS[:-1]
_GENERATIONS = Prepared(sa.select(hosts.c.id, hosts.c.generation))
_ORIGIN = new_id()
"""Who announces: this process."""


class _Unsettled(NamedTuple):
    """A claim of this process whose commit is not known yet."""

    generation: int
    since_s: float


class Fleet:
    """The hosts of one store. `lock` is held while the snapshot is read or changed: some stores write in several threads."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.snapshot = Snapshot()
        self._ratios: Ratios | None = None
        """Those that the snapshot was made with; None before there is one."""
        self._alive: frozenset[str] | None = None
        self._checked_s = 0.0
        self._announced: deque[Any] = deque()
        """Filled by the loop without the lock, which a thread may hold for longer than the loop should wait."""
        self._doubted: set[str] = set()
        """Hosts whose rows have to be read again."""
        self._unsettled: dict[str, _Unsettled] = {}

    def heard(self, topic: str, value: Any) -> None:
        self._announced.append(value)

    def plan(self, conn: sa.Connection, request: Request, alive: frozenset[str] | None, ratios: Ratios) -> Plan:
        """As `Snapshot.plan`, of the hosts as they are now. Raises NoValidHost when the store says so too."""
        with self.lock:
            self.refresh(conn, alive, ratios)
            try:
                return self.snapshot.plan(request)
            except NoValidHost:
                if not self.check(conn):
                    raise
                return self.snapshot.plan(request)

    def is_old(self, conn: sa.Connection) -> bool:
        """Compare with the store at once. Whether anything had changed."""
        with self.lock:
            return self.check(conn)

    def views(self, conn: sa.Connection, alive: frozenset[str] | None, ratios: Ratios) -> dict[str, HostView]:
        """All hosts by their ids."""
        with self.lock:
            self.refresh(conn, alive, ratios)
            return {host.id: host for host in self.snapshot.hosts()}

    def refresh(self, conn: sa.Connection, alive: frozenset[str] | None, ratios: Ratios) -> None:
        """Take in what is known to have changed."""
        if ratios != self._ratios:
            self._announced.clear()
            self._doubted.clear()
            self._unsettled.clear()
            self.snapshot = Snapshot(views.read(conn, alive, ratios))
            self._ratios, self._alive, self._checked_s = ratios, alive, time.monotonic()
            return
        self._hear()
        if alive is not self._alive:
            self._doubted.update(self._changed_lives(alive))
            self._alive = alive
        if time.monotonic() - self._checked_s > CHECK_EVERY_S:
            self.check(conn)
        self._read_doubted(conn)

    def check(self, conn: sa.Connection) -> bool:
        """Compare with the store. Whether anything had changed."""
        self._checked_s = time.monotonic()
        stored = {row["id"]: row["generation"] for row in _GENERATIONS.rows(conn)}
        known = {host.id: host.generation for host in self.snapshot.hosts()}
        self._doubted |= {ident for ident, generation in stored.items() if known.get(ident) != generation}
        self._doubted |= known.keys() - stored.keys()
        self._doubted.update(self._unsettled)
        self._unsettled.clear()
        return self._read_doubted(conn)

    def remember(self, row: dict[str, Any]) -> None:
        """A claim of this process has left the row's books (BOOKS, and its `id`) like this, in a transaction that is not committed."""
        with self.lock:
            known = self.snapshot.get(row["id"])
            if known is not None:
                self.snapshot.put(replace(known, **{name: row[name] for name in BOOKS}))
                self._unsettled[row["id"]] = _Unsettled(row["generation"], time.monotonic())

    def doubt(self, host_id: str) -> None:
        """What is known of that host has turned out to be wrong."""
        with self.lock:
            self._doubted.add(host_id)

    def _hear(self) -> None:
        """What was announced since: claims of this process are settled, unless they are not remembered; all else must be read."""
        while self._announced:
            announced = self._announced.popleft()
            if announced is None:  # Something may have been missed.
                self._checked_s = -CHECK_EVERY_S
                continue
            host_id, generation, origin, *books = announced
            known = self.snapshot.get(host_id)
            if origin != _ORIGIN and books and known is not None and known.generation == generation - 1:
                # Another process's claim, the very next after what is known: it brings what reading the row would.
                self.snapshot.put(replace(known, generation=generation, **dict(zip(_CLAIMED, books, strict=True))))
                continue
            if generation is None or origin != _ORIGIN or known is None or known.generation < generation:
                self._doubted.add(host_id)
            elif host_id in self._unsettled and self._unsettled[host_id].generation <= generation:
                del self._unsettled[host_id]
        late_s = time.monotonic() - SETTLE_S
        for host_id in [ident for ident, claim in self._unsettled.items() if claim.since_s < late_s]:
            del self._unsettled[host_id]
            self._doubted.add(host_id)

    def _changed_lives(self, alive: frozenset[str] | None) -> Iterable[str]:
        if alive is None or self._alive is None:
            return {host.id for host in self.snapshot.hosts()}
        return alive ^ self._alive

    def _read_doubted(self, conn: sa.Connection) -> bool:
        """Whether anything was not as it is."""
        if not self._doubted:
            return False
        assert self._ratios is not None
        doubted, self._doubted = self._doubted, set()
        changed = False
        for host in views.read(conn, self._alive, self._ratios, doubted):
            doubted.discard(host.id)
            if self.snapshot.get(host.id) != host:
                self.snapshot.put(host)
                changed = True
        for host_id in doubted:
            if host_id in self.snapshot:
                self.snapshot.drop(host_id)
                changed = True
        return changed


_fleets: WeakKeyDictionary[sa.Engine, Fleet] = WeakKeyDictionary()


def of(conn: sa.Connection) -> Fleet:
    """The fleet of the store that this is a connection to."""
    return _fleets.setdefault(conn.engine, Fleet())


def follow(store: Store) -> Callable[[], None]:
    """Hear what the store's processes announce of hosts. Returns the call that ends it."""
    return store.watch(TOPIC, store.read_now(of).heard)


def claimed(conn: sa.Connection, row: dict[str, Any]) -> None:
    """A claim has changed the row's books (see `Fleet.remember`)."""
    of(conn).remember(row)
    announce(conn, TOPIC, [row["id"], row["generation"], _ORIGIN, *(row[name] for name in _CLAIMED)])


def changed(conn: sa.Connection, *host_ids: str) -> None:
    """Rows of hosts have come, gone, or changed in what the scheduler looks at: to be called in the transaction that does it."""
    if not host_ids:
        return
    conn.execute(hosts.update().where(hosts.c.id.in_(host_ids)).values(generation=hosts.c.generation + 1))
    for host_id in host_ids:
        announce(conn, TOPIC, [host_id, None, _ORIGIN])
