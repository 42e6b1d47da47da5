"""Where the pane is served beside the API's own port: a unix socket for each project, and by request a TCP port of loopback
for one project, and a TLS port for all of them, where clients show certificates.

DIRECTORY/PROJECT-ID.sock may be opened by the API's user and by root; whoever opens it is a member of that project. Sockets come and go
with the projects, without a restart.

With DIRECTORY/adapters.yml at the start, clients come through the adapters that it names (nacre.panes.powerstrip), and the pane itself is at
DIRECTORY/engine/PROJECT-ID.sock, for the adapters.
"""

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from nacre.cloud.core import Cloud
from nacre.cloud.identity import projects
from nacre.cloud.identity.changes import TOPIC
from nacre.panes.consul.routes import SERVICE as CONSUL
from nacre.panes.docker.dialect import for_certificates, for_project, for_sockets
from nacre.panes.docker.routes import SERVICE
from nacre.panes.edge.app import SERVER_OPTIONS, build
from nacre.panes.edge.tls import TlsConnection
from nacre.panes.powerstrip.config import ConfigError
from nacre.panes.powerstrip.serving import AdaptersFile, runner

SOCKET_MODE = 0o600
SHUTDOWN_TIMEOUT_S = 5.0
LOOPBACK = "127.0.0.1"
ADAPTERS = "adapters.yml"
ENGINE = "engine"
"""The folder of the sockets without adapters, where there are adapters."""

log = logging.getLogger("nacre.docker")


class Sites:
    """The sockets of all projects. Belongs to the API's loop."""

    def __init__(self, cloud: Cloud, directory: Path) -> None:
        self._cloud, self._directory = cloud, directory
        self._projects: dict[str, str] = {}
        self._sites: dict[str, web.UnixSite] = {}
        self._adapters: AdaptersFile | None = None
        self._proxies: dict[str, web.AppRunner] = {}
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve every project's socket; sockets that an earlier process left are replaced."""
        consul = for_sockets(CONSUL, self._project_of, prefix=CONSUL.prefix)
        self._runner = _runner(build(self._cloud, (consul, for_sockets(SERVICE, self._project_of))))
        await self._runner.setup()
        self._adapters = _adapters(self._directory)
        for old in (*self._directory.glob("*.sock"), *(self._directory / ENGINE).glob("*.sock")):
            old.unlink()
        self._cloud.store.watch(TOPIC, lambda topic, value: self._changed.set())
        await self._sync()
        self._task = asyncio.create_task(self._follow())
        self._cloud.closing.append(self.close)

    def _path(self, project_id: str) -> Path:
        """Where the pane itself is served."""
        return (self._directory / ENGINE if self._adapters else self._directory) / f"{project_id}.sock"

    def _front(self, project_id: str) -> Path:
        """Where clients come."""
        return self._directory / f"{project_id}.sock"

    def _project_of(self, path: str) -> tuple[str, str] | None:
        ident = Path(path).stem
        return (ident, self._projects[ident]) if ident in self._projects else None

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._sync()
            except OSError:
                log.exception("the projects' sockets could not be made; the next change of a project tries again")

    async def _sync(self) -> None:
        self._projects = self._cloud.store.read_now(projects.serving)
        for ident in self._sites.keys() - self._projects.keys():
            await self._sites.pop(ident).stop()
            if ident in self._proxies:
                await self._proxies.pop(ident).cleanup()
            self._unlink(ident)
        assert self._runner is not None
        for ident in self._projects.keys() - self._sites.keys():
            self._sites[ident] = await _serve(self._runner, self._path(ident))
            if self._adapters is not None:
                self._proxies[ident] = await runner(f"unix://{self._path(ident)}", self._adapters)
                await _serve(self._proxies[ident], self._front(ident))

    def _unlink(self, project_id: str) -> None:
        for path in {self._path(project_id), self._front(project_id)}:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        for proxy in self._proxies.values():
            await proxy.cleanup()
        if self._runner is not None:
            await self._runner.cleanup()
        for ident in self._sites:
            self._unlink(ident)


def _adapters(directory: Path) -> AdaptersFile | None:
    """What stands between clients and the pane. A file that makes no sense is no reason to leave its adapters out: nobody is served then."""
    file = directory / ADAPTERS
    if not file.exists():
        return None
    try:
        found = AdaptersFile(file)
    except (ConfigError, OSError) as error:
        raise SystemExit(f"{file}: {error}") from None
    (directory / ENGINE).mkdir(mode=0o711, exist_ok=True)
    return found


async def _serve(served: web.AppRunner, path: Path) -> web.UnixSite:
    site = web.UnixSite(served, str(path))
    # The socket is made under the right mode: nobody slips in between.
    mask = os.umask(0o777 & ~SOCKET_MODE)
    try:
        await site.start()
    finally:
        os.umask(mask)
    return site


async def serve_tcp(cloud: Cloud, project_name: str, port: int) -> None:
    """One project's pane on a TCP port of loopback, for who asks for it by name: anybody on this machine may use it. Raises OSError, LookupError."""
    found = next((ident for ident, name in cloud.store.read_now(projects.serving).items() if name == project_name), None)
    if found is None:
        raise LookupError(f"no project {project_name}")
    consul = for_project(CONSUL, found, project_name, prefix=CONSUL.prefix)
    runner = _runner(build(cloud, (consul, for_project(SERVICE, found, project_name))))
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, port).start()
    cloud.closing.append(runner.cleanup)


async def serve_tls(cloud: Cloud, bind: str, port: int) -> None:
    """Every project's pane on one TLS port: who acts, and for which project, is in the client's certificate. Raises OSError."""
    context = cloud.identity.authority.server_context(_names(cloud, bind))
    runner = _runner(build(cloud, (for_certificates(CONSUL, prefix=CONSUL.prefix), for_certificates(SERVICE))))
    await runner.setup()
    serving = runner.server
    assert serving is not None
    server = await asyncio.get_running_loop().create_server(lambda: TlsConnection(context, serving), bind, port)

    async def close() -> None:
        server.close()
        await runner.cleanup()

    cloud.closing.append(close)


def _names(cloud: Cloud, bind: str) -> Iterator[str]:
    """The host names and addresses by which clients come."""
    yield from ("localhost", LOOPBACK, "::1")
    for name in (socket.gethostname(), urlsplit(cloud.settings.base_url).hostname):
        if name:
            yield name
    if not ipaddress.ip_address(bind).is_unspecified:
        yield bind
        return
    with contextlib.suppress(OSError):
        for found in socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM):
            yield str(found[4][0]).partition("%")[0]


def _runner(app: web.Application) -> web.AppRunner:
    return web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S, **SERVER_OPTIONS)
