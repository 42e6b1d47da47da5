"""A guest: what a server is to the host that runs it."""

from typing import Any, Literal

from msgspec import Struct

from nacre.protocol.containers import Container

Power = Literal["running", "stopped", "paused", "checkpointed"]
"""checkpointed: it does not run, and all that it was lies on the disk, so that it goes on as if nothing had been (only where the node has said
that it can, see the fact `live_migration`)."""


class Layer(Struct, frozen=True):
    """One layer of an image's root file system: a tar, gzipped or not (image-spec, `layer.md`)."""

    digest: str
    """Of the bytes as they lie in the store."""
    size_bytes: int


class ImageRef(Struct, frozen=True, omit_defaults=True):
    """The bytes a guest starts from. A node may fetch only digests that its own guests name.

    An image is one blob (an archive, `layers` empty), or a list of layers with the image's config beside them. Layers are unpacked
    once each and shared by all images that have them; `digest` is then the manifest's and names the image, not bytes to fetch.
    """

    id: str
    digest: str
    """`sha256:` and 64 hex digits, the name of the bytes in the control plane's store."""
    size_bytes: int
    disk_format: str
    container_format: str
    """`docker` marks an image for containers: an OCI or docker archive, or a tar of a root file system."""
    properties: dict[str, str] = {}
    layers: tuple[Layer, ...] = ()
    """From the lowest up."""
    config: dict[str, Any] = {}
    """The OCI image config (image-spec, `config.md`) of an image that comes in layers."""


class Limits(Struct, frozen=True, omit_defaults=True):
    """What the flavor allows, enforced by cgroups (v1 or v2)."""

    vcpus: int
    memory_mb: int
    disk_gb: int
    swap_mb: int = 0
    pids: int = 4096
    extra_specs: dict[str, str] = {}
    memory_bytes: int | None = None
    """Where Docker's pane gave it to the byte; else `memory_mb` counts. So with all below: None leaves it to the flavor or the kernel."""
    memory_swap_bytes: int | None = None
    """Memory and swap together, as Docker counts; -1 is without limit."""
    memory_reservation_bytes: int | None = None
    cpu_shares: int | None = None
    cpu_quota_us: int | None = None
    cpu_period_us: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    blkio_weight: int | None = None


class InstanceData(Struct, frozen=True, omit_defaults=True):
    """What the metadata service at 169.254.169.254 tells the guest of itself (OpenStack and EC2 layouts)."""

    name: str
    hostname: str
    project_id: str
    availability_zone: str
    launch_index: int = 0
    public_keys: dict[str, str] = {}
    meta: dict[str, str] = {}
    user_data: bytes = b""
    instance_type: str = ""
    reservation_id: str = ""


class InjectedFile(Struct, frozen=True):
    """A file that is written into the guest before its first boot, root's own. `path` is as the client gave it, from the root on."""

    path: str
    contents: bytes


class Rescue(Struct, frozen=True):
    """Another system that the guest boots instead of its own, which it sees at /rescue."""

    image: ImageRef
    password_hash: str = ""
    """Root's in that system."""


class Origin(Struct, frozen=True):
    """Where a guest comes from that moves here: its disk is fetched by GET /hosts/{host}/migrations/{migration}/disk before it starts."""

    migration: str
    """The migration's UUID: what was fetched under it once is not fetched again."""
    live: bool = False
    """It was checkpointed there, and goes on here without a boot."""


class Guest(Struct, frozen=True, omit_defaults=True):
    """The desired state of one guest on this host.

    `generation` rises with every change of intent: an observation that carries it says that this very intent was met.
    `boots` counts the boots that were asked for: a guest that has seen fewer is restarted (once, however many are missing).
    `rebuilds` counts how often its root file system was to be made anew from the image.
    """

    id: str
    runtime: Literal["container", "simulated"]
    generation: int
    power: Power
    boots: int
    image: ImageRef
    limits: Limits
    instance: InstanceData
    ports: tuple[str, ...] = ()
    """Port ids; the first becomes eth0. Ports come and go while the guest runs."""
    container: Container | None = None
    """The process that Docker's pane asked for. A guest without it starts as the image says, under a small init of ours."""
    rebuilds: int = 0
    reboot: Literal["soft", "hard"] = "soft"
    password_hash: str = ""
    """Root's password as crypt(5) has it; empty leaves it as it is. It may change while the guest runs."""
    files: tuple[InjectedFile, ...] = ()
    config_drive: bool = False
    """The guest's metadata lie in it, too, at /config-drive, as they were at its boot."""
    rescue: Rescue | None = None
    origin: Origin | None = None
    """Set while the guest moves here from another host."""
    fenced: bool = False
    """It may be made anew elsewhere when this host is taken for lost: its network is cut while the host's lease is out."""
    request_id: str = ""
    """The request that asked for this generation; the node logs it and gives it back in its observation."""

    @property
    def images(self) -> tuple[ImageRef, ...]:
        """What it boots from: its own, and that of its rescue."""
        return (self.image,) if self.rescue is None else (self.image, self.rescue.image)
