"""Address scopes: https://docs.openstack.org/api-ref/network/v2/#address-scopes. Subnet pools of one scope never overlap."""

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid
from nacre.cloud.network import quotas, rbac
from nacre.cloud.network.common import Readable, forget_tags, project_of, stamped, touch
from nacre.cloud.network.tables import address_scopes, rbac_policies, subnet_pools
from nacre.store import Page, Query

_READ = Readable(
    "Address scope",
    address_scopes,
    rbac.visible(address_scopes, "address_scope"),
    extra={"shared": rbac.with_all(address_scopes, "address_scope")},
)
get = _READ.get
plain = _READ.plain


def find(conn: sa.Connection, ctx: Context, query: Query) -> Page:
    return _READ.find(conn, ctx, query)


def create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    values = dict(values)
    shared = values.pop("shared", False)
    project_id = project_of(ctx, values)
    row = stamped(project_id, values)
    conn.execute(address_scopes.insert(), row)
    quotas.charge(conn, project_id, "address_scope")
    rbac.share(conn, "address_scope", row, on=bool(shared))
    return _READ.some(conn, address_scopes.c.id == row["id"])[0]


def update(conn: sa.Connection, ctx: Context, ident: str, values: Row) -> Row:
    row = plain(conn, ctx, ident, owned=True)
    changes = dict(values)
    if "shared" in changes:
        shared = changes.pop("shared")
        if not shared and is_shared(conn, ident):
            raise Invalid(
                f"Unable to update address scope {ident}: Shared address scope can't be unshared.",
                field="shared",
                code="AddressScopeUpdateError",
            )
        rbac.share(conn, "address_scope", row, on=shared)
    touch(conn, address_scopes, ident, changes)
    return get(conn, ctx, ident)


def delete(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """Raises Conflict while subnet pools are in it."""
    row = plain(conn, ctx, ident, owned=True)
    if conn.execute(sa.select(subnet_pools.c.id).where(subnet_pools.c.address_scope_id == ident).limit(1)).first() is not None:
        raise Conflict(
            f"Unable to complete operation on address scope {ident}. There are one or more subnet pools in use on the address scope",
            code="AddressScopeInUse",
        )
    conn.execute(address_scopes.delete().where(address_scopes.c.id == ident))
    rbac.forget(conn, "address_scope", ident)
    forget_tags(conn, ident)
    quotas.refund(conn, row["project_id"], "address_scope")


def is_shared(conn: sa.Connection, ident: str) -> bool:
    select = sa.select(rbac_policies.c.id).where(
        rbac_policies.c.object_id == ident, rbac_policies.c.target_project == rbac.EVERYONE
    )
    return conn.execute(select).first() is not None


def of_pools(conn: sa.Connection, pool_ids: set[str]) -> dict[str, str]:
    """By subnet pool the scope that it is in."""
    if not pool_ids:
        return {}
    where = (subnet_pools.c.id.in_(pool_ids), subnet_pools.c.address_scope_id.is_not(None))
    rows = conn.execute(sa.select(subnet_pools.c.id, subnet_pools.c.address_scope_id).where(*where))
    return {row.id: row.address_scope_id for row in rows}
