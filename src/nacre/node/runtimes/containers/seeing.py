"""What the driver says of a guest: observations, and faults in words that an operator or a Docker client can act on."""

import re

from nacre.node.runtimes.containers.records import Record
from nacre.protocol.containers import Container, ContainerState, Probe
from nacre.protocol.guests import Guest
from nacre.protocol.messages import Observation

NOT_FOUND, NOT_EXECUTABLE, UNKNOWN = 127, 126, 128
"""The exit statuses that Docker gives to a container whose process could not be started."""
_MISSING = re.compile(r"executable file `(.*)` not found in \$PATH: No such file or directory")
_UNSET: dict[str, float] = {}


class StartFailed(Exception):
    """The container's process could not be started: the cause in Docker's words, and the exit status that Docker would give."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def start_failure(container: Container, text: str) -> StartFailed:
    """crun's words as Docker's clients know them."""
    found = _MISSING.search(text)
    if found is not None:
        name = found[1]
        cause = f"stat {name}: no such file or directory" if "/" in name else "executable file not found in $PATH"
        return StartFailed(f'exec: "{name}": {cause}', NOT_FOUND)
    if "open executable: Permission denied" in text:
        return StartFailed(f'exec: "{container.argv[0]}": permission denied', NOT_EXECUTABLE)
    if "open executable: Operation not permitted" in text:
        return StartFailed(f'exec: "{container.argv[0]}": is a directory', NOT_EXECUTABLE)
    return StartFailed(text, UNKNOWN)


def observation(
    record: Record,
    *,
    paused: bool,
    pid: int | None,
    probes: tuple[Probe, ...] = (),
    request_id: str = "",
    timings_ms: dict[str, float] = _UNSET,
) -> Observation:
    """What is there. A guest that its restart policy will start again counts as running, as with Docker."""
    state = "stopped"
    if record.phase == "running":
        state = "paused" if paused else "running"
    elif record.phase == "checkpointed":
        state = "checkpointed"
    elif record.restarting:
        state = "running"
    elif record.failed or (record.phase == "building" and record.fault):
        state = "error"
    return Observation(
        "guest",
        record.guest.id,
        state,  # type: ignore[arg-type]
        generation=record.met,
        boots=record.boots,
        exit_code=record.exit_code,
        fault=record.fault,
        timings_ms=timings_ms,
        request_id=request_id or record.guest.request_id,
        container=ContainerState(
            pid=(pid or 0) if record.phase == "running" else 0,
            started_at=record.started_at,
            finished_at=record.finished_at,
            oom_killed=record.oom_killed,
            restarting=record.restarting,
            restart_count=record.restart_count,
            last_exit_code=record.last_exit_code,
            health=record.health,  # type: ignore[arg-type]
            failing_streak=record.failing_streak,
            probes=probes,
        ),
    )


def cause_of_end(code: int | None, killed_for_memory: bool, guest: Guest) -> str:
    """Why a guest is not there that should be. A container that ends has done its work: that is no fault."""
    if code is None:
        return "the guest's first process ended; its exit status is not known because conmon died before it"
    if guest.container is not None:
        return ""
    cause = f"the guest's first process ended by itself with exit status {code}"
    return f"{cause}: it reached its memory limit of {guest.limits.memory_mb} MB" if killed_for_memory and code else cause


def words(error: BaseException) -> str:
    """The cause without Python's dressing."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error.args[0]) if isinstance(error, LookupError) and error.args else str(error)


def fault(guest: Guest, text: str, timings_ms: dict[str, float] = _UNSET, generation: int | None = None) -> Observation:
    """An observation in state error, of this intent unless another generation is given."""
    return Observation(
        "guest",
        guest.id,
        "error",
        generation=guest.generation if generation is None else generation,
        fault=text,
        timings_ms=timings_ms,
        request_id=guest.request_id,
    )
