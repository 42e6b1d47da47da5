"""What a pane hands to compute's operations, already of the right types and shapes."""

from typing import Any, Literal

from msgspec import Struct

from nacre.cloud.network.servers import NetworkRequest
from nacre.cloud.scheduler import Conditions

__all__ = ["NetworkRequest", "ServerSpec"]


class ServerSpec(Struct, kw_only=True):
    """A server to be made. Ids and names are as the client sent them; the operation looks them up and says what is not there."""

    name: str
    id: str = ""
    """The server's id, where it was chosen before; empty: a new one."""
    image_id: str | None
    flavor_id: str = ""
    flavor: dict[str, Any] | None = None
    """A size of its own, where there is no flavor: what a server's row keeps of one (see `servers.FLAVOR_KEPT`)."""
    networks: list[NetworkRequest] | Literal["auto", "none"] | None = None
    """None: the project's only network, as Nova chooses it."""
    security_groups: list[str] = []
    key_name: str | None = None
    metadata: dict[str, str] = {}
    tags: list[str] = []
    user_data: str | None = None
    """Base64, as it was sent; already checked."""
    config_drive: bool = False
    description: str | None = None
    hostname: str | None = None
    availability_zone: str | None = None
    """`ZONE`, `ZONE:HOST` or `ZONE:HOST:NODE` (the latter two for admins)."""
    scheduler_hints: dict[str, object] = {}
    conditions: Conditions | None = None
    """What is asked of the host; None: what the hints say."""
    disk_config: Literal["AUTO", "MANUAL"] = "MANUAL"
    access_ip_v4: str = ""
    access_ip_v6: str = ""
    password_hash: str = ""
    """Root's password as crypt(5) has it; empty leaves it as the image has it."""
    files: list[dict[str, str]] = []
    """[{path, contents}]: what is written into it before its first boot; the contents in base64, already checked."""
    min_count: int = 1
    max_count: int = 1
    power: Literal["running", "stopped"] = "running"
    """Stopped: made, but not booted before somebody starts it."""
    require_host: bool = False
    """Where no host can take it, nothing is made and NoValidHost is raised."""
    host_id: str | None = None
    """The only host that can take it, because it shares something with a guest that is there."""
    told: bool = False
    """The event that it was created is written by whoever asks."""
