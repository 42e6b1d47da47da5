"""Execs: further processes in a container. Made first, then started once, then looked at (Engine API, "Exec")."""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute.tables import servers
from nacre.cloud.containers.lookup import find
from nacre.cloud.containers.tables import execs
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid, NotFound
from nacre.cloud.processes import unfinished
from nacre.store import Prepared
from nacre.store.schema import new_hex_id, now

Row = dict[str, Any]

KIND = "exec"
"""Of what is unfinished while a process minds an exec."""
KEPT_S = 300.0
"""How long an exec that has ended can still be looked at, at least."""
_INSERT = Prepared(execs.insert())
_BY_ID = Prepared(
    sa.select(execs, servers.c.host_id, servers.c.name)
    .join(servers, servers.c.id == execs.c.server_id)
    .where(execs.c.id == sa.bindparam("ident"), servers.c.project_id == sa.bindparam("project"))
)
"""An exec with its server's host."""


def require_running(row: Row, ref: str, what: str) -> None:
    """Raises Conflict in Docker's words. A server that was just told to run is left to its host to judge."""
    if row["observed_state"] == "paused":
        raise Conflict(f"container {ref} is paused, unpause the container before {what}")
    if row["host_id"] is None or (row["observed_state"] != "running" and row["power"] != "running"):
        raise Conflict(f"container {ref} is not running")


def prepare(conn: sa.Connection, ctx: Context, ref: str, config: Row) -> Row:
    """A new exec, as `get` would show it, with its project; it has no row yet (see `fresh`).

    `config`: argv, env, cwd, user, tty, stdin, stdout, stderr, privileged, detach_keys, h, w.
    """
    row = find(conn, ctx, ref)
    if not config["argv"]:
        raise Invalid("No exec command specified")
    require_running(row, ref, "exec")
    return {
        "id": new_hex_id() + new_hex_id(),
        "server_id": row["id"],
        "config": config,
        "running": False,
        "exit_code": None,
        "pid": 0,
        "created_at": now(),
        "host_id": row["host_id"],
        "name": row["name"],
        "project_id": ctx.project_id,
    }


def add(conn: sa.Connection, row: Row, starter: str | None = None) -> None:
    """Write down what `prepare` made, and forget the container's old ones. Its container may be gone by now: then nothing is written.
    `starter`: the process that starts it at the same time."""
    over = sa.and_(execs.c.server_id == row["server_id"], execs.c.exit_code.is_not(None), execs.c.created_at < now() - KEPT_S)
    conn.execute(execs.delete().where(over))
    if conn.execute(sa.select(servers.c.id).where(servers.c.id == row["server_id"])).first() is not None:
        _INSERT.run(conn, **{column.name: row[column.name] for column in execs.c})
        if starter is not None:
            unfinished.begin(conn, starter, KIND, row["id"])


def get(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    """Raises NotFound."""
    row = _BY_ID.first(conn, ident=ident, project=ctx.project_id)
    if row is None:
        raise NotFound(f"No such exec instance: {ident}")
    return dict(row)


def claim(conn: sa.Connection, ctx: Context, ident: str, starter: str) -> Row:
    """Take the exec for its one start, by this process. Raises NotFound, Conflict."""
    row = get(conn, ctx, ident)
    if row["running"]:
        raise Conflict(f"Error: Exec command {ident} is already running")
    if row["exit_code"] is not None:
        raise Conflict("exec command has already run")
    conn.execute(execs.update().where(execs.c.id == ident).values(running=True))
    unfinished.begin(conn, starter, KIND, ident)
    return row


def is_minded(conn: sa.Connection, ident: str) -> bool:
    """Whether the process that starts it, or has started it, lives: that one will note its end."""
    return unfinished.is_under_way(conn, KIND, ident)


def finish(conn: sa.Connection, ident: str, exit_code: int | None, pid: int) -> None:
    """The exec has ended. Without an exit code it never began, and may be started again."""
    conn.execute(execs.update().where(execs.c.id == ident).values(running=False, exit_code=exit_code, pid=pid))
    unfinished.end(conn, KIND, ident)
