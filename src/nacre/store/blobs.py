"""Bytes by digest: images and objects, named by the SHA-256 of what they hold.

A blob is written under a temporary name while its hashes are computed, synced, and only then renamed to its digest: under a digest there is
never half a blob. Who refers to a blob is the rows' matter: it is deleted when no row names it. Between the end of a write and the commit
of the row that names it a blob is pinned, so that the deletion of the last other row cannot take it away.

Several processes may share a directory. Nobody waits for anybody there: a lock that a process holds while it stands still would stop all of
them. Who places a blob pins it first. Who deletes one looks for pins and rows, moves it away, looks once more, and puts it back where somebody
has come to need it in between: that one had placed it before it was moved away, and then its pin, or its row, is found; or it places it anew.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from nacre.store.engine import StoreError
from nacre.store.workplace import Workplace, name_of, unpin

BATCH_BYTES = 2 * 1024 * 1024
"""What is hashed and written at once. Two batches per writer are in memory: one being received, one being worked on."""
WORKERS = 4
"""Threads that hash and write, shared by all writers."""
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Blob(NamedTuple):
    """`digest` is `sha256:` and 64 hex digits; `size` is in bytes; `md5` and `sha512` are hex."""

    digest: str
    size: int
    md5: str
    sha512: str


class BlobTooLarge(Exception):
    """The stream is longer than its limit. Nothing of it is kept."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The data is larger than {limit} bytes.")
        self.limit = limit


class BlobsFull(StoreError):
    """There is no space left for the bytes. Nothing of the blob is kept."""


class Blobs(Protocol):
    """Bytes by digest, wherever they lie."""

    spool: Path
    """A folder of this process, on the file system of the blobs, that goes with it."""
    uploads: Path
    """A folder of all processes there: for what is begun at one and goes on at another."""

    async def write(self, stream: AsyncIterator[bytes], limit: int) -> Blob:
        """Keep what the stream yields, pinned until `release`. Raises BlobTooLarge, BlobsFull, and what the stream raises; then nothing is kept."""

    async def adopt(self, path: Path, digest: str | None = None) -> Blob:
        """Make a file of the same file system a blob, pinned until `release`: it is hashed and renamed, not copied; `md5` and `sha512`
        are empty. Raises ValueError when its digest is not the one that was promised; then the file is as it was."""

    def release(self, digest: str) -> None:
        """The row that names the blob is committed (or will never be): end the pin of one `write`."""

    def path(self, digest: str) -> Path:
        """Where the bytes lie. The file may be missing. Raises ValueError for what is no digest."""

    def delete(self, digest: str, named: Callable[[], bool]) -> bool:
        """Forget the blob, unless it is pinned or `named` says that a row names it; readers that have it open keep it. Returns whether it
        is gone."""

    def digests(self) -> Iterator[str]:
        """What is there, for the sweeper that looks for blobs without a row."""

    def pinned(self) -> frozenset[str]:
        """What has its row yet to come, at whatever process."""

    async def sweep(self, living: Callable[[], Collection[str]], drop: Callable[[str], Any]) -> int:
        """Remove what is left of processes that do not live; `drop` is called with what they had pinned, and deletes what no row names.
        Returns how many there were."""

    def close(self) -> None: ...


