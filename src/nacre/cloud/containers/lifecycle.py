"""Start, stop, kill, restart, pause, rename, update, remove: each checks and writes intent in one transaction.

What the node then makes of it comes back as observations: who wants to know waits (see `waiting`).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from nacre.cloud.compute import servers as compute
from nacre.cloud.compute import timeline
from nacre.cloud.compute.actions import intend
from nacre.cloud.compute.rules import require_unlocked
from nacre.cloud.compute.tables import servers
from nacre.cloud.containers import compiling, create, events, lookup, mounts, names, networking
from nacre.cloud.containers.states import is_up, status_of
from nacre.cloud.containers.tables import containers
from nacre.cloud.context import Context
from nacre.cloud.errors import CloudError, Conflict, Invalid

Row = dict[str, Any]


class Done(NamedTuple):
    """The server, and whether anything had to be changed."""

    server_id: str
    changed: bool


def changeable(conn: sa.Connection, ctx: Context, ref: str, verb: str) -> Row:
    """Raises NotFound, Conflict (to be removed, shelved by Compute, locked)."""
    row = lookup.find(conn, ctx, ref)
    if row["gone"]:
        raise Conflict(f"container is marked for removal and cannot be {verb}")
    if row["power"] == "shelved":
        raise Conflict(f"container {ref} is a shelved server and cannot be {verb}: unshelve it first")
    require_unlocked(row, ctx.is_admin)
    return row


def _require_host(row: Row, alive: frozenset[str]) -> None:
    if row["host_id"] not in alive:
        raise CloudError(f"Container {lookup.docker_id(row['id'])} running on unhealthy node {row['host_id']}")


def start(conn: sa.Connection, ctx: Context, ref: str, alive: frozenset[str]) -> Done:
    """Raises NotFound, Conflict; CloudError where its host gives no sign of life or a port is taken."""
    row = changeable(conn, ctx, ref, "started")
    if row["power"] == "paused":
        raise Conflict("cannot start a paused container, try unpause instead")
    if is_up(row):
        return Done(row["id"], False)
    _require_host(row, alive)
    container = row["container"]
    if container is not None:
        networking.publish(conn, ctx, row["id"], container["config"], container["host_config"])
    _boot(conn, ctx, row, "start", halt=None)
    timeline.begin(conn, ctx, row, "start")
    return Done(row["id"], True)


def _boot(conn: sa.Connection, ctx: Context, row: Row, action: str, halt: Row | None) -> None:
    _halt(conn, row, halt)
    kind = "hard" if action == "reboot-hard" else "soft"
    intend(conn, ctx, row, action, {"power": "running", "boots": row["boots"] + 1, "reboot": kind})


def _halt(conn: sa.Connection, row: Row, halt: Row | None) -> None:
    """How the next stop is to be done."""
    container = row["container"]
    if container is not None and container["halt"] != halt:
        conn.execute(containers.update().where(containers.c.server_id == row["id"]).values(halt=halt))


def _halt_of(signal: str, timeout_s: int | None) -> Row | None:
    if not signal and timeout_s is None:
        return None
    return {"signal": compiling.stop_signal(signal), "timeout_s": compiling.stop_timeout(timeout_s)}


def stop(conn: sa.Connection, ctx: Context, ref: str, signal: str, timeout_s: int | None) -> Done:
    """`signal` empty and `timeout_s` None: as the container says. Raises NotFound, Invalid, Conflict."""
    row = changeable(conn, ctx, ref, "stopped")
    halt = _halt_of(signal, timeout_s)
    if not is_up(row):
        return Done(row["id"], False)
    number = compiling.signal_number(signal or (row["container"] or {"spec": {}})["spec"].get("stop_signal") or "TERM")
    events.of_server(conn, row, "kill", signal=str(number))
    _halt(conn, row, halt)
    intend(conn, ctx, row, "stop", {"power": "stopped"})
    timeline.begin(conn, ctx, row, "stop")
    return Done(row["id"], True)


def kill(conn: sa.Connection, ctx: Context, ref: str, signal: str) -> tuple[Row, int]:
    """The end of it where the signal is KILL: then the intent is written. Returns the row and the signal's number; any other signal is the
    caller's to deliver. Raises NotFound, Invalid, Conflict (it does not run)."""
    row = changeable(conn, ctx, ref, "killed")
    number = compiling.signal_number(signal or "KILL")
    if not is_up(row):
        ident = lookup.docker_id(row["id"])
        raise Conflict(f"cannot kill container: {ref}: container {ident} is not running")
    events.of_server(conn, row, "kill", signal=str(number))
    if number == KILL:
        _halt(conn, row, {"signal": "SIGKILL", "timeout_s": 0.0})
        intend(conn, ctx, row, "kill", {"power": "stopped"})
        timeline.begin(conn, ctx, row, "stop")
    return row, number


