"""How many volumes a project may have, and how large together. A limit of -1 is none."""

from collections.abc import Mapping

import sqlalchemy as sa

from nacre.cloud.context import Context
from nacre.cloud.errors import OverQuota
from nacre.cloud.volumes.tables import quotas, volumes
from nacre.store import insert

DEFAULTS: dict[str, int] = {"volumes": 1000, "bytes": 10 << 40}
"""`bytes` counts the sizes that were asked for: a volume without a size counts nothing."""
DEFAULT_CLASS = "class:default"


def limits_of(conn: sa.Connection, project_id: str) -> dict[str, int]:
    """Each resource's limit: the project's own, else that of `class:default`, else what stands here."""
    found = dict(DEFAULTS)
    for key in (DEFAULT_CLASS, project_id):
        found |= {row.resource: row.limit for row in conn.execute(sa.select(quotas).where(quotas.c.project_id == key))}
    return found


def used_by(conn: sa.Connection, project_id: str) -> dict[str, int]:
    count, size = conn.execute(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(volumes.c.size_bytes), 0)).where(
            volumes.c.project_id == project_id, volumes.c.gone.is_(False)
        )
    ).one()
    return {"volumes": count, "bytes": size}


def check(conn: sa.Connection, project_id: str, size_bytes: int | None) -> None:
    """Before one more volume of that size is made. Raises OverQuota."""
    limits, used = limits_of(conn, project_id), used_by(conn, project_id)
    for resource, more in (("volumes", 1), ("bytes", size_bytes or 0)):
        if 0 <= limits[resource] < used[resource] + more and more:
            raise OverQuota(
                f"Quota exceeded for {resource} of volumes: requested {more}, but already used {used[resource]} of {limits[resource]}",
                code="OverQuota",
            )


def set_limits(conn: sa.Connection, ctx: Context, project_id: str, limits: Mapping[str, int]) -> None:
    """For a project, or under DEFAULT_CLASS for all that have none of their own."""
    statement = insert(quotas)
    conn.execute(
        statement.on_conflict_do_update(index_elements=["project_id", "resource"], set_={"limit": statement.excluded["limit"]}),
        [{"project_id": project_id, "resource": resource, "limit": limit} for resource, limit in limits.items()],
    )
