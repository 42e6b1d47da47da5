"""`nacre powerstrip`: adapters in front of any Docker engine."""

import asyncio
import logging
import signal
from pathlib import Path

import click

from nacre.cli.state import say

LISTEN = "tcp://127.0.0.1:2375"
PORT = 2375


@click.command()
@click.argument("adapters", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--docker", "engine", required=True, help="The engine: unix:///PATH or tcp://HOST:PORT.")
@click.option("--listen", default=LISTEN, show_default=True, help="Where clients come: tcp://HOST:PORT or unix:///PATH.")
def powerstrip(adapters: Path, engine: str, listen: str) -> None:
    """Ask adapters before and after the calls of Docker's clients, as ADAPTERS (adapters.yml) says.

    DOCKER_HOST of the clients is what --listen says. The file is read again when it changes.
    """
    from nacre.panes.powerstrip.config import ConfigError

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        asyncio.run(_serve(adapters, engine, listen))
    except (ConfigError, OSError) as error:
        raise click.ClickException(str(error)) from None


async def _serve(file: Path, engine: str, listen: str) -> None:
    from urllib.parse import urlsplit

    from aiohttp import web

    from nacre.panes.powerstrip.serving import AdaptersFile, runner

    for url in (engine, listen):
        if urlsplit(url).scheme not in ("unix", "tcp"):
            raise click.ClickException(f"{url}: write unix:///PATH or tcp://HOST:PORT")
    serving = await runner(engine, AdaptersFile(file))
    where = urlsplit(listen)
    if where.scheme == "unix":
        Path(where.path).unlink(missing_ok=True)
        await web.UnixSite(serving, where.path).start()
    else:
        await web.TCPSite(serving, where.hostname, where.port or PORT).start()
    say(f"adapters of {file} in front of {engine}: DOCKER_HOST={listen}")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await serving.cleanup()
