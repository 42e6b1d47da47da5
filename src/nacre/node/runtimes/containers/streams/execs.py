"""exec: another process in a running guest, with a client at its standard streams or without."""

import asyncio
import contextlib
import os
from typing import Any

from nacre.node.drivers import Talk
from nacre.node.runtimes.containers.streams.events import write_all
from nacre.node.runtimes.containers.streams.guests import Guests, spec_for
from nacre.node.runtimes.containers.streams.processes import Process, Spawner, SpawnError
from nacre.node.runtimes.containers.streams.pumps import Client, feed, forward, set_size
from nacre.protocol.streams import Channel, Exit, Failure, Started

DRAIN_WAIT_S = 2.0
"""How long after its end is waited for what a process's own children still say, as Docker has it."""

ENDED_MAX = 1000
"""How many exit statuses are kept."""


class Execs:
    """The processes that were started in guests, by the guest's id and the exec's."""

    def __init__(self, guests: Guests, spawner: Spawner) -> None:
        self._guests, self._spawner = guests, spawner
        self._terminals: dict[tuple[str, str], int] = {}
        self._running: dict[tuple[str, str], int] = {}
        """Their process ids."""
        self._ended: dict[tuple[str, str], int | None] = {}
        """The exit status of those that ended last, for whoever missed it."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, guest_id: str, params: dict[str, Any], talk: Talk) -> None:
        """params: see nacre.protocol.streams; `id` names the exec for `resize`. It goes on when the client goes."""
        spec = spec_for(self._guests, guest_id, params)
        try:
            process = await self._spawner.start(spec, stdin=bool(params.get("stdin")))
        except SpawnError as error:
            kind = {126: "exec_126", 127: "exec_127", 0: "invalid"}.get(error.code, "unavailable")
            await talk.control(Failure(kind, error.message))
            return
        running = asyncio.create_task(self._run(process, guest_id, str(params.get("id", "")), bool(params.get("tty")), talk))
        self._tasks.add(running)
        running.add_done_callback(self._tasks.discard)
        await asyncio.shield(running)

    def state(self, guest_id: str, exec_id: str) -> dict[str, Any]:
        """running, with its pid, or exit_code; nothing of one that an earlier node has started."""
        key = (guest_id, exec_id)
        running = key in self._running and key not in self._ended
        return {"running": running, "exit_code": self._ended.get(key), "pid": self._running[key] if running else 0}

    def resize(self, guest_id: str, exec_id: str, h: int, w: int) -> None:
        """Raises LookupError where no such exec has a terminal."""
        terminal = self._terminals.get((guest_id, exec_id))
        if terminal is None:
            raise LookupError(f"No such exec instance: {exec_id}")
        set_size(terminal, h, w)

    async def _run(self, process: Process, guest_id: str, exec_id: str, tty: bool, talk: Talk) -> None:
        client, key = Client(talk), (guest_id, exec_id)
        self._running[key] = process.pid
        if tty:
            self._terminals[key] = process.outputs[0]
        channels = (Channel.STDOUT, Channel.STDERR)
        feeding = asyncio.create_task(self._feed(process, tty, talk, client))
        outputs = [
            asyncio.create_task(forward(fd, channel, client)) for fd, channel in zip(process.outputs, channels, strict=False)
        ]
        try:
            with contextlib.suppress(ConnectionError):
                await talk.control(Started(process.pid, tty))
            code: int | None = None
            with contextlib.suppress(SpawnError):
                code = await process.ended
                self._note(key, code)
            await asyncio.wait(outputs, timeout=DRAIN_WAIT_S)
            with contextlib.suppress(ConnectionError):
                if not client.gone:
                    await talk.control(Exit(code) if code is not None else Failure("unavailable", "the exit status was lost"))
        finally:
            self._running.pop(key, None)
            self._terminals.pop(key, None)
            for task in (feeding, *outputs):
                task.cancel()
            await asyncio.gather(feeding, *outputs, return_exceptions=True)
            for fd in {*process.outputs, *(() if process.stdin is None else (process.stdin,))}:
                os.close(fd)

    def _note(self, key: tuple[str, str], code: int | None) -> None:
        self._ended[key] = code
        while len(self._ended) > ENDED_MAX:
            del self._ended[next(iter(self._ended))]

    async def _feed(self, process: Process, tty: bool, talk: Talk, client: Client) -> None:
        """What the client sends goes to stdin; when it has gone, a process without a terminal reads the end."""

        def close() -> None:
            if not tty and process.stdin is not None:
                os.close(process.stdin)
                process.stdin = None

        async def take(data: bytes) -> None:
            if process.stdin is not None:
                await write_all(process.stdin, data)

        def resize(h: int, w: int) -> None:
            if tty:
                set_size(process.outputs[0], h, w)

        await feed(talk, take, close, resize)
        client.gone = True
        close()

    async def close(self) -> None:
        """Let go of all of them; the processes run on."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
