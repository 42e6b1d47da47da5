"""What a node is told at its start: one JSON file, written by `up` or `join`, readable by root only."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

CRIU_VARIABLE, NO_CRIU = "NACRE_CRIU", "none"


class JoinedHost(Struct, frozen=True):
    """One host of a cloud elsewhere, and the files with what it shows there."""

    host_id: str
    hostname: str
    certificate: str
    key: str


class NodeConfig(Struct, frozen=True):
    """Ids, paths and peers; nothing secret."""

    host_id: str
    cloud_id: str
    """Four hex digits in every name of ours in the kernel, so that two clouds can live on one machine. A host that has joined has an id
    of its own here, so that two hosts of one cloud can."""
    state_dir: str
    """Only the node writes here: guests, layers, console logs."""
    gateway_socket: str = ""
    """The unix socket of the embedded API process, made by `api_uid`."""
    api_uid: int = -1
    hostname: str = ""
    simulated_hosts: int = 0
    """More than 0: no real guests, that many simulated hosts instead."""
    simulated_first: int = 0
    """The number of the first one: several processes can have hosts of one cloud."""
    tunnel_ip: str | None = None
    joined: tuple["JoinedHost", ...] = ()
    """What `join` was given: the host (or the simulated hosts) of this process, who come to `gateway_url` instead of the socket."""
    gateway_url: str = ""
    authority_file: str = ""
    """The certificate of the cloud's authority, which was held against the fingerprint in the token."""
    facts: tuple[str, ...] = ()
    """Folders with more facts (see nacre.node.facts.external); what a later one says wins."""

    external: str = ""
    """A device of this host that leads into the external network's segment and is given to it whole; empty: there is none."""
    boot_id: str = ""
    """Added to the kernel's boot id where several hosts share one kernel and each is restarted alone (a lab)."""

    criu: str = ""
    """The program by which guests move while they run; empty: `criu` of the usual folders, if it is there; `none`: not at all."""

    @property
    def facts_folders(self) -> tuple[Path, ...]:
        return tuple(Path(folder) for folder in self.facts)

    @property
    def state(self) -> Path:
        return Path(self.state_dir)


def criu_of(path: Path, environment: Mapping[str, str]) -> str:
    """What the operator says of CRIU by NACRE_CRIU (a program's path, or `none`), or said when the node's configuration there was written."""
    said = environment.get(CRIU_VARIABLE)
    if said is not None:
        return said
    return load(path).criu if path.exists() else ""


def load(path: Path) -> NodeConfig:
    return msgspec.json.decode(path.read_bytes(), type=NodeConfig)
