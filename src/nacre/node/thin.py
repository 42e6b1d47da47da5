"""Thin streams: one to each API process that does not have this host's main stream. It is heard there, its facts are known, and clients of that
process reach its guests."""

import asyncio
import logging
from collections.abc import Callable, Mapping

import aiohttp
import msgspec

from nacre.node.api import Way
from nacre.protocol import Beat, Dial, Hello, Refuse, Welcome
from nacre.protocol.frames import decode_from_api, encode

RETRY_MIN_S = 0.2
RETRY_MAX_S = 5.0

log = logging.getLogger("nacre.node")

Tell = Callable[[], tuple[Hello, Callable[[], dict[str, object]]]]
"""What a stream begins with, and what to call for the facts that have changed since this stream told them last."""


class ThinStreams:
    """Those of one host. Belongs to the agent's loop."""

    def __init__(self, tell: Tell, answer: Callable[[aiohttp.ClientSession, Dial], None]) -> None:
        """`answer` begins to answer a dial by that session."""
        self._tell = tell
        self._answer = answer
        self._kept: dict[str, tuple[Way, asyncio.Task[None]]] = {}
        """By the ids of the processes."""

    def keep(self, ways: Mapping[str, Way]) -> None:
        """To these processes and no others."""
        for ident, (way, task) in tuple(self._kept.items()):
            if ways.get(ident) is not way:
                task.cancel()
                del self._kept[ident]
        for ident in ways.keys() - self._kept.keys():
            self._kept[ident] = (ways[ident], asyncio.create_task(self._keep(ways[ident])))

    async def close(self) -> None:
        tasks = [task for _, task in self._kept.values()]
        self.keep({})
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, way: Way) -> None:
        delay_s = RETRY_MIN_S
        while True:
            try:
                websocket = await way.connect()
                try:
                    if await self._converse(way, websocket):
                        delay_s = RETRY_MIN_S
                finally:
                    await websocket.close()
            except (OSError, aiohttp.ClientError, msgspec.DecodeError) as error:
                log.debug("no thin stream to %s: %s", way.url, error)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RETRY_MAX_S)

    async def _converse(self, way: Way, websocket: aiohttp.ClientWebSocketResponse) -> bool:
        """Whether the process wanted it."""
        hello, changes = self._tell()
        await websocket.send_bytes(encode(hello))
        beater: asyncio.Task[None] | None = None
        try:
            async for message in websocket:
                if message.type is not aiohttp.WSMsgType.BINARY:
                    break
                match decode_from_api(message.data):
                    case Welcome(beat_every_s=every_s):
                        beater = beater or asyncio.create_task(_beat(websocket, every_s, changes))
                    case Dial() as dial:
                        self._answer(way.session, dial)
                    case Refuse(reason=reason):
                        log.error("the API process at %s refuses this host: %s", way.url, reason)
        finally:
            if beater is not None:
                beater.cancel()
        return beater is not None


async def _beat(websocket: aiohttp.ClientWebSocketResponse, every_s: float, changes: Callable[[], dict[str, object]]) -> None:
    counter = 0
    while True:
        await asyncio.sleep(every_s)
        counter += 1
        try:
            await websocket.send_bytes(encode(Beat(counter, changes())))
        except (ConnectionError, RuntimeError, aiohttp.ClientError):
            return
