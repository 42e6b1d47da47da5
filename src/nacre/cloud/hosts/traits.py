"""What a host is, in Placement's terms (https://docs.openstack.org/placement/latest/user/provider-tree.html)."""

from collections.abc import Mapping
from typing import Any

DISABLED = "COMPUTE_STATUS_DISABLED"
RUNTIME_TRAITS = {
    "container": "CUSTOM_RUNTIME_CONTAINER",
    "machine": "CUSTOM_RUNTIME_MACHINE",
    "simulated": "CUSTOM_RUNTIME_SIMULATED",
}


def traits_of(host: Mapping[str, Any]) -> frozenset[str]:
    """Those that follow from its row, and those that an operator gave it."""
    found = {RUNTIME_TRAITS[runtime] for runtime in host["runtimes"] if runtime in RUNTIME_TRAITS}
    if not host["enabled"]:
        found.add(DISABLED)
    return frozenset(found.union(host["traits"]))
