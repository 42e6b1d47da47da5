"""Triggers: an address that redeploys a service or makes it bigger, for whoever knows it. Its id is the secret; a delete takes it back."""

import secrets
from typing import Any

import sqlalchemy as sa

from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid, NotFound
from nacre.cloud.stacks import making, operations
from nacre.cloud.stacks.specs import CONTAINERS_MAX, Operation
from nacre.cloud.stacks.tables import services, triggers
from nacre.store.schema import now

Row = dict[str, Any]

TRIGGERS_MAX = 100
"""Of one service."""
NAME_MAX = 255
BODY_BYTES_MAX = 32_768
SECRET_BYTES = 32
NOT_FOUND = "Trigger was not found"
"""The id is a secret: it is not said again."""


def create(conn: sa.Connection, ctx: Context, service_id: str, name: str, operation: Operation) -> Row:
    operations.get(conn, ctx, service_id)
    if len(name) > NAME_MAX:
        raise Invalid(f"name: {NAME_MAX} characters at most", field="name")
    if len(find(conn, ctx, service_id)) >= TRIGGERS_MAX:
        raise Conflict(f"The service has {TRIGGERS_MAX} triggers: remove some")
    row = {
        "id": secrets.token_hex(SECRET_BYTES),
        "service_id": service_id,
        "name": name,
        "operation": operation,
        "created_at": now(),
    }
    conn.execute(triggers.insert().values(row))
    return row


def find(conn: sa.Connection, ctx: Context, service_id: str) -> list[Row]:
    operations.get(conn, ctx, service_id)
    wanted = sa.select(triggers).where(triggers.c.service_id == service_id).order_by(triggers.c.created_at, triggers.c.id)
    return [dict(row) for row in conn.execute(wanted).mappings()]


def get(conn: sa.Connection, ctx: Context, service_id: str, ident: str) -> Row:
    for row in find(conn, ctx, service_id):
        if row["id"] == ident:
            return row
    raise NotFound(NOT_FOUND)


def remove(conn: sa.Connection, ctx: Context, service_id: str, ident: str) -> None:
    """The address is worth nothing from now on."""
    row = get(conn, ctx, service_id, ident)
    conn.execute(triggers.delete().where(triggers.c.id == row["id"]))


def call(conn: sa.Connection, service_id: str, ident: str, body: str, request_id: str) -> Row:
    """Do what the trigger says, in the name of who made the service. Raises NotFound, Conflict."""
    joined = sa.select(services, triggers.c.operation).join(triggers, triggers.c.service_id == services.c.id)
    row = conn.execute(joined.where(triggers.c.id == ident, services.c.id == service_id)).mappings().first()
    if row is None:
        raise NotFound(NOT_FOUND)
    ctx = making.context_of(dict(row), request_id)
    if row["operation"] == "REDEPLOY":
        return operations.redeploy(conn, ctx, service_id, body=body)
    if row["target"] >= CONTAINERS_MAX:
        raise Conflict(f"The service has {CONTAINERS_MAX} containers, and gets no more")
    return operations.scale(conn, ctx, service_id, row["target"] + 1)
