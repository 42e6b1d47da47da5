"""Execs that were made a moment ago and have no row yet. Most are started at once: then the row is written while the process begins, and
neither a client's create nor its start waits for the disk. Where the start may come to another API process, there is none without a row.

What this process forgets with its end is what an engine forgets: an exec that was made and not started yet.
"""

import asyncio
import logging
from functools import partial
from weakref import WeakKeyDictionary

from nacre.cloud.collection import Row
from nacre.cloud.containers import execs
from nacre.cloud.core import Cloud
from nacre.store import Store

KEPT_S = 1.0
"""How long an exec waits for its start before its row is written all the same."""
ROWS_MAX = 10_000
"""So many at the same time; the next is written at once."""

log = logging.getLogger("nacre.docker")


class _Memory:
    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.writing: dict[str, asyncio.Task[None]] = {}


_memories: WeakKeyDictionary[Store, _Memory] = WeakKeyDictionary()


def _memory(cloud: Cloud) -> _Memory:
    return _memories.setdefault(cloud.store, _Memory())


async def keep(cloud: Cloud, row: Row) -> None:
    """A new exec, as `execs.prepare` gives it."""
    memory = _memory(cloud)
    if cloud.store.shared or len(memory.rows) >= ROWS_MAX:
        await cloud.store.write(execs.add, row)
        return
    memory.rows[row["id"]] = row
    asyncio.get_running_loop().call_later(KEPT_S, _write_later, cloud, row["id"])


def _write_later(cloud: Cloud, ident: str) -> None:
    row = _memory(cloud).rows.pop(ident, None)
    if row is not None:
        write(cloud, row)


def take(cloud: Cloud, ident: str, project_id: str | None) -> Row | None:
    """The exec, for its one start by this project; None when it has a row, or is not there."""
    rows = _memory(cloud).rows
    if ident not in rows or rows[ident]["project_id"] != project_id:
        return None
    return rows.pop(ident)


def write(cloud: Cloud, row: Row) -> None:
    """Begin to write the row; `written` waits for it."""
    memory, starter = _memory(cloud), cloud.process_id if row["running"] else None
    task = memory.writing[row["id"]] = asyncio.create_task(cloud.store.write(execs.add, row, starter))
    task.add_done_callback(partial(_forget, memory, row["id"]))


def _forget(memory: _Memory, ident: str, task: "asyncio.Task[None]") -> None:
    memory.writing.pop(ident, None)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("exec %s is not written down: %s", ident, error)


async def written(cloud: Cloud, ident: str) -> None:
    """Until the exec has its row, if it is ever to have one. A row that could not be written is not there: whoever looks for it will see."""
    _write_later(cloud, ident)
    task = _memory(cloud).writing.get(ident)
    if task is not None:
        await asyncio.wait([task])


async def flush(cloud: Cloud) -> None:
    """This process ends."""
    memory = _memory(cloud)
    for ident in list(memory.rows):
        _write_later(cloud, ident)
    if memory.writing:
        await asyncio.wait(list(memory.writing.values()))
