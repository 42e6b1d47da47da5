"""Sessions: who holds locks, and what becomes of the locks when the holder is lost.

https://developer.hashicorp.com/consul/docs/dynamic-app-config/sessions
"""

from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.discovery import durations, kv
from nacre.cloud.discovery.indexes import Change, Found, changing, of_topics, one_key
from nacre.cloud.discovery.kv import project_of
from nacre.cloud.discovery.tables import checks, keys, lock_delays, nodes, sessions
from nacre.cloud.errors import Invalid, NotFound
from nacre.store import Prepared, insert
from nacre.store.schema import new_id

SECOND_NS = 10**9
TTL_NS_MIN, TTL_NS_MAX = 10 * SECOND_NS, 86_400 * SECOND_NS
TTL_TIMES = 2
"""A session is taken for lost after so many times its TTL, as Consul does it: its clients count on that."""
LOCK_DELAY_NS_DEFAULT, LOCK_DELAY_NS_MAX = 15 * SECOND_NS, 60 * SECOND_NS
BEHAVIORS = ("release", "delete")
NODE_CHECK = "serfHealth"
"""The check that says whether a node is there."""
SESSIONS_MAX = 10_000
"""Of one project."""

_INSERT = Prepared(sessions.insert())
_RENEW = Prepared(
    sessions.update()
    .where(sessions.c.id == sa.bindparam("ident"), sessions.c.project_id == sa.bindparam("project"))
    .values(renewals=sessions.c.renewals + 1)
)


class SessionSpec(Struct, frozen=True):
    node: str
    name: str = ""
    lock_delay_ns: int = LOCK_DELAY_NS_DEFAULT
    behavior: str = "release"
    ttl: str = ""
    node_checks: tuple[str, ...] = (NODE_CHECK,)
    service_checks: tuple[dict[str, Any], ...] = ()


def create(conn: sa.Connection, ctx: Context, spec: SessionSpec) -> str:
    """The new session's id. Raises Invalid for a node or check that is not there, or a check that is critical."""
    project_id = project_of(ctx)
    _check_spec(spec)
    held = conn.execute(sa.select(sa.func.count()).select_from(sessions).where(sessions.c.project_id == project_id)).scalar_one()
    if held >= SESSIONS_MAX:
        raise Invalid(f"the project has {SESSIONS_MAX} sessions already")
    _check_health(conn, project_id, spec)
    with changing(conn, project_id) as change:
        ident = new_id()
        change.touch("sessions", f"session/{ident}", f"sessions/{spec.node}")
        _INSERT.run(
            conn,
            id=ident,
            project_id=project_id,
            name=spec.name,
            node=spec.node,
            lock_delay_ns=spec.lock_delay_ns,
            behavior=spec.behavior,
            ttl=spec.ttl if spec.ttl and durations.nanoseconds(spec.ttl, "TTL") else "",
            node_checks=list(spec.node_checks),
            service_checks=list(spec.service_checks),
            create_index=change.index,
            modify_index=change.index,
        )
    return ident


def _check_spec(spec: SessionSpec) -> None:
    if spec.behavior not in BEHAVIORS:
        raise Invalid(f"Invalid Behavior setting '{spec.behavior}'", field="Behavior")
    if not 0 <= spec.lock_delay_ns <= LOCK_DELAY_NS_MAX:
        raise Invalid(f"Invalid LockDelay, must be between 0s and {durations.text_of(LOCK_DELAY_NS_MAX)}", field="LockDelay")
    ttl_ns = durations.nanoseconds(spec.ttl, "TTL") if spec.ttl else 0
    if ttl_ns and not TTL_NS_MIN <= ttl_ns <= TTL_NS_MAX:
        bounds = f"[{durations.text_of(TTL_NS_MIN)}={durations.text_of(TTL_NS_MAX)}]"
        raise Invalid(f"Invalid Session TTL '{ttl_ns}', must be between {bounds}", field="TTL")


def _check_health(conn: sa.Connection, project_id: str, spec: SessionSpec) -> None:
    if conn.execute(sa.select(nodes.c.name).where(nodes.c.project_id == project_id, nodes.c.name == spec.node)).first() is None:
        raise Invalid("Missing node registration", field="Node")
    for check_id in check_ids(spec.node_checks, spec.service_checks):
        where = (checks.c.project_id == project_id, checks.c.node == spec.node, checks.c.id == check_id)
        status = conn.execute(sa.select(checks.c.status).where(*where)).scalar()
        if status is None:
            raise Invalid(f"Missing check '{check_id}' registration")
        if status == "critical":
            raise Invalid(f"Check '{check_id}' is in critical state")


