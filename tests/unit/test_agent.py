"""The agent's stream: what an API process heard and did not live to write down is said again to the next one."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import WSMsgType, web

from nacre.node.agent import Agent, Host
from nacre.node.api import Api, Way
from nacre.node.runtimes.simulated import SimulatedGuests, SimulatedNetwork, SimulatedVolumes
from nacre.protocol import Desired, Recorded, Report, Welcome, decode_from_node, encode
from nacre.protocol.messages import Capacity, Gone
from nacre.protocol.networks import Network
from tests.unit.test_reconcile import IDENT, created, desired

PATIENCE_S = 20.0


class FrontDoor:
    """An API process's end of the stream: each connection is handed to the story as it comes."""

    def __init__(self) -> None:
        self.connections: asyncio.Queue[web.WebSocketResponse] = asyncio.Queue()
        self.over = asyncio.Event()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        await websocket.receive()
        await websocket.send_bytes(encode(Welcome(1, "test", 3600.0)))
        self.connections.put_nowait(websocket)
        await self.over.wait()
        return websocket


async def until_said(websocket: web.WebSocketResponse, state: str) -> int:
    """The number of the report that says so of the guest."""
    while True:
        message = await websocket.receive()
        assert message.type is WSMsgType.BINARY, message
        frame = decode_from_node(message.data)
        if isinstance(frame, Report) and any((seen.id, seen.state) == (IDENT, state) for seen in frame.observations):
            return frame.number


async def said_before_network(websocket: web.WebSocketResponse) -> list[str]:
    """The states of the guest that were reported before the network was."""
    states: list[str] = []
    while True:
        frame = decode_from_node((await websocket.receive()).data)
        for seen in frame.observations if isinstance(frame, Report) else ():
            if seen.kind == "network":
                return states
            states.append(seen.state)


@asynccontextmanager
async def front_door() -> AsyncIterator[FrontDoor]:
    door, app = FrontDoor(), web.Application()
    app.router.add_get("/stream", door.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "socket")
        await web.UnixSite(runner, str(path)).start()
        host = Host(IDENT, "one", "boot", Capacity(1, 1, 1), ("simulated",), "simulated")
        api = Api(IDENT, Way("http://nacre", aiohttp.UnixConnector(str(path)), os.getuid()))
        agent = Agent(host, api, SimulatedGuests(), SimulatedNetwork(), SimulatedVolumes())
        running = asyncio.create_task(agent.run())
        try:
            async with asyncio.timeout(PATIENCE_S):
                yield door
        finally:
            door.over.set()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await agent.close()
            await api.close()
            await runner.cleanup()


def test_what_is_gone_is_said_again_until_it_is_recorded() -> None:
    async def story() -> None:
        async with front_door() as door:
            first = await door.connections.get()
            await first.send_bytes(encode(desired(1, guest=created())))
            await until_said(first, "stopped")
            await first.send_bytes(encode(Desired(2, False, (), (Gone("guest", IDENT, 2),))))
            await until_said(first, "gone")
            await first.close()  # It heard, and was killed before it could write that down.
            second = await door.connections.get()
            number = await until_said(second, "gone")
            await second.send_bytes(encode(Recorded(number)))
            # The answer to a later report says that the word before it has arrived.
            await second.send_bytes(encode(desired(3, guest=created())))
            await until_said(second, "stopped")
            await second.close()
            third = await door.connections.get()
            await until_said(third, "stopped")
            await third.send_bytes(encode(Desired(4, False, (), (Gone("guest", IDENT, 4),))))
            number = await until_said(third, "gone")
            await third.send_bytes(encode(Recorded(number)))
            await third.close()
            fourth = await door.connections.get()
            await fourth.send_bytes(encode(desired(5, network=Network(IDENT, 1, 1500))))
            assert await said_before_network(fourth) == []

    asyncio.run(story())
