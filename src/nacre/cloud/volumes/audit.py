"""The volumes' part of the audit: what containers mount, against the volumes that there are and where they lie."""

import sqlalchemy as sa

from nacre.cloud.compute.tables import servers
from nacre.cloud.containers.tables import containers
from nacre.cloud.volumes.tables import volumes
from nacre.store import elements

Found = tuple[str, str, str]
"""(kind, id, problem)."""


def findings(conn: sa.Connection) -> list[Found]:
    """What contradicts itself in the volumes' books."""
    each = elements(containers.c.spec, "mounts")
    volume_id = each.c.value["volume_id"].as_string()
    statement = (
        sa.select(volume_id, containers.c.server_id, servers.c.host_id, volumes.c.host_id, volumes.c.gone, volumes.c.project_id)
        .add_columns(containers.c.project_id)
        .select_from(
            containers.join(servers, servers.c.id == containers.c.server_id)
            .join(each, sa.true())
            .outerjoin(volumes, volumes.c.id == volume_id)
        )
        .where(volume_id.is_not(None), servers.c.gone.is_(False))
    )
    found: list[Found] = []
    for ident, server_id, needed_on, lies_on, gone, owner, project_id in conn.execute(statement):
        if owner is None or gone:
            found.append(("volume", ident, f"container {server_id} mounts it, and it is not there"))
        elif owner != project_id:
            found.append(("volume", ident, f"container {server_id} of another project mounts it"))
        elif needed_on is not None and needed_on != lies_on:
            found.append(("volume", ident, f"lies on host {lies_on}, container {server_id} that mounts it runs on {needed_on}"))
    return found


def pending(conn: sa.Connection) -> int:
    """Volumes that their host has yet to make."""
    waiting = (volumes.c.observed.is_(None), volumes.c.host_id.is_not(None), volumes.c.gone.is_(False))
    return conn.execute(sa.select(sa.func.count()).select_from(volumes).where(*waiting)).scalar_one()
