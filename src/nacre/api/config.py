"""What the API process is told at its start: one JSON file, written by `nacre up`, readable by the API's user."""

from pathlib import Path

import msgspec
from msgspec import Struct

from nacre.cloud.hosts.rules import HostRules
from nacre.cloud.identity.compliance import SecurityCompliance
from nacre.cloud.image.sources import ImportRules
from nacre.cloud.scheduler import Strategy


class ExternalNetwork(Struct, frozen=True):
    """The external network `public` that `up` makes at the first start: a subnet that was free on this machine."""

    cidr: str
    gateway: str
    """The host's own address in it."""
    allocation_start: str
    allocation_end: str
    """First and last address that routers and floating IPs may get."""
    name: str = "public"
    physical_network: str = "public"


class ApiConfig(Struct, frozen=True):
    """Paths, addresses and identities; secrets are in the bootstrap file."""

    state_dir: str
    """Only the API's user writes here: nacre.sqlite, blobs/, keys/."""
    cloud_id: str
    """Four hex digits, the same as the node's."""
    port: int
    public_url: str
    """The base of every URL in the catalog, without a slash at its end."""
    gateway_socket: str
    """Where to make the unix socket for the node of this machine."""
    node_uids: tuple[int, ...]
    """The peers (SO_PEERCRED) that may speak on that socket."""
    external: ExternalNetwork
    bootstrap_file: str
    """A JSON file (see Bootstrap) that only the API's user may read; read when the database is empty."""
    docker_sockets: str = ""
    """Where each project's socket of the Docker pane is made; empty: nowhere."""
    docker_tcp_port: int = 0
    """A port of loopback on which the project `demo`'s Docker pane is served to everybody on this machine; 0: none."""
    docker_tls_port: int = 0
    """A port of `bind` on which every project's Docker pane is served to clients with certificates; 0: none."""
    nodes_bind: str = ""
    """The address on which nodes of other hosts come; empty: every address."""
    nodes_port: int = 0
    """The port there; 0: no other hosts."""
    nodes_url: str = ""
    """https://ADDRESS:PORT of that place, as nodes of other machines reach it; of several API processes each has its own."""
    strategy: Strategy = "spread"
    """Which of the hosts that can take a guest gets it."""
    hosts: HostRules = HostRules()
    """How long a host may be silent."""
    security_compliance: SecurityCompliance = SecurityCompliance()
    """What is asked of passwords and logins."""
    image_import: ImportRules = ImportRules()
    """From where images may be fetched."""
    store_file: str = ""
    """A file with the URL of the PostgreSQL database that is the store, its password included; empty: SQLite in `state_dir`."""
    process: str = ""
    """What tells this API process from others in the same `state_dir`; empty for the first."""
    blobs_dir: str = ""
    """Where image bytes lie, which all API processes share; empty: in `state_dir`."""
    host_id: str = ""
    """The host of this machine, if it is a real one."""
    bind: str = "127.0.0.1"
    region: str = "RegionOne"

    @property
    def state(self) -> Path:
        return Path(self.state_dir)

    @property
    def database(self) -> Path:
        return self.state / "nacre.sqlite"

    @property
    def store(self) -> str:
        """The store's URL. Raises OSError."""
        return Path(self.store_file).read_text().strip() if self.store_file else f"sqlite:///{self.database}"

    @property
    def blobs(self) -> Path:
        return Path(self.blobs_dir) if self.blobs_dir else self.state / "blobs"

    @property
    def keys(self) -> Path:
        return self.state / "keys"


class Bootstrap(Struct, frozen=True):
    """Of the domain `default`: `admin`, admin of the project `admin`, and `demo`, member of the project `demo`."""

    admin_password: str
    demo_password: str


def load(path: Path) -> ApiConfig:
    """Raises OSError and msgspec.DecodeError."""
    return msgspec.json.decode(path.read_bytes(), type=ApiConfig)


def load_bootstrap(path: Path) -> Bootstrap:
    """Raises OSError and msgspec.DecodeError."""
    return msgspec.json.decode(path.read_bytes(), type=Bootstrap)
