"""A stack as a whole: what is done to each of its services."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict
from nacre.cloud.stacks import finding, operations
from nacre.cloud.stacks.operations import Secret
from nacre.cloud.stacks.specs import ServiceSpec, stored

Row = dict[str, Any]


def _services(conn: sa.Connection, ctx: Context, ident: str) -> list[Row]:
    row = finding.stack(conn, ctx, ident)
    if row["gone"]:
        raise Conflict(f"The stack {row['name']} is being terminated")
    return [each for each in finding.services_of(conn, row["id"]) if each["intent"] != "gone"]


def start(conn: sa.Connection, ctx: Context, ident: str) -> None:
    for row in _services(conn, ctx, ident):
        operations.start(conn, ctx, row["id"])


def stop(conn: sa.Connection, ctx: Context, ident: str) -> None:
    for row in _services(conn, ctx, ident):
        if row["intent"] != "created":
            operations.stop(conn, ctx, row["id"])


def redeploy(conn: sa.Connection, ctx: Context, ident: str, *, reuse_volumes: bool) -> None:
    for row in _services(conn, ctx, ident):
        operations.redeploy(conn, ctx, row["id"], reuse_volumes=reuse_volumes)


def update(conn: sa.Connection, ctx: Context, ident: str, wanted: Sequence[ServiceSpec], secrets: Sequence[Secret]) -> None:
    """The services that are listed are there afterwards, and no others. What is new does not run yet. Raises Invalid, Conflict, NotFound."""
    known = {row["name"]: row for row in _services(conn, ctx, ident)}
    stack_id = finding.stack(conn, ctx, ident)["id"]
    left = list(secrets)
    for spec in wanted:
        secret = left.pop(0) if spec.roles else None
        row = known.pop(spec.name, None)
        if row is None:
            operations.create_service(conn, ctx, spec, stack_id=stack_id, secret=secret, linked=False)
            continue
        before = stored(row)
        names = [field for field in spec.__struct_fields__ if getattr(spec, field) != getattr(before, field)]
        if names:
            operations.update_service(conn, ctx, row["id"], {name: getattr(spec, name) for name in names}, linked=False)
    for row in known.values():
        operations.remove(conn, ctx, row["id"])
    for row in _services(conn, ctx, ident):
        operations.check_links(conn, ctx, row)