KILL = 9


def restart(conn: sa.Connection, ctx: Context, ref: str, signal: str, timeout_s: int | None, alive: frozenset[str]) -> Done:
    """Stop and start, or start what does not run."""
    row = changeable(conn, ctx, ref, "restarted")
    _require_host(row, alive)
    container = row["container"]
    if container is not None and not is_up(row):
        networking.publish(conn, ctx, row["id"], container["config"], container["host_config"])
    _boot(conn, ctx, row, "reboot-soft", _halt_of(signal, timeout_s))
    timeline.begin(conn, ctx, row, "reboot")
    return Done(row["id"], True)


def pause(conn: sa.Connection, ctx: Context, ref: str) -> Done:
    row = changeable(conn, ctx, ref, "paused")
    status, ident = status_of(row), lookup.docker_id(row["id"])
    if row["power"] == "paused":
        raise Conflict(f"Container {ident} is already paused")
    if status == "restarting":
        raise Conflict(f"Container {ident} is restarting, wait until the container is running")
    if not is_up(row):
        raise Conflict(f"Container {ident} is not running")
    intend(conn, ctx, row, "pause", {"power": "paused"})
    timeline.begin(conn, ctx, row, "pause")
    return Done(row["id"], True)


def unpause(conn: sa.Connection, ctx: Context, ref: str) -> Done:
    """Raises CloudError (500, as the engine) when it is not paused."""
    row = changeable(conn, ctx, ref, "unpaused")
    if row["power"] != "paused":
        raise CloudError(f"Container {lookup.docker_id(row['id'])} is not paused")
    intend(conn, ctx, row, "unpause", {"power": "running"})
    timeline.begin(conn, ctx, row, "unpause")
    return Done(row["id"], True)


def rename(conn: sa.Connection, ctx: Context, ref: str, name: str) -> None:
    """Raises NotFound, Invalid, Conflict."""
    row = changeable(conn, ctx, ref, "renamed")
    if not name:
        raise Invalid("Neither old nor new names may be empty", field="name")
    clean = names.check(name)
    if clean == row["name"]:
        raise Invalid("Renaming a container with the same name as its current name", field="name")
    try:
        create.require_free(conn, ctx, clean)
    except Conflict as error:
        raise Conflict(f"Error when allocating new name: {error.message}", field="name") from None
    networking.renamed(conn, row["id"], row["name"], clean)
    compute.update(conn, ctx, row["id"], {"name": clean})


def remove(conn: sa.Connection, ctx: Context, ref: str, *, force: bool, volumes: bool = False) -> Done:
    """`volumes`: its nameless volumes too, unless others use them.

    Raises NotFound, Conflict (it runs and `force` is not given; it is being removed already).
    """
    row = lookup.find(conn, ctx, ref)
    if row["gone"]:
        raise Conflict(f"removal of container {ref} is already in progress")
    require_unlocked(row, ctx.is_admin)
    if is_up(row) and not force:
        status = status_of(row)
        advice = (
            "container is paused and must be unpaused first"
            if status == "paused"
            else (f"container is {status}: stop the container before removing or force remove")
        )
        raise Conflict(f'cannot remove container "/{row["name"]}": {advice}')
    if is_up(row):
        events.of_server(conn, row, "kill", signal=str(KILL))
    if volumes and row["container"] is not None:
        mounts.release(conn, row["container"])
    compute.delete(conn, ctx, row["id"])
    return Done(row["id"], True)


def prune(conn: sa.Connection, ctx: Context, chosen: Mapping[str, Row]) -> list[str]:
    """Remove those of the chosen (by id) that do not run and were not touched since they were chosen. Returns their ids."""
    removed = []
    for ident, seen in chosen.items():
        row = conn.execute(sa.select(servers).where(servers.c.id == ident)).mappings().first()
        if row is None or row["generation"] != seen["generation"] or row["locked"]:
            continue
        compute.delete(conn, ctx, ident)
        removed.append(ident)
    return removed
