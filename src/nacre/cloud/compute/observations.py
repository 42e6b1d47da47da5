"""What the nodes see of servers, written down: one transaction for a whole batch of a host."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute import cold_migration, timeline
from nacre.cloud.compute.servers import delete, forget
from nacre.cloud.compute.tables import servers
from nacre.cloud.containers import mirror
from nacre.cloud.containers.limits import FLAVOR as CONTAINER_FLAVOR
from nacre.cloud.context import internal
from nacre.protocol.messages import Observation
from nacre.store import Prepared, among
from nacre.store.schema import new_id, now

EVENTS: dict[str, str] = {
    "create": "compute__do_build_and_run_instance",
    "start": "compute_start_instance",
    "stop": "compute_stop_instance",
    "pause": "compute_pause_instance",
    "unpause": "compute_unpause_instance",
    "suspend": "compute_suspend_instance",
    "resume": "compute_resume_instance",
    "resize": "compute_finish_resize",
    "revert-resize": "compute_finish_revert_resize",
    "migrate": "compute_resize_instance",
    "migrate-finish": "compute_finish_resize",
    "migrate-undo": "compute_finish_revert_resize",
    "live-migrate": "compute_live_migration",
    "live-migrate-finish": "compute_post_live_migration_at_destination",
    "live-migrate-undo": "compute_rollback_live_migration_at_source",
    "rebuild": "compute_rebuild_instance",
    "evacuate": "compute_rebuild_instance",
    "reboot-soft": "compute_reboot_instance",
    "reboot-hard": "compute_reboot_instance",
    "attach_interface": "compute_attach_interface",
    "detach_interface": "compute_detach_interface",
    "add_fixed_ip": "compute_add_fixed_ip_to_instance",
    "remove_fixed_ip": "compute_remove_fixed_ip_from_instance",
    "rescue": "compute_rescue_instance",
    "unrescue": "compute_unrescue_instance",
    "shelve": "compute_shelve_instance",
    "unshelve": "compute_unshelve_instance",
    "set-password": "compute_set_admin_password",
    "delete": "compute_terminate_instance",
}
"""action -> the event by which Nova's clients know it."""


_OBSERVED = (
    "observed_state",
    "observed_generation",
    "observed_boots",
    "exit_code",
    "fault",
    "fault_code",
    "fault_at",
    "power",
    "deadline",
    "launched_at",
    "updated_at",
)
"""The columns that an observation may change."""
_SHOWN = ("observed_state", "observed_boots", "exit_code", "fault")
"""Those whose change Docker's pane tells of."""
_OF_HOST = Prepared(sa.select(servers).where(servers.c.host_id == sa.bindparam("host"), among(servers.c.id)))
_OBSERVE = Prepared(
    servers.update()
    .where(servers.c.id == sa.bindparam("ident"))
    .values({name: sa.bindparam(f"new_{name}") for name in _OBSERVED})
)


def observe(conn: sa.Connection, host_id: str, observations: Sequence[Observation]) -> None:
    """Record a host's guest observations. One of a server that is not this host's, or not any more, says nothing."""
    latest = {observation.id: observation for observation in observations}
    for row in _OF_HOST.rows(conn, host=host_id, ids=list(latest)):
        _record(conn, row, latest[row["id"]])


def _record(conn: sa.Connection, row: Mapping[str, Any], seen: Observation) -> None:
    if seen.state == "gone":
        if row["gone"]:
            _tell(conn, row, seen)
            forget(conn, dict(row))
        else:
            cold_migration.left(conn, row["id"])
        return
    met = seen.generation >= row["generation"] and row["observed_generation"] < row["generation"]
    changes: dict[str, Any] = {"observed_generation": seen.generation, "observed_boots": seen.boots, "exit_code": seen.exit_code}
    if seen.state == "error":
        changes |= {"fault": seen.fault, "fault_code": 500, "fault_at": now()}
        if row["gone"]:
            # The node could not undo it yet and will try again: the delete stays pending, its cause is shown once its deadline passes.
            return
        if (
            row["flavor"]["id"] == CONTAINER_FLAVOR
            and seen.generation >= row["generation"]
            and row["boots"] > row["observed_boots"]
        ):
            # A start of Docker's that failed has failed: it is not tried again until somebody asks.
            changes["power"] = "stopped"
    else:
        changes["observed_state"] = seen.state
        if seen.generation >= row["generation"]:
            changes |= {"fault": None, "fault_code": None, "fault_at": None}
        if seen.state == "stopped" and row["power"] == "running" and seen.generation >= row["generation"]:
            # It ended by itself: as Nova does, what it is becomes what is wanted, until somebody starts it.
            changes["power"] = "stopped"
    if met:
        # A server that is being shelved has its image ahead of it, which has to come by the same deadline.
        changes["deadline"] = row["deadline"] if row["power"] == "shelved" and seen.state != "error" else None
        if row["launched_at"] is None and seen.state != "error":
            changes["launched_at"] = now()
        _tell(conn, row, seen)
    if any(row[name] != value for name, value in changes.items()):
        values = {**row, **changes, "updated_at": now()}
        _OBSERVE.run(conn, ident=row["id"], **{f"new_{name}": values[name] for name in _OBSERVED})
    moves = row["action"] in cold_migration.ON_THE_WAY
    if (met or seen.container or any(row[name] != changes[name] for name in _SHOWN if name in changes)) and mirror.observed(
        conn, row, seen, moves=moves
    ):
        delete(conn, internal(f"req-{new_id()}"), row["id"])
    if met and moves:
        cold_migration.met(conn, row["id"], seen)


def _tell(conn: sa.Connection, row: Mapping[str, Any], seen: Observation) -> None:
    """The node's steps as events of the action that is now at its end."""
    finish = now()
    step_end = finish
    for step, duration_ms in reversed(seen.timings_ms.items()):
        begin = step_end - duration_ms / 1000
        timeline.event(conn, row, f"node_{step}", begin, step_end)
        step_end = begin
    name = EVENTS.get(row["action"], f"compute_{row['action']}")
    error = seen.fault or None if seen.state == "error" else None
    timeline.event(conn, row, name, min(step_end, finish), finish, error=error)
    if row["action"] not in cold_migration.BACK:  # What failed is written down already, and the request with it.
        timeline.finish(conn, row, finish, error=error)


def expire(conn: sa.Connection) -> list[str]:
    """Transitions whose deadline has passed: the server is in ERROR with that as its cause, and is still being brought about."""
    moment = now()
    rows = conn.execute(sa.select(servers.c.id, servers.c.action, servers.c.host_id).where(servers.c.deadline < moment)).all()
    for row in rows:
        if cold_migration.expired(conn, row.id):
            continue
        fault = f"The host {row.host_id} did not finish '{row.action}' before its deadline; it goes on trying."
        conn.execute(
            servers.update().where(servers.c.id == row.id).values(fault=fault, fault_code=500, fault_at=moment, deadline=None)
        )
    return [row.id for row in rows]
