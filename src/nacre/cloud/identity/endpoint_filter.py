"""OS-EP-FILTER: which endpoints a project's catalog shows, by endpoint or by groups that filters describe.

https://docs.openstack.org/api-ref/identity/v3-ext/#os-ep-filter-api. A project with no association sees all endpoints.
"""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.collection import Collection, Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid, NotFound
from nacre.cloud.identity.changes import changed, require
from nacre.cloud.identity.tables import (
    endpoint_group_projects,
    endpoint_groups,
    endpoint_projects,
    endpoints,
    projects,
    regions,
    services,
)
from nacre.store.listing import Listing, columns_of
from nacre.store.prepared import Prepared
from nacre.store.schema import new_hex_id

FILTERS = ("service_id", "region_id", "interface", "enabled")


def _before_create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    if values["filters"] is None:
        raise Invalid("An endpoint group needs filters.", field="filters")
    return _checked(conn, values)


def _before_update(conn: sa.Connection, ctx: Context, row: Row, changes: Row) -> Row:
    changed(conn)
    if changes.get("filters", ...) is None:
        # The `openstack` command sends null for what it is not asked to change.
        del changes["filters"]
    return _checked(conn, changes)


def _before_delete(conn: sa.Connection, ctx: Context, row: Row) -> None:
    changed(conn)


def _checked(conn: sa.Connection, values: Row) -> Row:
    """Raises Invalid for filters that name no service or region."""
    filters = values.get("filters") or {}
    for name, table in (("service_id", services), ("region_id", regions)):
        if name in filters and conn.execute(sa.select(table.c.id).where(table.c.id == filters[name])).first() is None:
            raise Invalid(f"Invalid input for filters: {name} {filters[name]} could not be found.", field="filters")
    return values


groups = Collection(
    kind="endpoint group",
    table=endpoint_groups,
    listing=Listing(sa.select(endpoint_groups), columns_of(endpoint_groups, "id", "name"), key=endpoint_groups.c.id),
    make_id=new_hex_id,
    before_create=_before_create,
    before_update=_before_update,
    before_delete=_before_delete,
)


def _endpoints_of(conn: sa.Connection, filters: Row) -> list[Row]:
    where = [endpoints.c[name] == filters[name] for name in FILTERS if name in filters]
    return [dict(row) for row in conn.execute(sa.select(endpoints).where(*where).order_by(endpoints.c.id)).mappings()]


def endpoints_of_group(conn: sa.Connection, ctx: Context, ident: str) -> list[Row]:
    return _endpoints_of(conn, groups.get(conn, ctx, ident)["filters"])


_filtered = Prepared(
    sa.select(projects.c.id).where(
        projects.c.id == sa.bindparam("project_id"),
        sa.or_(
            sa.exists().where(endpoint_projects.c.project_id == projects.c.id),
            sa.exists().where(endpoint_group_projects.c.project_id == projects.c.id),
        ),
    )
)
"""Asked at the first sight of every token, and seldom true."""


def allowed(conn: sa.Connection, project_id: str) -> set[str] | None:
    """The ids of the endpoints that a project sees; None when nothing says so, and it sees all."""
    if _filtered.first(conn, project_id=project_id) is None:
        return None
    direct = sa.select(endpoint_projects.c.endpoint_id).where(endpoint_projects.c.project_id == project_id)
    found = set(conn.execute(direct).scalars())
    link = endpoint_group_projects
    select = sa.select(endpoint_groups.c.filters).join(link, link.c.endpoint_group_id == endpoint_groups.c.id)
    filters = list(conn.execute(select.where(link.c.project_id == project_id)).scalars())
    for each in filters:
        found |= {row["id"] for row in _endpoints_of(conn, each)}
    return found


def endpoints_of_project(conn: sa.Connection, ctx: Context, project_id: str) -> list[Row]:
    """Those that the associations lead to."""
    require(conn, projects, "project", project_id)
    ids = sorted(allowed(conn, project_id) or ())
    return [dict(row) for row in conn.execute(sa.select(endpoints).where(endpoints.c.id.in_(ids))).mappings()]


def groups_of_project(conn: sa.Connection, ctx: Context, project_id: str) -> list[Row]:
    require(conn, projects, "project", project_id)
    link = endpoint_group_projects
    select = sa.select(endpoint_groups).join(link, link.c.endpoint_group_id == endpoint_groups.c.id)
    return [
        dict(row) for row in conn.execute(select.where(link.c.project_id == project_id).order_by(endpoint_groups.c.id)).mappings()
    ]


_LINKS: dict[str, tuple[sa.Table, sa.Table]] = {
    "endpoint": (endpoint_projects, endpoints),
    "endpoint_group": (endpoint_group_projects, endpoint_groups),
}


def _where(kind: str, ident: str, project_id: str) -> list[Any]:
    link = _LINKS[kind][0]
    return [link.c[f"{kind}_id"] == ident, link.c.project_id == project_id]


def associate(conn: sa.Connection, ctx: Context, kind: str, ident: str, project_id: str) -> None:
    """Raises NotFound, Conflict when it is so already."""
    link, table = _LINKS[kind]
    require(conn, table, kind.replace("_", " "), ident)
    require(conn, projects, "project", project_id)
    if conn.execute(sa.select(link).where(*_where(kind, ident, project_id))).first() is not None:
        raise Conflict(f"The {kind.replace('_', ' ')} is associated with that project already.", code="Conflict")
    conn.execute(link.insert().values({f"{kind}_id": ident, "project_id": project_id}))
    changed(conn)


def check(conn: sa.Connection, ctx: Context, kind: str, ident: str, project_id: str) -> None:
    """Raises NotFound when they are not associated."""
    link, table = _LINKS[kind]
    require(conn, table, kind.replace("_", " "), ident)
    require(conn, projects, "project", project_id)
    if conn.execute(sa.select(link).where(*_where(kind, ident, project_id))).first() is None:
        raise NotFound(f"The {kind.replace('_', ' ')} {ident} is not associated with project {project_id}.", code="NotFound")


def dissociate(conn: sa.Connection, ctx: Context, kind: str, ident: str, project_id: str) -> None:
    check(conn, ctx, kind, ident, project_id)
    conn.execute(_LINKS[kind][0].delete().where(*_where(kind, ident, project_id)))
    changed(conn)


def projects_of(conn: sa.Connection, ctx: Context, kind: str, ident: str) -> list[str]:
    """The ids of the projects that one is associated with."""
    link, table = _LINKS[kind]
    require(conn, table, kind.replace("_", " "), ident)
    select = sa.select(link.c.project_id).where(link.c[f"{kind}_id"] == ident).order_by(link.c.project_id)
    return list(conn.execute(select).scalars())
