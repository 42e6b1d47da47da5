"""Exec: https://docs.docker.com/reference/api/engine/version/v1.50/#tag/Exec."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from msgspec import Struct

from nacre.cloud.containers import execs, fresh
from nacre.cloud.containers.lookup import docker_id
from nacre.cloud.core import Cloud, GuestStream
from nacre.cloud.errors import CloudError, Invalid, Unavailable
from nacre.cloud.policy import check
from nacre.cloud.processes import unfinished
from nacre.panes.docker.conversation import converse, log_failure, size_of
from nacre.panes.docker.hijack import Hijack, take_over
from nacre.panes.docker.keys import parse
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.wire import Hijacked
from nacre.protocol.streams import Channel, Resize
from nacre.store import Store

FAILED = "OCI runtime exec failed: exec failed: unable to start container process: "
RESIZE_WAIT_S = 10.0
"""How long a resize waits for a process that is being started."""
LOST_CODE = 255
"""The exit status of an exec whose own is not known: the processes that waited for it were restarted."""
CODES = {"exec_126": 126, "exec_127": 127}
UNSTARTED_CODE = 126


class ExecBody(Struct, rename="pascal"):
    """Keys that the API does not have are passed over, as the engine does."""

    attach_stdin: bool | None = False
    attach_stdout: bool | None = False
    attach_stderr: bool | None = False
    console_size: tuple[int, int] | None = None
    detach_keys: str | None = ""
    tty: bool | None = False
    env: list[str] | None = None
    cmd: list[str] | str | None = None
    privileged: bool | None = False
    user: str | None = ""
    working_dir: str | None = ""


class StartBody(Struct, rename="pascal"):
    detach: bool | None = False
    tty: bool | None = False
    console_size: tuple[int, int] | None = None


class Live:
    """An exec that this process starts, or has started."""

    def __init__(self) -> None:
        self.begun: asyncio.Future[GuestStream | None] = asyncio.get_running_loop().create_future()
        """None where it could not be started."""
        self.ending: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        stream = self.begun.result() if self.begun.done() else None
        return stream.started.pid if stream is not None else 0


class Minded:
    """The execs that this process minds. What another one minds is in the store, and its host knows more."""

    def __init__(self) -> None:
        self.live: dict[str, Live] = {}
        self.ended: dict[str, tuple[int, int]] = {}
        """(exit status, pid) of those whose end is being written down. Should this process end before it is, the host is asked again."""


_minded: WeakKeyDictionary[Store, Minded] = WeakKeyDictionary()


def _minds(cloud: Cloud) -> Minded:
    if cloud.store not in _minded:
        _minded[cloud.store] = Minded()
        cloud.closing.append(partial(_close, cloud))
    return _minded[cloud.store]


async def create(call: Call) -> Reply:
    body = await call.body(ExecBody)
    parse(body.detach_keys or "")
    if body.privileged:
        check("docker:privileged", call.service.policies["docker:privileged"], call.context, call.path)
    h, w = body.console_size or (0, 0)
    config = {
        "argv": [body.cmd] if isinstance(body.cmd, str) else body.cmd or [],
        "env": body.env or [],
        "cwd": body.working_dir or "",
        "user": body.user or "",
        "tty": bool(body.tty),
        "stdin": bool(body.attach_stdin),
        "stdout": bool(body.attach_stdout),
        "stderr": bool(body.attach_stderr),
        "privileged": bool(body.privileged),
        "detach_keys": body.detach_keys or "",
        "h": h,
        "w": w,
    }
    row = await call.read(execs.prepare, call.path["id"], config)
    _minds(call.cloud)
    await fresh.keep(call.cloud, row)
    return Reply({"Id": row["id"]}, 201)


async def start(call: Call) -> Reply:
    """Hijacks the connection unless `Detach` is asked for.

    The answer's headers go out before the process is begun, as the engine does it: docker-py loses what comes together with them. What
    cannot be run is therefore told on the stream.
    """
    body = await call.body(StartBody)
    row = await _claimed(call)
    size = body.console_size or (row["config"]["h"], row["config"]["w"])
    if body.detach:
        live = await _begin(call, row, size, attached=False)
        live.ending = asyncio.create_task(_outlive(call.cloud, row["id"], live, None, b""))
        return Reply(b"", content_type="text/plain")
    if row["host_id"] not in call.cloud.hosts.connected():
        await _unbegun(call.cloud, row["id"], None)
        raise Unavailable(
            f"the host of container {row['name']} is not connected; try again when it is back", code="HostNotConnected"
        )
    tty = row["config"]["tty"]
    try:
        hijack = await take_over(call.request, tty)
    except BaseException:
        await _unbegun(call.cloud, row["id"], None)
        raise
    try:
        live = await _begin(call, row, size, attached=True)
    except CloudError as error:
        await _tell(hijack, f"{error.message}: unknown" if error.message.startswith(FAILED) else error.message)
        return Reply(response=Hijacked())
    keys = parse(row["config"]["detach_keys"]) if tty else b""
    live.ending = asyncio.create_task(_outlive(call.cloud, row["id"], live, hijack, keys))
    await asyncio.shield(live.ending)
    return Reply(response=Hijacked())


async def _claimed(call: Call) -> dict[str, Any]:
    """The exec for its one start. The row of one that was made just now is written while it begins. Raises NotFound, Conflict."""
    ident = call.path["id"]
    row = fresh.take(call.cloud, ident, call.context.project_id)
    if row is not None:
        fresh.write(call.cloud, {**row, "running": True})
        return row
    await fresh.written(call.cloud, ident)
    return await call.write(execs.claim, ident, call.cloud.process_id)


async def _unbegun(cloud: Cloud, ident: str, code: int | None) -> None:
    """It was claimed, and nothing runs."""
    await fresh.written(cloud, ident)
    await unfinished.undo(cloud, execs.finish, ident, code, 0)


async def _begin(call: Call, row: dict[str, Any], size: tuple[int, int], *, attached: bool) -> Live:
    """Have it started on its host. Raises the CloudError that says why not, after it was written down."""
    minded = _minds(call.cloud)
    live = minded.live[row["id"]] = Live()
    try:
        stream = await call.cloud.hosts.open(row["host_id"], "exec", row["server_id"], _params(row, size, attached))
    except CloudError as error:
        live.begun.set_result(None)
        minded.live.pop(row["id"], None)
        # A client that was answered already knows of nothing but the exit status: without one it would take this for a success.
        code = CODES.get(error.code, UNSTARTED_CODE if attached else None)
        await _unbegun(call.cloud, row["id"], code)
        if error.code in CODES:
            raise Invalid(FAILED + error.message) from None
        raise
    live.begun.set_result(stream)
    return live


def _params(row: dict[str, Any], size: tuple[int, int], attached: bool) -> dict[str, Any]:
    config = row["config"]
    names = ("argv", "env", "cwd", "user", "tty", "privileged")
    stdin = attached and config["stdin"]
    return {name: config[name] for name in names} | {"id": row["id"], "stdin": stdin, "h": size[0], "w": size[1]}


async def _tell(hijack: Hijack, text: str) -> None:
    with contextlib.suppress(ConnectionError):
        await hijack.say(Channel.STDOUT, f"{text}\r\n".encode())
    await hijack.wire.close()


async def _outlive(cloud: Cloud, ident: str, live: Live, hijack: Hijack | None, keys: bytes) -> None:
    """Carry the exec's streams to its end, with the client or without. How it ended can be asked for before the client hears the end."""
    stream, minded = live.begun.result(), _minds(cloud)
    assert stream is not None
    try:
        try:
            await converse(stream, hijack, keys=keys, outlives=True)
        except CloudError as error:
            log_failure("exec", ident, error)
        code = 128 + signal.SIGKILL if stream.exit_code is None else stream.exit_code
        minded.ended[ident] = code, stream.started.pid
    finally:
        minded.live.pop(ident, None)
        closing: list[Coroutine[Any, Any, None]] = [stream.close()] + ([hijack.wire.close()] if hijack is not None else [])
        if ident in minded.ended:
            closing.append(_note_end(cloud, ident))
        await asyncio.gather(*closing, return_exceptions=True)


