"""The Engine API's `Config` and `HostConfig` with every member at its default, as containers' operations take them."""

from typing import Any

_CONFIG: tuple[tuple[Any, str], ...] = (
    ("", "Hostname Domainname User Image WorkingDir MacAddress StopSignal"),
    (False, "AttachStdin AttachStdout AttachStderr Tty OpenStdin StdinOnce ArgsEscaped NetworkDisabled"),
    (None, "ExposedPorts Env Cmd Healthcheck Volumes Entrypoint OnBuild Labels StopTimeout Shell"),
)
_HOST_CONFIG: tuple[tuple[Any, str], ...] = (
    (
        0,
        "CpuShares Memory NanoCpus BlkioWeight CpuPeriod CpuQuota CpuRealtimePeriod CpuRealtimeRuntime KernelMemory "
        "KernelMemoryTCP MemoryReservation MemorySwap CpuCount CpuPercent IOMaximumIOps IOMaximumBandwidth OomScoreAdj "
        "ShmSize ",
    ),
    (
        "",
        "CgroupParent CpusetCpus CpusetMems ContainerIDFile NetworkMode VolumeDriver CgroupnsMode IpcMode Cgroup "
        "PidMode UTSMode UsernsMode Runtime Isolation ",
    ),
    (
        None,
        "BlkioWeightDevice BlkioDeviceReadBps BlkioDeviceWriteBps BlkioDeviceReadIOps BlkioDeviceWriteIOps Devices "
        "DeviceCgroupRules DeviceRequests MemorySwappiness OomKillDisable PidsLimit Ulimits Binds LogConfig "
        "PortBindings RestartPolicy VolumesFrom ConsoleSize Annotations CapAdd CapDrop Dns DnsOptions DnsSearch "
        "ExtraHosts GroupAdd Links SecurityOpt StorageOpt Tmpfs Sysctls Mounts MaskedPaths ReadonlyPaths Init ",
    ),
    (False, "AutoRemove Privileged PublishAllPorts ReadonlyRootfs"),
)
"""(default, the names of the members that have it)."""


def config(**members: Any) -> dict[str, Any]:
    """A `Config`. Raises KeyError for a member that the API does not have."""
    return _whole(_CONFIG, members)


def host_config(**members: Any) -> dict[str, Any]:
    """A `HostConfig`. Raises KeyError for a member that the API does not have."""
    return _whole(_HOST_CONFIG, members)


def _whole(defaults: tuple[tuple[Any, str], ...], members: dict[str, Any]) -> dict[str, Any]:
    whole = {name: default for default, names in defaults for name in names.split()}
    unknown = members.keys() - whole.keys()
    if unknown:
        raise KeyError(f"the Engine API has no {', '.join(sorted(unknown))}")
    return {**whole, **members}
