"""What a pane hands to containers' operations."""

from typing import Any

from msgspec import Struct


class ContainerSpec(Struct, kw_only=True):
    """A container to be made. The dicts are the Engine API's `Config`, `HostConfig` and `NetworkingConfig`, of the right types and with
    every key there."""

    id: str | None = None
    """The server's, where it has to be known before. None: a new one."""
    name: str | None = None
    """None: one is made up."""
    config: dict[str, Any]
    host_config: dict[str, Any]
    networking_config: dict[str, Any]
