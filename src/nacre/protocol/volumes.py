"""Volumes, as the host that bears them needs to know them."""

from msgspec import Struct


class Volume(Struct, frozen=True, omit_defaults=True):
    """A named volume on one host: made empty, or as a writable copy of another one at that moment."""

    id: str
    project_id: str
    name: str
    driver: str = "local"
    """`local` is the node's own; any other name is a volume plugin found on the host (VolumeDriver protocol, docs of Docker's plugin API)."""
    profile: str = ""
    """gold, silver, bronze: limits on what guests may do with it (see `read_iops` ...)."""
    size_bytes: int | None = None
    source_id: str = ""
    """The volume on the same host of which this one is a snapshot."""
    options: dict[str, str] = {}
    """For plugins, as the client gave them."""
    read_iops: int | None = None
    write_iops: int | None = None
    read_bytes_s: int | None = None
    write_bytes_s: int | None = None


class VolumeState(Struct, frozen=True, omit_defaults=True):
    """What the node says of a volume that is there: how it is kept, and which of its limits hold on this host."""

    backend: str
    """`btrfs`, `directory`, `plugin` or `simulated`."""
    size_limited: bool = False
    """Whether a size is enforced. A directory and a plugin's volume know no size of ours."""
    throttled: bool = False
    """Whether the profile's rates are set on the guests that use it."""
