"""What a server's status is: one table over (intent, observation), for a row in Python and for filters in SQL alike.

pending      the intent's generation was not observed yet: the action that raised it says what shows
fault        the node, the scheduler or a deadline says why it is in ERROR
observed     otherwise the state that the node sees
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from nacre.cloud.compute.tables import servers


class State(NamedTuple):
    status: str
    vm_state: str
    task_state: str | None
    power_state: int
    """Nova's numbers: 0 no state, 1 running, 3 paused, 4 shut down."""


OBSERVED: dict[str, State] = {
    "running": State("ACTIVE", "active", None, 1),
    "stopped": State("SHUTOFF", "stopped", None, 4),
    "paused": State("PAUSED", "paused", None, 3),
    "checkpointed": State("ACTIVE", "active", None, 1),
}
SUSPENDED = State("SUSPENDED", "suspended", None, 4)
"""What `paused` is for a server whose intent is to be suspended."""
RESCUED = State("RESCUE", "rescued", None, 1)
"""What any state is while the server boots another system than its own; the power state is the observed one."""
SHELVED = State("SHELVED", "shelved", None, 4)
"""Stopped, and about to become an image: what it has on its host goes as soon as the image is whole."""
OFFLOADED = State("SHELVED_OFFLOADED", "shelved_offloaded", None, 4)
"""On no host any more: an image, and its ports with their addresses."""
RESIZED = State("VERIFY_RESIZE", "resized", None, 1)
"""A resize that waits for its confirmation; the power state is the observed one."""
ERROR = State("ERROR", "error", None, 0)
BUILDING = State("BUILD", "building", "spawning", 0)
SCHEDULING = State("BUILD", "building", "scheduling", 0)

PENDING: dict[str, tuple[str | None, str]] = {
    "create": ("BUILD", "spawning"),
    "start": (None, "powering-on"),
    "stop": (None, "powering-off"),
    "pause": (None, "pausing"),
    "unpause": (None, "unpausing"),
    "reboot-soft": ("REBOOT", "reboot_started"),
    "reboot-hard": ("HARD_REBOOT", "reboot_started_hard"),
    "suspend": (None, "suspending"),
    "resume": (None, "resuming"),
    "rebuild": ("REBUILD", "rebuilding"),
    "evacuate": ("REBUILD", "rebuilding"),
    "resize": ("RESIZE", "resize_finish"),
    "revert-resize": ("REVERT_RESIZE", "resize_reverting"),
    "migrate": ("RESIZE", "resize_prep"),
    "migrate-finish": ("RESIZE", "resize_finish"),
    "migrate-undo": ("REVERT_RESIZE", "resize_reverting"),
    "live-migrate": ("MIGRATING", "migrating"),
    "live-migrate-finish": ("MIGRATING", "migrating"),
    "live-migrate-undo": ("MIGRATING", "migrating"),
    "rescue": ("ACTIVE", "rescuing"),
    "unrescue": ("RESCUE", "unrescuing"),
    "shelve": ("ACTIVE", "shelving"),
    "unshelve": ("SHELVED_OFFLOADED", "spawning"),
    "set-password": (None, "updating_password"),
    "delete": (None, "deleting"),
}
"""action -> (status while it is pending, None for the observed one; task state). Other actions show nothing while they are pending."""

LIVE_ACTIONS = frozenset(action for action in PENDING if action.startswith("live-migrate"))
"""What a client sees of a live migration is a server that is active all the time."""
TO_BE_VERIFIED = frozenset({"resize", "migrate", "migrate-finish"})
"""Actions at whose end a resize waits for its confirmation."""

TRANSITION_S_MAX = 300.0
"""How long a transition may take until the server is in ERROR with that as its cause (it is still being brought about)."""


def state_of(row: Mapping[str, Any]) -> State:
    """The status of a server's row."""
    pending = row["observed_generation"] < row["generation"]
    base = OBSERVED.get(row["observed_state"] or "", BUILDING if row["host_id"] else SCHEDULING)
    if pending and row["action"] in LIVE_ACTIONS:
        base = OBSERVED["running"]
    if row["observed_state"] == "paused" and (row["power"] == "suspended" or row["action"] == "resume"):
        base = SUSPENDED
    if row["old_flavor"] is not None and not (pending and row["action"] in TO_BE_VERIFIED):
        base = RESIZED._replace(power_state=base.power_state)
    if row["rescue"] is not None:
        base = RESCUED._replace(power_state=base.power_state)
    if row["power"] == "shelved":
        base = SHELVED._replace(task_state="shelving_offloading") if row["host_id"] else OFFLOADED
    status, task = PENDING.get(row["action"], (None, None)) if pending else (None, base.task_state)
    if row["fault"] is not None:
        return ERROR._replace(task_state=task if row["gone"] else None, power_state=base.power_state)
    return base._replace(status=status or base.status, task_state=task if row["host_id"] else base.task_state)


def status_column() -> sa.ColumnElement[str]:
    """The same as `state_of(row).status`, as SQL."""
    pending = servers.c.observed_generation < servers.c.generation
    observed = sa.case({state: shown.status for state, shown in OBSERVED.items()}, value=servers.c.observed_state, else_="BUILD")
    suspended = sa.and_(
        servers.c.observed_state == "paused", sa.or_(servers.c.power == "suspended", servers.c.action == "resume")
    )
    shown = {action: status for action, (status, _) in PENDING.items() if status is not None}
    return sa.case(
        (servers.c.fault.is_not(None), "ERROR"),
        (sa.and_(pending, servers.c.action.in_(list(shown))), sa.case(shown, value=servers.c.action)),
        (sa.and_(servers.c.power == "shelved", servers.c.host_id.is_not(None)), SHELVED.status),
        (servers.c.power == "shelved", OFFLOADED.status),
        (servers.c.rescue.is_not(None), RESCUED.status),
        (servers.c.old_flavor.is_not(None), RESIZED.status),
        (suspended, SUSPENDED.status),
        else_=observed,
    )
