"""What a lab is called and where it lies.

DIR/lab.json    its id, its underlay and how many hosts it has
DIR/cloud/      the state directory of the cloud (`nacre status --state DIR/cloud`)
DIR/h1/ ...     the state directory of each host

In the kernel everything bears the lab's id: the namespaces nlab1234-net (the switches) and nlab1234-h1 (a host), the links nl1234-h1 and
nx1234-h1 (the same at both ends of a cable) of the underlay and of the external network.
"""

import ipaddress
import json
import re
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from nacre.cli.state import State, write
from nacre.cli.subnets import routed

FORMAT = "nacre-lab-1"
DEFAULT = Path("/var/lib/nacre-lab")
HOSTS_MAX = 9
"""Every host takes a block of user ids of the machine, which has twelve."""
UNDERLAYS = tuple(ipaddress.IPv4Network(f"198.19.{third}.0/24") for third in range(256))
"""From what is set aside for tests between machines (RFC 2544)."""
API = "api"
"""What the commands call the machine itself, where the API process runs."""
_HOST = re.compile(r"h[1-9]")


@dataclass
class Lab:
    """lab.json."""

    id: str
    """Four hex digits."""
    underlay: str
    """The network between the hosts, in CIDR form."""
    hosts: int
    format: str = FORMAT

    @property
    def names(self) -> list[str]:
        return [f"h{number}" for number in range(1, self.hosts + 1)]

    @property
    def switch(self) -> str:
        """The namespace of the switch."""
        return f"nlab{self.id}-net"

    def namespace(self, host: str) -> str:
        return f"nlab{self.id}-{host}"

    def link(self, end: str) -> str:
        """The cable of a host, or of the machine (`api`), by the same name at both of its ends."""
        return f"nl{self.id}-{end}"

    def outer(self, end: str) -> str:
        """The cable to the external network's segment."""
        return f"nx{self.id}-{end}"

    def address(self, end: str) -> str:
        """The machine has the first address, h1 the eleventh."""
        network = ipaddress.IPv4Network(self.underlay)
        return str(network[1 if end == API else 10 + int(end[1:])])

    def require(self, *ends: str) -> None:
        """Raises UsageError for what is no end of a cable here."""
        for end in ends:
            if end not in (*self.names, API):
                raise click.UsageError(f"{end} is not in this lab: there are {', '.join((*self.names, API))}")


class Place:
    """The paths of a lab."""

    def __init__(self, directory: Path | None) -> None:
        self.dir = (directory or DEFAULT).absolute()
        self.file = self.dir / "lab.json"
        self.lock = self.dir / "lock"
        self.cloud = State(self.dir / "cloud")

    def host(self, name: str) -> State:
        return State(self.dir / name)

    @property
    def option(self) -> str:
        return "" if self.dir == DEFAULT else f" --state {self.dir}"

    def load(self) -> Lab | None:
        """None where there is no lab. Raises ClickException where lab.json is not ours."""
        try:
            raw = json.loads(self.file.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise click.ClickException(f"cannot read {self.file}: {error}") from error
        if not isinstance(raw, dict) or raw.get("format") != FORMAT:
            raise click.ClickException(f"{self.file} is not a lab's; nothing was touched")
        return Lab(**raw)

    def require(self) -> Lab:
        lab = self.load()
        if lab is None:
            raise click.ClickException(f"no lab in {self.dir}: make one with `nacre lab up{self.option}`")
        return lab

    def save(self, lab: Lab) -> None:
        write(self.file, json.dumps(asdict(lab)), mode=0o644)

    def begin(self, hosts: int) -> Lab:
        """A new lab: from here on `down --purge` finds what is half made."""
        if any(path != self.lock for path in self.dir.iterdir()):
            raise click.ClickException(f"{self.dir} is not empty and holds no lab: choose another --state")
        self.dir.chmod(0o755)
        lab = Lab(secrets.token_hex(2), str(choose_underlay()), hosts)
        self.save(lab)
        return lab

    def host_directories(self) -> list[str]:
        """The hosts that have a state directory, those of a larger lab of before too."""
        return sorted(path.name for path in self.dir.iterdir() if _HOST.fullmatch(path.name) and path.is_dir())


def choose_underlay() -> ipaddress.IPv4Network:
    """The first that meets no route of this machine."""
    taken = routed(Path("/proc/net/route").read_text())
    for candidate in UNDERLAYS:
        if not any(candidate.overlaps(network) for network in taken):
            return candidate
    raise click.ClickException(f"no free underlay: all {len(UNDERLAYS)} candidates meet a route of this machine")
