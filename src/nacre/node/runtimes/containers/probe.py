"""Finds out by trying what this host can do for containers, and opens what all of them share."""

import errno
import os
import resource
import shutil
from pathlib import Path

from nacre.node.config import NO_CRIU, NodeConfig
from nacre.node.runtimes.containers import bundle, seccomp
from nacre.node.runtimes.containers.cgroups import Cgroups
from nacre.node.runtimes.containers.container import Containers
from nacre.node.runtimes.containers.launcher import Launcher
from nacre.node.runtimes.containers.layout import Layout
from nacre.node.runtimes.containers.slots import Slots

_PROGRAMS = {"crun": "crun", "conmon": "conmon", "busybox": "busybox-static"}
"""Programs and the Debian packages that bring them."""
_INITS = ("tini-static", "catatonit")
"""Small inits in static programs (Debian: tini, catatonit). Only containers that ask for one need it."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def open_host(config: NodeConfig) -> Containers:
    """Raises OSError when containers cannot run here; the text names the remedy."""
    layout = Layout(config)
    programs = {name: _program(name, package) for name, package in _PROGRAMS.items()}
    layout.state.mkdir(mode=0o711, parents=True, exist_ok=True)
    _check_passable(layout.state)
    layout.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    cgroups = Cgroups(layout.cgroup)
    cgroups.detect()
    launcher = Launcher(layout, programs["crun"], programs["conmon"])
    device_rules = not cgroups.v2_only or _may_lock_memory()
    init = next((path for path in (shutil.which(name, path=_PATH) for name in _INITS) if path), "")
    host = bundle.Host(seccomp.annotation(), _raise_file_limit(), device_rules, cgroups.v2_only, init)
    containers = Containers(layout, cgroups, Slots(layout), launcher, host)
    launcher.start(cgroups.hybrid, cgroups.enter_monitors)
    containers.prepare_host(Path(programs["busybox"]))
    return containers


def criu(config: NodeConfig) -> str:
    """CRIU's program, if the operator has named one: what moves while it runs rests on other hosts' images (decision 0033)."""
    return "" if config.criu == NO_CRIU else config.criu


def _check_passable(state: Path) -> None:
    """A guest's root is an ordinary user to the host: it must get through to its own root file system."""
    state.chmod(state.stat().st_mode | 0o011)
    for folder in state.parents:
        if not folder.stat().st_mode & 0o001:
            raise OSError(errno.EACCES, f"guests cannot pass this folder: chmod o+x {folder}, or use another state directory")


def _program(name: str, package: str) -> str:
    path = shutil.which(name, path=_PATH)
    if path is None:
        raise OSError(errno.ENOENT, f"{name} is missing: apt-get install {package}")
    return os.path.realpath(path)


def _may_lock_memory() -> bool:
    """Device rules of version 2 are a BPF program, for which crun lifts this limit: that takes CAP_SYS_RESOURCE."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError):
        return False
    return True


def _raise_file_limit() -> int:
    """The hard limit on open files, raised as far as the host lets us: the node holds two descriptors for each guest."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard < bundle.FILES_MAX:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (bundle.FILES_MAX, bundle.FILES_MAX))
            return bundle.FILES_MAX
        except (OSError, ValueError):
            pass  # No CAP_SYS_RESOURCE: what there is must do.
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(hard, bundle.FILES_MAX)
