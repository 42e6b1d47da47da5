"""Pure checks and computations of compute."""

import hashlib
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from nacre.cloud.errors import Conflict
from nacre.cloud.scheduler import NO_CONDITIONS, Conditions, Request, Strategy, demands_of

CONTAINER_RUNTIMES = frozenset({"container", "simulated"})
MACHINE_RUNTIMES = frozenset({"machine", "simulated"})
HOSTNAME_MAX = 63


def hostname_of(name: str, server_id: str) -> str:
    """A host name (RFC 1123) made of a server's name, as Nova makes it: `Server-<id>` when nothing is left of the name."""
    text = re.sub(r"[ _.]", "-", name).lower()
    text = re.sub(r"[^a-z0-9-]", "", text).strip("-")[:HOSTNAME_MAX].strip("-")
    return text or f"server-{server_id}"


@lru_cache(maxsize=4096)
def host_hash(project_id: str, host_id: str | None) -> str:
    """`hostId`: the same for two servers of a project exactly when they are on one host. Empty without a host."""
    return hashlib.sha224(f"{project_id}{host_id}".encode()).hexdigest() if host_id else ""


def names_of(name: str, count: int) -> list[str]:
    """The names of a multi-create: `web-1`, `web-2`; a single one keeps its name."""
    return [name] if count == 1 else [f"{name}-{number}" for number in range(1, count + 1)]


def request_of(
    server: Mapping[str, Any],
    conditions: Conditions = NO_CONDITIONS,
    strategy: Strategy = "spread",
    *,
    group: Mapping[str, Any] | None = None,
    host_id: str | None = None,
    without: Collection[str] = (),
) -> Request:
    """What the scheduler must find a place for. `group`: its server group, with `occupied` (see server_groups.for_create); `host_id`:
    the only host that can take it; `without`: hosts that must not."""
    zone, _, host = (server["requested_zone"] or "").partition(":")
    is_container = server["image"].get("container_format") == "docker"
    return Request(
        vcpus=server["vcpus"],
        memory_mb=server["memory_mb"],
        disk_gb=server["disk_gb"],
        runtimes=CONTAINER_RUNTIMES if is_container else MACHINE_RUNTIMES,
        availability_zone=zone or None,
        host=host_id or host.partition(":")[0] or None,
        conditions=conditions,
        strategy=strategy,
        group_policy=group["policy"] if group else None,
        group_hosts=dict(group["occupied"]) if group else {},
        group_max_per_host=(group["rules"].get("max_server_per_host") or 1) if group else 1,
        demands=demands_of(server["flavor"].get("extra_specs") or {}, server["image"].get("properties") or {}),
        project_id=server["project_id"],
        without=frozenset(without),
    )


def require_unlocked(server: Mapping[str, Any], is_admin: bool) -> None:
    """Raises Conflict: a locked server is changed by an admin only."""
    if server["locked"] and not is_admin:
        raise Conflict(f"Instance {server['id']} is locked", code="InstanceIsLocked")
