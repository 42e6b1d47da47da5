"""A project's one index, and what each of its changes touched.

Every write that changes something raises the index by one, in its own transaction (`changing`). A query answers with the index of what it
shows, and one that waits is woken by the store's announcement of what it reads, and by no other:

    topics    nodes, services, checks, sessions, events, and NAME/IDENT for one of them (service/web): the last touch is kept in `marks`
    keys      their rows know when they changed; a key that is gone leaves a mark

Marks are thrown away after a while. The highest index that was lost so is the floor of what is answered afterwards: an index never falls.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from nacre.cloud.discovery.tables import indexes, keys, marks
from nacre.store import Prepared, announce, greatest, insert

KEY_MARK = "kv/"
LAST_LETTER = 0x10FFFF
LASTING = ("nodes", "services", "checks", "sessions", "events")
"""Topics whose marks stay: there is one of each."""


class Span(NamedTuple):
    """The keys from `low` up to, but without, `high`; all from there on without a `high`. In the order of their bytes, as UTF-8 sorts."""

    low: str
    high: str | None

    def meets(self, other: "Span") -> bool:
        return (self.high is None or other.low < self.high) and (other.high is None or self.low < other.high)

    def holds(self, column: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
        above = column >= self.low
        return above if self.high is None else sa.and_(above, column < self.high)

    def behind(self, prefix: str) -> "Span":
        """The same with a prefix before each key."""
        return Span(prefix + self.low, _after(prefix) if self.high is None else prefix + self.high)


def one_key(key: str) -> Span:
    # No key holds a NUL, which no path may hold and PostgreSQL could not keep.
    return Span(key, key + "\x01")


def below(prefix: str) -> Span:
    """All keys that begin with the prefix."""
    return Span(prefix, _after(prefix))


def _after(prefix: str) -> str | None:
    """The first text behind all that begin with the prefix."""
    while prefix:
        last = ord(prefix[-1])
        if last < LAST_LETTER:
            # What lies between U+D7FF and U+E000 are no letters.
            return prefix[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)
        prefix = prefix[:-1]
    return None


@dataclass(frozen=True, slots=True)
class Found:
    """What a query shows, and its index."""

    index: int
    value: Any


def topic_of(project_id: str, topic: str) -> str:
    """The store's topic; `kv` for keys, announced with the spans that changed."""
    return f"discovery:{project_id}:{topic}"


_INSERT_INDEX = insert(indexes)
_RAISE = Prepared(
    _INSERT_INDEX.values(project_id=sa.bindparam("project_id"), value=2, floor=1)
    .on_conflict_do_update(index_elements=["project_id"], set_={"value": indexes.c.value + 1})
    .returning(indexes.c.value)
)
_INSERT_MARK = insert(marks)
_MARK = Prepared(
    _INSERT_MARK.on_conflict_do_update(index_elements=["project_id", "topic"], set_={"index": _INSERT_MARK.excluded.index})
)
_OF_PROJECT = Prepared(sa.select(indexes.c.value, indexes.c.floor).where(indexes.c.project_id == sa.bindparam("project")))


class Change:
    """One write of a project. The index is raised when it is first asked for: a write that changes nothing raises none."""

    def __init__(self, conn: sa.Connection, project_id: str, *, bounded: bool = True) -> None:
        """`bounded` False is for what the cloud itself registers, which other quotas bound: it must not be refused."""
        self.conn = conn
        self.bounded = bounded
        self.project_id = project_id
        self._index = 0
        self._topics: dict[str, None] = {}
        self._spans: list[Span] = []

    @property
    def index(self) -> int:
        if not self._index:
            self._index = int(_RAISE.scalar(self.conn, project_id=self.project_id))
        return self._index

    def touch(self, *topics: str) -> None:
        self._topics.update(dict.fromkeys(topics))

    def set_key(self, key: str) -> None:
        self._spans.append(one_key(key))

    def delete_keys(self, span: Span) -> None:
        """Mark the span's keys, which are still there, as gone with this change."""
        gone = sa.select(
            sa.literal(self.project_id), sa.literal(KEY_MARK) + keys.c.key, sa.literal(self.index, sa.Integer)
        ).where(keys.c.project_id == self.project_id, span.holds(keys.c.key))
        statement = insert(marks).from_select(["project_id", "topic", "index"], gone)
        again = {"index": statement.excluded["index"]}
        self.conn.execute(statement.on_conflict_do_update(index_elements=["project_id", "topic"], set_=again))
        self._spans.append(span)

    def finish(self) -> None:
        if not self._index and not self._topics:
            return
        _MARK.run_all(self.conn, [{"project_id": self.project_id, "topic": topic, "index": self.index} for topic in self._topics])
        for topic in self._topics:
            announce(self.conn, topic_of(self.project_id, topic), self.index)
        if self._spans:
            announce(self.conn, topic_of(self.project_id, "kv"), tuple(self._spans))


@contextmanager
def changing(conn: sa.Connection, project_id: str, *, bounded: bool = True) -> Iterator[Change]:
    """A write of this project. What raises inside is rolled back by the store, index and all."""
    change = Change(conn, project_id, bounded=bounded)
    yield change
    change.finish()


def current(conn: sa.Connection, project_id: str) -> tuple[int, int]:
    """(the project's index, the floor)."""
    row = _OF_PROJECT.first(conn, project=project_id)
    return (row["value"], row["floor"]) if row else (1, 1)


def of_topics(conn: sa.Connection, project_id: str, *topics: str) -> int:
    """The index of a query that shows these topics."""
    value, floor = current(conn, project_id)
    found = conn.execute(
        sa.select(sa.func.max(marks.c.index)).where(marks.c.project_id == project_id, marks.c.topic.in_(topics))
    ).scalar()
    return min(value, max(found or 1, floor))


def of_keys(conn: sa.Connection, project_id: str, span: Span) -> int:
    """The index of a query over keys: the last change of those that are there, and of those that are gone."""
    _, floor = current(conn, project_id)
    here = sa.select(sa.func.max(keys.c.modify_index)).where(keys.c.project_id == project_id, span.holds(keys.c.key))
    gone = sa.select(sa.func.max(marks.c.index)).where(
        marks.c.project_id == project_id, span.behind(KEY_MARK).holds(marks.c.topic)
    )
    return max(conn.execute(here).scalar() or 1, conn.execute(gone).scalar() or 1, floor)


def forget(conn: sa.Connection, project_id: str, up_to: int) -> None:
    """Throw away the marks of passing things up to this index, and raise the floor to the highest of them."""
    old = (marks.c.project_id == project_id, marks.c.index <= up_to, marks.c.topic.not_in(LASTING))
    highest = conn.execute(sa.select(sa.func.max(marks.c.index)).where(*old)).scalar()
    if highest is not None:
        conn.execute(marks.delete().where(*old))
        floor = greatest(indexes.c.floor, sa.literal(highest))
        conn.execute(indexes.update().where(indexes.c.project_id == project_id).values(floor=floor))


def all_values(conn: sa.Connection) -> dict[str, int]:
    """Each project's index."""
    return {row.project_id: row.value for row in conn.execute(sa.select(indexes.c.project_id, indexes.c.value))}
