"""A service as it is asked for, in Tutum's names and values (facts of its API: the service's attributes)."""

import re
from typing import Any, Literal

import msgspec
from msgspec import Struct

from nacre.cloud.errors import Invalid

Strategy = Literal["EMPTIEST_NODE", "HIGH_AVAILABILITY", "EVERY_NODE"]
Autorestart = Literal["OFF", "ON_FAILURE", "ALWAYS"]
Autodestroy = Literal["OFF", "ON_SUCCESS", "ALWAYS"]
Operation = Literal["REDEPLOY", "SCALEUP"]

CONTAINERS_MAX = 500
"""Of one service."""
ENTRIES_MAX = 200
"""Of any list of a service."""
TEXT_MAX = 32_768
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9-]{0,62}")
"""A name that is one label of DNS, as the containers of a service are found by it."""
TAG = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.:=/-]{0,126}")


class Port(Struct, frozen=True, kw_only=True):
    inner_port: int
    protocol: Literal["tcp", "udp"] = "tcp"
    outer_port: int | None = None
    """On the host; None with `published`: any that is free."""
    published: bool = False


class Variable(Struct, frozen=True, kw_only=True):
    key: str
    value: str = ""


class Link(Struct, frozen=True, kw_only=True):
    """`to_service` is a service's name, NAME.STACK, its id or its URI."""

    to_service: str
    name: str = ""
    """The alias; empty: the service's name."""


class Binding(Struct, frozen=True, kw_only=True):
    """`host_path` is a volume's name (or a path of the host's, which needs a grant); None is a volume of the container's own."""

    container_path: str = ""
    host_path: str | None = None
    rewritable: bool = True
    volumes_from: str | None = None
    """Another service; then there are no paths."""


class ServiceSpec(Struct, frozen=True, kw_only=True):
    image: str
    name: str
    run_command: str = ""
    entrypoint: str = ""
    container_ports: tuple[Port, ...] = ()
    container_envvars: tuple[Variable, ...] = ()
    linked_to_service: tuple[Link, ...] = ()
    bindings: tuple[Binding, ...] = ()
    tags: tuple[str, ...] = ()
    target_num_containers: int = 1
    deployment_strategy: Strategy = "EMPTIEST_NODE"
    sequential_deployment: bool = False
    autorestart: Autorestart = "OFF"
    autodestroy: Autodestroy = "OFF"
    autoredeploy: bool = False
    roles: tuple[Literal["global"], ...] = ()
    privileged: bool = False
    net: Literal["bridge", "host"] = "bridge"
    pid: Literal["none", "host"] = "none"
    cpu_shares: int | None = None
    memory: int | None = None
    """MiB."""
    memory_swap: int | None = None
    cpuset: str = ""
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    working_dir: str = ""
    user: str = ""
    hostname: str = ""
    domainname: str = ""
    mac_address: str = ""
    cgroup_parent: str = ""
    read_only: bool = False
    stdin_open: bool = False
    tty: bool = False


def check(spec: ServiceSpec) -> ServiceSpec:
    """Raises Invalid that names the field."""
    if not NAME.fullmatch(spec.name):
        raise _refused("name", "letters, digits and dashes, 63 at most, are needed")
    if not spec.image:
        raise _refused("image", "is needed")
    check_target(spec.target_num_containers)
    for name in spec.__struct_fields__:
        value = getattr(spec, name)
        if isinstance(value, tuple | dict) and len(value) > ENTRIES_MAX:
            raise _refused(name, f"{ENTRIES_MAX} entries at most")
        if isinstance(value, str) and (len(value) > TEXT_MAX or "\x00" in value):
            raise _refused(name, f"{TEXT_MAX} characters at most, none of them NUL")
    for tag in spec.tags:
        if not TAG.fullmatch(tag):
            raise _refused("tags", f"{tag!r} is no tag")
    for port in spec.container_ports:
        if not (0 < port.inner_port < 1 << 16) or not (port.outer_port is None or 0 < port.outer_port < 1 << 16):
            raise _refused("container_ports", "a port is a number from 1 to 65535")
    for variable in spec.container_envvars:
        if not variable.key or "=" in variable.key or "\x00" in variable.key + variable.value:
            raise _refused("container_envvars", f"{variable.key!r} is no name of a variable")
        if ":" in variable.key:
            raise _refused(
                "container_envvars", f"{variable.key!r} holds a colon: say where it may run by tags and deployment_strategy"
            )
    for link in spec.linked_to_service:
        if link.name and not NAME.fullmatch(link.name):
            raise _refused("linked_to_service", f"{link.name!r} is no alias")
    for binding in spec.bindings:
        _check_binding(binding)
    return spec


def _check_binding(binding: Binding) -> None:
    if binding.volumes_from:
        if binding.container_path or binding.host_path:
            raise _refused("bindings", "volumes_from stands by itself, without paths")
    elif not binding.container_path.startswith("/"):
        raise _refused("bindings", "container_path is an absolute path")


def check_target(target: int) -> None:
    if not 0 <= target <= CONTAINERS_MAX:
        raise _refused("target_num_containers", f"a number from 0 to {CONTAINERS_MAX} is needed")


def _refused(field: str, why: str) -> Invalid:
    return Invalid(f"{field}: {why}", field=field)


def stored(row: Any) -> ServiceSpec:
    """The spec of a service's row."""
    return msgspec.convert(row["spec"], ServiceSpec)
