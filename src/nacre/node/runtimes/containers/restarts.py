"""Restart policies (Engine API, `RestartPolicy`): whether a container that ended is started again, and when.

The node obeys them by itself, also after a restart of its own or of the host. A container that was told to end stays ended.
"""

import time

from nacre.node.runtimes.containers.records import Record
from nacre.protocol.guests import Guest

PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 60.0
LONG_RUN_S = 10.0
"""Whoever ran longer than this begins anew with the shortest pause."""
HOST_RESTARTED = 255
"""The exit status of a container that went down with its host, as Docker gives it."""


def is_due(record: Record) -> bool:
    """Whether the policy starts the container again that has just ended."""
    container = record.guest.container
    if container is None or record.halted or record.guest.power == "stopped":
        return False
    policy = container.restart
    if policy.name in ("always", "unless-stopped"):
        return True
    if policy.name != "on-failure" or record.exit_code == 0:
        return False
    return policy.maximum_retry_count == 0 or record.restart_count < policy.maximum_retry_count


def is_asked_for(record: Record, guest: Guest) -> bool:
    """Whether a guest that does not run must be started for this intent. One that ended by itself stays so until somebody asks."""
    if guest.boots > record.boots or not (record.ended or record.failed):
        return True
    return guest.container is None and guest.generation > record.met


def next_pause_s(record: Record, ran_s: float) -> float:
    """The pause before the next start."""
    if record.restart_pause_s == 0 or ran_s >= LONG_RUN_S:
        return PAUSE_MIN_S
    return min(record.restart_pause_s * 2, PAUSE_MAX_S)


def after_the_hosts(record: Record) -> None:
    """The host was restarted: nothing of the guest is left but its disk."""
    was_up = record.phase in ("running", "starting", "stopping", "freezing", "thawing")
    record.plugged, record.boot_id = (), ""
    record.phase = record.phase if record.phase in ("building", "checkpointed") else "stopped"
    record.fault = "the host was restarted" if was_up else record.fault
    if was_up and record.guest.container is not None:
        record.exit_code, record.ended, record.finished_at = HOST_RESTARTED, True, time.time()
        record.restarting, record.restart_pause_s = is_due(record), PAUSE_MIN_S
    elif was_up:
        # It did not end by itself: what was asked for is yet to be met again. Said of this very generation, `stopped` would become
        # what is wanted.
        record.met = min(record.met, record.guest.generation - 1)
