"""Stacks and services by what a client calls them."""

import re
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from nacre.cloud.context import Context
from nacre.cloud.errors import Invalid, NotFound
from nacre.cloud.stacks.tables import services, stacks

Row = dict[str, Any]

_URI = re.compile(r"/api/(?:app/)?v1/(?:[^/]+/)?service/([0-9a-f-]{36})/?")


def stack(conn: sa.Connection, ctx: Context, ref: str) -> Row:
    """The project's stack by id or name. Raises NotFound."""
    where = (stacks.c.project_id == ctx.project_id, sa.or_(stacks.c.id == ref, stacks.c.name == ref))
    row = conn.execute(sa.select(stacks).where(*where).order_by(stacks.c.gone)).mappings().first()
    if row is None:
        raise NotFound(f"Stack {ref} was not found")
    return dict(row)


def service(conn: sa.Connection, ctx: Context, ref: str, stack_id: str | None = None) -> Row:
    """The project's service by id, URI, NAME.STACK or NAME: of that stack first, of none next, then of any when there is one only.

    Raises NotFound, Invalid for an ambiguous name.
    """
    found = _URI.fullmatch(ref)
    ident = found[1] if found else ref
    own = services.c.project_id == ctx.project_id
    row = conn.execute(sa.select(services).where(own, services.c.id == ident)).mappings().first()
    if row is not None:
        return dict(row)
    name, _, of = ref.partition(".")
    rows = [dict(each) for each in conn.execute(sa.select(services).where(own, services.c.name == name)).mappings()]
    rows = [each for each in rows if each["intent"] != "gone"]
    if of:
        rows = [each for each in rows if stack_name(conn, each) == of]
    else:
        rows = next(
            (near for near in ([each for each in rows if each["stack_id"] == want] for want in (stack_id, None)) if near), rows
        )
    if len(rows) > 1:
        raise Invalid(f"Several services are named {ref}: say NAME.STACK, or the id")
    if not rows:
        raise NotFound(f"Service {ref} was not found")
    return rows[0]


def stack_name(conn: sa.Connection, row: Mapping[str, Any]) -> str:
    """Of a service's row; empty for one by itself."""
    if row["stack_id"] is None:
        return ""
    return str(conn.execute(sa.select(stacks.c.name).where(stacks.c.id == row["stack_id"])).scalar() or "")


def services_of(conn: sa.Connection, stack_id: str) -> list[Row]:
    """In the order in which they were made."""
    rows = conn.execute(sa.select(services).where(services.c.stack_id == stack_id).order_by(services.c.created_at, services.c.id))
    return [dict(row) for row in rows.mappings()]
