"""What happens to a server shows in Docker's pane too, whichever pane it came from: compute's operations call these, in their transaction."""

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from nacre.cloud.containers import events, mounts, networking
from nacre.cloud.containers.lookup import docker_id
from nacre.cloud.containers.states import failure_code
from nacre.cloud.containers.tables import containers
from nacre.cloud.errors import Conflict
from nacre.protocol.containers import ContainerState
from nacre.protocol.messages import Observation
from nacre.store import Prepared
from nacre.store.schema import now

Row = Mapping[str, Any]

KILLED = 137
"""The exit status of a process that was killed."""
STARTS_MAX = 100
"""How many starts that went by unseen are told one by one."""
UP = frozenset({"running", "paused"})
_ID: sa.BindParameter[str] = sa.bindparam("ident")
_NAME = Prepared(containers.update().where(containers.c.server_id == _ID).values(name=sa.bindparam("new")))
_OF = Prepared(sa.select(containers).where(containers.c.server_id == _ID))
_NAMED = Prepared(
    sa.select(containers.c.server_id).where(
        containers.c.project_id == sa.bindparam("project"), containers.c.name == sa.bindparam("name")
    )
)
_STATE = Prepared(
    containers.update()
    .where(containers.c.server_id == _ID)
    .values(state=sa.bindparam("seen"), was_started=sa.bindparam("started"), error=sa.bindparam("cause"))
)


def renamed(conn: sa.Connection, row: Row, name: str) -> None:
    """The server has another name. Raises Conflict when it is a container and another one has that name."""
    container = _OF.first(conn, ident=row["id"])
    if container is not None:
        other = _NAMED.scalar(conn, project=row["project_id"], name=name)
        if other not in (None, row["id"]):
            raise Conflict(f"The container {docker_id(other)} has the name {name} already.", field="name")
        _NAME.run(conn, ident=row["id"], new=name)
    old = row["name"]
    events.of_server(conn, {**row, "name": name}, "rename", oldName=f"/{old}")
    events.changed(conn, row["id"])


def leaving(conn: sa.Connection, row: Row) -> None:
    """The server is to be removed: its name is free at once. One of `--rm` takes its nameless volumes along."""
    container = _OF.first(conn, ident=row["id"])
    if container is not None and container["auto_remove"]:
        mounts.release(conn, container)
    _NAME.run(conn, ident=row["id"], new=row["id"])
    events.changed(conn, row["id"])


def gone(conn: sa.Connection, row: Row) -> None:
    """Nothing is left of it, and its row goes now."""
    if row["observed_state"] in UP:
        events.of_server(conn, row, "die", exitCode=str(KILLED))
    events.of_server(conn, row, "destroy")
    events.changed(conn, row["id"])


def observed(conn: sa.Connection, before: Row, seen: Observation, *, moves: bool = False) -> bool:
    """What a node saw becomes events, and the container's state. `moves`: it goes to another host, and what it does on its way is no end.
    Returns whether the container is to be removed, because it has ended and
    was asked to leave nothing (`docker run --rm`)."""
    container = _OF.first(conn, ident=before["id"])
    last = _state(container)
    _tell(conn, before, seen, last)
    events.changed(conn, before["id"])
    if container is None:
        return False
    failed = seen.state == "error" and seen.generation >= before["generation"]
    started = container["was_started"] or (seen.boots > 0 and seen.state != "error")
    failed = failed and not moves
    ended = (
        seen.state == "stopped" and started and not moves and not (before["power"] == "running" and seen.boots < before["boots"])
    )
    if (ended and not (seen.container and seen.container.restarting)) or (failed and before["boots"] > 0):
        networking.unpublish(conn, [before["id"]])
    state = seen.container or last
    if not seen.container and (ended or seen.boots > before["observed_boots"]):
        state = _dated(last, before, seen)
    _STATE.run(
        conn,
        ident=before["id"],
        seen=msgspec.to_builtins(state) if state else container["state"],
        started=started,
        cause=seen.fault if failed else "" if seen.boots > before["observed_boots"] else container["error"],
    )
    return bool(container["auto_remove"]) and (ended or (failed and before["boots"] > 0)) and not before["gone"]


def _state(container: Row | None) -> ContainerState:
    kept = container["state"] if container is not None else None
    return msgspec.convert(kept, ContainerState) if kept else ContainerState()


def _dated(last: ContainerState, before: Row, seen: Observation) -> ContainerState:
    """A runtime that says nothing of times: it was now."""
    moment = now()
    started = moment if seen.boots > before["observed_boots"] else last.started_at
    return msgspec.structs.replace(last, started_at=started, finished_at=moment if seen.state == "stopped" else last.finished_at)


def _tell(conn: sa.Connection, before: Row, seen: Observation, last: ContainerState) -> None:
    """The events between what was seen before and what is seen now. Several changes may have been seen at once."""
    was, new = before["observed_state"], seen.container or ContainerState()
    if seen.state == "error":
        if before["boots"] > before["observed_boots"] and before["fault"] is None:
            # A start that failed: who waits for the end has it, and who started it learns why even where nothing stays (`--rm`).
            events.of_server(conn, before, "die", exitCode=str(failure_code(seen.fault or "")), error=seen.fault or "")
        return
    booted = seen.boots > before["observed_boots"]
    _tell_runs(conn, before, seen, last, new, booted=booted)
    if seen.state == "paused" and was != "paused":
        events.of_server(conn, before, "pause")
    if seen.state == "running" and was == "paused" and not booted:
        events.of_server(conn, before, "unpause")
    if new.health and new.health != last.health and seen.state in UP:
        events.of_server(conn, before, f"health_status: {new.health}")


def _tell_runs(
    conn: sa.Connection, before: Row, seen: Observation, last: ContainerState, new: ContainerState, *, booted: bool
) -> None:
    """Starts and ends: those that were asked for, and those that a restart policy made, in the order in which they must have been."""
    was_up = before["observed_state"] in UP
    runs = was_up and not last.restarting
    starts = 1 + new.restart_count if booted else new.restart_count - last.restart_count
    for _ in range(min(starts, STARTS_MAX)):
        if runs:
            _die(conn, before, seen, new.last_exit_code)
        events.of_server(conn, before, "start")
        runs = True
    if booted and was_up and before["action"].startswith("reboot"):
        events.of_server(conn, before, "restart")
    if runs and (new.restarting or seen.state == "stopped"):
        if new.oom_killed and not last.oom_killed:
            events.of_server(conn, before, "oom")
        _die(conn, before, seen, seen.exit_code)
        if before["action"] == "stop" and seen.state == "stopped":
            events.of_server(conn, before, "stop")


def _die(conn: sa.Connection, before: Row, seen: Observation, code: int | None) -> None:
    state = seen.container
    took = {}
    if state is not None and state.started_at and state.finished_at:
        took["execDuration"] = str(max(0, int(state.finished_at - state.started_at)))
    events.of_server(conn, before, "die", exitCode=str(code or 0), **took)
