"""Quotas: https://docs.openstack.org/api-ref/network/v2/#quotas-extension-quotas. A limit of -1 is none."""

from collections.abc import Mapping

import sqlalchemy as sa

from nacre.cloud.context import Context
from nacre.cloud.errors import NotFound, OverQuota
from nacre.cloud.network.tables import quotas, usages
from nacre.store import Prepared, insert

DEFAULTS: dict[str, int] = {
    "network": 100,
    "subnet": 100,
    "subnetpool": -1,
    "port": 500,
    "router": 10,
    "floatingip": 50,
    "security_group": 10,
    "security_group_rule": 100,
    "rbac_policy": 10,
    "address_group": 10,
    "address_scope": -1,
    "qos_policy": -1,
}
"""Neutron's own, where it has one."""


_INSERT_USAGE = insert(usages)
_CHARGE = Prepared(
    _INSERT_USAGE.on_conflict_do_update(
        index_elements=["project_id", "resource"], set_={"used": usages.c.used + _INSERT_USAGE.excluded.used}
    ).returning(usages.c.used)
)
_REFUND = Prepared(
    usages.update()
    .where(usages.c.project_id == sa.bindparam("project"), usages.c.resource == sa.bindparam("of_resource"))
    .values(used=usages.c.used - sa.bindparam("count"))
)
_LIMIT = Prepared(
    sa.select(quotas.c.limit).where(
        quotas.c.project_id == sa.bindparam("project"), quotas.c.resource == sa.bindparam("of_resource")
    )
)


def count(conn: sa.Connection, project_id: str, resource: str) -> None:
    """Count what an admin's setting made along the way, which no limit is held against."""
    if project_id:
        _CHARGE.scalar(conn, project_id=project_id, resource=resource, used=1)


def check(conn: sa.Connection, project_id: str, resource: str) -> None:
    """Raises OverQuota when more is counted than may be."""
    charge(conn, project_id, resource, 0)


def charge(conn: sa.Connection, project_id: str, resource: str, count: int = 1) -> None:
    """Count what was made. Raises OverQuota, and the caller's transaction is undone with it."""
    if not project_id:
        return
    used: int = _CHARGE.scalar(conn, project_id=project_id, resource=resource, used=count)
    limit = _limit(conn, project_id, resource)
    if 0 <= limit < used:
        raise OverQuota(f"Quota exceeded for resources: ['{resource}'].", code="OverQuota")


def refund(conn: sa.Connection, project_id: str, resource: str, count: int = 1) -> None:
    """Count what was removed."""
    if project_id and count:
        _REFUND.run(conn, project=project_id, of_resource=resource, count=count)


def _limit(conn: sa.Connection, project_id: str, resource: str) -> int:
    own: int | None = _LIMIT.scalar(conn, project=project_id, of_resource=resource)
    return DEFAULTS[resource] if own is None else own


def limits(conn: sa.Connection, ctx: Context, project_id: str) -> dict[str, int]:
    own = conn.execute(sa.select(quotas.c.resource, quotas.c.limit).where(quotas.c.project_id == project_id)).all()
    return DEFAULTS | dict(own)


def details(conn: sa.Connection, ctx: Context, project_id: str) -> dict[str, dict[str, int]]:
    """Each resource's limit, use and reservations (there are none: what is asked for is counted at once)."""
    rows = conn.execute(sa.select(usages.c.resource, usages.c.used).where(usages.c.project_id == project_id)).all()
    used: dict[str, int] = dict(rows)
    return {
        resource: {"limit": limit, "used": used.get(resource, 0), "reserved": 0}
        for resource, limit in limits(conn, ctx, project_id).items()
    }


def set_limits(conn: sa.Connection, ctx: Context, project_id: str, values: Mapping[str, int]) -> dict[str, int]:
    for resource, limit in values.items():
        statement = insert(quotas).values(project_id=project_id, resource=resource, limit=limit)
        conn.execute(statement.on_conflict_do_update(index_elements=["project_id", "resource"], set_={"limit": limit}))
    return limits(conn, ctx, project_id)


def reset(conn: sa.Connection, ctx: Context, project_id: str) -> None:
    """Back to the defaults. Raises NotFound when the project has no limits of its own."""
    if conn.execute(quotas.delete().where(quotas.c.project_id == project_id)).rowcount == 0:
        raise NotFound(f"Quota for tenant {project_id} could not be found.", code="TenantQuotaNotFound")


def changed(conn: sa.Connection, ctx: Context) -> dict[str, dict[str, int]]:
    """The projects with limits of their own."""
    projects: list[str] = list(conn.execute(sa.select(quotas.c.project_id).distinct()).scalars())
    return {project_id: limits(conn, ctx, project_id) for project_id in projects}
