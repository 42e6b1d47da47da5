"""An image's bytes over HTTP: upload and stage as streams, download by sendfile with ranges."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import BadHttpMessage

from nacre.cloud.errors import Invalid, Unsupported
from nacre.cloud.image import contents, data, export
from nacre.cloud.image.rules import RangeNotSatisfiable, Row
from nacre.panes.edge import Call, Reply
from nacre.panes.openstack.image import render

UPLOAD_IDLE_MAX_S = 120
"""An upload from which nothing comes for so long is given up."""
SEND_CHUNK_BYTES = 1024 * 1024
"""Read at once where the loop has no sendfile."""
CONTENT_TYPE = "application/octet-stream"


async def upload(call: Call) -> Reply:
    return await _receive(call, stage=False)


async def stage(call: Call) -> Reply:
    return await _receive(call, stage=True)


async def _receive(call: Call, stage: bool) -> Reply:
    if call.request.content_type != CONTENT_TYPE:
        raise Unsupported(f"The media type {call.request.content_type} is not supported; send {CONTENT_TYPE}.")
    store = call.request.headers.get("X-Image-Meta-Store", render.STORE)
    if store != render.STORE:
        raise Invalid(f"Store {store[:80]!r} is not there; there is {render.STORE}.", field="x-image-meta-store")
    try:
        await data.receive(call.cloud, call.context, call.path["image_id"], _chunks(call.request.content), stage)
    except BadHttpMessage as error:
        raise Invalid(f"The data ended before it was complete: {error.message}") from None
    return Reply(status=204)


async def _chunks(content: StreamReader) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(UPLOAD_IDLE_MAX_S):
                chunk = await content.readany()
        except TimeoutError:
            raise Invalid(f"No data came for {UPLOAD_IDLE_MAX_S} seconds; the upload is given up.") from None
        if not chunk:
            return
        yield chunk


async def download(call: Call) -> Reply:
    """200 with the data, 206 for a range of it, 204 when there is none yet. What came in layers goes out as an OCI archive, made as it is sent."""
    image = await call.read(data.for_download, call.path["image_id"])
    if image["digest"] is None:
        return Reply(status=204)
    if image["digest"] == image["manifest_digest"]:
        return await _archive(call, image)
    headers = {"Content-Type": CONTENT_TYPE}
    if image["checksum"]:
        headers["Content-MD5"] = image["checksum"]
    _check_range(call.request, image["size"])
    return Reply(response=web.FileResponse(data.path_of(call.cloud, image), SEND_CHUNK_BYTES, headers=headers))


def _check_range(request: web.Request, size: int) -> None:
    """Raises RangeNotSatisfiable, which the file's own response would say without words."""
    try:
        begin = request.http_range.start
    except ValueError as error:
        raise RangeNotSatisfiable(f"{error}", field="Range") from None
    if begin is not None and begin >= size:
        raise RangeNotSatisfiable(f"The range begins behind the data's {size} bytes.", field="Range")


async def _archive(call: Call, image: Row) -> Reply:
    planned = contents.members([(await contents.of_image(call.cloud, image), ())])
    stream = contents.stream(call.cloud, planned)
    headers = {"Content-Type": CONTENT_TYPE, "Content-Length": str(export.size_of(planned))}
    response = web.StreamResponse(headers=headers)
    response.headers["X-Openstack-Request-Id"] = call.request_id
    await response.prepare(call.request)
    if call.request.method != "HEAD":
        async for chunk in stream:
            await response.write(chunk)
    await response.write_eof()
    return Reply(response=response)
