"""The hosts as classic Swarm shows them: the table of `docker info`, and `Node` of an inspected container.

A project sees the hosts' names, labels and sizes (what its expressions can ask for) and of what is on them its own alone. A host's id is
Nova's `hostId`, another one for each project.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute.rules import host_hash
from nacre.cloud.containers.states import status_of
from nacre.cloud.context import Context
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.scheduler import Strategy
from nacre.panes.docker.dialect import ENGINE_VERSION

Row = Mapping[str, Any]
Pair = list[str]

FILTERS = "health, port, containerslots, dependency, affinity, constraint, whitelist"
UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
STEM = "  └ "
_COLUMNS = (hosts.c.id, hosts.c.hostname, hosts.c.labels, hosts.c.vcpus, hosts.c.memory_mb, hosts.c.updated_at)


def table(
    conn: sa.Connection, ctx: Context, containers: Iterable[Row], alive: frozenset[str], strategy: Strategy, moment: float
) -> list[Pair]:
    """`SystemStatus`, pairs in Swarm's order. `containers` are the project's (see cloud.containers.listing)."""
    on_host: dict[str, list[Row]] = {}
    for each in containers:
        if each["host_id"]:
            on_host.setdefault(each["host_id"], []).append(each)
    rows = conn.execute(sa.select(*_COLUMNS).order_by(hosts.c.hostname)).mappings().all()
    pairs = [["Role", "primary"], ["Strategy", strategy], ["Filters", FILTERS], ["Nodes", str(len(rows))]]
    for found in rows:
        row = dict(found)
        own = on_host.get(row["id"], [])
        pairs += [[f" {row['hostname']}", row["hostname"]]]
        pairs += [[STEM + name, text] for name, text in _lines(ctx, row, own, row["id"] in alive, moment)]
    return pairs


def _lines(ctx: Context, host: Row, own: Sequence[Row], alive: bool, moment: float) -> list[tuple[str, str]]:
    reserved = sum(row["memory_mb"] for row in own) << 20
    return [
        ("ID", host_hash(str(ctx.project_id), host["id"])),
        ("Status", "Healthy" if alive else "Unhealthy"),
        ("Containers", _counted(own) if alive else str(len(own))),
        ("Reserved CPUs", f"{sum(row['vcpus'] for row in own)} / {host['vcpus']}"),
        ("Reserved Memory", f"{size(reserved)} / {size(host['memory_mb'] << 20)}"),
        ("Labels", ", ".join(f"{name}={value}" for name, value in sorted(host["labels"].items()))),
        ("UpdatedAt", datetime.fromtimestamp(moment if alive else host["updated_at"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")),
        ("ServerVersion", ENGINE_VERSION),
    ]


def _counted(own: Sequence[Row]) -> str:
    states = [status_of(row) for row in own]
    running = sum(state in ("running", "restarting") for state in states)
    paused = states.count("paused")
    return f"{len(own)} ({running} Running, {paused} Paused, {len(own) - running - paused} Stopped)"


def size(count_bytes: int) -> str:
    """Four significant digits, units of 1024: `8.187 GiB`."""
    value, unit = float(count_bytes), 0
    while value >= 1024 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.4g} {UNITS[unit]}"


def of_container(conn: sa.Connection, ctx: Context, row: Row) -> dict[str, Any] | None:
    """`Node` of a container: where it is. None where it has no host. Nothing is said of addresses: a project has no way to them."""
    found = conn.execute(sa.select(*_COLUMNS).where(hosts.c.id == row["host_id"])).mappings().first()
    if found is None:
        return None
    return {
        "ID": host_hash(str(ctx.project_id), found["id"]),
        "IP": "",
        "Addr": "",
        "Name": found["hostname"],
        "Cpus": found["vcpus"],
        "Memory": found["memory_mb"] << 20,
        "Labels": found["labels"],
    }
