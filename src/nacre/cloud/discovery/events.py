"""Events that a project's clients fire and list (https://developer.hashicorp.com/consul/api-docs/event)."""

import re

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.discovery.indexes import Found, changing, of_topics
from nacre.cloud.discovery.kv import project_of
from nacre.cloud.discovery.tables import events
from nacre.cloud.errors import Invalid
from nacre.store.schema import new_id

KEPT_MAX = 256
"""Of one project: the oldest go."""
NAME_CHARS_MAX = 128
PAYLOAD_BYTES_MAX = 8192


def fire(conn: sa.Connection, ctx: Context, name: str, payload: bytes, filters: dict[str, str]) -> Row:
    """`filters` are regular expressions under node, service and tag. Raises Invalid."""
    if not name or len(name) > NAME_CHARS_MAX:
        raise Invalid("Missing name" if not name else f"The name is longer than {NAME_CHARS_MAX} characters", field="name")
    for field, pattern in filters.items():
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise Invalid(f"Invalid {field} filter: {error}", field=field) from None
    if filters["tag"] and not filters["service"]:
        raise Invalid("Cannot provide tag filter without service filter")
    with changing(conn, project_of(ctx)) as change:
        change.touch("events", f"event/{name}")
        row = {
            "id": new_id(),
            "project_id": change.project_id,
            "name": name,
            "payload": payload,
            **{f"{field}_filter": pattern for field, pattern in filters.items()},
            "index": change.index,
        }
        result = conn.execute(events.insert().values(row))
    newest = sa.select(events.c.ltime).where(events.c.project_id == project_of(ctx)).order_by(events.c.ltime.desc())
    conn.execute(events.delete().where(events.c.project_id == project_of(ctx), events.c.ltime.not_in(newest.limit(KEPT_MAX))))
    return {**row, "ltime": result.inserted_primary_key[0] if result.inserted_primary_key else 0}


def find(conn: sa.Connection, ctx: Context, name: str) -> Found:
    """The events that are kept, oldest first; all of them without a name."""
    statement = sa.select(events).where(events.c.project_id == project_of(ctx)).order_by(events.c.ltime)
    if name:
        statement = statement.where(events.c.name == name)
    rows = [dict(row) for row in conn.execute(statement).mappings()]
    return Found(of_topics(conn, project_of(ctx), f"event/{name}" if name else "events"), rows)
