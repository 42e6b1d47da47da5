"""Which image bytes a host may fetch: those that its own servers name."""

import sqlalchemy as sa

from nacre.cloud.compute.tables import servers


def host_needs(conn: sa.Connection, host_id: str, digest: str) -> bool:
    """Whether a server of this host starts from these bytes: an archive, or a layer of its image."""
    here = servers.c.host_id == host_id
    whole = sa.select(servers.c.id).where(here, servers.c.image["digest"].as_string() == digest)
    each = sa.func.json_each(servers.c.image, "$.layers").table_valued("value")
    layer = sa.select(servers.c.id).select_from(sa.join(servers, each, sa.true()))
    layer = layer.where(here, sa.func.json_extract(each.c.value, "$.digest") == digest)
    return any(conn.execute(query.limit(1)).first() is not None for query in (whole, layer))
