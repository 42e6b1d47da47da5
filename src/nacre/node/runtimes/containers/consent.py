"""What root on this host allows a project's containers beyond their walls, whatever the control plane says.

STATE/node/host-access.json: {"PROJECT-ID": ["privileged", "host_network", ...]}, the names of `Container.host_access`. Written by
root, by nobody else; read anew for each container that asks for such a thing, so that a change counts from the next start.

What each gives here, where the user namespace stays the guest's own:
privileged          all capabilities within the guest's own namespaces, no seccomp, /sys and cgroups writable: enough for mounts and nested
                    containers; the host's devices, modules and clock stay out of reach
host_network        the host's interfaces, to look at and to listen on from port 1024 up; to change them, lower ports and raw sockets
                    take the rights of the host's own user namespace
host_pid            sees the host's processes; may signal none but its own
devices             a node of its own for each device, which the guest's root may open as it is allowed
host_paths          the host's files under the host's own ids where the file system can map them; elsewhere root's files are nobody's
seccomp_unconfined  all system calls, and /proc and /sys without masks
"""

import errno
import os
import stat
from pathlib import Path

import msgspec

from nacre.protocol.containers import Container

NAME = "host-access.json"
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def _allowed(state: Path, project_id: str) -> frozenset[str]:
    path = state / NAME
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return frozenset()
    with os.fdopen(fd, "rb") as file:
        about = os.fstat(fd)
        if about.st_uid != os.geteuid() or about.st_mode & _WRITABLE_BY_OTHERS:
            raise OSError(errno.EPERM, "it is not root's own file, so it allows nothing (chown root, chmod go-w)", str(path))
        try:
            table = msgspec.json.decode(file.read(), type=dict[str, list[str]])
        except msgspec.DecodeError as error:
            raise OSError(errno.EINVAL, f"it is not a table of project ids and names: {error}", str(path)) from error
    return frozenset(table.get(project_id, ()))


def check(state: Path, project_id: str, container: Container) -> None:
    """Raises OSError that names what the host does not allow."""
    asked = container.host_access
    refused = sorted(asked - _allowed(state, project_id)) if asked else []
    if refused:
        names = ", ".join(refused)
        raise OSError(errno.EPERM, f"this host does not allow project {project_id}: {names} (its root would list it in {NAME})")
