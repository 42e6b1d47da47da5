"""A container of Docker's pane as a bundle: its process, its walls, and whose namespaces it shares.

User namespaces. Each container has one of its own, but one that shares another's network, processes or ipc lives in the user
namespace of that one: only so do its rights count there, as they do between containers of one Docker engine.
"""

import os
import stat
from pathlib import Path
from typing import Any

from msgspec import Struct

from nacre.node.runtimes.containers import inside, seccomp, walls
from nacre.node.runtimes.containers.bundle import (
    DEFAULT_PATH,
    NAMESPACES,
    Box,
    Host,
    Process,
    etc_mounts,
    kernel_mounts,
    mount,
)
from nacre.node.runtimes.containers.layout import GuestPaths
from nacre.node.runtimes.containers.users import identify
from nacre.protocol.containers import Container, Mount
from nacre.protocol.guests import Guest

INIT = "/sbin/docker-init"
"""Where Docker has it, too."""
ACCESS_DEFAULT = "rwm"


class Shared(Struct):
    """What a container has of others; the paths hold as long as those run."""

    network: Path | None = None
    pid: Path | None = None
    ipc: Path | None = None
    etc: Path | None = None
    """The folder of the three files of the guest whose network it is."""
    shm: Path | None = None
    """Where that one's /dev/shm is mounted for this one."""


def process(guest: Guest, container: Container, rootfs: Path, base_id: int, host: Host) -> Process:
    """Raises ValueError for users and limits that are none, OSError where the folder cannot be made."""
    who = identify(rootfs, container.user, container.groups)
    cwd = os.path.normpath("/" + container.cwd)
    if not any(cwd == entry.target or cwd.startswith(entry.target.rstrip("/") + "/") for entry in container.mounts):
        inside.follow(rootfs, cwd, make_for=base_id)
    environment = [line for line in container.env if "=" in line]
    before = [DEFAULT_PATH, f"HOSTNAME={guest.instance.hostname}", *(["TERM=xterm"] if container.tty else [])]
    names = {line.partition("=")[0] for line in environment}
    environment = [line for line in before if line.partition("=")[0] not in names] + environment
    if "HOME" not in names:
        environment.append(f"HOME={who.home}")
    if not container.argv or not container.argv[0]:
        raise ValueError("no command specified")
    if container.init and not host.init:
        raise FileNotFoundError(2, "this host has no small init for containers: apt-get install tini")
    return Process(
        argv=[*([INIT, "--"] if container.init else []), *container.argv],
        environment=environment,
        cwd=cwd,
        uid=who.uid,
        gid=who.gid,
        groups=who.groups,
        terminal=container.tty,
        capabilities=walls.capabilities(container),
        rlimits=walls.rlimits(container.ulimits, host.files_max),
        no_new_privileges=container.no_new_privileges,
    )


def namespaces(container: Container, own_network: Path, shared: Shared) -> dict[str, Path | None]:
    """Kind -> the one to join, None for a new one."""
    found: dict[str, Path | None] = dict.fromkeys(NAMESPACES)
    found |= {"network": shared.network or own_network, "pid": shared.pid, "ipc": shared.ipc}
    for kind, is_host in (("network", container.network == "host"), ("pid", container.host_pid)):
        if is_host:
            del found[kind]
    return found


def mounts(
    paths: GuestPaths, container: Container, host: Host, shared: Shared, sources: dict[str, Path], base_id: int
) -> list[dict[str, Any]]:
    """`sources` says where on the host each mount's volume or path lies ready, by target. Raises OSError, ValueError."""
    walls.check_mounts(container)
    own = container.privileged
    found = kernel_mounts(
        shm_bytes=container.shm_bytes, writable=own, cgroup_writable=own and host.cgroup_writable, host_pid=container.host_pid
    )
    if shared.shm is not None:
        found[-1] = mount("/dev/shm", "bind", "rbind,nosuid,noexec,nodev", str(shared.shm))  # noqa: S108
    found += etc_mounts(shared.etc or paths.etc, read_only=container.read_only)
    if container.init:
        found.append(mount(INIT, "bind", "bind,ro,nosuid,nodev", host.init))
    found += [_device(paths, text, base_id) for text in container.devices]
    for entry in sorted(container.mounts, key=lambda entry: entry.target.rstrip("/").count("/")):
        found.append(_tmpfs(entry) if entry.kind == "tmpfs" else _bind(entry, sources[entry.target]))
    return found


def _tmpfs(entry: Mount) -> dict[str, Any]:
    options = f"nosuid,nodev,noexec,mode={entry.mode if entry.mode is not None else 0o1777:o}"
    options += f",size={entry.size_bytes}" if entry.size_bytes else ""
    return mount(entry.target, "tmpfs", options + (",ro" if entry.read_only else ""))


def _bind(entry: Mount, source: Path) -> dict[str, Any]:
    options = f"rbind,{entry.propagation or 'rprivate'},nodev"
    return mount(entry.target, "bind", options + (",ro" if entry.read_only else ""), str(source))


def _device(paths: GuestPaths, text: str, base_id: int) -> dict[str, Any]:
    """A node of the guest's own for the host's device: in the guest's user namespace the host's own node would be nobody's."""
    source, _, rest = text.partition(":")
    target, _, access = rest.partition(":")
    if rest and not target.startswith("/"):
        target, access = "", rest
    access = access or ACCESS_DEFAULT
    if not set(access) <= set(ACCESS_DEFAULT):
        raise ValueError(f"invalid device mode: {access}")
    about = os.stat(source)
    if not (stat.S_ISCHR(about.st_mode) or stat.S_ISBLK(about.st_mode)):
        raise ValueError(f"{source} is not a device node")
    folder = paths.root / "devices"
    folder.mkdir(mode=0o711, exist_ok=True)
    node = folder / (target or source).strip("/").replace("/", "-")
    node.unlink(missing_ok=True)
    os.mknod(node, stat.S_IFMT(about.st_mode) | (0o600 if "w" in access else 0o400), about.st_rdev)
    os.chown(node, base_id, base_id)
    return mount(target or source, "bind", "bind,nosuid,noexec" + ("" if "w" in access else ",ro"), str(node))


def device_rules(container: Container) -> list[dict[str, Any]]:
    """What the device cgroup lets through for the container's devices (the runtime adds the usual ones)."""
    found = []
    for text in container.devices:
        source, _, rest = text.partition(":")
        access = rest.rpartition(":")[2] if rest and not rest.rpartition(":")[2].startswith("/") else ACCESS_DEFAULT
        about = os.stat(source)
        kind = "b" if stat.S_ISBLK(about.st_mode) else "c"
        numbers = {"major": os.major(about.st_rdev), "minor": os.minor(about.st_rdev)}
        found.append({"allow": True, "type": kind, "access": access, **numbers})
    return found


def box(
    guest: Guest,
    container: Container,
    *,
    base_id: int,
    user_namespace: Path,
    cgroup: str,
    resources: dict[str, Any],
    mounts: list[dict[str, Any]],
    namespaces: dict[str, Path | None],
) -> Box:
    """The walls. Raises ValueError."""
    plain = container.privileged or container.seccomp == "unconfined"
    return Box(
        hostname=guest.instance.hostname,
        domainname=container.domainname,
        base_id=base_id,
        user_namespace=user_namespace,
        cgroup=cgroup,
        resources=resources,
        mounts=mounts,
        namespaces=namespaces,
        seccomp="" if plain else seccomp.annotation(walls.capabilities(container)),
        read_only=container.read_only,
        masked=container.masked_paths and not container.privileged,
        sysctls=walls.sysctls(container),
    )
