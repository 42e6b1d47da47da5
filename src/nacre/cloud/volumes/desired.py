"""What a volume is to its host: rows to the protocol's `Volume`."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from nacre.cloud.volumes.rules import PROFILES, Profile
from nacre.cloud.volumes.tables import volumes
from nacre.protocol.volumes import Volume
from nacre.store import Prepared, among

_WANTED = Prepared(
    sa.select(volumes).where(volumes.c.host_id == sa.bindparam("host"), volumes.c.gone.is_(False), among(volumes.c.id))
)


def compile_volumes(conn: sa.Connection, host_id: str, ids: Sequence[str]) -> dict[str, Volume]:
    """The volumes that must be on the host; one whose intent is `gone`, or that lies elsewhere now, is left out."""
    return {row["id"]: _volume(row) for row in _WANTED.rows(conn, host=host_id, ids=list(ids))}


def _volume(row: dict[str, Any]) -> Volume:
    profile = PROFILES.get(row["profile"], Profile())
    return Volume(
        id=row["id"],
        project_id=row["project_id"],
        # A plugin knows no tenants: there each volume's name is the only one of its kind.
        name=f"{row['name']}.{row['id']}" if row["plugin"] else row["name"],
        driver=row["plugin"] or "local",
        profile=row["profile"],
        size_bytes=row["size_bytes"],
        source_id=row["source_id"],
        options=row["options"] if row["plugin"] else {},
        read_iops=profile.iops,
        write_iops=profile.iops,
        read_bytes_s=profile.bytes_s,
        write_bytes_s=profile.bytes_s,
    )
