"""A cloud's state directory: where everything of it lies, and what `up` decided at the first start.

DIR/cloud.json      what was decided (no secrets)        DIR/run/       configurations, pid files, locks (root's)
DIR/clouds.yaml     for OpenStack's clients (0600)       DIR/log/       api.log, node.log, supervisor.log
DIR/openrc          the same for a shell (0600)          DIR/secrets/   the first passwords, the store's URL
DIR/api/            the API user's: database, blobs, keys, and the socket for the node
DIR/docker/         a socket of the Docker pane for each project
DIR/node/           root's: guests, layers, console logs
DIR/facts.d/        facts that an operator adds to the host's own, or puts in their place
DIR/code/           a copy of the code, where the API's user could not read it in place
"""

import json
import os
import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import click

FORMAT = "nacre-state-1"
"""The mark of a state directory. `down` touches no directory without it."""

REGISTRY = Path("/etc/nacre/clouds")
"""One file for each cloud that root made on this machine: its name is the cloud's id, its content the state directory."""

FACTS = Path("/etc/nacre/facts.d")
"""Facts for every cloud of this machine."""

API_USER = "nacre"

COMMAND = os.environ.get("NACRE_COMMAND", "nacre")
"""How the user called this program (the launcher says `./nacre`): what messages tell to type."""


