"""Which servers are made anew elsewhere when their host is lost: those of whom their flavor or they themselves say so.

`nacre:evacuate=true` is an extra spec of the flavor; the same key in a server's metadata overrules it, either way. A container of Docker's
says `reschedule:on-node-failure`, as classic Swarm has it. Such servers are fenced: while their host's lease is out, its node keeps their
network cut, so that nobody speaks with the old one when there is a new one. All others run on, whatever becomes of the lease.
"""

from collections.abc import Mapping
from typing import Any

from nacre.cloud.containers.scheduling import reschedule_of

KEY = "nacre:evacuate"
_YES = frozenset({"true", "yes", "on", "1"})


def is_fenced(row: Mapping[str, Any], container: Mapping[str, Any] | None = None) -> bool:
    """By the server's row, and the row of its container where it is one (its `labels`)."""
    if container is not None:
        return reschedule_of(container["labels"]) == "on-node-failure"
    said = row["metadata"].get(KEY, row["flavor"].get("extra_specs", {}).get(KEY, ""))
    return str(said).strip().lower() in _YES
