"""What containers take on their hosts (`docker ps --size`, `inspect --size`, `system df`): only the hosts know."""

import asyncio
import uuid
from typing import Any

import msgspec
import sqlalchemy as sa

from nacre.cloud.compute.tables import servers
from nacre.cloud.context import Context
from nacre.cloud.errors import CloudError
from nacre.panes.edge import Call

Row = dict[str, Any]

ASKED_AT_ONCE_MAX = 8
"""Each answer takes a process on its host."""


def _hosts(conn: sa.Connection, ctx: Context, idents: list[str]) -> dict[str, str]:
    chosen = sa.select(servers.c.id, servers.c.host_id).where(servers.c.id.in_(idents), servers.c.project_id == ctx.project_id)
    return {row.id: row.host_id for row in conn.execute(chosen) if row.host_id is not None}


async def add(call: Call, shown: list[Row]) -> list[Row]:
    """The documents with SizeRw and SizeRootFs; without them where a host does not answer."""
    idents = {str(uuid.UUID(document["Id"][:32])): document for document in shown}
    hosts = await call.read(_hosts, list(idents))
    bound = asyncio.Semaphore(ASKED_AT_ONCE_MAX)

    async def ask(ident: str, host_id: str) -> None:
        async with bound:
            try:
                idents[ident] |= msgspec.json.decode(await call.cloud.hosts.dial(host_id, "size", ident, {}), type=dict[str, int])
            except (CloudError, msgspec.DecodeError):
                return

    await asyncio.gather(*(ask(ident, host_id) for ident, host_id in hosts.items()))
    return shown
