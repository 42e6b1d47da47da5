"""What a process has begun and only it can bring to its end. The row comes with the beginning and goes with the end, each in the transaction
that does it; what is left of a process that is gone is undone (cloud.abandoned)."""

import asyncio
import logging
from collections.abc import Callable
from typing import Concatenate, ParamSpec

import sqlalchemy as sa

from nacre.cloud.core import Cloud
from nacre.cloud.processes.tables import api_processes, unfinished
from nacre.store import Fenced, StoreError, insert
from nacre.store.schema import now

P = ParamSpec("P")

AGAIN_S = 5.0

log = logging.getLogger("nacre.processes")


def begin(conn: sa.Connection, process_id: str, kind: str, ident: str, project_id: str = "") -> bool:
    """False where a process is at it already."""
    values = {"process_id": process_id, "project_id": project_id, "created_at": now()}
    begun = conn.execute(insert(unfinished).on_conflict_do_nothing().values(kind=kind, ident=ident, **values))
    return bool(begun.rowcount)


def end(conn: sa.Connection, kind: str, ident: str, process_id: str | None = None) -> None:
    """It is done, or undone; with `process_id` if that one was at it."""
    where = [unfinished.c.kind == kind, unfinished.c.ident == ident]
    if process_id is not None:
        where.append(unfinished.c.process_id == process_id)
    conn.execute(unfinished.delete().where(*where))


def is_under_way(conn: sa.Connection, kind: str, ident: str) -> bool:
    where = (unfinished.c.kind == kind, unfinished.c.ident == ident)
    return conn.execute(sa.select(unfinished.c.ident).where(*where)).first() is not None


def under_way(kind: str) -> sa.Select[tuple[str]]:
    """The ids of all that are, to be used in a statement."""
    return sa.select(unfinished.c.ident).where(unfinished.c.kind == kind)


def count(conn: sa.Connection, kind: str, project_id: str) -> int:
    where = (unfinished.c.kind == kind, unfinished.c.project_id == project_id)
    return int(conn.execute(sa.select(sa.func.count()).select_from(unfinished).where(*where)).scalar_one())


def of_process(conn: sa.Connection, process_id: str) -> list[tuple[str, str]]:
    """(kind, ident), oldest first."""
    return _found(conn, unfinished.c.process_id == process_id)


def of_the_gone(conn: sa.Connection) -> list[tuple[str, str]]:
    """The same of all processes that are no more."""
    return _found(conn, unfinished.c.process_id.not_in(sa.select(api_processes.c.id)))


def _found(conn: sa.Connection, *where: sa.ColumnElement[bool]) -> list[tuple[str, str]]:
    columns = (unfinished.c.kind, unfinished.c.ident)
    return [(kind, ident) for kind, ident in conn.execute(sa.select(*columns).where(*where).order_by(unfinished.c.created_at))]


async def undo(cloud: Cloud, fn: Callable[Concatenate[sa.Connection, P], object], /, *args: P.args, **kwargs: P.kwargs) -> None:
    """Write what undoes something; again and again in the background where the store cannot be reached now. Until it is written the
    thing stays as it is: nobody else may undo what a living process is at."""
    try:
        await cloud.store.write(fn, *args, **kwargs)
    except StoreError as error:
        if isinstance(error, Fenced):
            return  # Others have undone it.
        log.warning("what failed is not undone yet: %s", error)
        cloud.background.start(_again(cloud, fn, *args, **kwargs))


async def _again(cloud: Cloud, fn: Callable[Concatenate[sa.Connection, P], object], /, *args: P.args, **kwargs: P.kwargs) -> None:
    while True:
        await asyncio.sleep(AGAIN_S)
        try:
            await cloud.store.write(fn, *args, **kwargs)
            return
        except Fenced:
            return
        except StoreError:
            continue