def default_state() -> Path:
    """/var/lib/nacre for root; a directory in the user's home otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/nacre")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "nacre"


@dataclass
class Cloud:
    """cloud.json."""

    cloud_id: str
    """Four hex digits."""
    host_id: str
    port: int
    external_cidr: str
    simulated_hosts: int
    """0: real guests on this machine."""
    user: str
    """Who runs the API process."""
    images: list[str]
    """The default images that were registered once; one that an operator deleted does not come back."""
    docker_tcp_port: int = 0
    """Where the Docker pane of the project `demo` is open to everybody on this machine; 0: nowhere."""
    docker_tls_port: int = 0
    """Where the Docker pane of every project is open to clients with certificates; 0: nowhere."""
    nodes_address: str = ""
    """The address of this machine at which other hosts come; empty: at every one."""
    nodes_port: int = 0
    """The port there; 0: no other hosts."""
    joined: str = ""
    """The URL of the cloud whose host this machine has become: there is a node here and no API. `cloud_id` is then this host's own."""
    external_device: str = ""
    """A network device of this machine that leads to the external network; empty: there is none, and the network is this machine's own."""
    strategy: str = "spread"
    """Which of the hosts that can take a guest gets it: spread, binpack or random."""
    store: str = ""
    """The PostgreSQL database that is the store, without its password (secrets/store has it whole); empty: SQLite in this directory."""
    settings: dict[str, str] = field(default_factory=dict)
    """What the operator set with `up --set`."""
    public_url: str = ""
    """Where clients reach the API processes, through what balances among them; empty: at the one of this machine."""
    bind: str = ""
    """An address of this machine at which the APIs serve besides loopback; empty: at loopback alone."""
    processes: int = 1
    """How many API processes there are on this machine: at `port` and the ports after it, for nodes likewise."""
    blobs: str = ""
    """The directory of image bytes that all API processes share; empty: one in this state directory."""
    peer_of: str = ""
    """The id of the cloud of which this machine has further API processes; `cloud_id` is then this machine's own."""
    format: str = FORMAT

    @property
    def url(self) -> str:
        """Of the first API process of this machine."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def public(self) -> str:
        """What clients are told."""
        return self.public_url or self.url

    @property
    def api_names(self) -> list[str]:
        """Of the API processes of this machine, as their pid files and logs bear them."""
        return ["api", *(f"api-{number}" for number in range(2, self.processes + 1))]


class State:
    """The paths in a state directory."""

    def __init__(self, directory: Path) -> None:
        self.dir = directory.absolute()
        self.cloud_file = self.dir / "cloud.json"
        self.lock = self.dir / "lock"
        self.clouds_yaml = self.dir / "clouds.yaml"
        self.openrc = self.dir / "openrc"
        self.bootstrap = self.dir / "secrets" / "bootstrap.json"
        self.store = self.dir / "secrets" / "store"
        self.api = self.dir / "api"
        self.node = self.dir / "node"
        self.docker = self.dir / "docker"
        self.run = self.dir / "run"
        self.log = self.dir / "log"
        self.code = self.dir / "code"
        self.facts = self.dir / "facts.d"
        self.gateway_socket = self.api / "gateway.sock"
        self.blobs = self.api / "blobs"
        self.api_config = self.run / "api.json"
        self.node_config = self.run / "node.json"
        self.supervisor_config = self.run / "supervisor.json"

    def pid_file(self, name: str) -> Path:
        return self.run / f"{name}.pid"

    def log_file(self, name: str) -> Path:
        return self.log / f"{name}.log"

    def load(self) -> Cloud | None:
        """None where there is no cloud. Exits where cloud.json is not ours."""
        try:
            raw = json.loads(self.cloud_file.read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise click.ClickException(
                f"{error.filename} may be read by its owner only; run this as the user that made the cloud"
            ) from error
        except ValueError:
            raw = None
        if not isinstance(raw, dict) or raw.get("format") != FORMAT:
            raise click.ClickException(f"{self.cloud_file} is not a Nacre cloud's; nothing was touched")
        unknown = sorted(raw.keys() - {each.name for each in fields(Cloud)})
        if unknown:
            # To go on without them, and to save the rest, would lose what somebody asked for.
            raise click.ClickException(
                f"{self.cloud_file} was written by a newer Nacre, which knows {', '.join(unknown)}: use that one"
            )
        return Cloud(**raw)

    def save(self, cloud: Cloud) -> None:
        write(self.cloud_file, json.dumps(asdict(cloud), indent=1) + "\n", mode=0o644)

    def require(self) -> Cloud:
        """The cloud, or an error that says what to type."""
        cloud = self.load()
        if cloud is None:
            raise click.ClickException(f"no cloud in {self.dir}: start one with `{COMMAND} up{self.option}`")
        if cloud.joined:
            raise click.ClickException(f"{self.dir} is a host of the cloud at {cloud.joined}: type this on that cloud's machine")
        return cloud

    @property
    def option(self) -> str:
        """What to add to a command so that it means this state directory."""
        return "" if self.dir == default_state() else f" --state {self.dir}"


def write(path: Path, content: str, *, mode: int, gid: int = -1) -> None:
    """Writes a file as a whole or not at all, never readable by more than `mode` allows."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        if gid != -1:
            os.fchown(file.fileno(), -1, gid)
        os.fchmod(file.fileno(), mode)
    temporary.replace(path)


def registered() -> dict[str, Path]:
    """The clouds that root made on this machine and that still have their state: id -> directory."""
    if not REGISTRY.is_dir():
        return {}
    found = {entry.name: Path(entry.read_text().strip()) for entry in REGISTRY.iterdir()}
    return {cloud_id: directory for cloud_id, directory in found.items() if (directory / "cloud.json").exists()}


def register(cloud_id: str, directory: Path) -> None:
    REGISTRY.mkdir(parents=True, exist_ok=True)
    write(REGISTRY / cloud_id, f"{directory}\n", mode=0o644)


def unregister(cloud_id: str) -> None:
    (REGISTRY / cloud_id).unlink(missing_ok=True)
    for directory in (REGISTRY, REGISTRY.parent):
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()


state_option = click.option(
    "--state",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    envvar="NACRE_STATE",
    help="The cloud's state directory (as root /var/lib/nacre, otherwise ~/.local/state/nacre).",
)
"""The option that every command about a cloud takes."""


def opened(directory: Path | None) -> State:
    return State(directory or default_state())


def say(line: str) -> None:
    """A line about what is being done; stdout is for results."""
    print(line, file=sys.stderr, flush=True)
