"""Blobs on their way into the registry: a row and a file each, resumed at the file's length, swept when nobody comes back.

begin -> append (any number of times, in order) -> finish: the file becomes a blob    or: cancel, or the sweeper

Each of these may come to another API process: the files lie beside the blobs, and who writes to one, or takes it away, holds its lock
(flock, which goes with the process).
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import sqlalchemy as sa

from nacre.cloud.context import Context
from nacre.cloud.core import Cloud
from nacre.cloud.errors import Conflict, Invalid, NotFound, Unavailable
from nacre.cloud.image import data
from nacre.cloud.image.intake import Intake
from nacre.cloud.image.rules import InsufficientStorage, Row
from nacre.cloud.image.spool import keep_file
from nacre.cloud.image.tables import registry_blobs, registry_uploads
from nacre.cloud.registry import repositories
from nacre.cloud.registry.repositories import DIGEST, Repository
from nacre.store.schema import new_id, now

UPLOADS_MAX = 256
"""Uploads of one project at once."""
IDLE_S_MAX = 3600.0
"""An upload to which nothing came for so long is swept."""
UNNAMED_S_MAX = 6 * 3600.0
"""So long a blob waits for a manifest that names it."""


class TooManyUploads(Unavailable):
    """The project has all the uploads that it may have."""


class OutOfOrder(Invalid):
    """A chunk that does not begin where the last one ended; `details["size"]` is where."""


class Busy(Conflict):
    """Another request writes to the upload."""


def path_of(cloud: Cloud, ident: str) -> Path:
    path: Path = cloud.blobs.uploads / ident
    return path


def size_of(cloud: Cloud, ident: str) -> int:
    """How many bytes there are: the file says it, whatever happened to the request that wrote them."""
    path = path_of(cloud, ident)
    return path.stat().st_size if path.is_file() else 0


async def begin(cloud: Cloud, ctx: Context, repository: Repository) -> str:
    """A new upload's id. Raises TooManyUploads."""
    ident = new_id()
    await cloud.store.write(_begin, repository, ident)
    await asyncio.to_thread(path_of(cloud, ident).touch, 0o600)
    return ident


def _begin(conn: sa.Connection, repository: Repository, ident: str) -> None:
    query = sa.select(sa.func.count()).where(registry_uploads.c.project_id == repository.project_id)
    if conn.execute(query).scalar_one() >= UPLOADS_MAX:
        raise TooManyUploads(f"the project has {UPLOADS_MAX} uploads: finish or cancel some", code="TOOMANYREQUESTS")
    conn.execute(
        registry_uploads.insert().values(
            id=ident, project_id=repository.project_id, repository=repository.name, size=0, updated_at=now()
        )
    )


