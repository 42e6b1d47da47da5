"""The OCI bundle of a guest (runtime-spec, `config.md`), written by us. Capabilities, masked and read-only paths are Docker's."""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from nacre.node.runtimes.containers.layout import GuestPaths
from nacre.node.runtimes.containers.slots import IDS_PER_SLOT

_NAMES = (
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID SYS_CHROOT"
)
CAPABILITIES = [f"CAP_{name}" for name in _NAMES.split()]
MASKED = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
]
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
_DEVICES = [{"allow": False, "access": "rwm"}]
SEED = "/.nacre"
CONFIG_DRIVE = "/config-drive"
"""Where cloud-init looks for it in a container, which has no device of that label (its documentation of ConfigDrive)."""
RESCUED = "/rescue"
"""Where a server that is rescued sees its own files."""
SYSTEMD_HIERARCHY = "/sys/fs/cgroup/systemd"
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOSTNAME_BYTES_MAX = 64
"""What the kernel takes (sethostname(2)); the guest's /etc/hosts and its metadata have the whole name."""
SHM_BYTES = 64 << 20
ETC_FILES = ("resolv.conf", "hosts", "hostname")
NAMESPACES = ("pid", "ipc", "uts", "mount", "cgroup", "network")
"""Those of a guest beside the user namespace."""
FILES_MAX = 1_048_576
"""The open files that Docker allows, where the host allows as many."""


class Process(Struct):
    """What the bundle's first process is."""

    argv: list[str]
    environment: list[str]
    cwd: str
    uid: int = 0
    gid: int = 0
    groups: list[int] = []
    terminal: bool = True
    capabilities: list[str] = msgspec.field(default_factory=lambda: CAPABILITIES)
    rlimits: list[dict[str, Any]] = []
    no_new_privileges: bool = False


class Box(Struct):
    """Where it runs: what the guest sees of the world."""

    hostname: str
    base_id: int
    """The first of the host's ids that are the guest's."""
    user_namespace: Path
    cgroup: str
    resources: dict[str, Any]
    mounts: list[dict[str, Any]]
    namespaces: dict[str, Path | None]
    """Kind -> the namespace to join; None is a new one. A kind that is not there is the host's."""
    seccomp: str = ""
    """The filter as crun's annotation takes it; empty is none."""
    domainname: str = ""
    read_only: bool = False
    masked: bool = True
    sysctls: dict[str, str] = {}


class Host(Struct):
    """What holds for every guest on this host."""

    seccomp: str
    files_max: int
    """The hard limit on open files: above the node's own only CAP_SYS_RESOURCE goes, which a host may lack."""
    device_rules: bool
    """A second lock: a user namespace makes no device nodes, and neither images nor root file systems bear any."""
    cgroup_writable: bool
    """Version 2 delegates safely to a user namespace, so that an init system can manage its own part."""
    init: str = ""
    """A static program that reaps and forwards signals, for containers that ask for one; empty where the host has none."""


def mount(target: str, kind: str, options: str, source: str = "") -> dict[str, Any]:
    """One entry of the bundle's `mounts`; `options` as mount(8) has them."""
    return {"destination": target, "type": kind, "source": source or kind, "options": options.split(",")}


