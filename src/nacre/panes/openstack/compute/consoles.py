"""Consoles: a token's URL leads to a WebSocket that carries the bytes of the server's terminal, both ways (Nova's serial console).

https://docs.openstack.org/api-ref/compute/#server-consoles-servers-remote-consoles-os-console-auth-tokens
"""

import asyncio
import contextlib
from typing import Any

from aiohttp import WSMsgType, web
from yarl import URL

from nacre.cloud.compute import consoles, servers
from nacre.cloud.core import GuestStream
from nacre.cloud.errors import CloudError, Invalid, NotFound
from nacre.panes.edge import Call, Reply
from nacre.panes.openstack.compute import schemas_recovery as schemas
from nacre.panes.openstack.compute.dialect import body_under

PATH = "/serial"
"""Where the WebSocket is, relative to the service's prefix."""
HEARTBEAT_S = 30.0
MESSAGE_BYTES_MAX = 64 * 1024
SUBPROTOCOLS = ("binary",)
PROTOCOLS: dict[str, tuple[str, ...]] = {
    "vnc": ("novnc", "xvpvnc"),
    "spice": ("spice-html5", "spice-direct"),
    "rdp": ("rdp-html5",),
    "serial": ("serial",),
    "mks": ("webmks",),
}
"""protocol -> the types of consoles that it has in Nova. Containers have the serial one."""
SINCE = {"webmks": 8, "spice-direct": 99}
ANY_TYPE = 31
"""From this minor version on a token of any type can be looked up, before only one of rdp-html5."""


def _unavailable(console_type: str) -> Invalid:
    return Invalid(f"Unavailable console type {console_type}.", field="type", code="ConsoleTypeUnavailable")


async def _url(call: Call, ident: str, console_type: str) -> str:
    """The console's URL, with a token in it. Raises NotFound, Conflict, and Invalid for a type that containers do not have."""
    await call.read(servers.get, ident)
    if console_type != "serial":
        raise _unavailable(console_type)
    token = await call.write(consoles.create, ident, console_type)
    scheme, _, rest = call.base_url.partition("://")
    return f"{'wss' if scheme == 'https' else 'ws'}://{rest}{PATH}?token={token}"


def action(protocol: str) -> Any:
    """The handler of one of the actions of the time before 2.6."""

    async def get(call: Call, ident: str, body: schemas.ConsoleType) -> Reply:
        if body.type not in PROTOCOLS[protocol]:
            raise Invalid(
                f"Invalid input for field/attribute type. {body.type!r} is not one of {PROTOCOLS[protocol]}", field="type"
            )
        return Reply({"console": {"type": body.type, "url": await _url(call, ident, body.type)}})

    return get


async def create(call: Call) -> Reply:
    """POST /servers/{id}/remote-consoles, from 2.6 on."""
    sent = await body_under(call, "remote_console", schemas.RemoteConsole)
    types = [name for name in PROTOCOLS.get(sent.protocol, ()) if call.at_least(SINCE.get(name, 1))]
    if not types:
        raise Invalid(
            f"Invalid input for field/attribute protocol. {sent.protocol!r} is not one.", field="remote_console.protocol"
        )
    if sent.type not in types:
        raise Invalid(f"Invalid input for field/attribute type. {sent.type!r} is not one of {types}", field="remote_console.type")
    url = await _url(call, call.path["server_id"], sent.type)
    return Reply({"remote_console": {"protocol": sent.protocol, "type": sent.type, "url": url}})


async def show_token(call: Call) -> Reply:
    """What a token opens, for the proxies of consoles: here the API itself is one."""
    row = call.cloud.store.read_now(consoles.opened_by, call.path["console_token"])
    if not call.at_least(ANY_TYPE):
        raise NotFound("Token not found", code="TokenNotFound")
    place = URL(call.base_url)
    shown = {"instance_uuid": row["id"], "host": place.host, "port": place.port, "internal_access_path": None}
    return Reply({"console": {**shown, "tls_port": None} if call.at_least(99) else shown})


async def attach(call: Call) -> Reply:
    """GET /serial?token=T: no other credentials than the token. Raises NotFound, Unavailable."""
    row = call.cloud.store.read_now(consoles.opened_by, call.query.get("token", ""))
    if row["host_id"] is None:
        raise NotFound(f"Instance {row['id']} is on no host.", code="InstanceNotReady")
    websocket = web.WebSocketResponse(protocols=SUBPROTOCOLS, heartbeat=HEARTBEAT_S, max_msg_size=MESSAGE_BYTES_MAX)
    if not websocket.can_prepare(call.request):
        raise Invalid("A console is a WebSocket: ask for an upgrade.", field="Upgrade")
    stream = await call.cloud.hosts.open(row["host_id"], "attach", row["id"], {"stdin": True, "stdout": True, "stderr": True})
    ended = asyncio.Event()
    unwatch = call.cloud.ending.watch(ended.set)
    try:
        await websocket.prepare(call.request)
        await _converse(stream, websocket, ended)
    finally:
        unwatch()
        await stream.close()
        await websocket.close()
    return Reply(response=websocket)


async def _converse(stream: GuestStream, websocket: web.WebSocketResponse, ended: asyncio.Event) -> None:
    """Until the client goes, the server's process ends, or this process does."""
    tasks = [
        asyncio.create_task(_carry_out(stream, websocket)),
        asyncio.create_task(_carry_in(stream, websocket)),
        asyncio.create_task(_until(ended)),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until(ended: asyncio.Event) -> None:
    await ended.wait()


async def _carry_out(stream: GuestStream, websocket: web.WebSocketResponse) -> None:
    with contextlib.suppress(CloudError, ConnectionError, RuntimeError):
        async for _, data in stream:
            await websocket.send_bytes(data)


async def _carry_in(stream: GuestStream, websocket: web.WebSocketResponse) -> None:
    async for message in websocket:
        if message.type is WSMsgType.BINARY:
            await stream.send(message.data)
        elif message.type is WSMsgType.TEXT:
            await stream.send(message.data.encode())
