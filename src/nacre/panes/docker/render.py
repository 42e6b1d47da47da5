"""Containers as the Engine API shows them: in a list (`ContainerSummary`), and whole (`ContainerInspectResponse`)."""

from collections.abc import Mapping, Sequence
from typing import Any

from nacre.cloud.containers import merging
from nacre.cloud.containers.lookup import docker_id
from nacre.cloud.containers.states import failure_code, said, status_of
from nacre.cloud.errors import Invalid
from nacre.cloud.image.references import tagged
from nacre.panes.docker.schemas import Config, HostConfig, plain
from nacre.panes.docker.words import NEVER, command_line, duration, nanos

Row = dict[str, Any]

STORAGE_DRIVER = "overlay2"
_NO_CONFIG = plain(Config())
_NO_HOST_CONFIG = plain(HostConfig()) | {"NetworkMode": "default", "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}}


class View:
    """One container, looked at once: its row, and the defaults for a server that Nova made."""

    def __init__(self, row: Mapping[str, Any], endpoints: Sequence[Any], mounts: Sequence[Row] = ()) -> None:
        self.row, self.endpoints, self.mounts = row, endpoints, mounts
        self.container: Mapping[str, Any] | None = row["container"]
        self.id = docker_id(row["id"])
        self.status = status_of(row)
        self.state = said(row)
        self.is_up = self.status in ("running", "paused", "restarting")

    @property
    def config(self) -> Mapping[str, Any]:
        """Docker's `Config`; a server of Nova's has its image's."""
        if self.container is not None:
            config: Mapping[str, Any] = self.container["config"]
            return config
        own = _NO_CONFIG | {"Hostname": self.row["hostname"], "Image": self.image, "Labels": self.row["metadata"]}
        own |= {"Tty": True, "OpenStdin": True}  # Its console.
        try:
            return merging.merged(own, merging.image_defaults(self.row["image"]))
        except Invalid:
            return own | {"Env": [], "Labels": self.row["metadata"]}

    @property
    def host_config(self) -> Mapping[str, Any]:
        if self.container is not None:
            config: Mapping[str, Any] = self.container["host_config"]
            return config
        return _NO_HOST_CONFIG | {"Memory": self.row["memory_mb"] << 20, "NanoCpus": self.row["vcpus"] * 1_000_000_000}

    @property
    def labels(self) -> Mapping[str, str]:
        labels: Mapping[str, str] = self.container["labels"] if self.container is not None else self.row["metadata"]
        return labels

    @property
    def image(self) -> str:
        """The name by which it was asked for."""
        if self.container is not None:
            return str(self.container["image_ref"])
        name = self.row["image"].get("name")
        return tagged(name) if name else self.image_id

    @property
    def image_id(self) -> str:
        image = self.row["image"]
        return str(image.get("docker_id") or image["digest"])

    @property
    def argv(self) -> list[str]:
        config = self.config
        return [*(config["Entrypoint"] or ()), *(config["Cmd"] or ())]

    @property
    def started_at(self) -> float | None:
        moment: float | None = self.state.get("started_at")
        return moment or (self.row["launched_at"] if self.status not in ("created", "removing") else None)

    @property
    def finished_at(self) -> float | None:
        moment: float | None = self.state.get("finished_at")
        return moment or (self.row["updated_at"] if self.status == "exited" else None)

    @property
    def exit_code(self) -> int:
        if self.status in ("exited", "restarting", "removing"):
            return int(self.row["exit_code"] or 0)
        return failure_code(self.error) if self.status == "created" and self.error else 0

    @property
    def error(self) -> str:
        """Why the last start failed."""
        if self.container is not None:
            return str(self.container["error"])
        return str(self.row["fault"] or "") if self.status in ("created", "exited") else ""

    @property
    def health(self) -> str:
        return str(self.state.get("health", ""))

    def status_text(self, moment: float) -> str:
        """As `docker ps` shows it."""
        finished = duration(moment - (self.finished_at or moment))
        up = f"Up {duration(moment - (self.started_at or moment))}"
        match self.status:
            case "paused":
                return f"{up} (Paused)"
            case "restarting":
                return f"Restarting ({self.exit_code}) {finished} ago"
            case "running" if self.health:
                return f"{up} ({'health: starting' if self.health == 'starting' else self.health})"
            case "running":
                return up
            case "exited":
                return f"Exited ({self.exit_code}) {finished} ago"
            case "removing":
                return "Removal In Progress"
        return "Created"


def summary(view: View, moment: float) -> Row:
    """One entry of a list."""
    return {
        "Id": view.id,
        "Names": [f"/{view.row['name']}"],
        "Image": view.image,
        "ImageID": view.image_id,
        "Command": command_line(view.argv),
        "Created": int(view.row["created_at"]),
        "Ports": ports(view),
        "Labels": view.labels,
        "State": view.status,
        "Status": view.status_text(moment),
        "HostConfig": {"NetworkMode": view.host_config["NetworkMode"]},
        "NetworkSettings": {"Networks": networks(view)},
        "Mounts": mounts(view),
    }


def inspect(view: View) -> Row:
    """Everything of one container."""
    argv = view.argv
    return {
        "Id": view.id,
        "Created": nanos(view.row["created_at"]),
        "Path": argv[0] if argv else "",
        "Args": argv[1:],
        "State": state(view),
        "Image": view.image_id,
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": "",
        "Name": f"/{view.row['name']}",
        "RestartCount": view.state.get("restart_count", 0),
        "Driver": STORAGE_DRIVER,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": view.host_config,
        "GraphDriver": {"Data": None, "Name": STORAGE_DRIVER},
        "Mounts": mounts(view),
        "Config": view.config,
        "NetworkSettings": network_settings(view),
    }


def state(view: View) -> Row:
    shown: Row = {
        "Status": view.status,
        "Running": view.is_up,
        "Paused": view.status == "paused",
        "Restarting": view.status == "restarting",
        "OOMKilled": view.state.get("oom_killed", False),
        "Dead": False,
        "Pid": view.state.get("pid", 0) if view.is_up else 0,
        "ExitCode": view.exit_code,
        "Error": view.error,
        "StartedAt": nanos(view.started_at),
        "FinishedAt": nanos(view.finished_at) if not view.is_up or view.state.get("restart_count") else NEVER,
    }
    if view.health:
        shown["Health"] = {
            "Status": view.health,
            "FailingStreak": view.state.get("failing_streak", 0),
            "Log": [
                {
                    "Start": nanos(probe["started_at"]),
                    "End": nanos(probe["ended_at"]),
                    "ExitCode": probe["exit_code"],
                    "Output": probe["output"],
                }
                for probe in view.state.get("probes", ())
            ],
        }
    return shown


def mounts(view: View) -> list[Row]:
    """Volumes and paths of the host's; a tmpfs shows only where it was asked for as a mount, as the engine has it."""
    asked = {each["Target"] for each in view.host_config["Mounts"] or () if each["Type"] == "tmpfs"}
    return [each for each in view.mounts if each["Type"] != "tmpfs" or each["Destination"] in asked]


def ports(view: View) -> list[Row]:
    """Published and exposed ports, as a list shows them."""
    shown: list[Row] = []
    published = set()
    for endpoint in view.endpoints:
        for each in endpoint.published:
            published.add((each.internal_port, each.protocol))
            shown.append(
                {
                    "IP": each.host_ip or "0.0.0.0",  # noqa: S104 - what is shown, not what is listened on
                    "PrivatePort": each.internal_port,
                    "PublicPort": each.host_port,
                    "Type": each.protocol,
                }
            )
    if view.is_up:
        for text in view.config["ExposedPorts"] or ():
            port, _, protocol = text.partition("/")
            if port.isdigit() and (int(port), protocol or "tcp") not in published:
                shown.append({"PrivatePort": int(port), "Type": protocol or "tcp"})
    return shown


def networks(view: View) -> Row:
    """network name -> `EndpointSettings`."""
    return {endpoint.network.name: _endpoint(endpoint) for endpoint in view.endpoints}


def _endpoint(endpoint: Any) -> Row:
    address, prefix = endpoint.addresses.get(4, ("", 0))
    address6, prefix6 = endpoint.addresses.get(6, ("", 0))
    return {
        "IPAMConfig": None,
        "Links": list(endpoint.links) or None,
        "Aliases": list(endpoint.aliases) or None,
        "MacAddress": endpoint.mac,
        "DriverOpts": None,
        "GwPriority": 0,
        "NetworkID": endpoint.network.docker_id,
        "EndpointID": endpoint.endpoint_id,
        "Gateway": endpoint.gateways.get(4, ""),
        "IPAddress": address,
        "IPPrefixLen": prefix,
        "IPv6Gateway": endpoint.gateways.get(6, ""),
        "GlobalIPv6Address": address6,
        "GlobalIPv6PrefixLen": prefix6,
        "DNSNames": list(endpoint.aliases) or None,
    }


_LEGACY = (
    "EndpointID",
    "Gateway",
    "GlobalIPv6Address",
    "GlobalIPv6PrefixLen",
    "IPAddress",
    "IPPrefixLen",
    "IPv6Gateway",
    "MacAddress",
)
"""What stands beside `Networks` too, of the default network."""


def network_settings(view: View) -> Row:
    shown_networks = networks(view)
    default = next((endpoint for endpoint in view.endpoints if endpoint.network.predefined), None)
    legacy = _endpoint(default) if default is not None else {}
    return {
        "Bridge": "",
        "SandboxID": view.id if view.is_up else "",
        "SandboxKey": "",
        "Ports": _port_map(view),
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        **{name: legacy.get(name, 0 if name.endswith("PrefixLen") else "") for name in _LEGACY},
        "Networks": shown_networks,
    }


def _port_map(view: View) -> Row:
    if not view.is_up:
        return {}
    shown: Row = {text if "/" in text else f"{text}/tcp": None for text in view.config["ExposedPorts"] or ()}
    for endpoint in view.endpoints:
        for each in endpoint.published:
            key = f"{each.internal_port}/{each.protocol}"
            binding = {"HostIp": each.host_ip or "0.0.0.0", "HostPort": str(each.host_port)}  # noqa: S104
            shown[key] = [*(shown.get(key) or ()), binding]
    return shown
