"""Services and their endpoints: https://docs.openstack.org/api-ref/identity/v3/#service-catalog-and-endpoints."""

import sqlalchemy as sa

from nacre.cloud.collection import Collection, Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Forbidden
from nacre.cloud.identity import endpoint_filter
from nacre.cloud.identity.changes import changed, merged, refer
from nacre.cloud.identity.tables import endpoints, regions, registered_limits, services
from nacre.store.listing import Listing, columns_of
from nacre.store.schema import new_hex_id


def _before_create_service(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    changed(conn)
    return values


def _before_update(conn: sa.Connection, ctx: Context, row: Row, changes: Row) -> Row:
    changed(conn)
    return merged(row, changes)


def _before_delete(conn: sa.Connection, ctx: Context, row: Row) -> None:
    changed(conn)


def _before_delete_service(conn: sa.Connection, ctx: Context, row: Row) -> None:
    if conn.execute(sa.select(registered_limits.c.id).where(registered_limits.c.service_id == row["id"])).first() is not None:
        raise Forbidden(f"Service {row['id']} has registered limits: delete them first.")
    changed(conn)


def _check_endpoint(conn: sa.Connection, values: Row) -> Row:
    if "service_id" in values:
        refer(conn, services, "service", values["service_id"], "service_id")
    region = values.pop("region", None)
    if region is not None and "region_id" not in values:
        values["region_id"] = _region(conn, region)
    if values.get("region_id") is not None:
        refer(conn, regions, "region", values["region_id"], "region_id")
    changed(conn)
    return values


def _region(conn: sa.Connection, ident: str) -> str:
    """A region that an endpoint names by the old attribute `region` is made when it is not there, as Keystone does."""
    if conn.execute(sa.select(regions.c.id).where(regions.c.id == ident)).first() is None:
        conn.execute(regions.insert().values(id=ident))
    return ident


def _before_create_endpoint(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    return _check_endpoint(conn, values)


def _before_update_endpoint(conn: sa.Connection, ctx: Context, row: Row, changes: Row) -> Row:
    return merged(row, _check_endpoint(conn, changes))


operations = Collection(
    kind="service",
    table=services,
    listing=Listing(sa.select(services), columns_of(services), key=services.c.id),
    make_id=new_hex_id,
    before_create=_before_create_service,
    before_update=_before_update,
    before_delete=_before_delete_service,
)

endpoint_operations = Collection(
    kind="endpoint",
    table=endpoints,
    listing=Listing(sa.select(endpoints), columns_of(endpoints), key=endpoints.c.id),
    make_id=new_hex_id,
    before_create=_before_create_endpoint,
    before_update=_before_update_endpoint,
    before_delete=_before_delete,
)


_services = sa.select(services).where(services.c.enabled).order_by(services.c.type, services.c.id)
_endpoints = sa.select(endpoints).where(endpoints.c.enabled).order_by(endpoints.c.id)


def catalog(conn: sa.Connection, user_id: str, project_id: str | None) -> list[Row]:
    """The services with their endpoints as a token shows them. A URL that needs a project is left out of other scopes' catalogs."""
    found: dict[str, Row] = {}
    names = {"user_id": user_id} | ({"project_id": project_id, "tenant_id": project_id} if project_id else {})
    for service in conn.execute(_services).mappings():
        found[service["id"]] = {"id": service["id"], "type": service["type"], "name": service["name"] or "", "endpoints": []}
    shown_ids = endpoint_filter.allowed(conn, project_id) if project_id else None
    for row in conn.execute(_endpoints).mappings():
        if shown_ids is not None and row["id"] not in shown_ids:
            continue
        url = _fill(row["url"], names)
        if url is not None and row["service_id"] in found:
            shown = {name: row[name] for name in ("id", "interface", "region_id")}
            found[row["service_id"]]["endpoints"].append({**shown, "region": row["region_id"], "url": url})
    return list(found.values())


def _fill(url: str, names: dict[str, str]) -> str | None:
    """`$(project_id)s` and `%(project_id)s` by their values; None when one has none."""
    for name in ("project_id", "tenant_id", "user_id"):
        for mark in (f"$({name})s", f"%({name})s"):
            if mark in url:
                if name not in names:
                    return None
                url = url.replace(mark, names[name])
    return url
