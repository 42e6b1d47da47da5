"""Server actions: https://docs.openstack.org/api-ref/compute/#servers-run-an-action-servers-action.

Each is a row of a table: the states it may start from, and the intent it leaves. The node does the rest.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from nacre.cloud.compute import timeline
from nacre.cloud.compute.servers import changeable, get, let_go
from nacre.cloud.compute.states import TRANSITION_S_MAX, state_of
from nacre.cloud.compute.tables import servers
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, NotFound
from nacre.cloud.hosts.desired import mark
from nacre.cloud.network import servers as network
from nacre.store.schema import now

Row = dict[str, Any]


class Change(NamedTuple):
    """`changes` gives the new intent; `label` is what the log of instance actions calls it."""

    label: str
    from_states: frozenset[str]
    changes: Callable[[Row], Row]


CHANGES: dict[str, Change] = {
    "start": Change("start", frozenset({"stopped"}), lambda row: {"power": "running", "boots": row["boots"] + 1}),
    # Whoever stops or reboots a server whose rescue failed has its own system again.
    "stop": Change("stop", frozenset({"active", "error"}), lambda row: {"power": "stopped", "rescue": sa.null()}),
    "pause": Change("pause", frozenset({"active"}), lambda row: {"power": "paused"}),
    "unpause": Change("unpause", frozenset({"paused"}), lambda row: {"power": "running"}),
    "suspend": Change("suspend", frozenset({"active"}), lambda row: {"power": "suspended"}),
    "resume": Change("resume", frozenset({"suspended"}), lambda row: {"power": "running"}),
    "reboot-soft": Change("reboot", frozenset({"active"}), lambda row: {"boots": row["boots"] + 1, "reboot": "soft"}),
    "reboot-hard": Change(
        "reboot",
        frozenset({"active", "stopped", "paused", "suspended", "error"}),
        lambda row: {"power": "running", "boots": row["boots"] + 1, "reboot": "hard", "rescue": sa.null()},
    ),
}


def _change(conn: sa.Connection, ctx: Context, ident: str, action: str, verb: str) -> None:
    """Write the action's intent. Raises Conflict with Nova's sentence where the server's state does not allow it."""
    change = CHANGES[action]
    row = ready(conn, ctx, ident, verb, change.from_states, busy=action == "reboot-hard")
    intend(conn, ctx, row, action, change.changes(row))
    if row["rescue"] is not None:
        let_go(conn, row, own=False)
    timeline.begin(conn, ctx, row, change.label)


def ready(conn: sa.Connection, ctx: Context, ident: str, verb: str, from_states: frozenset[str], *, busy: bool = False) -> Row:
    """The server, when the action may start from its state. `busy`: also while another one is under way. Raises Conflict in Nova's words."""
    row = changeable(conn, ctx, ident)
    state = state_of(row)
    if row["host_id"] is None or row["gone"] or state.vm_state not in from_states:
        raise Conflict(
            f"Cannot '{verb}' instance {ident} while it is in vm_state {state.vm_state}"
            + (f" and task_state {state.task_state}" if state.task_state else ""),
            code="InstanceInvalidState",
        )
    if state.task_state is not None and not busy:
        raise Conflict(
            f"Cannot '{verb}' instance {ident} while it is in task_state {state.task_state}", code="InstanceInvalidState"
        )
    return row


def intend(conn: sa.Connection, ctx: Context, row: Row, action: str, changes: Row) -> None:
    """Write a new generation of the server's intent, and tell its host."""
    conn.execute(
        servers.update()
        .where(servers.c.id == row["id"])
        .values(
            **changes,
            action=action,
            generation=row["generation"] + 1,
            request_id=ctx.request_id,
            deadline=now() + TRANSITION_S_MAX,
            fault=None,
            fault_code=None,
            fault_at=None,
            updated_at=now(),
        )
    )
    mark(conn, row["host_id"], "guest", row["id"])


def start(conn: sa.Connection, ctx: Context, ident: str) -> None:
    _change(conn, ctx, ident, "start", "start")


def stop(conn: sa.Connection, ctx: Context, ident: str) -> None:
    _change(conn, ctx, ident, "stop", "stop")


def pause(conn: sa.Connection, ctx: Context, ident: str) -> None:
    _change(conn, ctx, ident, "pause", "pause")


def unpause(conn: sa.Connection, ctx: Context, ident: str) -> None:
    _change(conn, ctx, ident, "unpause", "unpause")


def suspend(conn: sa.Connection, ctx: Context, ident: str) -> None:
    _change(conn, ctx, ident, "suspend", "suspend")


def resume(conn: sa.Connection, ctx: Context, ident: str) -> None:
    _change(conn, ctx, ident, "resume", "resume")


def reboot(conn: sa.Connection, ctx: Context, ident: str, kind: Literal["soft", "hard"]) -> None:
    _change(conn, ctx, ident, f"reboot-{kind}", "reboot")


RESET_FAULT = "An administrator set the state to error."


