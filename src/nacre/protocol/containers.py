"""What Docker's pane adds to a guest: the process that runs in it and how it is kept (Engine API, `Config` and `HostConfig`).

Everything is resolved by the control plane: the image's entrypoint, environment, user and folder are in here already, and names are ids.
"""

from typing import Literal

from msgspec import Struct


class Mount(Struct, frozen=True, omit_defaults=True):
    """Something mounted into a guest at `target` (absolute, in the guest)."""

    target: str
    kind: Literal["volume", "tmpfs", "host"]
    volume_id: str = ""
    """Of kind volume: an item of the desired state; the guest waits for it."""
    subpath: str = ""
    read_only: bool = False
    copy_up: bool = True
    """An empty volume gets what the image has at `target` (Docker's `nocopy` turns it off)."""
    size_bytes: int | None = None
    mode: int | None = None
    """Of kind tmpfs."""
    host_path: str = ""
    """Of kind host: needs this host's own consent (see `Container.host_access`)."""
    propagation: str = ""


class Ulimit(Struct, frozen=True):
    name: str
    soft: int
    hard: int


class Restart(Struct, frozen=True, omit_defaults=True):
    """The restart policy. The node obeys it by itself: pauses of 100 ms that double up to a minute, begun anew after 10 s of running."""

    name: Literal["no", "always", "on-failure", "unless-stopped"] = "no"
    maximum_retry_count: int = 0


class HealthCheck(Struct, frozen=True, omit_defaults=True):
    """`test` begins with CMD (then an argv) or CMD-SHELL (then one string for /bin/sh -c)."""

    test: tuple[str, ...]
    interval_s: float = 30.0
    timeout_s: float = 30.0
    retries: int = 3
    start_period_s: float = 0.0
    start_interval_s: float = 5.0


class Container(Struct, frozen=True, omit_defaults=True):
    """One process tree, and the walls around it."""

    argv: tuple[str, ...]
    """Entrypoint and command; the first is looked up in the guest's PATH."""
    env: tuple[str, ...] = ()
    """NAME=value. PATH and HOSTNAME are added where they are missing; TERM with a tty."""
    cwd: str = "/"
    user: str = ""
    """user[:group], names or numbers, looked up in the guest's own files."""
    groups: tuple[str, ...] = ()
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    """Close the process's stdin when the first client that attached to it goes."""
    domainname: str = ""
    stop_signal: str = ""
    stop_timeout_s: float | None = None
    init: bool = False
    """A small init as process 1 that reaps and forwards signals (docker run --init)."""
    read_only: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    """Without CAP_; ALL is all."""
    no_new_privileges: bool = False
    seccomp: Literal["default", "unconfined"] = "default"
    masked_paths: bool = True
    """Whether /proc and /sys are masked and read-only as usual."""
    sysctls: dict[str, str] = {}
    ulimits: tuple[Ulimit, ...] = ()
    shm_bytes: int = 64 << 20
    mounts: tuple[Mount, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    """name:address lines for /etc/hosts (links are among them)."""
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    network: Literal["ports", "none", "guest", "host"] = "ports"
    network_of: str = ""
    """The id of the guest on this host whose network namespace it shares (NetworkMode container:ID)."""
    pid_of: str = ""
    ipc_of: str = ""
    restart: Restart = Restart()
    health: HealthCheck | None = None
    log_driver: Literal["json-file", "none"] = "json-file"
    log_bytes_max: int = 1 << 20
    """How much of the log is kept, at least."""
    privileged: bool = False
    host_pid: bool = False
    devices: tuple[str, ...] = ()
    """HOST[:GUEST[:rwm]]."""

    @property
    def host_access(self) -> frozenset[str]:
        """What of it would hand over the host. A node does such things only for projects that its own root has listed, whatever the API says."""
        asked = {
            "privileged": self.privileged,
            "host_network": self.network == "host",
            "host_pid": self.host_pid,
            "devices": bool(self.devices),
            "host_paths": any(mount.kind == "host" for mount in self.mounts),
            "seccomp_unconfined": self.seccomp == "unconfined" or not self.masked_paths,
        }
        return frozenset(name for name, wanted in asked.items() if wanted)


class Probe(Struct, frozen=True):
    """One run of a health check. Times are seconds since the epoch."""

    started_at: float
    ended_at: float
    exit_code: int
    output: str


class ContainerState(Struct, frozen=True, omit_defaults=True):
    """What the node sees of a guest beyond its state; times are seconds since the epoch, for showing only."""

    pid: int = 0
    started_at: float | None = None
    finished_at: float | None = None
    oom_killed: bool = False
    restarting: bool = False
    restart_count: int = 0
    last_exit_code: int | None = None
    """Of the end before this run: a guest that runs again may have ended unseen."""
    health: Literal["", "starting", "healthy", "unhealthy"] = ""
    failing_streak: int = 0
    probes: tuple[Probe, ...] = ()
    """The last five."""
