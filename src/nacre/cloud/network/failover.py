"""Routers that are `ha` and whose host is lost are given to another one (the judgement is `hosts.liveness`)."""

import logging

import sqlalchemy as sa

from nacre.cloud.core import Cloud
from nacre.cloud.hosts import liveness
from nacre.cloud.network import placing

SWEEP_EVERY_S = 1.0

log = logging.getLogger("nacre.network")


async def sweep(cloud: Cloud) -> None:
    """Idempotent; two API processes may both come to it: the second finds nothing to do."""
    lost = liveness.lost(cloud)
    if not cloud.store.read_now(placing.due, lost):
        return
    for router_id, host_id in await cloud.store.write(_settle, lost):
        log.warning("router %s is moved to host %s: its own is lost", router_id, host_id)


def _settle(conn: sa.Connection, lost: frozenset[str]) -> list[tuple[str, str]]:
    placing.note_lost(conn, lost)
    return placing.rescue(conn)
