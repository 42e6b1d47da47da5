"""Starting, stopping and the like. Each writes its intent, and answers when the node has made it so."""

from typing import Any

from aiohttp import web

from nacre.cloud.containers import lifecycle, lookup, updating, waiting
from nacre.cloud.containers.lifecycle import KILL, Done
from nacre.cloud.containers.states import failure_code
from nacre.cloud.errors import CloudError, Invalid
from nacre.panes.docker.hangups import unless_gone
from nacre.panes.docker.query import number
from nacre.panes.docker.schemas import ContainerUpdate, plain
from nacre.panes.edge import Call, Reply, Route
from nacre.store import StoreError

Row = dict[str, Any]

SETTLE_S = 330.0
"""How long an action may take; a transition's deadline comes before."""
STOP_S = 10.0
CONDITIONS = ("not-running", "next-exit", "removed")


async def _settle(call: Call, server_id: str, timeout_s: float | None = SETTLE_S, *, met: bool = False) -> Row:
    """Wait for what the node makes of it. Raises CloudError with the cause where it cannot, or is too slow."""
    row = await waiting.settled(call.cloud, server_id, timeout_s, met=met)
    if row is None:
        raise CloudError(f"The host did not answer within {timeout_s:.0f} s; it goes on trying.")
    return row


async def start(call: Call) -> Reply:
    done = await call.write(lifecycle.start, call.path["id"], call.cloud.hosts.alive())
    await _settle(call, done.server_id, met=done.changed)
    if not done.changed:
        return Reply(status=304)
    await _raise_failed(call, done.server_id)
    return Reply(status=204)


async def _raise_failed(call: Call, server_id: str) -> None:
    """Raises what the node says of a start that failed: the client's fault where there is no such program."""
    cause = await call.read(waiting.failure, server_id)
    if cause:
        message = f"failed to create task for container: {cause}"
        raise (Invalid if failure_code(cause) in (126, 127) else CloudError)(message)


async def stop(call: Call) -> Reply:
    timeout_s = number(call, "t")
    done = await call.write(lifecycle.stop, call.path["id"], call.query.get("signal", ""), timeout_s)
    await _settle(call, done.server_id, _patience(timeout_s))
    return Reply(status=204 if done.changed else 304)


def _patience(timeout_s: int | None) -> float | None:
    """As long as the container has, and then some; without end where it has no end."""
    if timeout_s is not None and timeout_s < 0:
        return None
    return SETTLE_S + (timeout_s or 0)


async def restart(call: Call) -> Reply:
    timeout_s = number(call, "t")
    alive = call.cloud.hosts.alive()
    done = await call.write(lifecycle.restart, call.path["id"], call.query.get("signal", ""), timeout_s, alive)
    await _settle(call, done.server_id, _patience(timeout_s))
    await _raise_failed(call, done.server_id)
    return Reply(status=204)


async def kill(call: Call) -> Reply:
    row, signal_number = await call.write(lifecycle.kill, call.path["id"], call.query.get("signal", ""))
    if signal_number == KILL:
        await _settle(call, row["id"])
    else:
        await call.cloud.hosts.dial(row["host_id"], "signal", row["id"], {"signal": signal_number})
    return Reply(status=204)


async def _answer_when_done(call: Call, done: Done) -> Reply:
    row = await _settle(call, done.server_id)
    if row.get("fault"):
        raise CloudError(str(row["fault"]))
    return Reply(status=204)


async def pause(call: Call) -> Reply:
    return await _answer_when_done(call, await call.write(lifecycle.pause, call.path["id"]))


async def unpause(call: Call) -> Reply:
    return await _answer_when_done(call, await call.write(lifecycle.unpause, call.path["id"]))


async def update(call: Call) -> Reply:
    body = plain(await call.body(ContainerUpdate))
    restart = body.pop("RestartPolicy")
    alive, ratios = call.cloud.hosts.alive(), call.cloud.settings.ratios
    ident, warnings = await call.write(updating.update, call.path["id"], body, restart, alive=alive, ratios=ratios)
    row = await _settle(call, ident)
    if row.get("fault"):
        raise CloudError(str(row["fault"]))
    return Reply({"Warnings": warnings})


async def wait(call: Call) -> Reply:
    """The headers go at once: who waits for the next exit must know that it is waited for before the container starts."""
    condition = call.query.get("condition") or "not-running"
    if condition not in CONDITIONS:
        raise Invalid(f'invalid condition: "{condition}"', field="condition")
    row = await call.read(lookup.find, call.path["id"])
    pending = await call.read(lambda conn, ctx: waiting.Wait(conn, row, condition))
    response = web.StreamResponse(headers={**call.service.headers, "Content-Type": "application/json"})
    await response.prepare(call.request)
    reply = Reply(response=response)
    try:
        code = await unless_gone(call, pending.until(call.cloud))
        if code is not None:
            await response.write(b'{"StatusCode":%d}\n' % code)
            await response.write_eof()
    except (ConnectionError, StoreError):
        return reply
    return reply


ROUTES: tuple[Route, ...] = (
    Route("POST", "/containers/{id}/start", start, "docker:containers", "Start a container"),
    Route("POST", "/containers/{id}/stop", stop, "docker:containers", "Stop a container"),
    Route("POST", "/containers/{id}/restart", restart, "docker:containers", "Restart a container"),
    Route("POST", "/containers/{id}/kill", kill, "docker:containers", "Send a signal to a container"),
    Route("POST", "/containers/{id}/pause", pause, "docker:containers", "Pause a container"),
    Route("POST", "/containers/{id}/unpause", unpause, "docker:containers", "Let a paused container go on"),
    Route("POST", "/containers/{id}/update", update, "docker:containers", "Change a container's limits and restart policy"),
    Route("POST", "/containers/{id}/wait", wait, "docker:read", "Wait for a container's end"),
)
