"""Bytes by digest: whole or not there at all."""

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nacre.store import StoreError
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
    blobs.release(blob.digest)
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


def unnamed() -> bool:
    return False


def test_a_blob_is_pinned_until_its_row_is_there(tmp_path: Path) -> None:
    blobs, others = DirectoryBlobs(tmp_path, "one"), DirectoryBlobs(tmp_path, "other")
    first, second = write(blobs, b"same"), write(others, b"same")
    assert first.digest == second.digest
    assert blobs.pinned() == others.pinned() == {first.digest}
    for still_pinned, ends in ((blobs, others), (others, blobs)):
        assert not still_pinned.delete(first.digest, unnamed)
        assert not ends.delete(first.digest, unnamed)
        ends.release(first.digest)
    assert not blobs.delete(first.digest, lambda: True), "a row names it"
    with blobs.path(first.digest).open("rb") as reader:
        assert others.delete(first.digest, unnamed)
        assert reader.read() == b"same"
    assert blobs.delete(first.digest, unnamed)
    blobs.close()
    others.close()
    assert files(tmp_path) == []


def test_who_comes_to_need_a_blob_while_it_is_deleted_keeps_it(tmp_path: Path) -> None:
    """The other process's row comes after the deletion has looked for one, and before the blob is moved away; and the other way round."""
    blobs, others = DirectoryBlobs(tmp_path, "one"), DirectoryBlobs(tmp_path, "other")
    blob = write(blobs, b"wanted")
    blobs.release(blob.digest)
    asked: list[bool] = []

    def named_meanwhile() -> bool:
        if not asked:
            others.release(write(others, b"wanted").digest)
        asked.append(True)
        return len(asked) > 1

    assert not blobs.delete(blob.digest, named_meanwhile)
    assert blobs.path(blob.digest).read_bytes() == b"wanted"

    def pinned_meanwhile() -> bool:
        if len(asked) == 3:
            write(others, b"wanted")
        asked.append(True)
        return False

    asked = [True, True]
    assert blobs.delete(blob.digest, pinned_meanwhile), "it was moved away, and is placed anew"
    assert blobs.path(blob.digest).read_bytes() == b"wanted"
    assert others.pinned() == {blob.digest}


def test_leftovers_of_dead_processes_are_swept_and_others_are_not(tmp_path: Path) -> None:
    dead, lives, blobs = (DirectoryBlobs(tmp_path, name) for name in ("dead", "lives", "one"))
    again = DirectoryBlobs(tmp_path, "one")
    left, kept, half = write(dead, b"left"), write(lives, b"kept"), write(dead, b"half taken away")
    (dead.spool / "x").mkdir()
    (lives.spool / "half").write_bytes(b"half")
    (blobs.spool / "of an earlier start").write_bytes(b"half")
    name = half.digest.removeprefix("sha256:")
    dead.release(half.digest)
    dead.path(half.digest).rename(next(tmp_path.glob("work/dead.*")) / "tmp" / f"taken-{name}-1")
    dropped: list[str] = []

    def drop(digest: str) -> None:
        assert again.path(digest).is_file()
        dropped.append(digest)
        again.delete(digest, lambda: digest == half.digest)

    assert asyncio.run(again.sweep(lambda: {"one", "lives"}, drop)) == 2
    assert sorted(dropped) == sorted([left.digest, half.digest])
    names = sorted(digest.removeprefix("sha256:") for digest in (kept.digest, half.digest))
    assert sorted(again.digests()) == sorted([kept.digest, half.digest])
    assert files(tmp_path) == sorted([*names, kept.digest.removeprefix("sha256:"), "half"])
    assert asyncio.run(again.sweep(lambda: {"one", "lives"}, drop)) == 0
    with pytest.raises(StoreError, match="taken for dead"):
        write(dead, b"a late one")


def test_a_name_that_is_no_digest_leads_nowhere(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    for name in ("", "sha256:", "sha256:../../etc/passwd", "md5:" + "0" * 64, "sha256:" + "g" * 64):
        with pytest.raises(ValueError):
            blobs.path(name)
