"""Containers' streams: attach, logs, resize (https://docs.docker.com/reference/api/engine/version/v1.50/#tag/Container)."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from nacre.cloud.containers.execs import require_running
from nacre.cloud.containers.lookup import find
from nacre.cloud.core import GuestStream
from nacre.cloud.errors import CloudError, Conflict, Invalid
from nacre.panes.docker.conversation import End, converse, flag, log_failure, size_of
from nacre.panes.docker.dialect import HEADERS, minor_of
from nacre.panes.docker.hijack import content_type, frame, take_over
from nacre.panes.docker.keys import parse
from nacre.panes.docker.websockets import WebSocketEnd
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.wire import Hijacked

CHANNELS = ("stdin", "stdout", "stderr")
WEBSOCKET_BINARY_SINCE, WEBSOCKET_CHOOSES_SINCE = 28, 42
"""The minor versions since which a WebSocket bears binary messages, and only the streams that are asked for."""


def has_tty(row: dict[str, Any]) -> bool:
    """Whether the container's streams are a terminal. A server that Nova made has one: its console."""
    container = row["container"]
    return bool(container["spec"].get("tty", False)) if container is not None else True


def has_stdin(row: dict[str, Any]) -> bool:
    container = row["container"]
    return bool(container["spec"].get("open_stdin", False)) if container is not None else True


async def attach(call: Call) -> Reply:
    """Hijacks the connection. A container that was not started yet is waited for: `docker run` attaches first."""
    wanted = {name for name in CHANNELS if flag(call, name)}
    await _attach(call, wanted, lambda row: take_over(call.request, has_tty(row)))
    return Reply(response=Hijacked())


async def attach_websocket(call: Call) -> Reply:
    """The same over a WebSocket (RFC 6455): the guest's words as they are, without frames of Docker's."""
    minor = minor_of(call.request)
    everything = minor < WEBSOCKET_CHOOSES_SINCE
    wanted = {name for name in CHANNELS if everything or flag(call, name)}
    socket = WebSocketEnd(call.request, text=minor < WEBSOCKET_BINARY_SINCE)
    await _attach(call, wanted, lambda row: socket.opened())
    return Reply(response=socket.response)


async def _attach(call: Call, wanted: set[str], open_end: Callable[[dict[str, Any]], Awaitable[End]]) -> None:
    row = await call.read(find, call.path["id"])
    ref = call.path["id"]
    keys = parse(call.query.get("detachKeys", "")) if has_tty(row) and "stdin" in wanted else b""
    if row["observed_state"] == "paused":
        raise Conflict(f"container {ref} is paused, unpause the container before attach")
    if row["host_id"] is None:
        raise Conflict(f"container {ref} is not on a host")
    params = {"stdin": "stdin" in wanted and has_stdin(row), "stdout": "stdout" in wanted, "stderr": "stderr" in wanted}
    earlier = stream = end = None
    try:
        if flag(call, "logs"):
            said = {name: params[name] for name in ("stdout", "stderr")}
            earlier = await call.cloud.hosts.open(row["host_id"], "logs", row["id"], said)
        if flag(call, "stream"):
            stream = await call.cloud.hosts.open(row["host_id"], "attach", row["id"], params)
        end = await open_end(row)
        await _carry(row, earlier, stream, end, keys)
    finally:
        for one in (earlier, stream, end):
            if one is not None:
                await one.close()


async def _carry(row: dict[str, Any], earlier: GuestStream | None, stream: GuestStream | None, end: End, keys: bytes) -> None:
    """What was said earlier, then what is said from now on. What breaks off ends it."""
    try:
        if earlier is not None:
            async for channel, data in earlier:
                await end.say(channel, data)
        if stream is not None:
            await converse(stream, end, keys=keys)
    except CloudError as error:
        log_failure("attach to", row["id"], error)
    except ConnectionError:
        pass


def _moment(call: Call, name: str) -> float:
    """`since` and `until`: seconds since the epoch, with nanoseconds after a dot. Raises Invalid."""
    text = call.query.get(name, "")
    if text in ("", "0"):
        return 0.0
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1 << 40:
        raise Invalid(f'invalid value for "{name}": {text!r} is no time in seconds', field=name)
    return found


def _tail(call: Call) -> int:
    """Docker takes whatever is no number for all of it."""
    text = call.query.get("tail", "")
    return min(int(text), 1 << 40) if text.isascii() and text.isdigit() else -1


async def logs(call: Call) -> Reply:
    row = await call.read(find, call.path["id"])
    if not flag(call, "stdout") and not flag(call, "stderr"):
        raise Invalid("Bad parameters: you must choose at least one stream")
    params = {
        "stdout": flag(call, "stdout"),
        "stderr": flag(call, "stderr"),
        "follow": flag(call, "follow"),
        "since": _moment(call, "since"),
        "until": _moment(call, "until"),
        "timestamps": flag(call, "timestamps"),
        "tail": _tail(call),
    }
    until = params["until"]
    if params["follow"] and until and until < time.time():
        params["follow"] = False
    tty = has_tty(row)
    response = web.StreamResponse(headers={**HEADERS, "Content-Type": content_type(call.request, tty)})
    stream = await call.cloud.hosts.open(row["host_id"], "logs", row["id"], params) if row["host_id"] is not None else None
    try:
        await response.prepare(call.request)
        if stream is not None:
            async for channel, data in stream:
                await response.write(data if tty else frame(channel, data) + data)
        await response.write_eof()
    except CloudError as error:
        log_failure("logs of", row["id"], error)
    except ConnectionError:
        pass
    finally:
        if stream is not None:
            await stream.close()
    return Reply(response=response)


async def resize(call: Call) -> Reply:
    row = await call.read(find, call.path["id"])
    h, w = size_of(call)
    require_running(row, call.path["id"], "resize")
    await call.cloud.hosts.dial(row["host_id"], "resize", row["id"], {"h": h, "w": w})
    return Reply(b"", content_type="text/plain")


ROUTES: tuple[Route, ...] = (
    Route("POST", "/containers/{id}/attach", attach, "docker:streams", "Attach to a container", streams=True),
    Route("GET", "/containers/{id}/attach/ws", attach_websocket, "docker:streams", "Attach to a container over a WebSocket"),
    Route("GET", "/containers/{id}/logs", logs, "docker:read", "Show a container's logs"),
    Route("POST", "/containers/{id}/resize", resize, "docker:streams", "Resize a container's terminal"),
)
