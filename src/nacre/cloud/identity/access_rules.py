"""Access rules: the requests that an application credential is for. They are the user's, and outlive the credentials that name them.

https://docs.openstack.org/api-ref/identity/v3/#list-access-rules
"""

from collections.abc import Sequence

import sqlalchemy as sa

from nacre.cloud.collection import Row, find
from nacre.cloud.context import Context
from nacre.cloud.errors import Forbidden, NotFound
from nacre.cloud.identity.changes import refuse_delegated, require
from nacre.cloud.identity.tables import access_rules, application_credential_rules, users
from nacre.store import Page, Query
from nacre.store.listing import Listing, columns_of
from nacre.store.schema import new_hex_id

_table, _links = access_rules, application_credential_rules
_listing = Listing(sa.select(_table), columns_of(_table, "service", "method", "path"), key=_table.c.id)


def attach(conn: sa.Connection, user_id: str, credential_id: str, wanted: Sequence[Row]) -> None:
    """Bind a new credential to rules, given by id or in full; one that the user has already is used again. Raises NotFound."""
    ids = [_known(conn, user_id, rule) for rule in wanted]
    if ids:
        rows = [{"application_credential_id": credential_id, "access_rule_id": ident} for ident in dict.fromkeys(ids)]
        conn.execute(_links.insert(), rows)


def _known(conn: sa.Connection, user_id: str, rule: Row) -> str:
    own = _table.c.user_id == user_id
    if rule.get("id") is not None:
        return str(get(conn, None, user_id, rule["id"])["id"])
    same = [_table.c[name] == rule[name] for name in ("service", "method", "path")]
    found = conn.execute(sa.select(_table.c.id).where(own, *same)).scalar()
    if found is None:
        found = new_hex_id()
        values = {name: rule[name] for name in ("service", "method", "path")}
        conn.execute(_table.insert().values(id=found, user_id=user_id, **values))
    return str(found)


def of_credential(conn: sa.Connection, credential_id: str) -> list[Row]:
    select = sa.select(_table).join(_links, _links.c.access_rule_id == _table.c.id).order_by(_table.c.id)
    return [dict(row) for row in conn.execute(select.where(_links.c.application_credential_id == credential_id)).mappings()]


def get(conn: sa.Connection, ctx: Context | None, user_id: str, ident: str) -> Row:
    """Raises NotFound."""
    row = conn.execute(sa.select(_table).where(_table.c.id == ident, _table.c.user_id == user_id)).mappings().first()
    if row is None:
        raise NotFound.of("access rule", ident)
    return dict(row)


def list_of_user(conn: sa.Connection, ctx: Context, user_id: str, query: Query) -> Page:
    require(conn, users, "user", user_id)
    return find(conn, _listing, query, _table.c.user_id == user_id)


def delete(conn: sa.Connection, ctx: Context, user_id: str, ident: str) -> None:
    """Raises NotFound, Forbidden while an application credential names it."""
    get(conn, ctx, user_id, ident)
    refuse_delegated(ctx)
    if conn.execute(sa.select(_links.c.access_rule_id).where(_links.c.access_rule_id == ident)).first() is not None:
        raise Forbidden(f"Access rule {ident} is in use by an application credential.")
    conn.execute(_table.delete().where(_table.c.id == ident))