def reset_state(conn: sa.Connection, ctx: Context, ident: str, state: Literal["active", "error"]) -> None:
    """An admin's word on what the server's state is. `active` takes a fault away; what the node sees still counts."""
    row = get(conn, ctx, ident)
    fault = (RESET_FAULT, 500, now()) if state == "error" else (None, None, None)
    values = dict(zip(("fault", "fault_code", "fault_at"), fault, strict=True))
    conn.execute(servers.update().where(servers.c.id == ident).values(**values, updated_at=now()))
    timeline.begin(conn, ctx, row, "resetState")


def refresh(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """Have the host look at the server once more, its ports too."""
    row = changeable(conn, ctx, ident)
    if row["host_id"] is not None:
        mark(conn, row["host_id"], "guest", ident)


def restore(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """Raises Conflict: a deleted server is gone, there is nothing to restore (Nova's soft delete is off by default too)."""
    row = get(conn, ctx, ident)
    raise Conflict(
        f"Cannot 'restore' instance {ident} while it is in vm_state {state_of(row).vm_state}", code="InstanceInvalidState"
    )


def lock(conn: sa.Connection, ctx: Context, ident: str, reason: str | None = None) -> None:
    """Only an admin may change a locked server."""
    row = get(conn, ctx, ident)
    conn.execute(servers.update().where(servers.c.id == ident).values(locked=True, locked_reason=reason, updated_at=now()))
    timeline.begin(conn, ctx, row, "lock")


def unlock(conn: sa.Connection, ctx: Context, ident: str) -> None:
    row = get(conn, ctx, ident)
    conn.execute(servers.update().where(servers.c.id == ident).values(locked=False, locked_reason=None, updated_at=now()))
    timeline.begin(conn, ctx, row, "unlock")


def attach_interface(conn: sa.Connection, ctx: Context, ident: str, request: network.NetworkRequest) -> Row:
    """Give a running or stopped server one more port. Returns the port's row."""
    row = _pluggable(conn, ctx, ident, "attach_interface")
    (resolved,) = network.resolve(conn, ctx, [request])
    (port,) = network.allocate(
        conn,
        ctx,
        server_id=ident,
        project_id=row["project_id"],
        hostname=row["hostname"],
        host_id=row["host_id"],
        requests=[resolved],
        security_groups=[],
    )
    _replug(conn, ctx, row, "attach_interface")
    return port


def detach_interface(conn: sa.Connection, ctx: Context, ident: str, port_id: str) -> None:
    """Raises NotFound when the port is not this server's."""
    row = _pluggable(conn, ctx, ident, "detach_interface")
    network.detach(conn, ctx, ident, port_id)
    _replug(conn, ctx, row, "detach_interface")


def add_fixed_ip(conn: sa.Connection, ctx: Context, ident: str, network_id: str) -> None:
    """One more address on the server's port in that network."""
    row = _pluggable(conn, ctx, ident, "add_fixed_ip")
    network.add_fixed_ip(conn, ctx, ident, network_id)
    _replug(conn, ctx, row, "add_fixed_ip")


def remove_fixed_ip(conn: sa.Connection, ctx: Context, ident: str, address: str) -> None:
    row = _pluggable(conn, ctx, ident, "remove_fixed_ip")
    network.remove_fixed_ip(conn, ctx, ident, address)
    _replug(conn, ctx, row, "remove_fixed_ip")


def _pluggable(conn: sa.Connection, ctx: Context, ident: str, verb: str) -> Row:
    row = changeable(conn, ctx, ident)
    state = state_of(row)
    if row["host_id"] is None or row["gone"] or state.vm_state not in ("active", "paused", "stopped"):
        raise Conflict(f"Cannot '{verb}' instance {ident} while it is in vm_state {state.vm_state}", code="InstanceInvalidState")
    return row


def _replug(conn: sa.Connection, ctx: Context, row: Row, action: str) -> None:
    """The guest's ports changed: a new generation, so that the action's end is observed too."""
    intend(conn, ctx, row, action, {})
    timeline.begin(conn, ctx, row, action)


def add_security_group(conn: sa.Connection, ctx: Context, ident: str, name: str) -> None:
    network.add_group(conn, ctx, changeable(conn, ctx, ident)["id"], name)


def remove_security_group(conn: sa.Connection, ctx: Context, ident: str, name: str) -> None:
    network.remove_group(conn, ctx, changeable(conn, ctx, ident)["id"], name)


def list_actions(conn: sa.Connection, ctx: Context, ident: str) -> list[Row]:
    """Newest first; also of a server that is gone, to those who could see it."""
    rows = timeline.actions_of(conn, ident)
    if not rows or not ctx.sees(rows[-1]["project_id"]):
        get(conn, ctx, ident)
    return rows


def show_action(conn: sa.Connection, ctx: Context, ident: str, request_id: str) -> tuple[Row, list[Row]]:
    list_actions(conn, ctx, ident)
    found = timeline.action_of(conn, ident, request_id)
    if found is None:
        raise NotFound(f"Action {request_id} could not be found", code="InstanceActionNotFound")
    return found
