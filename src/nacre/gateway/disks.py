"""A disk on its way: what the source's node says on a dial-back is handed to the target's node as it comes.

GET /hosts/{host}/migrations/{migration}/disk    only for the host to which the migration goes, as long as it is on its way

Neither side is read faster than the other one writes. An answer that was cut off is no whole disk: it ends without its last chunk.
"""

import logging

import sqlalchemy as sa
from aiohttp import web

from nacre.cloud.compute.migrations import COMING, is_open
from nacre.cloud.compute.tables import migrations
from nacre.cloud.core import Cloud
from nacre.cloud.errors import CloudError, Conflict, NotFound
from nacre.cloud.leases import boottime_s
from nacre.protocol.streams import Channel

PATH = "/hosts/{host}/migrations/{migration}/disk"
LOOK_EVERY_S = 1.0
"""How often it is looked whether the migration still goes on."""

log = logging.getLogger("nacre.gateway")


def _source(conn: sa.Connection, migration: str, host_id: str) -> tuple[str, str] | None:
    """The host and the server whose disk that host may have now."""
    wanted = sa.select(migrations.c.source_host_id, migrations.c.server_id)
    ours = (migrations.c.uuid == migration, migrations.c.dest_host_id == host_id, migrations.c.status.in_(COMING))
    row = conn.execute(wanted.where(is_open(), *ours)).first()
    return None if row is None else (row.source_host_id, row.server_id)


async def serve(cloud: Cloud, request: web.Request) -> web.StreamResponse:
    asked = request.match_info["migration"], request.match_info["host"]
    found = cloud.store.read_now(_source, *asked)
    if found is None:
        raise web.HTTPForbidden(text="no such migration goes to this host now")
    try:
        stream = await cloud.hosts.open(found[0], "disk", found[1], {})
    except (NotFound, Conflict) as error:
        raise web.HTTPGone(text=error.message) from None
    except CloudError as error:
        raise web.HTTPServiceUnavailable(text=error.message) from None
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    looked_s = boottime_s()
    try:
        await response.prepare(request)
        async for channel, data in stream:
            if channel is Channel.STDOUT:
                await response.write(data)
            if boottime_s() - looked_s > LOOK_EVERY_S:
                looked_s = boottime_s()
                if cloud.store.read_now(_source, *asked) is None:
                    log.info("migration %s does not go on: its disk is not sent to its end", asked[0])
                    return _cut(request, response)
        if stream.exit_code != 0:
            return _cut(request, response)
        await response.write_eof()
    except CloudError as error:
        log.warning("the disk of migration %s was cut off: %s", asked[0], error.message)
        return _cut(request, response)
    finally:
        await stream.close()
    return response


def _cut(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """The other side must not take what it has for the whole."""
    if request.transport is not None:
        request.transport.abort()
    return response
