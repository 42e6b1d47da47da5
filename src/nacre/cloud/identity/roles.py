"""Roles, and which role implies which: https://docs.openstack.org/api-ref/identity/v3/#roles."""

from collections.abc import Iterable

import sqlalchemy as sa

from nacre.cloud.collection import Collection, Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Forbidden, Invalid, NotFound
from nacre.cloud.identity.changes import changed, in_scope, merged, refuse_immutable, require
from nacre.cloud.identity.tables import assignments, implied_roles, projects, roles
from nacre.store import Criterion, Page, Query
from nacre.store.listing import Listing, columns_of
from nacre.store.schema import new_hex_id


def _before_create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    if values.get("domain_id") is not None:
        require(conn, projects, "domain", values["domain_id"], projects.c.is_domain)
    return values


def _before_update(conn: sa.Connection, ctx: Context, row: Row, changes: Row) -> Row:
    if changes.pop("domain_id", row["domain_id"]) != row["domain_id"]:
        raise Invalid("A role's domain_id cannot be changed.", field="domain_id")
    if row["name"] == "admin" and changes.get("name", "admin") != "admin":
        raise Forbidden("The role admin cannot be renamed: every policy row rests on it.", field="name")
    refuse_immutable(row, changes)
    changed(conn)
    return merged(row, changes, "options")


def _before_delete(conn: sa.Connection, ctx: Context, row: Row) -> None:
    refuse_immutable(row)
    if row["name"] == "admin" and row["domain_id"] is None:
        raise Forbidden("The role admin cannot be deleted: every policy row rests on it.")
    conn.execute(assignments.delete().where(assignments.c.role_id == row["id"]))
    changed(conn)


def _domain(criterion: Criterion) -> sa.ColumnElement[bool]:
    return roles.c.domain_id == criterion.value if criterion.value else roles.c.domain_id.is_(None)


_listing = Listing(sa.select(roles), columns_of(roles), key=roles.c.id, custom={"domain_id": _domain})


class _Roles(Collection):
    """Without a domain_id a list shows the global roles only, as Keystone's does."""

    def find(self, conn: sa.Connection, ctx: Context, query: Query) -> Page:
        if not any(criterion.name == "domain_id" for criterion in query.criteria):
            criteria = (*query.criteria, Criterion("domain_id", "eq", None))
            query = Query(criteria, query.sort, query.limit, query.marker, query.reverse)
        return super().find(conn, ctx, query)


operations = _Roles(
    kind="role",
    table=roles,
    listing=_listing,
    make_id=new_hex_id,
    before_create=_before_create,
    before_update=_before_update,
    before_delete=_before_delete,
    visible=lambda ctx: in_scope(ctx, roles.c.domain_id, roles.c.domain_id.is_(None)),
)


_inferences = sa.select(implied_roles.c.prior_role_id, implied_roles.c.implied_role_id)


def inferences(conn: sa.Connection) -> dict[str, set[str]]:
    """prior role id -> the ids it implies directly."""
    rules: dict[str, set[str]] = {}
    for prior, implied in conn.execute(_inferences):
        rules.setdefault(prior, set()).add(implied)
    return rules


def expand(rules: dict[str, set[str]], role_ids: Iterable[str]) -> set[str]:
    """The roles and all that they imply."""
    found: set[str] = set()
    pending = list(role_ids)
    while pending:
        role_id = pending.pop()
        if role_id not in found:
            found.add(role_id)
            pending += rules.get(role_id, ())
    return found


def imply(conn: sa.Connection, ctx: Context, prior_id: str, implied_id: str) -> tuple[Row, Row]:
    """Make one role imply another. Raises NotFound, Conflict when it is so already, Forbidden for a circle or admin."""
    prior, implied = operations.get(conn, ctx, prior_id), operations.get(conn, ctx, implied_id)
    rules = inferences(conn)
    if implied_id in rules.get(prior_id, ()):
        raise Conflict(f"Role {prior_id} implies {implied_id} already.", code="Conflict")
    if implied["name"] == "admin":
        raise Forbidden("The role admin cannot be an implied role.")
    if prior_id in expand(rules, [implied_id]):
        raise Forbidden("A role must not imply itself.")
    conn.execute(implied_roles.insert().values(prior_role_id=prior_id, implied_role_id=implied_id))
    changed(conn)
    return prior, implied


def get_implied(conn: sa.Connection, ctx: Context, prior_id: str, implied_id: str) -> tuple[Row, Row]:
    """Raises NotFound when the one does not imply the other."""
    prior, implied = operations.get(conn, ctx, prior_id), operations.get(conn, ctx, implied_id)
    if implied_id not in inferences(conn).get(prior_id, ()):
        raise NotFound(f"Role {prior_id} does not imply {implied_id}.", code="NotFound")
    return prior, implied


def no_longer_imply(conn: sa.Connection, ctx: Context, prior_id: str, implied_id: str) -> None:
    get_implied(conn, ctx, prior_id, implied_id)
    conn.execute(
        implied_roles.delete().where(implied_roles.c.prior_role_id == prior_id, implied_roles.c.implied_role_id == implied_id)
    )
    changed(conn)


def list_inferences(conn: sa.Connection, ctx: Context, prior_id: str | None = None) -> list[tuple[Row, list[Row]]]:
    """Each role that implies others, with those; only `prior_id`'s when it is named."""
    rules = inferences(conn)
    rows = {row["id"]: dict(row) for row in conn.execute(sa.select(roles)).mappings()}
    if prior_id is not None:
        return [(operations.get(conn, ctx, prior_id), [rows[ident] for ident in sorted(rules.get(prior_id, ()))])]
    return [(rows[prior], [rows[ident] for ident in sorted(implied)]) for prior, implied in rules.items()]
