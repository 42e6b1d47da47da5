"""What Identity's collections have in common: telling of changes, merging extra attributes, checking references."""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Forbidden, Invalid, NotFound
from nacre.store import announce

TOPIC = "identity"
"""Announced with a user's id when only that user's tokens may say something else now, with None when any may."""


def changed(conn: sa.Connection, user_id: str | None = None) -> None:
    """What tokens say may have changed: caches must look again after the commit."""
    announce(conn, TOPIC, user_id)


def merged(row: Row, changes: Row, *names: str) -> Row:
    """Objects that an update changes key by key: `extra`, and those named. A null in `options` takes the key away."""
    for name in ("extra", *names):
        if name in changes:
            kept = {**(row[name] or {}), **(changes[name] or {})}
            changes[name] = {key: value for key, value in kept.items() if name == "extra" or value is not None}
    return changes


def refuse_immutable(row: Row, changes: Row | None = None) -> None:
    """A thing with the option `immutable` is neither changed, unless that takes the option away, nor deleted. Raises Forbidden."""
    if row["options"].get("immutable") and (changes or {}).get("options", {}).get("immutable", True):
        raise Forbidden(f"{row['id']} is immutable: update its option immutable to false first.", code="ResourceUpdateForbidden")


def require(conn: sa.Connection, table: sa.Table, kind: str, ident: str | None, *where: Any) -> Row:
    """The row with that id. Raises NotFound."""
    row = conn.execute(sa.select(table).where(table.c.id == ident, *where)).mappings().first()
    if row is None:
        raise NotFound.of(kind, ident)
    return dict(row)


def refer(conn: sa.Connection, table: sa.Table, kind: str, ident: str | None, field: str, *where: Any) -> None:
    """A body's reference must lead somewhere. Raises Invalid naming the field."""
    if conn.execute(sa.select(table.c.id).where(table.c.id == ident, *where)).first() is None:
        raise Invalid(f"Invalid input for {field}: {kind} {ident} could not be found.", field=field)


def home_domain(ctx: Context) -> str:
    """The domain that a thing is made in when the request names none: the token's."""
    return ctx.domain_id or getattr(ctx.token, "project_domain_id", None) or ctx.user_domain_id or "default"
