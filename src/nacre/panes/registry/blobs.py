"""Blobs: shown, brought in one piece or in chunks, mounted from another repository, deleted."""

import re

from aiohttp import web

from nacre.cloud.errors import CloudError, Invalid, NotFound
from nacre.cloud.image import data
from nacre.cloud.registry import repositories, uploads
from nacre.cloud.registry.repositories import DIGEST, Repository
from nacre.panes.docker.transfers import chunks
from nacre.panes.edge import Call, Reply

SEND_CHUNK_BYTES = 1024 * 1024
_RANGE = re.compile(r"(?:bytes[ =])?(\d{1,18})-(\d{1,18})(?:/(?:\d+|\*))?")


def _unknown(digest: str) -> NotFound:
    return NotFound(f"blob unknown to registry: {digest}", code="BLOB_UNKNOWN")


async def show(call: Call) -> Reply:
    repository = await call.read(repositories.find, call.path["name"])
    digest = call.path["digest"]
    if not await call.read(repositories.has_blob, repository, digest):
        raise _unknown(digest)
    path = call.cloud.blobs.path(digest)
    if not path.is_file():
        raise _unknown(digest)
    headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest, "ETag": f'"{digest}"'}
    return Reply(response=web.FileResponse(path, SEND_CHUNK_BYTES, headers=headers))


async def delete(call: Call) -> Reply:
    repository = await call.read(repositories.find, call.path["name"], push=True)
    await call.write(repositories.delete_blob, repository, call.path["digest"])
    data.drop(call.cloud, call.path["digest"])
    return Reply(status=202)


async def begin(call: Call) -> Reply:
    """Mount a blob that is here, take one in this very request, or open an upload."""
    repository = await call.read(repositories.find, call.path["name"], push=True)
    if "mount" in call.query and await _mount(call, repository, call.query["mount"], call.query.get("from", "")):
        return _created(repository, call.query["mount"])
    ident = await uploads.begin(call.cloud, call.context, repository)
    digest = call.query.get("digest")
    if digest is None:
        return _progress(repository, ident, 0, 202)
    try:
        await uploads.append(call.cloud, repository, ident, None, chunks(call.request.content))
        await uploads.finish(call.cloud, repository, ident, digest)
    except CloudError:
        if await call.read(_is_there, repository, ident):
            await uploads.cancel(call.cloud, repository, ident)
        raise
    return _created(repository, digest)


def _is_there(conn: object, ctx: object, repository: Repository, ident: str) -> bool:
    try:
        uploads.get(conn, repository, ident)  # type: ignore[arg-type]
    except NotFound:
        return False
    return True


async def _mount(call: Call, repository: Repository, digest: str, source: str) -> bool:
    """False when there is no such blob that the caller may have: then it has to send the bytes."""
    if not DIGEST.fullmatch(digest) or not source:
        return False
    try:
        origin = await call.read(repositories.find, source)
    except (NotFound, Invalid):
        return False
    path = call.cloud.blobs.path(digest)
    if not await call.read(repositories.has_blob, origin, digest) or not path.is_file():
        return False
    size = path.stat().st_size
    await call.write(lambda conn, ctx: repositories.put_blob(conn, repository, digest, size))
    return True


def _created(repository: Repository, digest: str) -> Reply:
    headers = {"Location": f"/v2/{repository.full}/blobs/{digest}", "Docker-Content-Digest": digest}
    return Reply(status=201, headers=headers)


def _progress(repository: Repository, ident: str, size: int, status: int) -> Reply:
    headers = {
        "Location": f"/v2/{repository.full}/blobs/uploads/{ident}",
        "Range": f"0-{max(0, size - 1)}",
        "Docker-Upload-UUID": ident,
    }
    return Reply(status=status, headers=headers)


async def _upload(call: Call) -> tuple[Repository, str]:
    repository = await call.read(repositories.find, call.path["name"], push=True)
    return repository, call.path["upload"]


async def progress(call: Call) -> Reply:
    repository, ident = await _upload(call)
    call.cloud.store.read_now(uploads.get, repository, ident)
    return _progress(repository, ident, uploads.size_of(call.cloud, ident), 204)


async def chunk(call: Call) -> Reply:
    repository, ident = await _upload(call)
    try:
        size = await uploads.append(call.cloud, repository, ident, _start(call), chunks(call.request.content))
    except uploads.OutOfOrder as error:
        reply = _progress(repository, ident, error.details["size"], 416)
        reply.body = {"errors": [{"code": error.code, "message": error.message, "detail": None}]}
        return reply
    return _progress(repository, ident, size, 202)


def _start(call: Call) -> int | None:
    """Where the chunk begins, as its Content-Range says. Raises Invalid."""
    text = call.request.headers.get("Content-Range")
    if text is None:
        return None
    match = _RANGE.fullmatch(text.strip())
    length = call.request.content_length
    if match is None or (length is not None and int(match[2]) - int(match[1]) + 1 != length):
        raise Invalid(f"invalid Content-Range: {text}", code="BLOB_UPLOAD_INVALID")
    return int(match[1])


async def finish(call: Call) -> Reply:
    repository, ident = await _upload(call)
    digest = call.query.get("digest", "")
    if call.request.can_read_body:
        await uploads.append(call.cloud, repository, ident, _start(call), chunks(call.request.content))
    await uploads.finish(call.cloud, repository, ident, digest)
    return _created(repository, digest)


async def cancel(call: Call) -> Reply:
    repository, ident = await _upload(call)
    await uploads.cancel(call.cloud, repository, ident)
    return Reply(status=204)
