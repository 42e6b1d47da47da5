"""Containers' streams: attach, logs, resize (https://docs.docker.com/reference/api/engine/version/v1.50/#tag/Container)."""

import time
from typing import Any

from aiohttp import web

from nacre.cloud.containers.execs import require_running
from nacre.cloud.containers.lookup import find
from nacre.cloud.errors import CloudError, Conflict, Invalid
from nacre.panes.docker.conversation import converse, flag, log_failure, size_of
from nacre.panes.docker.dialect import HEADERS
from nacre.panes.docker.hijack import content_type, frame, take_over
from nacre.panes.docker.keys import parse
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.wire import Hijacked


def has_tty(row: dict[str, Any]) -> bool:
    """Whether the container's streams are a terminal. A server that Nova made has one: its console."""
    container = row["container"]
    return bool(container["spec"].get("tty", False)) if container is not None else True


def has_stdin(row: dict[str, Any]) -> bool:
    container = row["container"]
    return bool(container["spec"].get("open_stdin", False)) if container is not None else True


async def attach(call: Call) -> Reply:
    """Hijacks the connection. A container that was not started yet is waited for: `docker run` attaches first."""
    row = await call.read(find, call.path["id"])
    ref, tty = call.path["id"], has_tty(row)
    keys = parse(call.query.get("detachKeys", "")) if tty and flag(call, "stdin") else b""
    if row["observed_state"] == "paused":
        raise Conflict(f"container {ref} is paused, unpause the container before attach")
    if row["host_id"] is None:
        raise Conflict(f"container {ref} is not on a host")
    params = {"stdin": flag(call, "stdin") and has_stdin(row), "stdout": flag(call, "stdout"), "stderr": flag(call, "stderr")}
    earlier = None
    if flag(call, "logs"):
        said = {name: params[name] for name in ("stdout", "stderr")}
        earlier = await call.cloud.hosts.open(row["host_id"], "logs", row["id"], said)
    stream = await call.cloud.hosts.open(row["host_id"], "attach", row["id"], params) if flag(call, "stream") else None
    hijack = await take_over(call.request, tty)
    try:
        if earlier is not None:
            async for channel, data in earlier:
                await hijack.say(channel, data)
        if stream is not None:
            await converse(stream, hijack, keys=keys)
    except CloudError as error:
        log_failure("attach to", row["id"], error)
    except ConnectionError:
        pass
    finally:
        for one in (earlier, stream):
            if one is not None:
                await one.close()
        await hijack.wire.close()
    return Reply(response=Hijacked())


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
    Route("GET", "/containers/{id}/logs", logs, "docker:read", "Show a container's logs"),
    Route("POST", "/containers/{id}/resize", resize, "docker:streams", "Resize a container's terminal"),
)