def get(conn: sa.Connection, repository: Repository, ident: str) -> Row:
    """Raises NotFound (BLOB_UPLOAD_UNKNOWN)."""
    where = (
        registry_uploads.c.id == ident,
        registry_uploads.c.project_id == repository.project_id,
        registry_uploads.c.repository == repository.name,
    )
    row = conn.execute(sa.select(registry_uploads).where(*where)).mappings().first()
    if row is None:
        raise NotFound(f"blob upload unknown to registry: {ident}", code="BLOB_UPLOAD_UNKNOWN")
    return dict(row)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Raises Busy."""
    try:
        # A process that died after the row was there has left none.
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InsufficientStorage(f"The data could not be kept: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy("another request writes to this upload", code="BLOB_UPLOAD_INVALID") from None
        if not (path.exists() and os.path.samestat(os.fstat(lock), path.stat())):
            raise Busy("another request has just ended this upload", code="BLOB_UPLOAD_INVALID")
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def _writing(cloud: Cloud, repository: Repository, ident: str) -> Iterator[None]:
    """Nobody else writes to it, or takes it away. Raises NotFound, Busy."""
    cloud.store.read_now(get, repository, ident)
    path = path_of(cloud, ident)
    with _alone(path):
        try:
            # Whoever had the lock a moment ago may have ended the upload: then this is a file that nobody knows.
            cloud.store.read_now(get, repository, ident)
        except NotFound:
            path.unlink(missing_ok=True)
            raise
        yield


async def append(cloud: Cloud, repository: Repository, ident: str, start: int | None, chunks: AsyncIterator[bytes]) -> int:
    """Write a chunk; `start` is where the client says that it begins. Returns the size. Raises OutOfOrder, TooLarge."""
    with _writing(cloud, repository, ident):
        size = size_of(cloud, ident)
        if start is not None and start != size:
            raise OutOfOrder(f"the next chunk begins at {size}", code="BLOB_UPLOAD_INVALID", size=size)
        try:
            await keep_file(cloud, chunks, path_of(cloud, ident), size)
        finally:
            size = size_of(cloud, ident)
            await cloud.store.write(_grown, ident, size)
    return size


def _grown(conn: sa.Connection, ident: str, size: int) -> None:
    conn.execute(registry_uploads.update().where(registry_uploads.c.id == ident).values(size=size, updated_at=now()))


async def finish(cloud: Cloud, repository: Repository, ident: str, digest: str) -> None:
    """The upload is whole: a blob of the repository. Raises Invalid (DIGEST_INVALID); then the upload is gone."""
    if not DIGEST.fullmatch(digest):
        raise Invalid(f"invalid digest: {digest!r}; sha256 is what the registry takes", code="DIGEST_INVALID")
    with _writing(cloud, repository, ident):
        try:
            async with Intake(cloud) as intake:
                blob = await intake.file(path_of(cloud, ident), digest)
                await cloud.store.write(_finish, repository, ident, digest, blob.size)
        except Invalid:
            await _remove(cloud, ident)
            raise


def _finish(conn: sa.Connection, repository: Repository, ident: str, digest: str, size: int) -> None:
    conn.execute(registry_uploads.delete().where(registry_uploads.c.id == ident))
    repositories.put_blob(conn, repository, digest, size)


async def cancel(cloud: Cloud, repository: Repository, ident: str) -> None:
    with _writing(cloud, repository, ident):
        await _remove(cloud, ident)


async def _remove(cloud: Cloud, ident: str) -> None:
    await cloud.store.write(_forget, ident)
    await asyncio.to_thread(path_of(cloud, ident).unlink, True)


def _forget(conn: sa.Connection, ident: str) -> None:
    conn.execute(registry_uploads.delete().where(registry_uploads.c.id == ident))


async def sweep(cloud: Cloud, idle_s_max: float = IDLE_S_MAX, unnamed_s_max: float = UNNAMED_S_MAX) -> int:
    """Remove what dead clients left: uploads, their files, blobs that no manifest names. Returns how many."""
    moment = now()
    removed = 0
    for ident in cloud.store.read_now(_idle, moment - idle_s_max):
        with contextlib.suppress(Busy), _alone(path_of(cloud, ident)):
            removed += await cloud.store.write(_forget_idle, ident, moment - idle_s_max)
    unnamed = await cloud.store.write(_unnamed, moment - unnamed_s_max)
    data.drop_all(cloud, unnamed)
    return removed + len(unnamed) + await _remove_orphans(cloud)


async def _remove_orphans(cloud: Cloud) -> int:
    """Files without a row: a row is there before its file is, and goes before it does. So the files are listed first."""
    files = await asyncio.to_thread(lambda: list(cloud.blobs.uploads.iterdir()))
    known = cloud.store.read_now(lambda conn: set(conn.execute(sa.select(registry_uploads.c.id)).scalars()))
    orphans = [path for path in files if path.name not in known]
    for path in orphans:
        await asyncio.to_thread(path.unlink, True)
    return len(orphans)


def _idle(conn: sa.Connection, before: float) -> list[str]:
    return list(conn.execute(sa.select(registry_uploads.c.id).where(registry_uploads.c.updated_at <= before)).scalars())


def _forget_idle(conn: sa.Connection, ident: str, before: float) -> int:
    """1, or 0 where something has come meanwhile."""
    where = (registry_uploads.c.id == ident, registry_uploads.c.updated_at <= before)
    return conn.execute(registry_uploads.delete().where(*where)).rowcount


def _unnamed(conn: sa.Connection, before: float) -> list[str]:
    old = registry_blobs.c.created_at <= before
    digests = list(conn.execute(sa.select(registry_blobs.c.digest).where(old)).scalars())
    conn.execute(registry_blobs.delete().where(old))
    return digests
