"""Where everything of the containers lies. One place, so that `survey` and `purge` can be held against it.

Below the state directory (survives a reboot): guests/, images/, slots/ (pinned namespaces), ids.json, busybox.
Below /run/nacre-<cloud id> (does not): crun's own state and the pinned mount namespace.
"""

import re
from pathlib import Path

from msgspec import Struct

from nacre.node.config import NodeConfig

_GUEST_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
RUN = Path("/run")
SCRATCH_ID = "00000000-0000-4000-8000-000000000000"
"""The guest of a node that tries something (see `trial`): nobody's, and none of the survey."""


def is_guest_id(text: str) -> bool:
    """Ids come from the control plane and become names of files: nothing but a UUID will do."""
    return _GUEST_ID.fullmatch(text) is not None


class GuestPaths:
    """One guest's folder."""

    def __init__(self, root: Path, guest_id: str) -> None:
        self.root = root
        self.record = root / "guest.json"
        self.lower = root / "lower"
        """Where the image's layers, id-mapped and read-only, are mounted by number, the topmost first, while the overlay is made."""
        self.disk = root / "disk"
        """The overlay's upper and work directories: what the guest has written."""
        self.rootfs = root / "rootfs"
        self.rescue_disk, self.rescue_rootfs = root / "rescue", root / "rescue-rootfs"
        """The same of the system that it boots while it is rescued."""
        self.cpuinfo = root / "cpuinfo"
        """Mounted over a server's /proc/cpuinfo."""
        self.config_drive = root / "config-drive"
        """Mounted read-only in the guest at /config-drive, where it asked for one."""
        self.bundle = root / "bundle"
        self.seed = root / "seed"
        """Mounted read-only in the guest at /.nacre: busybox, the init script, the instance's data."""
        self.etc = root / "etc"
        """resolv.conf, hosts and hostname, mounted over the image's."""
        self.logs = root / "logs"
        self.checkpoint = root / "checkpoint" / "images"
        """CRIU's images of a guest that was checkpointed. Everybody may read them, and nobody but root gets there (see `checkpoints`)."""
        self.volumes = root / "volumes"
        """Where a container's volumes are mounted, by number, while it is made."""
        self.shm = root / "shm"
        """Where another guest's /dev/shm is mounted for a container that shares it."""
        self.exit_file = root / "exits" / guest_id
        """Written by conmon: the exit status of the guest's first process, in decimal."""
        self.health_process, self.health_pid_file = root / "health.json", root / "health.pid"
        self.password_process, self.password_pid_file = root / "password.json", root / "password.pid"
        """Each of what is run in a guest has its own: a health check may begin while a password is changed."""
        self.pid_file = root / "pid"
        self.monitor_pid_file = root / "monitor.pid"

    @property
    def directories(self) -> tuple[Path, ...]:
        return (
            self.lower,
            self.disk / "upper",
            self.disk / "work",
            self.rootfs,
            self.bundle,
            self.etc,
            self.logs,
            self.exit_file.parent,
        )


class Disk(Struct):
    """A guest's files as they lie on the host, for whoever reads or changes them beside the guest."""

    upper: Path
    """What the guest wrote, with its ids on this host."""
    lowers: tuple[Path, ...]
    """The image's layers from the lowest up, with plain ids."""
    place: Path
    """An empty folder, for a mount in a namespace of one's own."""
    rootfs: Path
    """Both as the guest sees them, without what is mounted over it."""
    base_id: int
    """The host's id of the guest's root."""


class Layout:
    """Where everything of a guest lies below the node's state directory and /run."""

    def __init__(self, config: NodeConfig) -> None:
        self.cloud_id = config.cloud_id
        self.state = config.state.resolve()
        self.guests = self.state / "guests"
        self.slots = self.state / "slots"
        self.ids = self.state / "ids.json"
        self.busybox = self.guests / "busybox"
        """Beside the guests, whose seeds are hard links to it: a link may not cross a mount."""
        self.trash = self.guests / ".trash"
        """Folders of removed guests that are being deleted."""
        self.run = RUN / f"nacre-{config.cloud_id}"
        self.crun_root = self.run / "crun"
        self.mount_namespace = self.run / "pins" / "mnt"
        self.cgroup = f"nacre-{config.cloud_id}"
        """The name of this cloud's cgroup in every hierarchy."""

    def gate(self, guest_id: str) -> Path:
        """The socket at which the restorer of a guest asks for its ports. Short: a socket's name has 107 bytes."""
        return self.run / f"{guest_id}.gate"

    def guest(self, guest_id: str) -> GuestPaths:
        return GuestPaths(self.guests / guest_id, guest_id)

    def guest_ids(self) -> list[str]:
        if not self.guests.is_dir():
            return []
        return sorted(entry.name for entry in self.guests.iterdir() if is_guest_id(entry.name))

    def known_in(self, words: list[str]) -> list[str]:
        """The first guest id among the words of a command line."""
        return [word for word in words if is_guest_id(word)][:1]
