"""Instance actions and their events: what was asked, and every hop on the way with its beginning and end."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute.tables import instance_actions, instance_events
from nacre.cloud.context import Context
from nacre.store import Prepared
from nacre.store.schema import now

Row = dict[str, Any]

_BEGIN = Prepared(instance_actions.insert())
_EVENT = Prepared(instance_events.insert())
_FINISH = Prepared(
    instance_actions.update()
    .where(instance_actions.c.request_id == sa.bindparam("request"), instance_actions.c.server_id == sa.bindparam("server"))
    .values(updated_at=sa.bindparam("moment"), message=sa.bindparam("outcome"))
)


def begin(conn: sa.Connection, ctx: Context, server: Mapping[str, Any], action: str) -> None:
    """Write down that this request asked for this action."""
    moment = now()
    _BEGIN.run(
        conn,
        request_id=ctx.request_id,
        server_id=server["id"],
        action=action,
        user_id=ctx.user_id,
        project_id=ctx.project_id or server["project_id"],
        start_time=moment,
        updated_at=moment,
    )


def event(
    conn: sa.Connection,
    server: Mapping[str, Any],
    name: str,
    start: float,
    finish: float | None,
    *,
    error: str | None = None,
) -> None:
    """Write down one hop. Nova's names: compute__do_build_and_run_instance and the like."""
    _EVENT.run(
        conn,
        request_id=server["request_id"],
        server_id=server["id"],
        event=name,
        host_id=server["host_id"],
        start_time=start,
        finish_time=finish,
        result=None if finish is None else ("Error" if error else "Success"),
        details=error,
    )


def finish(conn: sa.Connection, server: Mapping[str, Any], moment: float, *, error: str | None = None) -> None:
    """The action is at its end, well or not."""
    _FINISH.run(conn, request=server["request_id"], server=server["id"], moment=moment, outcome="Error" if error else None)


def actions_of(conn: sa.Connection, server_id: str) -> list[Row]:
    """The actions of a server, newest first."""
    statement = sa.select(instance_actions).where(instance_actions.c.server_id == server_id)
    return [dict(row) for row in conn.execute(statement.order_by(instance_actions.c.start_time.desc())).mappings()]


def action_of(conn: sa.Connection, server_id: str, request_id: str) -> tuple[Row, list[Row]] | None:
    """One action with its events in order of time, or None."""
    where = (instance_actions.c.server_id == server_id, instance_actions.c.request_id == request_id)
    row = conn.execute(sa.select(instance_actions).where(*where)).mappings().first()
    if row is None:
        return None
    events = sa.select(instance_events).where(
        instance_events.c.server_id == server_id, instance_events.c.request_id == request_id
    )
    return dict(row), [dict(found) for found in conn.execute(events.order_by(instance_events.c.start_time)).mappings()]
