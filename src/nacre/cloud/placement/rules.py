"""Resource classes and traits: how the columns of the books are named in Placement's terms."""

from typing import Any

from nacre.cloud.hosts.traits import DISABLED, RUNTIME_TRAITS

Row = dict[str, Any]

COLUMNS = {"VCPU": "vcpus", "MEMORY_MB": "memory_mb", "DISK_GB": "disk_gb"}
"""Each resource class, and the stem of its columns in the tables of hosts and servers and in the ratios."""
TRAITS = (DISABLED, *RUNTIME_TRAITS.values())
CONSUMER_TYPE = "INSTANCE"
"""All that consumes is servers."""


def inventories(host: Row) -> dict[str, Row]:
    """What the host (with the `ratios` that hold for it) has: resource class -> inventory. One server may take as much as the scheduler
    would give it."""
    result = {}
    for name, column in COLUMNS.items():
        total, ratio = int(host[column]), float(getattr(host["ratios"], column))
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


def fits(host: Row, wanted: dict[str, int]) -> bool:
    """Whether that much of each class is free."""
    has, used = inventories(host), usages(host)
    return all(
        name in has and used[name] + amount <= has[name]["total"] * has[name]["allocation_ratio"]
        for name, amount in wanted.items()
    )
