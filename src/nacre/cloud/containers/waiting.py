"""Waiting for what a node makes of an intent: woken by the store, never by polling.

A notification is a hint, so what is waited for is looked at once more now and then all the same.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa

from nacre.cloud.compute.tables import servers
from nacre.cloud.containers import events, lookup
from nacre.cloud.containers.states import is_pending, status_of
from nacre.cloud.context import Context
from nacre.cloud.core import Cloud
from nacre.store import Prepared

T = TypeVar("T")
Row = dict[str, Any]

LOOK_AGAIN_S = 15.0
_BY_ID = Prepared(sa.select(servers).where(servers.c.id == sa.bindparam("ident")))


async def until(cloud: Cloud, topic: str, look: Callable[[sa.Connection], T | None], timeout_s: float | None) -> T | None:
    """What `look` finds as soon as it finds something; None after `timeout_s` (None: no bound, the client's patience is one)."""
    changed = asyncio.Event()
    unwatch = cloud.store.watch(topic, lambda topic, value: changed.set())
    loop = asyncio.get_running_loop()
    end = None if timeout_s is None else loop.time() + timeout_s
    try:
        while True:
            changed.clear()
            found = cloud.store.read_now(look)
            if found is not None:
                return found
            pause = LOOK_AGAIN_S if end is None else min(LOOK_AGAIN_S, end - loop.time())
            if pause <= 0:
                return None
            try:
                async with asyncio.timeout(pause):
                    await changed.wait()
            except TimeoutError:
                continue
    finally:
        unwatch()


GONE: Row = {}
"""What `settled` finds where there is no server any more."""


def row_of(conn: sa.Connection, server_id: str) -> Row | None:
    """The server with its container, whoever asks; None when it is gone."""
    row = _BY_ID.first(conn, ident=server_id)
    return None if row is None else lookup.with_container(conn, row)


async def settled(cloud: Cloud, server_id: str, timeout_s: float | None, *, met: bool = False) -> Row | None:
    """The server as soon as the node met its intent or said why it cannot; GONE without one, None after the timeout.

    With `met` it must be this very intent that it speaks of: what it could not do of an earlier one may come just now.
    """

    def look(conn: sa.Connection) -> Row | None:
        row = row_of(conn, server_id)
        if row is None:
            return GONE
        pending = row["observed_generation"] < row["generation"] if met else is_pending(row)
        return None if pending and not row["gone"] else row

    return await until(cloud, events.server_topic(server_id), look, timeout_s)


def failure(conn: sa.Connection, ctx: Context, server_id: str) -> str:
    """Why the last start failed, also of a container that went because of it (`--rm`); empty where it did not."""
    row = row_of(conn, server_id)
    if row is not None and not row["gone"]:
        return str(row["fault"] or "") if row["observed_generation"] >= row["generation"] else ""
    last = events.last_of(conn, ctx.project_id or "", lookup.docker_id(server_id), "die")
    return str(last["attributes"].get("error", "")) if last else ""


async def removed(cloud: Cloud, server_id: str, timeout_s: float | None) -> bool:
    """Whether nothing is left of it within the time."""

    def look(conn: sa.Connection) -> bool | None:
        return True if _BY_ID.first(conn, ident=server_id) is None else None

    return await until(cloud, events.server_topic(server_id), look, timeout_s) is not None


class Wait:
    """`docker wait`: which end is waited for. Made before anything is answered, so that no end slips in between."""

    def __init__(self, conn: sa.Connection, row: Row, condition: str) -> None:
        self.server_id: str = row["id"]
        self._project: str = row["project_id"]
        self._actor = lookup.docker_id(row["id"])
        self._condition = condition
        last = events.last_of(conn, self._project, self._actor, "die")
        self._after: int = last["id"] if last else 0
        self._exit_code: int = row["exit_code"] or 0

    def look(self, conn: sa.Connection) -> int | None:
        """The exit status, once the condition is met."""
        row = row_of(conn, self.server_id)
        if row is None:
            return self._last_exit(conn)
        if self._condition == "next-exit":
            last = events.last_of(conn, self._project, self._actor, "die", self._after)
            return None if last is None else int(last["attributes"].get("exitCode", 0))
        if self._condition == "not-running" and status_of(row) in ("created", "exited") and not _starting(row):
            return int(row["exit_code"] or 0)
        return None

    async def until(self, cloud: Cloud) -> int | None:
        """The exit status; it may take for ever."""
        return await until(cloud, events.server_topic(self.server_id), self.look, None)

    def _last_exit(self, conn: sa.Connection) -> int:
        """The row is gone: the log of events knows."""
        last = events.last_of(conn, self._project, self._actor, "die")
        return int(last["attributes"].get("exitCode", 0)) if last else self._exit_code


def _starting(row: Row) -> bool:
    return bool(row["power"] == "running" and is_pending(row))
