"""Docker's progress: one JSON object a line, over as many seconds as it takes; what fails after the first line is a line too."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from nacre.cloud.errors import CloudError
from nacre.panes.edge import Call, Reply
from nacre.store import StoreError


class ClientGone(CloudError):
    """Nobody reads the progress any more: the work is given up."""

    given_up = True


class Lines:
    """The answer to one request; its status goes out with the first line."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.response: web.StreamResponse | None = None

    async def send(self, **line: Any) -> None:
        """Raises ClientGone."""
        if self.response is None:
            self.response = web.StreamResponse(headers={**self._call.service.headers, "Content-Type": "application/json"})
            self.response.headers["X-Openstack-Request-Id"] = self._call.request_id
            await self.response.prepare(self._call.request)
        self.check()
        try:
            await self.response.write(msgspec.json.encode(line) + b"\r\n")
        except (ConnectionError, RuntimeError):
            raise ClientGone("the client has gone") from None

    async def status(self, text: str, ident: str = "", **more: Any) -> None:
        await self.send(status=text, **({"id": ident} if ident else {}), **more)

    def check(self) -> None:
        """Raises ClientGone when the connection is no longer there."""
        transport = self._call.request.transport
        if transport is None or transport.is_closing():
            raise ClientGone("the client has gone")


async def progress(call: Call, work: Callable[[Lines], Awaitable[None]]) -> Reply:
    """Run the work with its lines. What it raises before its first line is an answer with that status."""
    lines = Lines(call)
    try:
        await work(lines)
    except ClientGone:
        pass
    except (CloudError, StoreError) as error:
        if lines.response is None:
            raise
        text = error.message if isinstance(error, CloudError) else str(error)
        try:
            code = getattr(error, "exit_code", None)
            await lines.send(errorDetail={**({"code": code} if code else {}), "message": text}, error=text)
        except ClientGone:
            pass
    if lines.response is None:
        return Reply(b"", content_type="application/json")
    try:
        await lines.response.write_eof()
    except (ConnectionError, RuntimeError):
        pass
    return Reply(response=lines.response)
