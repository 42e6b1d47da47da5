"""Resource classes and traits: how the columns of the books are named in Placement's terms."""

from typing import Any

from nacre.cloud.scheduler import Ratios

Row = dict[str, Any]

COLUMNS = {"VCPU": "vcpus", "MEMORY_MB": "memory_mb", "DISK_GB": "disk_gb"}
"""Each resource class, and the stem of its columns in the tables of hosts and servers and in the ratios."""
DISABLED = "COMPUTE_STATUS_DISABLED"
RUNTIME_TRAITS = {
    "container": "CUSTOM_RUNTIME_CONTAINER",
    "machine": "CUSTOM_RUNTIME_MACHINE",
    "simulated": "CUSTOM_RUNTIME_SIMULATED",
}
TRAITS = (DISABLED, *RUNTIME_TRAITS.values())
CONSUMER_TYPE = "INSTANCE"
"""All that consumes is servers."""


def inventories(host: Row, ratios: Ratios) -> dict[str, Row]:
    """What the host has: resource class -> inventory. One server may take as much as the scheduler would give it."""
    result = {}
    for name, column in COLUMNS.items():
        total, ratio = int(host[column]), float(getattr(ratios, column))
        if total > 0:
            result[name] = {
                "total": total,
                "reserved": 0,
                "min_unit": 1,
                "max_unit": int(total * ratio),
                "step_size": 1,
                "allocation_ratio": ratio,
            }
    return result


def usages(host: Row) -> dict[str, int]:
    return {name: int(host[f"claimed_{column}"]) for name, column in COLUMNS.items() if host[column] > 0}


def resources(server: Row) -> dict[str, int]:
    """What a server has been given of its host."""
    return {name: int(server[column]) for name, column in COLUMNS.items() if server[column]}


def traits(host: Row) -> list[str]:
    found = [RUNTIME_TRAITS[runtime] for runtime in host["runtimes"] if runtime in RUNTIME_TRAITS]
    return sorted(found + ([] if host["enabled"] else [DISABLED]))


def fits(host: Row, ratios: Ratios, wanted: dict[str, int]) -> bool:
    """Whether that much of each class is free."""
    has, used = inventories(host, ratios), usages(host)
    return all(
        name in has and used[name] + amount <= has[name]["total"] * has[name]["allocation_ratio"]
        for name, amount in wanted.items()
    )
