"""Flavors: https://docs.openstack.org/api-ref/compute/#flavors.

A server keeps a copy of its flavor, so that one may be changed or deleted while servers run that were made of it.
"""

from collections.abc import Mapping

import sqlalchemy as sa

from nacre.cloud.collection import Collection, Row
from nacre.cloud.compute.tables import flavor_access, flavors
from nacre.cloud.context import Context, internal
from nacre.cloud.errors import Conflict, NotFound, OverQuota
from nacre.store import Page, Query
from nacre.store.listing import Listing, columns_of

DEFAULTS: tuple[tuple[str, str, int, int, int], ...] = (
    ("42", "m1.nano", 64, 1, 1),
    ("84", "m1.micro", 128, 1, 1),
    ("1", "m1.tiny", 512, 1, 1),
    ("2", "m1.small", 2048, 1, 20),
    ("3", "m1.medium", 4096, 2, 40),
    ("4", "m1.large", 8192, 4, 80),
    ("5", "m1.xlarge", 16384, 8, 160),
)
"""id, name, MB of memory, vCPUs, GB of disk."""

EXTRA_SPECS_MAX = 128
"""Extra specs that one flavor may have."""
ACCESS_MAX = 10_000
"""Projects that one private flavor may be given to."""


def _visible(ctx: Context) -> sa.ColumnElement[bool] | None:
    if ctx.is_admin:
        return None
    granted = sa.select(flavor_access.c.flavor_id).where(flavor_access.c.project_id == ctx.project_id)
    return sa.or_(flavors.c.is_public, flavors.c.id.in_(granted))


operations = Collection(
    kind="flavor",
    table=flavors,
    listing=Listing(sa.select(flavors), columns_of(flavors), key=flavors.c.id, sort=(("id", "asc"),)),
    visible=_visible,
)


def get(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    """Raises NotFound, also for a private flavor that the caller's project was not given."""
    try:
        return operations.get(conn, ctx, ident)
    except NotFound:
        raise NotFound(f"Flavor {ident} could not be found.", code="FlavorNotFound") from None


def find(conn: sa.Connection, ctx: Context, query: Query) -> Page:
    """Public flavors, and the private ones that the caller's project was given (all of them for an admin)."""
    return operations.find(conn, ctx, query)


def create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    """Raises Conflict, naming what is taken: the id or the name."""
    for column, what in (("id", "ID"), ("name", "name")):
        taken = conn.execute(sa.select(flavors.c.id).where(flavors.c[column] == values.get(column))).first()
        if taken is not None:
            raise Conflict(f"Flavor with {what} {values[column]} already exists.", code="FlavorExists")
    return operations.create(conn, ctx, values)


def update(conn: sa.Connection, ctx: Context, ident: str, values: Row) -> Row:
    get(conn, ctx, ident)
    return operations.update(conn, ctx, ident, values)


def delete(conn: sa.Connection, ctx: Context, ident: str) -> None:
    get(conn, ctx, ident)
    operations.delete(conn, ctx, ident)


def set_extra_specs(conn: sa.Connection, ctx: Context, ident: str, specs: Mapping[str, str]) -> dict[str, str]:
    """Adds these, or changes them; returns all that the flavor has now."""
    merged = {**get(conn, ctx, ident)["extra_specs"], **specs}
    if len(merged) > EXTRA_SPECS_MAX:
        raise OverQuota(f"A flavor may have {EXTRA_SPECS_MAX} extra specs.", field="extra_specs")
    operations.update(conn, ctx, ident, {"extra_specs": merged})
    return merged


def delete_extra_spec(conn: sa.Connection, ctx: Context, ident: str, key: str) -> None:
    specs = dict(get(conn, ctx, ident)["extra_specs"])
    if specs.pop(key, None) is None:
        raise NotFound(f"Flavor {ident} has no extra specs with key {key}.", code="FlavorExtraSpecsNotFound")
    operations.update(conn, ctx, ident, {"extra_specs": specs})


def projects_with_access(conn: sa.Connection, ctx: Context, ident: str) -> list[str]:
    """The projects that a private flavor is given to. Raises NotFound for a public one, which has no such list."""
    if get(conn, ctx, ident)["is_public"]:
        raise NotFound("Access list not available for public flavors.", code="FlavorAccessNotFound")
    return _projects(conn, ident)


def add_access(conn: sa.Connection, ctx: Context, ident: str, project_id: str) -> list[str]:
    """Raises Conflict when the flavor is public or the project has it."""
    if get(conn, ctx, ident)["is_public"]:
        raise Conflict("Can not add access to a public flavor.", code="FlavorAccessNotAllowed")
    projects = _projects(conn, ident)
    if project_id in projects:
        raise Conflict(
            f"Flavor access already exists for flavor {ident} and project {project_id} combination.", code="FlavorAccessExists"
        )
    if len(projects) >= ACCESS_MAX:
        raise OverQuota(f"A flavor may be given to {ACCESS_MAX} projects.", field="tenant")
    conn.execute(flavor_access.insert().values(flavor_id=ident, project_id=project_id))
    return [*projects, project_id]


def remove_access(conn: sa.Connection, ctx: Context, ident: str, project_id: str) -> list[str]:
    """Raises NotFound when the project does not have it."""
    get(conn, ctx, ident)
    gone = conn.execute(
        flavor_access.delete().where(flavor_access.c.flavor_id == ident, flavor_access.c.project_id == project_id)
    ).rowcount
    if not gone:
        raise NotFound(f"Flavor access not found for {ident} and project {project_id} combination.", code="FlavorAccessNotFound")
    return _projects(conn, ident)


def _projects(conn: sa.Connection, ident: str) -> list[str]:
    statement = sa.select(flavor_access.c.project_id).where(flavor_access.c.flavor_id == ident)
    return list(conn.execute(statement.order_by(flavor_access.c.project_id)).scalars())


def bootstrap(conn: sa.Connection) -> None:
    """The default flavors of a new cloud. Where there is any flavor, an admin has chosen, and nothing is added."""
    present = operations.find(conn, internal(), Query()).rows
    if present:
        return
    for ident, name, memory_mb, vcpus, disk_gb in DEFAULTS:
        create(conn, internal(), {"id": ident, "name": name, "memory_mb": memory_mb, "vcpus": vcpus, "disk_gb": disk_gb})
