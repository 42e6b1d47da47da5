"""Which image bytes a host may fetch: those that its own servers name."""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute.migrations import is_open
from nacre.cloud.compute.tables import migrations, servers
from nacre.store import elements


def host_needs(conn: sa.Connection, host_id: str, digest: str) -> bool:
    """Whether a server of this host starts from these bytes: an archive, or a layer of its image."""
    copies = sa.select(migrations.c.server_id).where(is_open(), migrations.c.source_host_id == host_id)
    here = sa.or_(servers.c.host_id == host_id, servers.c.id.in_(copies))
    return any(conn.execute(query.where(here).limit(1)).first() is not None for query in naming(digest))


def naming(digest: str) -> tuple[sa.Select[tuple[str]], ...]:
    """The servers that start from these bytes, or are rescued with them: an archive, or a layer of an image."""
    rescue = servers.c.rescue["image"]["digest"].as_string()
    whole = [sa.select(servers.c.id).where(name == digest) for name in (servers.c.image["digest"].as_string(), rescue)]
    return (*whole, _with_layer(servers.c.image, digest, "layers"), _with_layer(servers.c.rescue, digest, "image", "layers"))


def _with_layer(column: sa.Column[Any], digest: str, *place: str) -> sa.Select[tuple[str]]:
    each = elements(column, *place)
    joined = sa.select(servers.c.id).select_from(sa.join(servers, each, sa.true()))
    return joined.where(each.c.value["digest"].as_string() == digest)
