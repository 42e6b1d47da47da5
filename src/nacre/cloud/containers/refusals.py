"""What an engine on one machine of its own could do, and a cloud with tenants does not: refused by the field's name, never passed over."""

from collections.abc import Callable, Mapping
from typing import Any

from nacre.cloud.errors import Invalid


def _any_of(*allowed: Any) -> Callable[[Any], bool]:
    return lambda value: value in allowed


_EMPTY: tuple[Any, ...] = (None, "", 0, False, [], {})

ALLOWED: dict[str, Callable[[Any], bool]] = {
    "Annotations": _any_of(*_EMPTY),
    "BlkioDeviceReadBps": _any_of(*_EMPTY),
    "BlkioDeviceReadIOps": _any_of(*_EMPTY),
    "BlkioDeviceWriteBps": _any_of(*_EMPTY),
    "BlkioDeviceWriteIOps": _any_of(*_EMPTY),
    "BlkioWeightDevice": _any_of(*_EMPTY),
    "Cgroup": _any_of(*_EMPTY),
    "CgroupParent": _any_of(*_EMPTY),
    "CgroupnsMode": _any_of(*_EMPTY, "private"),
    "CpuCount": _any_of(*_EMPTY),
    "CpuPercent": _any_of(*_EMPTY),
    "CpuRealtimePeriod": _any_of(*_EMPTY),
    "CpuRealtimeRuntime": _any_of(*_EMPTY),
    "DeviceCgroupRules": _any_of(*_EMPTY),
    "DeviceRequests": _any_of(*_EMPTY),
    "IOMaximumBandwidth": _any_of(*_EMPTY),
    "IOMaximumIOps": _any_of(*_EMPTY),
    "Isolation": _any_of(*_EMPTY, "default"),
    "KernelMemory": _any_of(*_EMPTY),
    "KernelMemoryTCP": _any_of(*_EMPTY),
    "MemorySwappiness": _any_of(None, -1),
    "OomKillDisable": _any_of(*_EMPTY),
    "OomScoreAdj": _any_of(*_EMPTY),
    "StorageOpt": _any_of(*_EMPTY),
    "UTSMode": _any_of(*_EMPTY),
    "UsernsMode": _any_of(*_EMPTY),
}
"""HostConfig's members of which only these values can be had."""
RUNTIMES = ("", "crun", "runc", "io.containerd.runc.v2")


def check(host_config: Mapping[str, Any]) -> None:
    """Raises Invalid."""
    for name, allowed in ALLOWED.items():
        value = host_config.get(name)
        if not allowed(value):
            raise Invalid(f"HostConfig.{name}: {value!r} is not available in this cloud", field=f"HostConfig.{name}")
    runtime = host_config.get("Runtime") or ""
    if runtime not in RUNTIMES:
        raise Invalid(f"unknown or invalid runtime name: {runtime}", field="HostConfig.Runtime")