class DirectoryBlobs:
    """Blobs in a directory: `sha256/ab/abcd...`, and `work` for what each process has on its way."""

    def __init__(self, path: Path, process_id: str = "alone") -> None:
        self._root = path / "sha256"
        self.uploads = path / "uploads"
        for directory in (self._root, self.uploads):
            directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._work = Workplace(path / "work", process_id)
        self.spool = self._work.spool
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="blobs")

    async def write(self, stream: AsyncIterator[bytes], limit: int) -> Blob:
        temporary = self._work.new_file()
        try:
            return await self._write(stream, limit, temporary)
        except OSError as error:
            if error.errno in FULL:
                raise BlobsFull("There is not enough space left to keep the data.") from error
            raise
        finally:
            temporary.unlink(missing_ok=True)

    async def _write(self, stream: AsyncIterator[bytes], limit: int, temporary: Path) -> Blob:
        writer = _Writer(self._pool, temporary, self._place)
        kept = False
        try:
            await _receive(stream, limit, writer)
            blob = await writer.finish()
            kept = True
            return blob
        finally:
            await writer.close()
            if writer.placed and not kept:
                self.release(writer.placed)

    async def adopt(self, path: Path, digest: str | None = None) -> Blob:
        try:
            return await asyncio.wrap_future(self._pool.submit(self._adopt, path, digest))
        except OSError as error:
            if error.errno in FULL:
                raise BlobsFull("There is not enough space left to keep the data.") from error
            raise

    def _adopt(self, path: Path, promised: str | None) -> Blob:
        with path.open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
            if promised not in (None, digest):
                raise ValueError(f"the bytes are {digest}, not {promised}")
            size = os.fstat(file.fileno()).st_size
            os.fchmod(file.fileno(), 0o640)
            os.fsync(file.fileno())
        self._place(path, digest)
        return Blob(digest, size, "", "")

    def _place(self, temporary: Path, digest: str) -> None:
        """Called in a worker's thread with a synced file: from here on it is the blob, and pinned."""
        target = self.path(digest)
        if not target.parent.is_dir():
            target.parent.mkdir(exist_ok=True, mode=0o750)
            _sync_directory(self._root)
        self._work.pin(target.name)
        try:
            temporary.replace(target)
            _sync_directory(target.parent)
        except BaseException:
            self.release(digest)
            raise

    def release(self, digest: str) -> None:
        self._work.release(self.path(digest).name)

    def path(self, digest: str) -> Path:
        if DIGEST.fullmatch(digest) is None:
            raise ValueError(f"{digest!r} is no digest")
        name = digest.removeprefix("sha256:")
        return self._root / name[:2] / name

    def delete(self, digest: str, named: Callable[[], bool]) -> bool:
        target = self.path(digest)
        if self._work.is_pinned(target.name) or named():
            return False
        grave = self._work.new_grave(target.name)
        try:
            target.rename(grave)
        except FileNotFoundError:
            return not target.exists()
        needed = True
        try:
            needed = self._work.is_pinned(target.name) or named()
        finally:
            if needed:
                self._put_back(grave)
        if needed:
            return False
        # Giving back the blocks of a large file takes milliseconds, which the loop is spared. What a crash leaves is swept.
        self._pool.submit(grave.unlink, missing_ok=True)
        return True

    def _put_back(self, grave: Path) -> None:
        """Unless somebody has placed it anew, or has put it back because this process was taken for dead."""
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            os.link(grave, self._root / name_of(grave)[:2] / name_of(grave))
        grave.unlink(missing_ok=True)

    def pinned(self) -> frozenset[str]:
        return frozenset(f"sha256:{name}" for name in self._work.pinned())

    def digests(self) -> Iterator[str]:
        for path in self._root.glob("??/*"):
            yield f"sha256:{path.name}"

    async def sweep(self, living: Callable[[], Collection[str]], drop: Callable[[str], Any]) -> int:
        others = await asyncio.to_thread(self._work.others)
        gone = self._work.gone(others, living()) if others else []
        for place in gone:
            for name in await asyncio.to_thread(self._undone, place):
                drop(f"sha256:{name}")
            await asyncio.to_thread(shutil.rmtree, place, True)
        return len(gone)

    def _undone(self, place: Path) -> list[str]:
        """What was pinned there, and what was half taken away and is back now."""
        pinned, graves = unpin(place)
        for grave in graves:
            self._put_back(grave)
        return [*pinned, *map(name_of, graves)]

    def close(self) -> None:
        self._pool.shutdown(wait=True)


async def _receive(stream: AsyncIterator[bytes], limit: int, writer: "_Writer") -> None:
    size = pending = 0
    batch: list[bytes] = []
    async for chunk in stream:
        size += len(chunk)
        if size > limit:
            raise BlobTooLarge(limit)
        batch.append(chunk)
        pending += len(chunk)
        if pending >= BATCH_BYTES:
            await writer.put(batch, pending)
            batch, pending = [], 0
    if batch:
        await writer.put(batch, pending)


class _Writer:
    """Hashes and writes one batch while the next is received. The hashes run side by side: hashlib and write let go of the interpreter's lock."""

    def __init__(self, pool: ThreadPoolExecutor, path: Path, place: Callable[[Path, str], None]) -> None:
        self.placed = ""
        """The digest, once the file has its final name."""
        self._pool = pool
        self._path = path
        self._place = place
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        self._size = 0
        self._sha256 = hashlib.sha256()
        self._sha512 = hashlib.sha512()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._busy: list[asyncio.Future[None]] = []

    async def put(self, batch: list[bytes], size: int) -> None:
        """Hand over a batch; waits until the one before is done. Raises what that one met (OSError)."""
        data = batch[0] if len(batch) == 1 else b"".join(batch)
        await self._settle()
        self._size += size
        self._start(self._sha512.update, data)
        self._start(self._md5.update, data)
        self._start(self._write, data)

    async def finish(self) -> Blob:
        await self._settle()
        digest = f"sha256:{self._sha256.hexdigest()}"
        self._start(self._sync_and_place, digest)
        await self._settle()
        return Blob(digest, self._size, self._md5.hexdigest(), self._sha512.hexdigest())

    async def close(self) -> None:
        """No thread touches the file after this, even when the writer was interrupted."""
        if self._busy:
            done, _ = await asyncio.wait(self._busy)
            for future in done:
                future.exception()
        os.close(self._fd)

    def _start(self, call: Callable[[Any], None], argument: Any) -> None:
        self._busy.append(asyncio.wrap_future(self._pool.submit(call, argument)))

    async def _settle(self) -> None:
        """Wait for all of them, also when one fails or the caller is cancelled: then `close` finds them still listed."""
        if self._busy:
            await asyncio.wait(self._busy)
            busy, self._busy = self._busy, []
            errors = [future.exception() for future in busy]
            for error in errors:
                if error is not None:
                    raise error

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self._sha256.update(data)

    def _sync_and_place(self, digest: str) -> None:
        os.fsync(self._fd)
        self._place(self._path, digest)
        self.placed = digest


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
