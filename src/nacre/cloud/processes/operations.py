"""How API processes come, show that they live, and go."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import sqlalchemy as sa

from nacre.cloud.processes.tables import api_processes
from nacre.store.schema import now


class Process(NamedTuple):
    """A row of `api_processes`."""

    id: str
    hostname: str
    address: str
    url: str
    version: str
    counter: int = 0
    heard: Mapping[str, int] = {}
    leads: bool = False


_COLUMNS = [api_processes.c[name] for name in Process._fields]


def register(conn: sa.Connection, process: Process, *, alone: bool) -> None:
    """The process begins. `alone`: there can be no other over this store, so what is noted of others is of the past."""
    if alone:
        conn.execute(api_processes.delete().where(api_processes.c.id != process.id))
    values = {name: value for name, value in process._asdict().items() if name not in ("id", "counter")}
    values["started_at"] = now()
    known = conn.execute(api_processes.update().where(api_processes.c.id == process.id).values(counter=_next(), **values))
    if not known.rowcount:
        conn.execute(api_processes.insert().values(id=process.id, **values))


def _next() -> sa.ColumnElement[int]:
    return api_processes.c.counter + 1


def renew(conn: sa.Connection, ident: str, heard: Mapping[str, int], *, leads: bool) -> list[Process] | None:
    """A sign of life, with those that it has had. Returns all processes that there are; None when this one was struck out meanwhile."""
    renewed = api_processes.update().where(api_processes.c.id == ident).values(counter=_next(), heard=dict(heard), leads=leads)
    if not conn.execute(renewed).rowcount:
        return None
    return listed(conn)


def listed(conn: sa.Connection) -> list[Process]:
    """All of them, in the order of their names."""
    rows = conn.execute(sa.select(*_COLUMNS).order_by(api_processes.c.hostname, api_processes.c.id))
    return [Process(*row) for row in rows]


def ids(conn: sa.Connection) -> frozenset[str]:
    """Of all processes that there are."""
    return frozenset(conn.execute(sa.select(api_processes.c.id)).scalars())


def row_of(ident: str) -> sa.Select[tuple[str]]:
    """Of this process, as long as nobody has struck it out (`Store.write_while`)."""
    return sa.select(api_processes.c.id).where(api_processes.c.id == ident)


def strike_out(conn: sa.Connection, silent: Collection[tuple[str, int]]) -> list[str]:
    """Processes that were silent too long go, each with the counter at which it stood still: one that has said something since stays.
    Returns the ids of those that went."""
    gone = []
    for ident, counter in silent:
        where = (api_processes.c.id == ident, api_processes.c.counter == counter)
        if conn.execute(api_processes.delete().where(*where)).rowcount:
            gone.append(ident)
    return gone


def leave(conn: sa.Connection, ident: str) -> None:
    """The process ends by itself, and has nothing under way."""
    conn.execute(api_processes.delete().where(api_processes.c.id == ident))
