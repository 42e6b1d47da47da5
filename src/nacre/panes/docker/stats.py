"""A container's figures and processes: stats, top (https://docs.docker.com/reference/api/engine/version/v1.50/#tag/Container)."""

from typing import Any

import msgspec
from aiohttp import web

from nacre.cloud.containers.execs import require_running
from nacre.cloud.containers.lookup import docker_id, find
from nacre.cloud.errors import CloudError, Unavailable
from nacre.panes.docker.conversation import log_failure
from nacre.panes.docker.dialect import HEADERS
from nacre.panes.edge import Call, Reply, Route

PS_ARGUMENTS_MAX = 1000
_NO_TIME = "0001-01-01T00:00:00Z"
_NO_CPU: dict[str, Any] = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}


def _sample(data: bytes) -> dict[str, Any]:
    """Raises Unavailable."""
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Unavailable(f"the container's host says what nobody understands: {error}") from None


def document(row: dict[str, Any], sample: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    """The sample as Docker shows it, beside the one before."""
    return {
        "name": f"/{row['name']}",
        "id": docker_id(row["id"]),
        "num_procs": 0,
        "storage_stats": {},
        **sample,
        "preread": before["read"] if before else _NO_TIME,
        "precpu_stats": before["cpu_stats"] if before else _NO_CPU,
    }


def _asks(call: Call, name: str, default: str) -> bool:
    return call.query.get(name, default).lower() not in ("0", "false", "")


async def stats(call: Call) -> Reply:
    """A stream of documents, or one. For one that has a sample before it two are taken, unless the client asks for `one-shot`."""
    row = await call.read(find, call.path["id"])
    streaming, single = _asks(call, "stream", "1"), _asks(call, "one-shot", "0")
    if row["host_id"] is None:
        raise Unavailable("the container is on no host")
    params = {"stream": streaming or not single}
    stream = await call.cloud.hosts.open(row["host_id"], "stats", row["id"], params)
    if not streaming:
        samples: list[dict[str, Any]] = []
        try:
            async for _, data in stream:
                samples.append(_sample(data))
                if len(samples) == (1 if single or samples[0]["read"] == _NO_TIME else 2):
                    break
        finally:
            await stream.close()
        if not samples:
            raise Unavailable("the host says nothing of the container")
        return Reply(document(row, samples[-1], samples[-2] if len(samples) > 1 else None))
    response, before = web.StreamResponse(headers={**HEADERS, "Content-Type": "application/json"}), None
    try:
        await response.prepare(call.request)
        async for _, data in stream:
            sample = _sample(data)
            await response.write(msgspec.json.encode(document(row, sample, before)) + b"\n")
            before = sample
        await response.write_eof()
    except CloudError as error:
        log_failure("stats of", row["id"], error)
    except ConnectionError:
        pass
    finally:
        await stream.close()
    return Reply(response=response)


async def top(call: Call) -> Reply:
    row = await call.read(find, call.path["id"])
    require_running(row, call.path["id"], "list processes of")
    arguments = call.query.get("ps_args", "")[:PS_ARGUMENTS_MAX]
    answer = await call.cloud.hosts.dial(row["host_id"], "top", row["id"], {"ps_args": arguments})
    return Reply(answer, content_type="application/json")


ROUTES: tuple[Route, ...] = (
    Route("GET", "/containers/{id}/stats", stats, "docker:read", "Show a container's figures"),
    Route("GET", "/containers/{id}/top", top, "docker:read", "Show a container's processes"),
)
