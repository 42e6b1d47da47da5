"""Metadata definitions: namespaces with the properties, objects and tags that images and other resources may bear, for forms and checks.

https://docs.openstack.org/api-ref/image/v2/metadefs-index.html. Admins define; everybody reads public namespaces, a project its own.
A namespace is a row with `associations`; what it holds are rows of (name, content, stamps).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa

from nacre.cloud import collection
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Forbidden, Invalid, NotFound
from nacre.cloud.image.rules import Row
from nacre.cloud.image.tables import (
    metadef_associations,
    metadef_namespaces,
    metadef_objects,
    metadef_properties,
    metadef_tags,
)
from nacre.store import Criterion, Page, Query
from nacre.store.listing import Listing, columns_of
from nacre.store.schema import new_id, now

Kind = Literal["object", "property", "tag", "resource type"]
TABLES: Mapping[Kind, sa.Table] = {
    "object": metadef_objects,
    "property": metadef_properties,
    "tag": metadef_tags,
    "resource type": metadef_associations,
}
RESOURCE_TYPES = (
    *("OS::Cinder::Volume", "OS::Glance::Image", "OS::Nova::Aggregate", "OS::Nova::Flavor", "OS::Nova::Server"),
    "OS::Trove::Instance",
)
"""Those that OpenStack's own definitions name; any other is there while a namespace is associated with it."""
CHILDREN_MAX = 1000
"""Of each kind in one namespace."""
_table = metadef_namespaces


def _associated(criterion: Criterion) -> sa.ColumnElement[bool]:
    """`resource_types=a,b`: namespaces for any of them."""
    wanted = [name for name in str(criterion.value).split(",") if name]
    return _table.c.id.in_(sa.select(metadef_associations.c.namespace_id).where(metadef_associations.c.name.in_(wanted)))


LISTING = Listing(
    sa.select(_table),
    columns_of(_table, "namespace", "visibility", "created_at", "updated_at"),
    key=_table.c.id,
    custom={"resource_types": _associated},
)


def _visible(ctx: Context) -> sa.ColumnElement[bool]:
    if ctx.is_admin:
        return sa.true()
    return sa.or_(_table.c.visibility == "public", _table.c.owner == ctx.project_id)


def create(conn: sa.Connection, ctx: Context, values: Row, children: Mapping[Kind, Sequence[Row]]) -> Row:
    """With what it shall hold. Raises Conflict when there is one of that name."""
    moment, ident = now(), new_id()
    row = {"id": ident, "owner": ctx.project_id or "", "visibility": "private", "protected": False, **values}
    try:
        conn.execute(_table.insert().values(**row, created_at=moment, updated_at=moment))
    except sa.exc.IntegrityError:
        raise Conflict(f"A metadata definition namespace {values['namespace']} exists already.", code="Duplicate") from None
    for kind, wanted in children.items():
        for each in wanted:
            add(conn, ctx, kind, values["namespace"], each["name"], each["content"])
    return get(conn, ctx, values["namespace"])


def get(conn: sa.Connection, ctx: Context, namespace: str) -> Row:
    """Raises NotFound, also for a private one of another project."""
    row = conn.execute(sa.select(_table).where(_table.c.namespace == namespace, _visible(ctx))).mappings().first()
    if row is None:
        raise NotFound(f"The metadata definition namespace with name={namespace} was not found.", code="NamespaceNotFound")
    return _whole(conn, [dict(row)])[0]


def find(conn: sa.Connection, ctx: Context, query: Query) -> Page:
    """`query.marker` is a namespace's name. Raises Invalid."""
    marker = query.marker
    if marker is not None:
        marker = conn.execute(sa.select(_table.c.id).where(_table.c.namespace == marker, _visible(ctx))).scalar()
        if marker is None:
            raise NotFound(f"The metadata definition namespace with name={query.marker} was not found.", field="marker")
    page = collection.find(conn, LISTING, Query(query.criteria, query.sort, query.limit, marker), _visible(ctx))
    return Page(_whole(conn, page.rows), page.more)


def _whole(conn: sa.Connection, rows: list[Row]) -> list[Row]:
    by_id = {row["id"]: row | {"associations": []} for row in rows}
    table = metadef_associations
    for each in conn.execute(sa.select(table).where(table.c.namespace_id.in_(list(by_id))).order_by(table.c.name)).mappings():
        by_id[each["namespace_id"]]["associations"].append(dict(each))
    return list(by_id.values())


def update(conn: sa.Connection, ctx: Context, namespace: str, values: Row) -> Row:
    """Raises Conflict when the new name is taken."""
    row = get(conn, ctx, namespace)
    try:
        conn.execute(_table.update().where(_table.c.id == row["id"]).values(**values, updated_at=now()))
    except sa.exc.IntegrityError:
        raise Conflict(f"A metadata definition namespace {values['namespace']} exists already.", code="Duplicate") from None
    return get(conn, ctx, values.get("namespace", namespace))


