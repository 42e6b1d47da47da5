"""Serving the proxy: on a TCP port or a unix socket, with an adapters file that is read again when it changes."""

import logging
from pathlib import Path

from aiohttp import web

from nacre.panes.edge.app import SERVER_OPTIONS
from nacre.panes.powerstrip.config import Adapters, ConfigError, load
from nacre.panes.powerstrip.proxy import Proxy, Upstream

SHUTDOWN_TIMEOUT_S = 2.0

log = logging.getLogger("nacre.powerstrip")


class AdaptersFile:
    """The file's content. One that cannot be read any more, or makes no sense, changes nothing and is logged once."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError and OSError: the first reading must succeed."""
        self._path = path
        self._stamp = self._stat()
        self._adapters = load(path)

    def _stat(self) -> tuple[int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size

    def __call__(self) -> Adapters:
        try:
            stamp = self._stat()
            if stamp != self._stamp:
                self._stamp = stamp
                self._adapters = load(self._path)
                log.info("%s was read again", self._path)
        except (OSError, ConfigError) as error:
            log.warning("%s: %s; what was read before goes on", self._path, error)
        return self._adapters


async def runner(upstream: str, adapters: AdaptersFile) -> web.AppRunner:
    """The proxy in front of that engine, set up and not listening yet."""
    made = web.AppRunner(
        Proxy(Upstream(upstream), adapters).application(),
        access_log=None,
        shutdown_timeout=SHUTDOWN_TIMEOUT_S,
        **SERVER_OPTIONS,
    )
    await made.setup()
    return made
