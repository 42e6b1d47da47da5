"""Which process a guest starts with: the image's own init system, its command, or nothing but ours."""

import os
from pathlib import Path

from msgspec import Struct

from nacre.node.images import ImageConfig
from nacre.node.runtimes.containers.bundle import DEFAULT_PATH, SEED, Process
from nacre.node.runtimes.containers.inside import follow

_SHELLS = frozenset({"sh", "ash", "bash", "dash", "zsh", "busybox"})
_STOP_SIGNALS = {"systemd": "SIGRTMIN+3", "busybox": "SIGUSR2", "sysvinit": "SIGINT"}
"""How each is told to end its services and itself (systemd(1), busybox's init, init(8)); others by SIGTERM, as openrc-init(8)."""
_SYSTEMD = ("/lib/systemd/systemd", "/usr/lib/systemd/systemd")


class Entry(Struct):
    process: Process
    init: str
    """The init system that is the first process: `systemd`, `busybox`, `sysvinit`, `other`; empty: one process."""
    stop_signal: str
    default_user: str


def _init_of(rootfs: Path) -> str:
    """The image's init system, or nothing. busybox's own needs an inittab, or it only asks for ttys."""
    found = follow(rootfs, "/sbin/init")
    has_table = follow(rootfs, "/etc/inittab") is not None
    if found is None or (found.name == "busybox" and not has_table):
        return ""
    if found.name in _STOP_SIGNALS:
        return found.name
    return "sysvinit" if found.name == "init" and has_table else "other"


def entry(rootfs: Path, config: ImageConfig, hostname: str) -> Entry:
    """Obeys Entrypoint, Cmd, Env, WorkingDir, User and StopSignal. A bare shell is no command: nobody would type into it."""
    command = [*(config.entrypoint or []), *(config.cmd or [])]
    if len(command) == 1 and os.path.basename(command[0]) in _SHELLS:
        command = []
    init = _init_of(rootfs)
    if command and command[0] != "/sbin/init":
        init = "systemd" if command[0] in _SYSTEMD else ""
    if init and not command:
        command = ["/sbin/init"]
    environment = list(config.env or [])
    for name, value in (("PATH=", DEFAULT_PATH), ("HOSTNAME=", f"HOSTNAME={hostname}"), ("TERM=", "TERM=xterm")):
        if not any(line.startswith(name) for line in environment):
            environment.append(value)
    if init and not any(line.startswith("container=") for line in environment):
        environment.append("container=oci")
    cwd = config.working_dir or "/"
    if init and follow(rootfs, "/usr/bin/cloud-init") is not None:
        argv = command  # cloud-init asks the metadata service itself.
    else:
        user = "" if init else config.user
        argv = [f"{SEED}/busybox", "sh", f"{SEED}/init", user, *command]
    stop_signal = config.stop_signal or _STOP_SIGNALS.get(init, "SIGTERM")
    return Entry(Process(argv, environment, cwd), init, stop_signal, config.user.partition(":")[0])
