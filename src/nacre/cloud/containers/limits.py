"""How big a container is: what it claims of its host and of the quota, and what the kernel holds it to."""

import re
from collections.abc import Mapping
from typing import Any

from nacre.cloud.errors import Invalid
from nacre.protocol.guests import Limits

Row = dict[str, Any]

FLAVOR = "docker"
"""What Nova's pane shows as the name of the size of a container."""
MEMORY_MB = 64
"""What a container without a memory limit claims ..."""
BURST_BYTES = 1 << 30
"""... and what it may use: its host stays alive whatever it does."""
PIDS = 4096
PIDS_MAX = 32_768
PERIOD_US = 100_000
MEMORY_BYTES_MIN = 6 << 20
NO_CEILING = -1
_CPUSET = re.compile(r"[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*")


def flavor_of(host_config: Mapping[str, Any], image: Mapping[str, Any]) -> Row:
    """The size that the server's row keeps, in the shape of a flavor's."""
    memory_mb = -(-int(host_config.get("Memory") or 0) // (1 << 20)) or max(MEMORY_MB, image.get("min_ram") or 0)
    return {
        "id": FLAVOR,
        "name": FLAVOR,
        "vcpus": _vcpus(host_config),
        "memory_mb": memory_mb,
        "disk_gb": image.get("min_disk") or 0,
        "ephemeral_gb": 0,
        "swap_mb": 0,
        "extra_specs": {},
        "description": None,
    }


def _vcpus(host_config: Mapping[str, Any]) -> int:
    """Whole CPUs: those that were asked for, rounded up; one where there is no ceiling, as it is a weight then."""
    nano = host_config.get("NanoCpus") or 0
    if nano:
        return max(1, -(-nano // 1_000_000_000))
    quota = host_config.get("CpuQuota") or 0
    return max(1, -(-quota // (host_config.get("CpuPeriod") or PERIOD_US))) if quota > 0 else 1


def limits_of(host_config: Mapping[str, Any], flavor: Mapping[str, Any], disk_gb: int) -> Limits:
    """What the node enforces. The memory is held to the byte."""
    quota, period = host_config.get("CpuQuota") or 0, host_config.get("CpuPeriod") or 0
    nano = host_config.get("NanoCpus") or 0
    if nano:
        quota, period = nano * PERIOD_US // 1_000_000_000, PERIOD_US
    pids = host_config.get("PidsLimit") or 0
    return Limits(
        vcpus=flavor["vcpus"],
        memory_mb=flavor["memory_mb"],
        disk_gb=disk_gb,
        swap_mb=flavor["swap_mb"],
        pids=pids if pids > 0 else PIDS,
        memory_bytes=host_config.get("Memory") or BURST_BYTES,
        memory_swap_bytes=host_config.get("MemorySwap") or None,
        memory_reservation_bytes=host_config.get("MemoryReservation") or None,
        cpu_shares=host_config.get("CpuShares") or None,
        cpu_quota_us=quota if quota > 0 else NO_CEILING,
        cpu_period_us=period or None,
        cpuset_cpus=host_config.get("CpusetCpus") or "",
        cpuset_mems=host_config.get("CpusetMems") or "",
        blkio_weight=host_config.get("BlkioWeight") or None,
    )


def check(host_config: Mapping[str, Any]) -> None:
    """Raises Invalid with the engine's sentence."""
    for problem, field, message in (*_memory(host_config), *_cpu(host_config)):
        if problem:
            raise Invalid(message, field=field)


def _memory(host_config: Mapping[str, Any]) -> tuple[tuple[bool, str, str], ...]:
    memory, swap = host_config.get("Memory") or 0, host_config.get("MemorySwap") or 0
    reservation = host_config.get("MemoryReservation") or 0
    pids = host_config.get("PidsLimit") or 0
    return (
        (memory < 0 or 0 < memory < MEMORY_BYTES_MIN, "Memory", "Minimum memory limit allowed is 6MB"),
        (
            swap > 0 and not memory,
            "MemorySwap",
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (
            swap < -1 or 0 < swap < memory,
            "MemorySwap",
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (
            reservation < 0 or 0 < reservation < MEMORY_BYTES_MIN,
            "MemoryReservation",
            "Minimum memory reservation allowed is 6MB",
        ),
        (
            0 < memory < reservation,
            "MemoryReservation",
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        (pids < -1 or pids > PIDS_MAX, "PidsLimit", f"PidsLimit: the range of the pids limit is from 1 to {PIDS_MAX}"),
    )


def _cpu(host_config: Mapping[str, Any]) -> tuple[tuple[bool, str, str], ...]:
    nano, period, quota = (host_config.get(name) or 0 for name in ("NanoCpus", "CpuPeriod", "CpuQuota"))
    weight, shares = host_config.get("BlkioWeight") or 0, host_config.get("CpuShares") or 0
    sets = [(name, host_config.get(name) or "") for name in ("CpusetCpus", "CpusetMems")]
    wrong_sets = tuple(
        (bool(value) and not _CPUSET.fullmatch(value), name, f"Invalid value {value} for {_words_of(name)}")
        for name, value in sets
    )
    return (
        (nano < 0, "NanoCpus", "NanoCPUs: the number of CPUs cannot be negative"),
        (nano > 0 and period > 0, "NanoCpus", "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
        (nano > 0 and quota > 0, "NanoCpus", "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
        (
            period != 0 and not 1000 <= period <= 1_000_000,
            "CpuPeriod",
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        (0 < quota < 1000, "CpuQuota", "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        (shares < 0, "CpuShares", f"invalid CPU shares ({shares}): value must be a positive integer"),
        (weight != 0 and not 10 <= weight <= 1000, "BlkioWeight", "Range of blkio weight is from 10 to 1000"),
        *wrong_sets,
    )


def _words_of(name: str) -> str:
    return "cpuset cpus" if name == "CpusetCpus" else "cpuset mems"