def kernel_mounts(
    *, shm_bytes: int = SHM_BYTES, writable: bool = False, cgroup_writable: bool = False, host_pid: bool = False
) -> list[dict[str, Any]]:
    """/proc, /dev, /sys and what lies below them. A guest may not mount a /proc of processes that are not its user namespace's."""
    way = "" if writable else ",ro"
    proc = mount("/proc", "bind", "rbind,nosuid,noexec,nodev", "/proc")
    return [
        proc if host_pid else mount("/proc", "proc", "nosuid,noexec,nodev"),
        mount("/dev", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
        mount("/dev/pts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
        mount("/sys", "sysfs", f"nosuid,noexec,nodev{way}"),
        mount("/sys/fs/cgroup", "cgroup", f"nosuid,noexec,nodev,relatime{'' if cgroup_writable else ',ro'}"),
        mount("/dev/mqueue", "mqueue", "nosuid,noexec,nodev"),
        mount("/dev/shm", "tmpfs", f"nosuid,noexec,nodev,mode=1777,size={shm_bytes}", "shm"),  # noqa: S108
    ]


def etc_mounts(etc: Path, *, read_only: bool = False) -> list[dict[str, Any]]:
    """The three files that the node writes for the guest."""
    options = f"bind,nosuid,nodev,noexec{',ro' if read_only else ''}"
    return [mount(f"/etc/{name}", "bind", options, str(etc / name)) for name in ETC_FILES]


def server_mounts(
    paths: GuestPaths,
    host: Host,
    init: str,
    named: Path | None,
    *,
    config_drive: bool = False,
    rescued: bool = False,
    cpuinfo: bool = False,
) -> list[dict[str, Any]]:
    """The mounts of a guest that boots as its image says.

    `init` is the init system (see Entry); `named` the guest's cgroup in the hierarchy that systemd of version 1 calls its own.
    """
    found = kernel_mounts(cgroup_writable=init == "systemd" and host.cgroup_writable)
    found.append(mount(SEED, "bind", "bind,ro,nosuid,nodev", str(paths.seed)))
    found += etc_mounts(paths.etc)
    if cpuinfo:
        found.append(mount("/proc/cpuinfo", "bind", "bind,ro,nosuid,nodev,noexec", str(paths.cpuinfo)))
    if config_drive:
        found.append(mount(CONFIG_DRIVE, "bind", "bind,ro,nosuid,nodev,noexec", str(paths.config_drive)))
    if rescued:
        found.append(mount(RESCUED, "bind", "rbind,nodev", str(paths.rootfs)))
    # What an init system would mount itself, had it the right to (systemd: CONTAINER_INTERFACE, "Execution Environment").
    if init:
        found.append(mount("/run", "tmpfs", "nosuid,nodev,mode=755,size=20%"))
        found.append(mount("/run/lock", "tmpfs", "nosuid,nodev,noexec,mode=1777,size=5m"))
    if init == "systemd":
        found.append(mount("/tmp", "tmpfs", "nosuid,nodev,mode=1777,size=50%"))  # noqa: S108
    if named is not None:
        found.append(mount(SYSTEMD_HIERARCHY, "bind", "bind,rw,nosuid,noexec,nodev", str(named)))
    return found


def spec(rootfs: Path, process: Process, box: Box, host: Host) -> bytes:
    """The bundle's config.json."""
    document = {
        "ociVersion": "1.0.2",
        "hostname": box.hostname[:HOSTNAME_BYTES_MAX],
        **({"domainname": box.domainname} if box.domainname else {}),
        "process": _process(process, host),
        "root": {"path": str(rootfs), "readonly": box.read_only},
        "mounts": box.mounts,
        "annotations": {"run.oci.seccomp_bpf_data": box.seccomp} if box.seccomp else {},
        "linux": _linux(box, host),
    }
    return msgspec.json.encode(document)


def _process(process: Process, host: Host) -> dict[str, Any]:
    # As Docker has it: a user that is not root has none at hand, and may gain those of its bounding set by a program's file.
    sets = ("bounding", "effective", "permitted") if process.uid == 0 else ("bounding",)
    files = [{"type": "RLIMIT_NOFILE", "soft": min(1024, host.files_max), "hard": host.files_max}]
    return {
        "terminal": process.terminal,
        "user": {"uid": process.uid, "gid": process.gid, "additionalGids": process.groups},
        "args": process.argv,
        "env": process.environment,
        "cwd": process.cwd,
        "capabilities": dict.fromkeys(sets, process.capabilities),
        "rlimits": process.rlimits or files,
        "noNewPrivileges": process.no_new_privileges,
    }


def _linux(box: Box, host: Host) -> dict[str, Any]:
    mapping = [{"containerID": 0, "hostID": box.base_id, "size": IDS_PER_SLOT}]
    namespaces = [{"type": "user", "path": str(box.user_namespace)}]
    namespaces += [{"type": kind, **({"path": str(path)} if path else {})} for kind, path in box.namespaces.items()]
    return {
        "namespaces": namespaces,
        "uidMappings": mapping,
        "gidMappings": mapping,
        "cgroupsPath": f"/{box.cgroup}",
        "resources": _resources(box, host),
        "maskedPaths": MASKED if box.masked else [],
        "readonlyPaths": READ_ONLY if box.masked else [],
        **({"sysctl": box.sysctls} if box.sysctls else {}),
    }


def _resources(box: Box, host: Host) -> dict[str, Any]:
    """The guest's own rules for devices come after the one that closes all."""
    if not host.device_rules:
        return box.resources
    return {**box.resources, "devices": [*_DEVICES, *box.resources.get("devices", ())]}
