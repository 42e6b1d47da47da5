"""What API processes that are gone had under way, and how it is undone.

Each kind of it is a row of RECOVERIES. A process undoes at its start what an earlier start of it left; the leader undoes what is left of
processes that have no row any more. What a living process is at is nobody's matter but its own. A process that was struck out while it
lives writes nothing more (`Store.write_while`), so that nothing that was undone here is finished there.
"""

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Mapping

import sqlalchemy as sa

from nacre.cloud.compute import snapshots
from nacre.cloud.core import Cloud
from nacre.cloud.image import audit, data, imports
from nacre.cloud.image.sweeping import read_configs
from nacre.cloud.processes import operations as processes
from nacre.cloud.processes import unfinished

SWEEP_EVERY_S = 5.0
UNNAMED_S_MIN = 24 * 3600.0
"""A blob that no row names and no process has pinned is left alone for so long, where another machine's clock may be wrong, and another
process's version may be one that pinned in its memory."""

log = logging.getLogger("nacre.processes")


def _nothing(conn: sa.Connection, ident: str) -> None:
    """That it is not under way any more is all: a sweeper sees to the rest, or whoever asks next."""


RECOVERIES: Mapping[str, Callable[[sa.Connection, str], object]] = {
    "upload": data.abandoned,
    "import": imports.abandoned,
    "snapshot": snapshots.abandoned,
    "shelving": _nothing,
    "build": _nothing,
    "exec": _nothing,
}
"""By the kind of what is unfinished: given its id, undoes it, in the transaction that takes its row."""


async def recover(cloud: Cloud) -> None:
    """Before this process serves, and after it has its row: what an earlier start of it left, and others that are gone."""
    _report(await cloud.store.write(_undo_own, cloud.process_id))
    await sweep(cloud)
    if not cloud.store.shared:
        await asyncio.to_thread(_clear_old_places, cloud)
    await _drop_unnamed(cloud)
    await read_configs(cloud)


async def _drop_unnamed(cloud: Cloud) -> None:
    """What even the pins do not tell of: a machine that lost its power may have kept the one and not the other."""
    before = time.time() - (UNNAMED_S_MIN if cloud.store.shared else 0)
    old = await asyncio.to_thread(lambda: {each for each in cloud.blobs.digests() if _is_older(cloud, each, before)})
    for digest in old - cloud.store.read_now(audit.named):
        data.drop(cloud, digest)


def _is_older(cloud: Cloud, digest: str, moment: float) -> bool:
    try:
        return bool(cloud.blobs.path(digest).stat().st_mtime <= moment)
    except FileNotFoundError:
        return False


async def sweep(cloud: Cloud) -> None:
    """One turn, in the process that leads."""
    if cloud.store.read_now(unfinished.of_the_gone):
        _report(await cloud.store.write(_undo_of_the_gone))
    removed = await cloud.blobs.sweep(lambda: cloud.store.read_now(processes.ids), lambda digest: data.drop(cloud, digest))
    if removed:
        log.info("%d folders were left of API processes that are gone", removed)


def _report(undone: int) -> None:
    if undone:
        log.warning("%d things were undone that API processes which are gone had under way", undone)


def _undo_own(conn: sa.Connection, process_id: str) -> int:
    return _undo(conn, unfinished.of_process(conn, process_id))


def _undo_of_the_gone(conn: sa.Connection) -> int:
    return _undo(conn, unfinished.of_the_gone(conn))


def _undo(conn: sa.Connection, left: list[tuple[str, str]]) -> int:
    for kind, ident in left:
        RECOVERIES[kind](conn, ident)
        unfinished.end(conn, kind, ident)
    return len(left)


def _clear_old_places(cloud: Cloud) -> None:
    """Where bytes on their way lay before they lay beside the blobs (until migration 0013)."""
    state = cloud.settings.state
    shutil.rmtree(state / "spool", ignore_errors=True)
    shutil.rmtree(cloud.blobs.uploads.parent / "tmp", ignore_errors=True)
    old = state / "uploads"
    if old.is_dir():
        for path in old.iterdir():
            path.replace(cloud.blobs.uploads / path.name)
        old.rmdir()
