"""What a crash leaves of builds: containers whose build is no more."""

import logging

import sqlalchemy as sa

from nacre.cloud.builds import builder
from nacre.cloud.builds.tables import build_containers
from nacre.cloud.compute import servers as compute
from nacre.cloud.compute.tables import servers
from nacre.cloud.context import internal
from nacre.cloud.core import Cloud

log = logging.getLogger("nacre.builds")

SWEEP_EVERY_S = 10.0


async def sweep(cloud: Cloud) -> None:
    """Remove the containers of builds that this process does not run: it is the only one that runs any."""
    removed = await cloud.store.write(_remove, frozenset(builder.running))
    if removed:
        log.info("%d containers were left of builds that have ended", removed)


def _remove(conn: sa.Connection, running: frozenset[str]) -> int:
    joined = sa.join(build_containers, servers, servers.c.id == build_containers.c.server_id)
    query = sa.select(servers.c.id, build_containers.c.build_id).select_from(joined)
    left = [row for row in conn.execute(query.where(servers.c.gone.is_(False))) if row.build_id not in running]
    for row in left:
        compute.delete(conn, internal("builds"), row.id)
    return len(left)
