"""Bytes by digest: whole or not there at all."""

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nacre.store import blobs as module
from nacre.store.blobs import BATCH_BYTES, Blob, BlobsFull, BlobTooLarge, DirectoryBlobs

LIMIT = 1 << 30


async def stream(*chunks: bytes, error: BaseException | None = None) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk
    if error is not None:
        raise error


def write(blobs: DirectoryBlobs, *chunks: bytes, limit: int = LIMIT, error: BaseException | None = None) -> Blob:
    return asyncio.run(blobs.write(stream(*chunks, error=error), limit))


def files(path: Path) -> list[str]:
    return sorted(file.name for file in path.rglob("*") if file.is_file())


def test_what_is_written_is_found_under_its_digest(tmp_path: Path) -> None:
    data = os.urandom(3 * BATCH_BYTES + 17)
    blobs = DirectoryBlobs(tmp_path)
    blob = write(blobs, *(data[start : start + 99_991] for start in range(0, len(data), 99_991)))
    assert blob.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert (blob.size, blob.md5) == (len(data), hashlib.md5(data).hexdigest())
    assert blob.sha512 == hashlib.sha512(data).hexdigest()
    assert blobs.path(blob.digest).read_bytes() == data
    assert list(blobs.digests()) == [blob.digest]
    assert files(tmp_path) == [blob.digest.removeprefix("sha256:")]
    assert write(blobs).size == 0


def test_a_stream_that_fails_or_is_too_long_leaves_nothing(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    chunk = b"x" * BATCH_BYTES
    with pytest.raises(BlobTooLarge):
        write(blobs, chunk, chunk, limit=2 * BATCH_BYTES - 1)
    with pytest.raises(ConnectionResetError):
        write(blobs, chunk, chunk, error=ConnectionResetError())
    with pytest.raises(asyncio.CancelledError):
        write(blobs, chunk, chunk, error=asyncio.CancelledError())
    assert files(tmp_path) == []
    assert write(blobs, chunk, chunk, limit=2 * BATCH_BYTES).size == 2 * BATCH_BYTES


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    blobs = DirectoryBlobs(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(module.os, "write", refuse)
        with pytest.raises(BlobsFull):
            write(blobs, b"x" * BATCH_BYTES, b"y" * BATCH_BYTES, b"z")
    assert files(tmp_path) == []


def test_a_blob_is_pinned_until_its_row_is_there(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    first, second = write(blobs, b"same"), write(blobs, b"same")
    assert first.digest == second.digest
    blobs.release(first.digest)
    assert not blobs.delete(first.digest)
    blobs.release(first.digest)
    with blobs.path(first.digest).open("rb") as reader:
        assert blobs.delete(first.digest)
        assert reader.read() == b"same"
    assert blobs.delete(first.digest)
    blobs.close()
    assert files(tmp_path) == []


def test_leftovers_of_dead_processes_are_swept_and_others_are_not(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    for name, age in (("old", module.TEMPORARY_AGE_MAX_S + 60), ("young", 0)):
        path = tmp_path / "tmp" / name
        path.write_bytes(b"half")
        moment = path.stat().st_mtime - age
        os.utime(path, (moment, moment))
    assert blobs.sweep() == 1
    assert files(tmp_path) == ["young"]
    assert blobs.sweep(alone=True) == 1
    assert files(tmp_path) == []


def test_a_name_that_is_no_digest_leads_nowhere(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    for name in ("", "sha256:", "sha256:../../etc/passwd", "md5:" + "0" * 64, "sha256:" + "g" * 64):
        with pytest.raises(ValueError):
            blobs.path(name)
