"""Unified limits: defaults registered for a service's resources, and the limits of single projects and domains that differ from them.

https://docs.openstack.org/api-ref/identity/v3/#unified-limits. The model is flat: limits are not held against those of a parent.
"""

from collections.abc import Sequence

import sqlalchemy as sa

from nacre.cloud.collection import Collection, Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Forbidden, Invalid
from nacre.cloud.identity.changes import refer
from nacre.cloud.identity.tables import limits, projects, regions, registered_limits, services
from nacre.store.listing import Listing, columns_of
from nacre.store.schema import new_hex_id

MODEL = {"name": "flat", "description": "Limit enforcement and validation does not take project hierarchy into consideration."}
BATCH_MAX = 1000


def _check_registered(conn: sa.Connection, values: Row, ident: str) -> Row:
    """References lead somewhere, and there is no other limit for the same. Raises Invalid, Conflict."""
    refer(conn, services, "service", values["service_id"], "service_id")
    if values.get("region_id") is not None:
        refer(conn, regions, "region", values["region_id"], "region_id")
    table = registered_limits
    same = [table.c[name] == values[name] for name in ("service_id", "resource_name")]
    region = table.c.region_id.is_(None) if values.get("region_id") is None else table.c.region_id == values["region_id"]
    if conn.execute(sa.select(table.c.id).where(*same, region, table.c.id != ident)).first() is not None:
        raise Conflict("There is a registered limit for that service, region and resource already.", code="Conflict")
    return values


def _before_create_registered(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    return _check_registered(conn, values, values["id"])


def _before_update_registered(conn: sa.Connection, ctx: Context, row: Row, changes: Row) -> Row:
    about = ("service_id", "region_id", "resource_name")
    if any(changes.get(name, row[name]) != row[name] for name in about):
        _refuse_used(conn, row["id"], "changed")
        _check_registered(conn, {**row, **changes}, row["id"])
    return changes


def _before_delete_registered(conn: sa.Connection, ctx: Context, row: Row) -> None:
    _refuse_used(conn, row["id"], "deleted")


def _refuse_used(conn: sa.Connection, ident: str, what: str) -> None:
    if conn.execute(sa.select(limits.c.id).where(limits.c.registered_limit_id == ident)).first() is not None:
        raise Forbidden(f"Registered limit {ident} cannot be {what} because there are limits associated with it.")


registered = Collection(
    kind="registered limit",
    table=registered_limits,
    listing=Listing(sa.select(registered_limits), columns_of(registered_limits), key=registered_limits.c.id),
    make_id=new_hex_id,
    before_create=_before_create_registered,
    before_update=_before_update_registered,
    before_delete=_before_delete_registered,
)


def _before_create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    """`service_id`, `region_id` and `resource_name` lead to the registered limit. Raises Invalid, Conflict."""
    if (values.get("project_id") is None) == (values.get("domain_id") is None):
        raise Invalid("A limit is for exactly one of project_id and domain_id.", field="project_id")
    for name, is_domain in (("project_id", False), ("domain_id", True)):
        if values.get(name) is not None:
            refer(conn, projects, name.removesuffix("_id"), values[name], name, projects.c.is_domain.is_(is_domain))
    values["registered_limit_id"] = _registered_for(conn, values)
    same = [limits.c[name] == values[name] for name in ("project_id", "domain_id") if values.get(name) is not None]
    found = sa.select(limits.c.id).where(limits.c.registered_limit_id == values["registered_limit_id"], *same)
    if conn.execute(found).first() is not None:
        raise Conflict("There is a limit for that project or domain and resource already.", code="Conflict")
    return {name: value for name, value in values.items() if name in limits.c}


def _registered_for(conn: sa.Connection, values: Row) -> str:
    table, region_id = registered_limits, values.get("region_id")
    region = table.c.region_id.is_(None) if region_id is None else table.c.region_id == region_id
    same = [table.c[name] == values[name] for name in ("service_id", "resource_name")]
    found = conn.execute(sa.select(table.c.id).where(*same, region)).scalar()
    if found is None:
        raise Forbidden("There is no registered limit for that service, region and resource.", code="NoLimitReference")
    return str(found)


def _visible(ctx: Context) -> sa.ColumnElement[bool] | None:
    """A project's limits are its members' to see, a domain's (and those of its projects) are for who is scoped to it."""
    if ctx.sees_all:
        return None
    if ctx.domain_id is not None:
        own = sa.select(projects.c.id).where(projects.c.domain_id == ctx.domain_id)
        return sa.or_(limits.c.domain_id == ctx.domain_id, limits.c.project_id.in_(own))
    return limits.c.project_id == ctx.project_id


_COLUMNS = {
    **columns_of(limits, "id", "project_id", "domain_id"),
    **columns_of(registered_limits, "service_id", "region_id", "resource_name"),
}
operations = Collection(
    kind="limit",
    table=limits,
    listing=Listing(
        sa.select(limits, registered_limits.c.service_id, registered_limits.c.region_id, registered_limits.c.resource_name).join(
            registered_limits, registered_limits.c.id == limits.c.registered_limit_id
        ),
        _COLUMNS,
        key=limits.c.id,
    ),
    make_id=new_hex_id,
    before_create=_before_create,
    visible=_visible,
)


def create_all(conn: sa.Connection, ctx: Context, collection: Collection, rows: Sequence[Row]) -> list[Row]:
    """All of them, or none."""
    return [collection.create(conn, ctx, dict(row)) for row in rows]