async def _note_end(cloud: Cloud, ident: str) -> None:
    """The client does not wait for the disk to hear the end."""
    try:
        await fresh.written(cloud, ident)
        await unfinished.undo(cloud, execs.finish, ident, *_minds(cloud).ended[ident])
    finally:
        _minds(cloud).ended.pop(ident, None)


async def _close(cloud: Cloud) -> None:
    """This process ends; what it has started goes on."""
    tasks = [live.ending for live in _minds(cloud).live.values() if live.ending is not None]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await fresh.flush(cloud)


async def resize(call: Call) -> Reply:
    await fresh.written(call.cloud, call.path["id"])
    row = await call.read(execs.get, call.path["id"])
    h, w = size_of(call)
    live = _minds(call.cloud).live.get(row["id"])
    if live is not None:
        stream = await asyncio.wait_for(asyncio.shield(live.begun), RESIZE_WAIT_S)
        if stream is not None:
            await stream.control(Resize(h, w))
    elif row["running"]:
        await call.cloud.hosts.dial(row["host_id"], "resize", row["server_id"], {"exec": row["id"], "h": h, "w": w})
    else:
        raise Invalid("exec process is not started" if row["exit_code"] is None else "exec process has ended")
    return Reply(b"", content_type="text/plain")


class _State(Struct):
    """What a host knows of an exec."""

    running: bool = False
    exit_code: int | None = None
    pid: int = 0


