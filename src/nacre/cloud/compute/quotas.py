"""Compute's quotas: https://docs.openstack.org/api-ref/compute/#quota-sets-os-quota-sets.

A project's limit is what an admin set for it, else what the class `default` was set to, else what stands here. -1 is unlimited.
Networking's and Image's own limits are theirs; the names that Nova once had for them are shown as unlimited.
"""

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from nacre.cloud.compute import tables, usage
from nacre.cloud.context import Context
from nacre.cloud.errors import Invalid

UNLIMITED = -1
DEFAULTS: dict[str, int] = {
    "instances": 1000,
    "cores": 2000,
    "ram": 2048000,
    "metadata_items": 128,
    "key_pairs": 100,
    "server_groups": 10,
    "server_group_members": 10,
    "injected_files": 0,
    "injected_file_content_bytes": 10240,
    "injected_file_path_bytes": 255,
    "fixed_ips": UNLIMITED,
    "floating_ips": UNLIMITED,
    "security_groups": UNLIMITED,
    "security_group_rules": UNLIMITED,
}
DEFAULT_CLASS = "class:default"
"""The key under which the table holds what every project has that was given nothing of its own."""


def _set(conn: sa.Connection, key: str) -> dict[str, int]:
    statement = sa.select(tables.quotas.c.resource, tables.quotas.c.limit).where(tables.quotas.c.project_id == key)
    return {row.resource: row.limit for row in conn.execute(statement)}


def defaults_of(conn: sa.Connection) -> dict[str, int]:
    return {**DEFAULTS, **_set(conn, DEFAULT_CLASS)}


def limits_of(conn: sa.Connection, project_id: str | None) -> dict[str, int]:
    """Each resource's limit for a project, -1 where there is none."""
    return {**defaults_of(conn), **(_set(conn, project_id) if project_id else {})}


def used_by(conn: sa.Connection, project_id: str) -> dict[str, int]:
    """How much of each counted resource a project uses; what is not counted per project is 0."""
    return {**dict.fromkeys(DEFAULTS, 0), **usage.of_project(conn, project_id)}


def set_limits(conn: sa.Connection, ctx: Context, project_id: str, limits: Mapping[str, int], *, force: bool = False) -> None:
    """Raises Invalid for a limit below what is in use, unless it is forced."""
    used = used_by(conn, project_id)
    for resource, limit in limits.items():
        if not force and 0 <= limit < used[resource]:
            raise Invalid(
                f"Quota limit {limit} for {resource} must be greater than or equal to already used {used[resource]}.",
                field=resource,
            )
    _store(conn, project_id, limits)


def set_defaults(conn: sa.Connection, ctx: Context, limits: Mapping[str, int]) -> None:
    """What every project has that was given nothing of its own."""
    _store(conn, DEFAULT_CLASS, limits)


def reset(conn: sa.Connection, ctx: Context, project_id: str) -> None:
    """The project has the defaults again."""
    conn.execute(tables.quotas.delete().where(tables.quotas.c.project_id == project_id))


def _store(conn: sa.Connection, key: str, limits: Mapping[str, int]) -> None:
    if not limits:
        return
    statement = insert(tables.quotas)
    conn.execute(
        statement.on_conflict_do_update(index_elements=["project_id", "resource"], set_={"limit": statement.excluded["limit"]}),
        [{"project_id": key, "resource": resource, "limit": limit} for resource, limit in limits.items()],
    )