def delete(conn: sa.Connection, ctx: Context, namespace: str) -> None:
    """With all that it holds. Raises Forbidden for a protected one."""
    row = _unprotected(conn, ctx, namespace)
    conn.execute(_table.delete().where(_table.c.id == row["id"]))


def _unprotected(conn: sa.Connection, ctx: Context, namespace: str) -> Row:
    row = get(conn, ctx, namespace)
    if row["protected"]:
        raise Forbidden(f"Metadata definition namespace {namespace} is protected and cannot be deleted, nor anything in it.")
    return row


def children(conn: sa.Connection, ctx: Context, kind: Kind, namespace: str) -> list[Row]:
    """By name."""
    row, table = get(conn, ctx, namespace), TABLES[kind]
    rows = conn.execute(sa.select(table).where(table.c.namespace_id == row["id"]).order_by(table.c.name)).mappings()
    return [dict(each) for each in rows]


def child(conn: sa.Connection, ctx: Context, kind: Kind, namespace: str, name: str) -> Row:
    """Raises NotFound."""
    row, table = get(conn, ctx, namespace), TABLES[kind]
    found = conn.execute(sa.select(table).where(table.c.namespace_id == row["id"], table.c.name == name)).mappings().first()
    if found is None:
        raise NotFound(f"The metadata definition {kind} with name={name} was not found in namespace={namespace}.")
    return dict(found)


def add(conn: sa.Connection, ctx: Context, kind: Kind, namespace: str, name: str, content: Row) -> Row:
    """Raises Conflict when there is one of that name, Invalid when there are too many."""
    row, table, moment = get(conn, ctx, namespace), TABLES[kind], now()
    count = conn.execute(sa.select(sa.func.count()).select_from(table).where(table.c.namespace_id == row["id"])).scalar_one()
    if count >= CHILDREN_MAX:
        raise Invalid(f"A metadata definition namespace holds at most {CHILDREN_MAX} of each kind.", field="name")
    values: Row = {"id": new_id(), "namespace_id": row["id"], "name": name, "created_at": moment, "updated_at": moment}
    if "content" in table.c:
        values["content"] = content
    try:
        conn.execute(table.insert().values(values))
    except sa.exc.IntegrityError:
        message = f"A metadata definition {kind} with name={name} already exists in namespace={namespace}."
        raise Conflict(message, code="Duplicate") from None
    return child(conn, ctx, kind, namespace, name)


def change(conn: sa.Connection, ctx: Context, kind: Kind, namespace: str, name: str, new_name: str, content: Row) -> Row:
    """Raises NotFound, Conflict when the new name is taken."""
    row, table = child(conn, ctx, kind, namespace, name), TABLES[kind]
    values: Row = {"name": new_name, "updated_at": now()}
    if "content" in table.c:
        values["content"] = content
    try:
        conn.execute(table.update().where(table.c.id == row["id"]).values(values))
    except sa.exc.IntegrityError:
        message = f"A metadata definition {kind} with name={new_name} already exists in namespace={namespace}."
        raise Conflict(message, code="Duplicate") from None
    return child(conn, ctx, kind, namespace, new_name)


def remove(conn: sa.Connection, ctx: Context, kind: Kind, namespace: str, name: str) -> None:
    """Raises NotFound, Forbidden in a protected namespace."""
    row = child(conn, ctx, kind, namespace, name)
    _unprotected(conn, ctx, namespace)
    table = TABLES[kind]
    conn.execute(table.delete().where(table.c.id == row["id"]))


def clear(conn: sa.Connection, ctx: Context, kind: Kind, namespace: str) -> None:
    """All of that kind. Raises Forbidden in a protected namespace."""
    row, table = _unprotected(conn, ctx, namespace), TABLES[kind]
    conn.execute(table.delete().where(table.c.namespace_id == row["id"]))


def set_tags(conn: sa.Connection, ctx: Context, namespace: str, names: Sequence[str], append: bool) -> list[Row]:
    """Replaces the tags, or adds to them. Raises Conflict for a name that is there twice, Forbidden in a protected namespace."""
    if not append:
        clear(conn, ctx, "tag", namespace)
    return [add(conn, ctx, "tag", namespace, name, {}) for name in names]


def resource_types(conn: sa.Connection, ctx: Context) -> list[Row]:
    """`name` and, where a namespace brought it, `created_at`."""
    table = metadef_associations
    select = sa.select(table.c.name, sa.func.min(table.c.created_at).label("created_at")).group_by(table.c.name)
    known: dict[str, Any] = dict.fromkeys(RESOURCE_TYPES)
    seen = select.join(_table, _table.c.id == table.c.namespace_id).where(_visible(ctx))
    known |= {row.name: row.created_at for row in conn.execute(seen) if row.name not in known}
    return [{"name": name, "created_at": moment} for name, moment in sorted(known.items())]
