"""The walls around a container's process, by Docker's rules: capabilities, resource limits of processes, kernel parameters.

Capabilities count within the guest's own user namespace: none of them reaches the host.
"""

import errno
import resource
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nacre.node.runtimes.containers.bundle import CAPABILITIES
from nacre.protocol.containers import Container, Ulimit

_NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST "
    "NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE "
    "SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM "
    "BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
ALL_CAPABILITIES = tuple(f"CAP_{name}" for name in _NAMES.split())
"""By number, from 0 (linux/capability.h)."""
_LIMITS = {
    "core": resource.RLIMIT_CORE,
    "cpu": resource.RLIMIT_CPU,
    "data": resource.RLIMIT_DATA,
    "fsize": resource.RLIMIT_FSIZE,
    "locks": 10,
    "memlock": resource.RLIMIT_MEMLOCK,
    "msgqueue": resource.RLIMIT_MSGQUEUE,
    "nice": resource.RLIMIT_NICE,
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
    "rss": resource.RLIMIT_RSS,
    "rtprio": resource.RLIMIT_RTPRIO,
    "rttime": resource.RLIMIT_RTTIME,
    "sigpending": resource.RLIMIT_SIGPENDING,
    "stack": resource.RLIMIT_STACK,
}
"""Docker's names (docker run --ulimit) and the kernel's numbers (setrlimit(2))."""
_UNLIMITED = 2**64 - 1
"""RLIM_INFINITY as a bundle states it."""
_IPC_SYSCTLS = frozenset(
    f"kernel.{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)
_SYS_RESOURCE = 24


def known_capabilities() -> tuple[str, ...]:
    """Those that this kernel has."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    return ALL_CAPABILITIES[: last + 1]


def _normal(names: Iterable[str], field: str) -> list[str]:
    found = []
    for name in names:
        full = name.upper() if name.upper() in ("ALL", *ALL_CAPABILITIES) else f"CAP_{name.upper()}"
        if full != "ALL" and full not in ALL_CAPABILITIES:
            raise ValueError(f'invalid {field}: unknown capability: "{full}"')
        found.append(full)
    return found


def capabilities(container: Container) -> list[str]:
    """With Docker's order: adding ALL leaves out what is dropped, dropping ALL leaves what is added. Raises ValueError."""
    everything = known_capabilities()
    if container.privileged:
        return list(everything)
    add, drop = _normal(container.cap_add, "CapAdd"), _normal(container.cap_drop, "CapDrop")
    if "ALL" in add:
        return [name for name in everything if name not in drop]
    if "ALL" in drop:
        return [name for name in dict.fromkeys(add) if name in everything]
    kept = [name for name in CAPABILITIES if name not in drop]
    return [name for name in dict.fromkeys([*kept, *add]) if name in everything]


def _may_raise() -> bool:
    """Whether this node may give a process more than it has itself (CAP_SYS_RESOURCE)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    return bool(int(line.split()[1], 16) >> _SYS_RESOURCE & 1)


def _ceiling(name: str) -> int:
    """The highest hard limit that this host can set."""
    if name == "nofile" and _may_raise():
        return int(Path("/proc/sys/fs/nr_open").read_text())
    hard = resource.getrlimit(_LIMITS[name])[1]
    return _UNLIMITED if _may_raise() or hard == resource.RLIM_INFINITY else hard


def rlimits(ulimits: Iterable[Ulimit], files_max: int) -> list[dict[str, Any]]:
    """The bundle's `rlimits`, as Docker's default for open files where nothing else is said, none above what the host allows.

    Raises ValueError for a name that is none, or a soft limit above the hard one.
    """
    found = {"nofile": {"type": "RLIMIT_NOFILE", "soft": files_max, "hard": files_max}}
    for limit in ulimits:
        if limit.name not in _LIMITS:
            raise ValueError(f"invalid ulimit type: {limit.name}")
        soft, hard = (value if value >= 0 else _UNLIMITED for value in (limit.soft, limit.hard))
        if soft > hard:
            raise ValueError(f"ulimit {limit.name}: soft limit must be less than or equal to hard limit: {soft} > {hard}")
        top = _ceiling(limit.name)
        found[limit.name] = {"type": f"RLIMIT_{limit.name.upper()}", "soft": min(soft, top), "hard": min(hard, top)}
    return list(found.values())


def sysctls(container: Container) -> dict[str, str]:
    """Only those of the guest's own namespaces. Raises ValueError."""
    for name in container.sysctls:
        net, ipc = (
            name.startswith("net."),
            name in _IPC_SYSCTLS or name.startswith("fs.mqueue."),
        )
        if ".." in name or "/" in name or not (net or ipc):
            raise ValueError(f"sysctl '{name}' is not allowed: it is not in a separate kernel namespace")
        if net and container.network in ("host", "guest"):
            raise ValueError(f"sysctl '{name}' is not allowed in another's network namespace")
        if ipc and container.ipc_of:
            raise ValueError(f"sysctl '{name}' is not allowed in another's ipc namespace")
    return dict(container.sysctls)


def check_mounts(container: Container) -> None:
    """Raises ValueError for a target that is none, or is there twice."""
    targets = [mount.target.rstrip("/") for mount in container.mounts]
    for target in targets:
        if not target.startswith("/") or ".." in target.split("/"):
            raise ValueError(f"invalid mount path: '{target or '/'}' mount path must be absolute and not the root")
    twice = next((target for target in targets if targets.count(target) > 1), None)
    if twice is not None:
        raise OSError(errno.EEXIST, f"Duplicate mount point: {twice}")
