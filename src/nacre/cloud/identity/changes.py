"""What Identity's collections have in common: telling of changes, merging extra attributes, checking references."""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Forbidden, Invalid, NotFound
from nacre.cloud.identity.tables import identity_state
from nacre.store import Prepared, announce

TOPIC = "identity"
"""Announced with a user's id when only that user's tokens may say something else now, with None when any may."""


def changed(conn: sa.Connection, user_id: str | None = None) -> None:
    """What tokens say may have changed: caches must look again after the commit."""
    announce(conn, TOPIC, user_id)
    passed(conn)


_PASS = Prepared(identity_state.update().values(generation=identity_state.c.generation + 1))
_GENERATION = Prepared(sa.select(identity_state.c.generation))


def passed(conn: sa.Connection) -> None:
    """What other processes remember of tokens is of the past. An announcement tells them a moment later, and the very next request may
    come to one of them."""
    _PASS.run(conn)


def generation(conn: sa.Connection) -> int:
    """Another one after each change of what tokens say, or are worth."""
    return int(_GENERATION.scalar(conn) or 0)


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


def in_scope(ctx: Context, domain_id: sa.ColumnElement[Any], *own: sa.ColumnElement[bool]) -> sa.ColumnElement[bool] | None:
    """What a caller sees of things that belong to domains, once a policy row has let it in: with a token for a domain that domain's
    (and `own`), else all."""
    if ctx.sees_all or ctx.domain_id is None:
        return None
    return sa.or_(domain_id == ctx.domain_id, *own)


def hold_to_domain(ctx: Context, domain_id: str | None, field: str = "domain_id") -> None:
    """A manager of a domain makes things within it. Raises Forbidden."""
    if ctx.domain_id is not None and not ctx.is_admin and domain_id != ctx.domain_id:
        raise Forbidden("A manager of a domain may do this within that domain only.", field=field)


def refuse_delegated(ctx: Context) -> None:
    """A token that rests on a trust, or on a restricted application credential, does not make more of the kind. Raises Forbidden."""
    facts = getattr(ctx.token, "facts", None)
    delegation = facts.delegation if facts is not None else None
    if delegation is not None and not delegation.get("unrestricted"):
        raise Forbidden("A delegated token may not be used for this.")
