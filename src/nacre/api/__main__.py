"""The API process: `python -m nacre.api --config FILE`. An ordinary user's; it opens the store, the gateway's socket and the HTTP port."""

import argparse
import asyncio
import contextlib
import ctypes
import fcntl
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa
import uvloop
from aiohttp import web

from nacre import __version__
from nacre.api.config import ApiConfig, ExternalNetwork, load, load_bootstrap
from nacre.cloud import abandoned
from nacre.cloud.compute import flavors
from nacre.cloud.core import Cloud, Settings
from nacre.cloud.hosts import operations as hosts
from nacre.cloud.identity import bootstrap as identity_bootstrap
from nacre.cloud.identity.service import open_identity
from nacre.cloud.identity.tables import projects
from nacre.cloud.network import bootstrap as network_bootstrap
from nacre.cloud.processes import operations as processes
from nacre.cloud.processes.presence import Presence
from nacre.cloud.schema import prepare
from nacre.cloud.sweepers import Sweeping
from nacre.gateway.hub import Hub
from nacre.panes.consul.guests import for_guests
from nacre.panes.docker.sites import Sites, serve_tcp, serve_tls
from nacre.panes.edge.app import SERVER_OPTIONS, build, mount
from nacre.panes.services import SERVICES
from nacre.store import Store, StoreError
from nacre.store.blobs import DirectoryBlobs
from nacre.store.schema import new_id

SHUTDOWN_TIMEOUT_S = 5.0
BACKLOG = 1024
LOOPBACK = "127.0.0.1"
LEAVE_S = 3.0
"""How long the end of this process may wait for a store that does not answer."""
SWITCH_INTERVAL_S = 0.0005
M_MMAP_THRESHOLD = -3
COLLECTOR = (5_000, 10, 100)
"""When the garbage collector looks at objects that are young, older and old (gc.set_threshold). With a thousand hosts' streams a look at all of
them takes 150 ms, in which nobody is answered; what is not in a cycle goes without it."""
LARGE_BLOCK_BYTES = 4 * 1024 * 1024
"""More than the chunks in which bodies and images are read."""

log = logging.getLogger("nacre.api")


def main() -> None:
    parser = argparse.ArgumentParser(prog="nacre.api", description="The API process of a Nacre cloud.")
    parser.add_argument("--config", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    _return_large_blocks()
    # The loop and the writer's thread hand each other work many times a second: neither waits 5 ms for the interpreter's lock.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    uvloop.run(run(load(arguments.config)))


async def run(config: ApiConfig) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    hub = Hub(frozenset(config.node_uids))
    cloud = await open_cloud(config, hub, stop.set)
    gateway = hub.application(cloud)
    mount(gateway, cloud, (for_guests(),))
    runners = [
        web.AppRunner(build(cloud, SERVICES), access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S, **SERVER_OPTIONS),
        web.AppRunner(gateway, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S, **SERVER_OPTIONS),
    ]
    for runner in runners:
        await runner.setup()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(config.gateway_socket)
    await web.UnixSite(runners[1], config.gateway_socket).start()
    for address in dict.fromkeys((LOOPBACK, config.bind)):
        await web.TCPSite(runners[0], address, config.port, backlog=BACKLOG).start()
    if config.docker_sockets:
        await Sites(cloud, Path(config.docker_sockets)).start()
    if config.docker_tcp_port:
        await serve_tcp(cloud, "demo", config.docker_tcp_port)
    if config.nodes_port:
        context = cloud.identity.authority.server_context(("nacre",), file=f"nodes{config.process}.pem", strangers=True)
        await web.TCPSite(runners[1], config.nodes_bind or None, config.nodes_port, backlog=BACKLOG, ssl_context=context).start()
    if config.docker_tls_port:
        await serve_tls(cloud, config.bind, config.docker_tls_port)
    # What was imported and built so far lives as long as the process: the collector need not walk it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR)
    log.info("serving %s", config.public_url)
    sweeping_turns = Sweeping(cloud)
    cloud.store.lead(sweeping_turns.lead)
    if cloud.presence is not None:
        cloud.background.start(cloud.presence.run())
    await stop.wait()
    cloud.ending.begin()
    await sweeping_turns.close()
    for runner in runners:
        await runner.cleanup()
    for close in reversed(cloud.closing):
        await close()
    with contextlib.suppress(StoreError, TimeoutError):
        async with asyncio.timeout(LEAVE_S):
            await cloud.store.write(processes.leave, cloud.process_id)
    cloud.store.close()


def _return_large_blocks() -> None:
    """A password's hash takes 16 MB for a moment. After the first one the C library would keep such blocks, one for each thread; a fixed
    threshold makes it return them at once (M_MMAP_THRESHOLD of mallopt(3), glibc)."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)


async def open_cloud(config: ApiConfig, hub: Hub, stop: Callable[[], None]) -> Cloud:
    """The cloud over its store: schema made or migrated, first things made, Identity open."""
    settings = Settings(
        config.public_url,
        config.cloud_id,
        config.state,
        region=config.region,
        host_id=config.host_id,
        strategy=config.strategy,
        lease_s=config.hosts.lease_s,
        security=config.security_compliance,
        imports=config.image_import,
    )
    store = Store(config.store)
    await prepare(store)
    first = load_bootstrap(Path(config.bootstrap_file))
    with _alone(config.state):
        await identity_bootstrap.prepare(store, settings, {"admin": first.admin_password, "demo": first.demo_password})
        await store.write(flavors.bootstrap)
        await store.write(_first_networks, config.external)
        identity = open_identity(store, settings)
    ident = _process_id(config)
    url = config.nodes_url if config.nodes_port else ""
    process = processes.Process(
        ident, socket.gethostname(), f"{config.bind}:{config.port}", url, __version__, leads=not store.shared
    )
    await store.write(processes.register, process, alone=not store.shared)
    store.write_while(processes.row_of(ident))
    blobs = DirectoryBlobs(config.blobs, ident)
    cloud = Cloud(settings, store, identity.tokens.authenticate, hub, identity=identity, blobs=blobs, process_id=ident)
    cloud.closing.append(identity.close)
    if store.shared:
        cloud.presence = Presence(cloud, stop)
    await abandoned.recover(cloud)
    hub.renew(store.read_now(hosts.ids))
    return cloud


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Of the processes of one machine that start together one makes the keys and the authority, and the others find them."""
    with (state / "starting").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _process_id(config: ApiConfig) -> str:
    """Of this API process, through all its restarts: what its predecessor had under way was its own."""
    path = config.state / f"process-id{config.process}"
    with contextlib.suppress(FileNotFoundError):
        return path.read_text().strip()
    path.write_text(made := new_id())
    return made


def _first_networks(conn: sa.Connection, external: ExternalNetwork) -> None:
    """The external network, owned by the project `admin`."""
    owner = conn.execute(sa.select(projects.c.id).where(projects.c.name == "admin", projects.c.is_domain.is_(False))).scalar()
    if owner is not None:
        network_bootstrap.ensure_external(
            conn,
            project_id=owner,
            name=external.name,
            cidr=external.cidr,
            gateway=external.gateway,
            pool_start=external.allocation_start,
            pool_end=external.allocation_end,
        )


if __name__ == "__main__":
    main()
