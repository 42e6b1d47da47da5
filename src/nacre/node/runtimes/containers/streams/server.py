"""What answers to the dial-backs about containers (nacre.node.drivers.StreamServer)."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import msgspec

from nacre.node.drivers import Talk
from nacre.node.runtimes.containers.container import Containers
from nacre.node.runtimes.containers.driver import ContainerDriver
from nacre.node.runtimes.containers.layout import is_guest_id
from nacre.node.runtimes.containers.pidfds import open_pid, try_open
from nacre.node.runtimes.containers.streams import logs
from nacre.node.runtimes.containers.streams.attaching import Attaching, Gate, resize
from nacre.node.runtimes.containers.streams.execs import Execs
from nacre.node.runtimes.containers.streams.files import Files
from nacre.node.runtimes.containers.streams.guests import Conflict, attach_socket, first_pid, is_running
from nacre.node.runtimes.containers.streams.processes import Spawner
from nacre.node.runtimes.containers.streams.stats import Stats, top
from nacre.protocol.streams import Exit, Started


class ContainerStreams:
    """Implements nacre.node.drivers.StreamServer for the guests of one driver. Belongs to its event loop."""

    def __init__(self, driver: ContainerDriver) -> None:
        self._driver = driver
        self._spawner = Spawner(lambda pid: driver.parts.cgroups.adopt_monitor(pid))
        self._execs = Execs(driver, self._spawner)
        self._gate = Gate()
        self._attaching = Attaching(driver, self._gate)
        self._files, self._stats = Files(driver), Stats(driver)
        self._followers: dict[str, set[logs.Follower]] = {}
        self._warming: asyncio.Future[None] | None = None
        driver.opened.append(self._opened)

    def _opened(self, parts: Containers) -> None:
        parts.created = lambda guest_id: self._gate.open(guest_id, attach_socket(self._driver, guest_id))
        parts.rotated = self._rotated
        # An exec finds its helper ready.
        self._warming = asyncio.ensure_future(self._warm())

    def _rotated(self, guest_id: str, part: Path) -> None:
        for follower in list(self._followers.get(guest_id, ())):
            follower.hold(part)

    async def whole(self, kind: str, ident: str, params: dict[str, Any]) -> bytes:
        self._driver.record(ident)
        if kind == "resize":
            return self._resize(ident, params)
        if kind == "signal":
            return self._signal(ident, params)
        if kind == "changes":
            return await self._files.changes(ident)
        if kind == "exec_state":
            return msgspec.json.encode(self._execs.state(ident, str(params["exec"])))
        if kind == "size":
            return await self._files.size(ident)
        if kind == "top":
            return msgspec.json.encode(await top(self._driver, ident, str(params.get("ps_args") or "")))
        if kind == "archive_stat":
            return await self._files.archive_stat(ident, params)
        raise ValueError(f"this host does not know {kind}")

    async def serve(self, kind: str, ident: str, params: dict[str, Any], talk: Talk) -> None:
        if kind != "attach":  # It may come before its guest does.
            self._driver.record(ident)
        elif not is_guest_id(ident):
            raise LookupError(f"guest {ident} is not on this host")
        match kind:
            case "exec":
                await self._execs.serve(ident, params, talk)
            case "attach":
                await self._attaching.serve(ident, params, talk)
            case "logs":
                await self._logs(ident, params, talk)
            case "commit":
                await self._files.commit(ident, params, talk)
            case "stats":
                await self._stats.serve(ident, params, talk)
            case "disk":
                await self._driver.uncreate(ident)
                await self._files.disk(ident, talk)
            case "export":
                await self._files.export(ident, talk)
            case "archive_get":
                await self._files.archive_get(ident, params, talk)
            case "archive_put":
                await self._files.archive_put(ident, params, talk)
            case _:
                raise ValueError(f"this host does not know {kind}")

    def _resize(self, guest_id: str, params: dict[str, Any]) -> bytes:
        h, w = int(params.get("h") or 0), int(params.get("w") or 0)
        if params.get("exec"):
            self._execs.resize(guest_id, str(params["exec"]), h, w)
        elif is_running(self._driver, guest_id):
            resize(self._driver, guest_id, h, w)
        else:
            raise Conflict(f"container {guest_id} is not running")
        return b""

    def _signal(self, guest_id: str, params: dict[str, Any]) -> bytes:
        with open_pid(first_pid(self._driver, guest_id, frozen_too=True)) as process:
            if process is None:
                raise Conflict(f"container {guest_id} is not running")
            signal.pidfd_send_signal(process, int(params["signal"]))
        return b""

    async def _logs(self, guest_id: str, params: dict[str, Any], talk: Talk) -> None:
        names = logs.Wanted.__struct_fields__
        wanted = logs.Wanted(**{name: params[name] for name in names if name in params})
        container = self._driver.record(guest_id).guest.container
        await talk.control(Started(tty=container.tty if container is not None else True))
        paths, followers = self._driver.parts.layout.guest(guest_id), self._followers.setdefault(guest_id, set())
        monitor = try_open(self._driver.parts.monitor_pid(guest_id)) if wanted.follow else None
        watching = asyncio.create_task(_watch(talk))
        sending = asyncio.create_task(_send(paths, wanted, followers, monitor, talk))
        try:
            await asyncio.wait([sending, watching], return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
                await talk.control(Exit())
        finally:
            for task in (watching, sending):
                task.cancel()
            await asyncio.gather(watching, sending, return_exceptions=True)
            if monitor is not None:
                os.close(monitor)
            if not followers:
                self._followers.pop(guest_id, None)

    async def _warm(self) -> None:
        with contextlib.suppress(OSError):
            await self._spawner.warm()

    async def close(self) -> None:
        """Let go. What runs in guests goes on."""
        if self._warming is not None:
            await self._warming
        await self._attaching.close()
        await self._execs.close()
        await self._spawner.close()


async def _watch(talk: Talk) -> None:
    """Until the client has gone."""
    while await talk.receive() is not None:
        pass


async def _send(paths: Any, wanted: logs.Wanted, followers: set[logs.Follower], monitor: int | None, talk: Talk) -> None:
    reading = logs.read(paths, wanted, followers, monitor)
    async with contextlib.aclosing(reading):
        async for channel, data in reading:
            await talk.send(channel, data)
