"""Compute's quotas: https://docs.openstack.org/api-ref/compute/#quota-sets-os-quota-sets.

A project's limit is what an admin set for it, else what the class `default` was set to, else what stands here. -1 is unlimited.
Networking's and Image's own limits are theirs; the names that Nova once had for them are shown as unlimited.
"""

from collections.abc import Mapping

import sqlalchemy as sa

from nacre.cloud.compute import tables, usage
from nacre.cloud.context import Context
from nacre.cloud.errors import Invalid
from nacre.store import Prepared, insert

UNLIMITED = -1
DEFAULTS: dict[str, int] = {
    "instances": 1000,
    "cores": 2000,
    "ram": 2048000,
    "metadata_items": 128,
    "key_pairs": 100,
    "server_groups": 10,
    "server_group_members": 10,
    "injected_files": 5,
    "injected_file_content_bytes": 10240,
    "injected_file_path_bytes": 255,
    "fixed_ips": UNLIMITED,
    "floating_ips": UNLIMITED,
    "security_groups": UNLIMITED,
    "security_group_rules": UNLIMITED,
}
DEFAULT_CLASS = "class:default"
"""The key under which the table holds what every project has that was given nothing of its own."""

_LIMITS = Prepared(
    sa.select(tables.quotas.c.resource, tables.quotas.c.limit).where(tables.quotas.c.project_id == sa.bindparam("project"))
)
_LIMITS_OF_USER = Prepared(
    sa.select(tables.user_quotas.c.resource, tables.user_quotas.c.limit).where(
        tables.user_quotas.c.project_id == sa.bindparam("project"), tables.user_quotas.c.user_id == sa.bindparam("user")
    )
)


def _set(conn: sa.Connection, key: str) -> dict[str, int]:
    return {row["resource"]: row["limit"] for row in _LIMITS.rows(conn, project=key)}


def defaults_of(conn: sa.Connection) -> dict[str, int]:
    return {**DEFAULTS, **_set(conn, DEFAULT_CLASS)}


def limits_of(conn: sa.Connection, project_id: str | None) -> dict[str, int]:
    """Each resource's limit for a project, -1 where there is none."""
    return {**defaults_of(conn), **(_set(conn, project_id) if project_id else {})}


def _set_for_user(conn: sa.Connection, project_id: str, user_id: str) -> dict[str, int]:
    return {row["resource"]: row["limit"] for row in _LIMITS_OF_USER.rows(conn, project=project_id, user=user_id)}


def limits_of_user(conn: sa.Connection, project_id: str, user_id: str) -> dict[str, int]:
    """What a user may have of the project's limits: all of each that was not set for the user alone."""
    return {**limits_of(conn, project_id), **_set_for_user(conn, project_id, user_id)}


def bounds(
    conn: sa.Connection, project_id: str, user_id: str, limits: dict[str, int] | None = None
) -> list[tuple[dict[str, int], dict[str, int]]]:
    """(limits, use) of the project, and of the user where something was set for the user alone: neither may be exceeded."""
    limits = limits_of(conn, project_id) if limits is None else limits
    found: list[tuple[dict[str, int], dict[str, int]]] = [(limits, usage.of_project(conn, project_id))]
    own = _set_for_user(conn, project_id, user_id)
    if own:
        found.append(({**limits, **own}, usage.of_user(conn, project_id, user_id)))
    return found


def used_by(conn: sa.Connection, project_id: str, user_id: str | None = None) -> dict[str, int]:
    """How much of each counted resource a project uses, or one of its users; what is not counted per project is 0."""
    counted = usage.of_project(conn, project_id) if user_id is None else usage.of_user(conn, project_id, user_id)
    return {**dict.fromkeys(DEFAULTS, 0), **counted}


def set_limits_of_user(
    conn: sa.Connection, ctx: Context, project_id: str, user_id: str, limits: Mapping[str, int], *, force: bool = False
) -> None:
    """Raises Invalid for a limit above the project's, or below what the user uses unless it is forced."""
    of_project = limits_of(conn, project_id)
    used = used_by(conn, project_id, user_id)
    for resource, limit in limits.items():
        if of_project[resource] >= 0 and not 0 <= limit <= of_project[resource]:
            raise Invalid(
                f"Quota limit {limit} for {resource} must be less than or equal to {of_project[resource]}.", field=resource
            )
        _check_used(resource, limit, used[resource], force)
    if not limits:
        return
    statement = insert(tables.user_quotas)
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=["project_id", "user_id", "resource"], set_={"limit": statement.excluded["limit"]}
        ),
        [{"project_id": project_id, "user_id": user_id, "resource": name, "limit": limit} for name, limit in limits.items()],
    )


def reset_of_user(conn: sa.Connection, ctx: Context, project_id: str, user_id: str) -> None:
    """The user may use all that the project may."""
    table = tables.user_quotas
    conn.execute(table.delete().where(table.c.project_id == project_id, table.c.user_id == user_id))


def _check_used(resource: str, limit: int, used: int, force: bool) -> None:
    if not force and 0 <= limit < used:
        raise Invalid(f"Quota limit {limit} for {resource} must be greater than or equal to already used {used}.", field=resource)


def set_limits(conn: sa.Connection, ctx: Context, project_id: str, limits: Mapping[str, int], *, force: bool = False) -> None:
    """Raises Invalid for a limit below what is in use, unless it is forced."""
    used = used_by(conn, project_id)
    for resource, limit in limits.items():
        _check_used(resource, limit, used[resource], force)
    _store(conn, project_id, limits)


def set_defaults(conn: sa.Connection, ctx: Context, limits: Mapping[str, int]) -> None:
    """What every project has that was given nothing of its own."""
    _store(conn, DEFAULT_CLASS, limits)


def reset(conn: sa.Connection, ctx: Context, project_id: str) -> None:
    """The project has the defaults again, and so have its users."""
    for table in (tables.quotas, tables.user_quotas):
        conn.execute(table.delete().where(table.c.project_id == project_id))


def _store(conn: sa.Connection, key: str, limits: Mapping[str, int]) -> None:
    if not limits:
        return
    statement = insert(tables.quotas)
    conn.execute(
        statement.on_conflict_do_update(index_elements=["project_id", "resource"], set_={"limit": statement.excluded["limit"]}),
        [{"project_id": key, "resource": resource, "limit": limit} for resource, limit in limits.items()],
    )
