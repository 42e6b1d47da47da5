"""The bodies of the Engine API, as far as containers are concerned. Names are the API's in snake case; `null` is as good as nothing.

Source: the Engine API's reference (`ContainerConfig`, `HostConfig`, `Resources`, `NetworkingConfig`).
"""

from typing import Any

import msgspec
from msgspec import Struct

_SPECIAL = {
    "container_id_file": "ContainerIDFile",
    "uts_mode": "UTSMode",
    "io_maximum_iops": "IOMaximumIOps",
    "io_maximum_bandwidth": "IOMaximumBandwidth",
    "blkio_device_read_iops": "BlkioDeviceReadIOps",
    "blkio_device_write_iops": "BlkioDeviceWriteIOps",
    "kernel_memory_tcp": "KernelMemoryTCP",
    "device_ids": "DeviceIDs",
    "network_id": "NetworkID",
    "endpoint_id": "EndpointID",
    "ip_address": "IPAddress",
    "ip_prefix_len": "IPPrefixLen",
    "ipv6_gateway": "IPv6Gateway",
    "global_ipv6_address": "GlobalIPv6Address",
    "global_ipv6_prefix_len": "GlobalIPv6PrefixLen",
    "ipam_config": "IPAMConfig",
    "ipv4_address": "IPv4Address",
    "ipv6_address": "IPv6Address",
    "link_local_ips": "LinkLocalIPs",
    "dns_names": "DNSNames",
}
"""The names that do not follow from the words."""


def engine_name(name: str) -> str:
    """cpu_shares -> CpuShares."""
    return _SPECIAL.get(name) or "".join(word[:1].upper() + word[1:] for word in name.split("_"))


class Body(Struct, kw_only=True, rename=engine_name):
    """Keys that the API does not have are passed over, as the engine does."""


Texts = list[str] | None
Words = list[str] | str | None
"""A command: Docker takes one string for a list of one."""


class Health(Body):
    test: Texts = None
    interval: int | None = 0
    timeout: int | None = 0
    retries: int | None = 0
    start_period: int | None = 0
    start_interval: int | None = 0


class Config(Body):
    """What the image may give a default for."""

    hostname: str | None = ""
    domainname: str | None = ""
    user: str | None = ""
    attach_stdin: bool | None = False
    attach_stdout: bool | None = False
    attach_stderr: bool | None = False
    exposed_ports: dict[str, Any] | None = None
    tty: bool | None = False
    open_stdin: bool | None = False
    stdin_once: bool | None = False
    env: Texts = None
    cmd: Words = None
    healthcheck: Health | None = None
    args_escaped: bool | None = False
    image: str | None = ""
    volumes: dict[str, Any] | None = None
    working_dir: str | None = ""
    entrypoint: Words = None
    network_disabled: bool | None = False
    mac_address: str | None = ""
    on_build: Texts = None
    labels: dict[str, str] | None = None
    stop_signal: str | None = ""
    stop_timeout: int | None = None
    shell: Texts = None


class LogConfig(Body):
    type: str | None = ""
    config: dict[str, str] | None = None


class RestartPolicy(Body):
    name: str | None = ""
    maximum_retry_count: int | None = 0


class Ulimit(Body):
    name: str
    soft: int | None = 0
    hard: int | None = 0


class Device(Body):
    path_on_host: str
    path_in_container: str | None = ""
    cgroup_permissions: str | None = ""


class Binding(Body):
    host_ip: str | None = ""
    host_port: str | int | None = ""


class DriverConfig(Body):
    name: str | None = ""
    options: dict[str, str] | None = None


class BindOptions(Body):
    propagation: str | None = ""
    non_recursive: bool | None = False
    create_mountpoint: bool | None = False
    read_only_non_recursive: bool | None = False
    read_only_force_recursive: bool | None = False


class VolumeOptions(Body):
    no_copy: bool | None = False
    labels: dict[str, str] | None = None
    driver_config: DriverConfig | None = None
    subpath: str | None = ""


class TmpfsOptions(Body):
    size_bytes: int | None = 0
    mode: int | None = 0
    options: list[list[str]] | None = None


class ImageOptions(Body):
    subpath: str | None = ""


