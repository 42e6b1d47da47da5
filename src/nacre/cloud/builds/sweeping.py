"""What a crash leaves of builds: containers whose build is no more."""

import logging

import sqlalchemy as sa

from nacre.cloud.builds import builder
from nacre.cloud.builds.tables import build_containers
from nacre.cloud.compute import servers as compute
from nacre.cloud.compute.tables import servers
from nacre.cloud.context import internal
from nacre.cloud.core import Cloud
from nacre.cloud.processes import unfinished

log = logging.getLogger("nacre.builds")

SWEEP_EVERY_S = 10.0


async def sweep(cloud: Cloud) -> None:
    """Remove the containers of builds that no process is at."""
    removed = await cloud.store.write(_remove) if cloud.store.read_now(_left) else 0
    if removed:
        log.info("%d containers were left of builds that have ended", removed)


def _left(conn: sa.Connection) -> list[str]:
    joined = sa.join(build_containers, servers, servers.c.id == build_containers.c.server_id)
    over = build_containers.c.build_id.not_in(unfinished.under_way(builder.KIND))
    return list(conn.execute(sa.select(servers.c.id).select_from(joined).where(servers.c.gone.is_(False), over)).scalars())


def _remove(conn: sa.Connection) -> int:
    left = _left(conn)
    for server_id in left:
        compute.delete(conn, internal("builds"), server_id)
    return len(left)