async def _settle(call: Call, row: dict[str, Any]) -> dict[str, Any]:
    """The row of an exec that another process of the API has started, or an earlier one: its host says what became of it."""
    try:
        answer = await call.cloud.hosts.dial(row["host_id"], "exec_state", row["server_id"], {"exec": row["id"]})
        said = msgspec.json.decode(answer, type=_State)
    except (Unavailable, msgspec.DecodeError):
        return row
    except CloudError:
        said = _State()  # The guest is gone, or its host has never heard of it.
    if said.running:
        return {**row, "pid": said.pid}
    if said.exit_code is None and call.cloud.store.read_now(execs.is_minded, row["id"]):
        return row  # It is on its way to its host.
    code = LOST_CODE if said.exit_code is None else said.exit_code
    await call.cloud.store.write(execs.finish, row["id"], code, row["pid"])
    return {**row, "running": False, "exit_code": code}


async def show(call: Call) -> Reply:
    await fresh.written(call.cloud, call.path["id"])
    row = await call.read(execs.get, call.path["id"])
    minded = _minds(call.cloud)
    if row["id"] in minded.ended:
        code, pid = minded.ended[row["id"]]
        row = {**row, "running": False, "exit_code": code, "pid": pid}
    if row["running"] and row["id"] not in minded.live and row["host_id"] is not None:
        row = await _settle(call, row)
    config, live = row["config"], minded.live.get(row["id"])
    return Reply(
        {
            "ID": row["id"],
            "Running": row["running"],
            "ExitCode": row["exit_code"],
            "ProcessConfig": {
                "tty": config["tty"],
                "entrypoint": config["argv"][0],
                "arguments": config["argv"][1:],
                "privileged": config["privileged"],
                **({"user": config["user"]} if config["user"] else {}),
            },
            "OpenStdin": config["stdin"],
            "OpenStderr": config["stderr"],
            "OpenStdout": config["stdout"],
            "CanRemove": row["exit_code"] is not None,
            "ContainerID": docker_id(row["server_id"]),
            "DetachKeys": config["detach_keys"],
            "Pid": live.pid if live is not None else row["pid"],
        }
    )


ROUTES: tuple[Route, ...] = (
    Route("POST", "/containers/{id}/exec", create, "docker:streams", "Make an exec"),
    Route("POST", "/exec/{id}/start", start, "docker:streams", "Start an exec", streams=True),
    Route("POST", "/exec/{id}/resize", resize, "docker:streams", "Resize an exec's terminal"),
    Route("GET", "/exec/{id}/json", show, "docker:read", "Show an exec"),
)
