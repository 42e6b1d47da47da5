"""What the streams need to know of a guest: whether it is here and runs, and how its processes are bounded."""

import errno
import re
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from nacre.node.runtimes.containers.bundle import CAPABILITIES
from nacre.node.runtimes.containers.container import Containers
from nacre.node.runtimes.containers.records import Record
from nacre.node.runtimes.containers.streams.processes import Spec

_NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST "
    "NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE "
    "SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM "
    "BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
"""capabilities(7), in the order of their numbers."""
_NUMBERS = {f"CAP_{name}": number for number, name in enumerate(_NAMES.split())}
_RLIMIT = re.compile(r"RLIMIT_[A-Z]+")


class Conflict(FileExistsError):
    """The guest is not in a state in which this can be done."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class Guests(Protocol):
    """The part of the driver that the streams use."""

    @property
    def parts(self) -> Containers: ...

    def record(self, guest_id: str) -> Record:
        """Raises LookupError for a guest that is not here."""


class _Process(Struct, rename="camel"):
    args: list[str]
    env: list[str] = []
    cwd: str = "/"
    user: dict[str, Any] = {}
    capabilities: dict[str, list[str]] = {}
    rlimits: list[dict[str, Any]] = []
    no_new_privileges: bool = False


class _Bundle(Struct):
    process: _Process
    annotations: dict[str, str] = {}


def is_running(guests: Guests, guest_id: str) -> bool:
    """False also for a guest of which this host has not heard yet."""
    try:
        guests.record(guest_id)
    except LookupError:
        return False
    return guests.record(guest_id).phase == "running" and guests.parts.first_pid(guest_id) is not None


def first_pid(guests: Guests, guest_id: str, *, frozen_too: bool = False) -> int:
    """The running guest's first process. Raises Conflict where it does not run, or is paused."""
    record = guests.record(guest_id)
    pid = guests.parts.first_pid(guest_id) if record.phase == "running" else None
    if pid is None:
        raise Conflict(f"container {guest_id} is not running")
    if not frozen_too and guests.parts.cgroups.is_frozen(guest_id):
        raise Conflict(f"container {guest_id} is paused, unpause the container before exec")
    return pid


def bundle_of(guests: Guests, guest_id: str) -> _Bundle:
    file = guests.parts.layout.guest(guest_id).bundle / "config.json"
    return msgspec.json.decode(file.read_bytes(), type=_Bundle)


def spec_for(guests: Guests, guest_id: str, params: dict[str, Any]) -> Spec:
    """The process that an exec asks for, bounded as the guest's own: its capabilities, limits, seccomp filter and cgroups."""
    argv = [str(word) for word in params.get("argv") or ()]
    if not argv:
        raise ValueError("No exec command specified")
    pid = first_pid(guests, guest_id)
    bundle = bundle_of(guests, guest_id)
    process, user = bundle.process, bundle.process.user
    bounding = process.capabilities.get("bounding", CAPABILITIES)
    if params.get("privileged"):
        container = guests.record(guest_id).guest.container
        if container is None or not container.privileged:
            raise PermissionError(
                errno.EPERM, "this host does not allow privileged processes in a guest that is not privileged itself"
            )
        bounding = list(_NUMBERS)
    return Spec(
        pid=pid,
        cgroups=[str(path) for path in guests.parts.cgroups.of_process(pid)],
        argv=argv,
        env=[*process.env, *(str(line) for line in params.get("env") or ())],
        cwd=str(params.get("cwd") or process.cwd or "/"),
        user=str(params.get("user") or ""),
        uid=int(user.get("uid", 0)),
        gid=int(user.get("gid", 0)),
        groups=[int(group) for group in user.get("additionalGids", ())],
        bounding=[_NUMBERS[name] for name in bounding if name in _NUMBERS],
        rlimits=[(limit["type"], limit["soft"], limit["hard"]) for limit in process.rlimits if _RLIMIT.fullmatch(limit["type"])],
        no_new_privileges=process.no_new_privileges,
        seccomp=bundle.annotations.get("run.oci.seccomp_bpf_data", ""),
        tty=bool(params.get("tty")),
        h=int(params.get("h") or 0),
        w=int(params.get("w") or 0),
    )


def attach_socket(guests: Guests, guest_id: str) -> Path:
    return guests.parts.layout.guest(guest_id).bundle / "attach"