class Mount(Body):
    type: str | None = ""
    source: str | None = ""
    target: str | None = ""
    read_only: bool | None = False
    consistency: str | None = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    tmpfs_options: TmpfsOptions | None = None
    image_options: ImageOptions | None = None


class Resources(Body):
    """The part of HostConfig that `docker update` changes too."""

    cpu_shares: int | None = 0
    memory: int | None = 0
    nano_cpus: int | None = 0
    cgroup_parent: str | None = ""
    blkio_weight: int | None = 0
    blkio_weight_device: list[dict[str, Any]] | None = None
    blkio_device_read_bps: list[dict[str, Any]] | None = None
    blkio_device_write_bps: list[dict[str, Any]] | None = None
    blkio_device_read_iops: list[dict[str, Any]] | None = None
    blkio_device_write_iops: list[dict[str, Any]] | None = None
    cpu_period: int | None = 0
    cpu_quota: int | None = 0
    cpu_realtime_period: int | None = 0
    cpu_realtime_runtime: int | None = 0
    cpuset_cpus: str | None = ""
    cpuset_mems: str | None = ""
    devices: list[Device] | None = None
    device_cgroup_rules: Texts = None
    device_requests: list[dict[str, Any]] | None = None
    kernel_memory: int | None = 0
    kernel_memory_tcp: int | None = 0
    memory_reservation: int | None = 0
    memory_swap: int | None = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    pids_limit: int | None = None
    ulimits: list[Ulimit] | None = None
    cpu_count: int | None = 0
    cpu_percent: int | None = 0
    io_maximum_iops: int | None = 0
    io_maximum_bandwidth: int | None = 0


class HostConfig(Resources):
    binds: Texts = None
    container_id_file: str | None = ""
    log_config: LogConfig | None = None
    network_mode: str | None = ""
    port_bindings: dict[str, list[Binding] | None] | None = None
    restart_policy: RestartPolicy | None = None
    auto_remove: bool | None = False
    volume_driver: str | None = ""
    volumes_from: Texts = None
    console_size: list[int] | None = None
    annotations: dict[str, str] | None = None
    cap_add: Words = None
    cap_drop: Words = None
    cgroupns_mode: str | None = ""
    dns: Texts = None
    dns_options: Texts = None
    dns_search: Texts = None
    extra_hosts: Texts = None
    group_add: Texts = None
    ipc_mode: str | None = ""
    cgroup: str | None = ""
    links: Texts = None
    oom_score_adj: int | None = 0
    pid_mode: str | None = ""
    privileged: bool | None = False
    publish_all_ports: bool | None = False
    readonly_rootfs: bool | None = False
    security_opt: Texts = None
    storage_opt: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    uts_mode: str | None = ""
    userns_mode: str | None = ""
    shm_size: int | None = 0
    sysctls: dict[str, str] | None = None
    runtime: str | None = ""
    isolation: str | None = ""
    mounts: list[Mount] | None = None
    masked_paths: Texts = None
    readonly_paths: Texts = None
    init: bool | None = None


class IpamConfig(Body):
    ipv4_address: str | None = ""
    ipv6_address: str | None = ""
    link_local_ips: Texts = None


class Endpoint(Body):
    """One network that a container is to be in."""

    ipam_config: IpamConfig | None = None
    links: Texts = None
    aliases: Texts = None
    mac_address: str | None = ""
    driver_opts: dict[str, str] | None = None
    gw_priority: int | None = 0
    network_id: str | None = ""


class NetworkingConfig(Body):
    endpoints_config: dict[str, Endpoint | None] | None = None


class ContainerCreate(Config):
    """POST /containers/create: the container's configuration with two more members."""

    host_config: HostConfig | None = None
    networking_config: NetworkingConfig | None = None


class ContainerUpdate(Resources):
    """POST /containers/{id}/update."""

    restart_policy: RestartPolicy | None = None


def plain(body: Body) -> dict[str, Any]:
    """The body in the API's own shape, every key there: a `null` for what has another default is that default."""
    shown: dict[str, Any] = {}
    for field in msgspec.structs.fields(body):
        value = getattr(body, field.name)
        if value is None and field.default is not msgspec.NODEFAULT:
            value = field.default
        shown[field.encode_name] = _plain(value)
    return shown


def _plain(value: Any) -> Any:
    if isinstance(value, Body):
        return plain(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