def check_ids(node_checks: Any, service_checks: Any) -> tuple[str, ...]:
    return (*node_checks, *(str(each.get("ID", "")) for each in service_checks))


def renew(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    """The holder is alive. Raises NotFound for a session that is not there (any more)."""
    if not _RENEW.run(conn, ident=ident, project=project_of(ctx)):
        raise NotFound(f"Session id '{ident}' not found")
    (row,) = some(conn, ctx, sessions.c.id == ident)
    return row


def some(conn: sa.Connection, ctx: Context, *where: sa.ColumnElement[bool]) -> list[Row]:
    statement = sa.select(sessions).where(sessions.c.project_id == project_of(ctx), *where).order_by(sessions.c.id)
    return [dict(row) for row in conn.execute(statement).mappings()]


def info(conn: sa.Connection, ctx: Context, ident: str) -> Found:
    return Found(of_topics(conn, project_of(ctx), f"session/{ident}"), some(conn, ctx, sessions.c.id == ident))


def of_node(conn: sa.Connection, ctx: Context, node: str) -> Found:
    return Found(of_topics(conn, project_of(ctx), f"sessions/{node}"), some(conn, ctx, sessions.c.node == node))


def every(conn: sa.Connection, ctx: Context) -> Found:
    return Found(of_topics(conn, project_of(ctx), "sessions"), some(conn, ctx))


def destroy(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """Its locks are given up. Again, or for one that never was: no change."""
    with changing(conn, project_of(ctx)) as change:
        for row in some(conn, ctx, sessions.c.id == ident):
            invalidate(change, row)


def invalidate(change: Change, row: Row) -> None:
    """The session is over: what it holds is released or deleted, and nobody locks that again before the delay is over."""
    conn = change.conn
    change.touch("sessions", f"session/{row['id']}", f"sessions/{row['node']}")
    held = sa.select(keys).where(keys.c.project_id == change.project_id, keys.c.session == row["id"])
    found = [dict(key) for key in conn.execute(held).mappings()]
    for key in found:
        if row["behavior"] == "delete":
            kv.delete_span(change, one_key(key["key"]))
        else:
            kv.release(change, key)
    if row["lock_delay_ns"] and found:
        values = {"project_id": change.project_id, "delay_ns": row["lock_delay_ns"], "since_index": change.index}
        upsert = insert(lock_delays)
        again = {"delay_ns": upsert.excluded.delay_ns, "since_index": upsert.excluded.since_index}
        conn.execute(
            upsert.on_conflict_do_update(index_elements=["project_id", "key"], set_=again),
            [{**values, "key": key["key"]} for key in found],
        )
    conn.execute(sessions.delete().where(sessions.c.id == row["id"]))


def check_lost(change: Change, node: str, check_id: str | None = None) -> None:
    """A check of the node is critical or gone (None: the node itself is gone): the sessions that rest on it are over."""
    rows = change.conn.execute(
        sa.select(sessions).where(sessions.c.project_id == change.project_id, sessions.c.node == node)
    ).mappings()
    for row in [dict(row) for row in rows]:
        if check_id is None or check_id in check_ids(row["node_checks"], row["service_checks"]):
            invalidate(change, row)


def with_ttl(conn: sa.Connection) -> list[Row]:
    """Id, project, TTL and renewals of every session that must be renewed."""
    statement = sa.select(sessions.c.id, sessions.c.project_id, sessions.c.ttl, sessions.c.renewals).where(sessions.c.ttl != "")
    return [dict(row) for row in conn.execute(statement).mappings()]


def expire(conn: sa.Connection, lost: dict[str, int]) -> list[str]:
    """End the sessions that were not renewed in time: id -> the renewals that were counted. One that was renewed meanwhile goes on."""
    ended = []
    for ident, renewals in lost.items():
        row = conn.execute(sa.select(sessions).where(sessions.c.id == ident, sessions.c.renewals == renewals)).mappings().first()
        if row is not None:
            with changing(conn, row["project_id"]) as change:
                invalidate(change, dict(row))
            ended.append(ident)
    return ended


def delays(conn: sa.Connection) -> list[Row]:
    return [dict(row) for row in conn.execute(sa.select(lock_delays)).mappings()]


def end_delays(conn: sa.Connection, over: list[Row]) -> None:
    for row in over:
        conn.execute(
            lock_delays.delete().where(*(lock_delays.c[name] == row[name] for name in ("project_id", "key", "since_index")))
        )
