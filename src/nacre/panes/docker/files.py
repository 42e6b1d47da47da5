"""A container's files, in and out: archive, export, changes (https://docs.docker.com/reference/api/engine/version/v1.50/#tag/Container)."""

import base64
from typing import Any

from aiohttp import web

from nacre.cloud.containers.lookup import find
from nacre.cloud.core import GuestStream
from nacre.cloud.errors import CloudError, Conflict, Invalid
from nacre.panes.docker.conversation import flag, log_failure
from nacre.panes.docker.dialect import HEADERS
from nacre.panes.docker.transfers import chunks
from nacre.panes.edge import Call, Reply, Route
from nacre.protocol.streams import CloseStdin

TAR = "application/x-tar"
PATH_CHARACTERS_MAX = 4096
_STAT = "X-Docker-Container-Path-Stat"


def _host(row: dict[str, Any], ref: str) -> str:
    """Raises Conflict for a container whose files lie nowhere yet."""
    if row["host_id"] is None:
        raise Conflict(f"container {ref} is not on a host")
    host: str = row["host_id"]
    return host


def _path(call: Call) -> dict[str, Any]:
    path = call.query.get("path", "")
    if not path:
        raise Invalid("bad parameter: path cannot be empty", field="path")
    if "\0" in path or len(path) > PATH_CHARACTERS_MAX:
        raise Invalid("bad parameter: path is no path", field="path")
    return {"path": path, "name": call.path["id"]}


async def _stat_of(call: Call, row: dict[str, Any], params: dict[str, Any]) -> str:
    answer = await call.cloud.hosts.dial(_host(row, call.path["id"]), "archive_stat", row["id"], params)
    return base64.b64encode(answer).decode()


async def archive_stat(call: Call) -> Reply:
    params = _path(call)
    row = await call.read(find, call.path["id"])
    return Reply(b"", headers={_STAT: await _stat_of(call, row, params)}, content_type="text/plain")


async def archive_get(call: Call) -> Reply:
    params = _path(call)
    row = await call.read(find, call.path["id"])
    found = await _stat_of(call, row, params)
    stream = await call.cloud.hosts.open(_host(row, call.path["id"]), "archive_get", row["id"], params)
    return await _download(call, stream, "archive of", row["id"], {_STAT: found, "Content-Type": TAR})


async def export(call: Call) -> Reply:
    row = await call.read(find, call.path["id"])
    stream = await call.cloud.hosts.open(_host(row, call.path["id"]), "export", row["id"], {})
    return await _download(call, stream, "export of", row["id"], {"Content-Type": "application/octet-stream"})


async def _download(call: Call, stream: GuestStream, what: str, ident: str, headers: dict[str, str]) -> Reply:
    """What breaks off in the middle ends the connection: a client must not take a part for the whole."""
    response = web.StreamResponse(headers={**HEADERS, **headers})
    try:
        await response.prepare(call.request)
        async for _, data in stream:
            await response.write(data)
        await response.write_eof()
    except CloudError as error:
        log_failure(what, ident, error)
        if call.request.transport is not None:
            call.request.transport.abort()
    except ConnectionError:
        pass
    finally:
        await stream.close()
    return Reply(response=response)


async def archive_put(call: Call) -> Reply:
    params = _path(call)
    params |= {"no_overwrite_dir_non_dir": flag(call, "noOverwriteDirNonDir"), "copy_uidgid": flag(call, "copyUIDGID")}
    row = await call.read(find, call.path["id"])
    stream = await call.cloud.hosts.open(_host(row, call.path["id"]), "archive_put", row["id"], params)
    try:
        async for data in chunks(call.request.content):
            await stream.send(data)
        await stream.control(CloseStdin())
        async for _ in stream:
            pass
    finally:
        await stream.close()
    return Reply(b"", content_type="text/plain")


async def changes(call: Call) -> Reply:
    """A list, or null as the engine has it where nothing was changed."""
    row = await call.read(find, call.path["id"])
    answer = await call.cloud.hosts.dial(_host(row, call.path["id"]), "changes", row["id"], {})
    return Reply(b"null" if answer == b"[]" else answer, content_type="application/json")


ROUTES: tuple[Route, ...] = (
    Route("HEAD", "/containers/{id}/archive", archive_stat, "docker:read", "Show what a path in a container is"),
    Route("GET", "/containers/{id}/archive", archive_get, "docker:streams", "Take files out of a container"),
    Route("PUT", "/containers/{id}/archive", archive_put, "docker:streams", "Put files into a container", streams=True),
    Route("GET", "/containers/{id}/export", export, "docker:streams", "Export a container's root file system"),
    Route("GET", "/containers/{id}/changes", changes, "docker:read", "Show what a container changed in its files"),
)
