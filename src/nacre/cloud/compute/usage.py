"""What each project has in use, held against its quota in the transaction that changes it."""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute.tables import migrations, servers, usage
from nacre.cloud.errors import OverQuota
from nacre.store import Prepared, insert

RESOURCES = ("instances", "cores", "ram")
"""The columns of the usage row, and the names of the quotas that bound them."""


_OF_PROJECT = Prepared(sa.select(usage).where(usage.c.project_id == sa.bindparam("project")))
_INSERT = insert(usage)
_CHANGE = Prepared(
    _INSERT.on_conflict_do_update(
        index_elements=["project_id"], set_={name: usage.c[name] + _INSERT.excluded[name] for name in RESOURCES}
    )
)


_MOVING = (
    sa.select(
        servers.c.project_id,
        servers.c.vcpus,
        servers.c.memory_mb,
        migrations.c.vcpus.label("other_vcpus"),
        migrations.c.memory_mb.label("other_memory_mb"),
    )
    .join(migrations, migrations.c.server_id == servers.c.id)
    .where(
        migrations.c.status.in_(("pre-migrating", "preparing", "migrating", "running", "finished", "reverting")),
        migrations.c.vcpus > 0,
    )
)
"""Servers that have claims on two hosts: the larger one counts (see `migrations.held`)."""


def of_project(conn: sa.Connection, project_id: str) -> dict[str, int]:
    """What the project uses: instances, cores and ram (MB)."""
    row = _OF_PROJECT.first(conn, project=project_id)
    return {name: int(row[name]) if row else 0 for name in RESOURCES}


def of_user(conn: sa.Connection, project_id: str, user_id: str) -> dict[str, int]:
    """What one user of the project uses, counted: only those have a book that have a quota of their own."""
    sums = (
        sa.func.count().label("instances"),
        sa.func.sum(servers.c.vcpus).label("cores"),
        sa.func.sum(servers.c.memory_mb).label("ram"),
    )
    where = (servers.c.project_id == project_id, servers.c.user_id == user_id)
    row = conn.execute(sa.select(*sums).where(*where)).mappings().one()
    return {name: int(row[name] or 0) for name in RESOURCES}


def check(used: dict[str, int], wanted: dict[str, int], limits: dict[str, int]) -> None:
    """Raises OverQuota with Nova's sentence. A limit of -1 is none."""
    over = [name for name in RESOURCES if limits.get(name, -1) >= 0 and used[name] + wanted[name] > limits[name]]
    if over:
        requested = ", ".join(str(wanted[name]) for name in over)
        in_use = ", ".join(str(used[name]) for name in over)
        allowed = ", ".join(str(limits[name]) for name in over)
        raise OverQuota(
            f"Quota exceeded for {', '.join(over)}: Requested {requested}, but already used {in_use} of {allowed} {', '.join(over)}",
            code="QuotaExceeded",
        )


def change(conn: sa.Connection, project_id: str, *, instances: int, cores: int, ram: int) -> None:
    """Add to the project's row (negative figures take away). To be the last statement of a transaction: the row is contended."""
    _CHANGE.run(conn, project_id=project_id, instances=instances, cores=cores, ram=ram)


def recount(conn: sa.Connection) -> dict[str, dict[str, Any]]:
    """What the rows should say, counted from the servers themselves: project -> instances, cores, ram."""
    statement = sa.select(
        servers.c.project_id,
        sa.func.count().label("instances"),
        sa.func.sum(servers.c.vcpus).label("cores"),
        sa.func.sum(servers.c.memory_mb).label("ram"),
    ).group_by(servers.c.project_id)
    found = {row["project_id"]: {name: int(row[name]) for name in RESOURCES} for row in conn.execute(statement).mappings()}
    for row in conn.execute(_MOVING).mappings():
        counted = found[row["project_id"]]
        counted["cores"] += max(0, row["other_vcpus"] - row["vcpus"])
        counted["ram"] += max(0, row["other_memory_mb"] - row["memory_mb"])
    return found
