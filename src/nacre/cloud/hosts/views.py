"""Hosts as the scheduler sees them: their rows, and what follows from the aggregates they are in.

Metadata of an aggregate say for its hosts: `cpu_allocation_ratio`, `ram_allocation_ratio`, `disk_allocation_ratio` (the least, where several
aggregates of a host have one, as Nova's aggregate filters had it) and `scheduler_strategy` (that of the aggregate with the lowest id).
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, get_args

import sqlalchemy as sa

from nacre.cloud.compute.tables import aggregate_hosts, aggregates
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.hosts.traits import traits_of
from nacre.cloud.scheduler import Aggregate, HostView, Ratios, Strategy
from nacre.cloud.scheduler.strategies import METADATA_KEY
from nacre.store import Prepared, among

Row = Mapping[str, Any]

RATIO_KEYS = {"vcpus": "cpu_allocation_ratio", "memory_mb": "ram_allocation_ratio", "disk_gb": "disk_allocation_ratio"}
"""The field of Ratios, and the key of an aggregate's metadata."""
_COLUMNS = (
    *(hosts.c.id, hosts.c.hostname, hosts.c.enabled, hosts.c.forced_down, hosts.c.availability_zone, hosts.c.runtimes),
    *(hosts.c.vcpus, hosts.c.memory_mb, hosts.c.disk_gb),
    *(hosts.c.claimed_vcpus, hosts.c.claimed_memory_mb, hosts.c.claimed_disk_gb, hosts.c.guests, hosts.c.generation),
    *(hosts.c.labels, hosts.c.acceptance, hosts.c.hypervisor_type, hosts.c.architecture, hosts.c.traits),
)
_ALL = Prepared(sa.select(*_COLUMNS))
_SOME = Prepared(sa.select(*_COLUMNS).where(among(hosts.c.id)))
_MEMBERS = (
    sa.select(aggregate_hosts.c.host_id, aggregates.c.id, aggregates.c.name, aggregates.c.metadata)
    .join(aggregates, aggregates.c.id == aggregate_hosts.c.aggregate_id)
    .order_by(aggregates.c.id, aggregate_hosts.c.host_id)
)
_ALL_MEMBERS = Prepared(_MEMBERS)
_SOME_MEMBERS = Prepared(_MEMBERS.where(among(aggregate_hosts.c.host_id)))


def read(
    conn: sa.Connection, alive: Collection[str] | None, ratios: Ratios, only: Collection[str] | None = None
) -> list[HostView]:
    """The hosts, or those of `only` that are there. `alive` None takes every host for alive."""
    rows = _ALL.rows(conn) if only is None else _SOME.rows(conn, ids=list(only))
    found = memberships(conn, only)
    return [view(row, alive is None or row["id"] in alive, ratios, found.get(row["id"], ())) for row in rows]


def memberships(conn: sa.Connection, only: Collection[str] | None = None) -> dict[str, tuple[Aggregate, ...]]:
    """Host -> its aggregates, in the order of their ids; one object for each aggregate."""
    rows = _ALL_MEMBERS.rows(conn) if only is None else _SOME_MEMBERS.rows(conn, ids=list(only))
    made: dict[int, Aggregate] = {}
    found: dict[str, tuple[Aggregate, ...]] = {}
    for row in rows:
        if row["id"] not in made:
            made[row["id"]] = Aggregate(row["id"], row["name"], tuple(sorted(row["metadata"].items())))
        found[row["host_id"]] = (*found.get(row["host_id"], ()), made[row["id"]])
    return found


def view(row: Row, alive: bool, ratios: Ratios, aggregates: tuple[Aggregate, ...]) -> HostView:
    own = ratios_of(aggregates, ratios)
    return HostView(
        id=row["id"],
        hostname=row["hostname"],
        enabled=row["enabled"],
        alive=alive and not row["forced_down"],
        availability_zone=row["availability_zone"],
        runtimes=frozenset(row["runtimes"]),
        vcpus=row["vcpus"] * own.vcpus,
        memory_mb=row["memory_mb"] * own.memory_mb,
        disk_gb=row["disk_gb"] * own.disk_gb,
        claimed_vcpus=row["claimed_vcpus"],
        claimed_memory_mb=row["claimed_memory_mb"],
        claimed_disk_gb=row["claimed_disk_gb"],
        guests=row["guests"],
        labels=row["labels"],
        accepted=row["acceptance"] == "accepted",
        hypervisor_type=row["hypervisor_type"],
        architecture=row["architecture"],
        traits=traits_of(row),
        aggregates=aggregates,
        ratios=own,
        strategy=strategy_of(aggregates),
        generation=row["generation"],
    )


def ratios_of(aggregates: Iterable[Aggregate], ratios: Ratios) -> Ratios:
    """Those of the aggregates, and the cloud's for what none of them says. What is no positive number says nothing."""
    found = {}
    for field, key in RATIO_KEYS.items():
        given = [ratio for each in aggregates if (ratio := _positive(each.get(key))) is not None]
        if given:
            found[field] = min(given)
    return (
        Ratios(**{"vcpus": ratios.vcpus, "memory_mb": ratios.memory_mb, "disk_gb": ratios.disk_gb, **found}) if found else ratios
    )


def _positive(text: str | None) -> float | None:
    try:
        ratio = float(text or "")
    except ValueError:
        return None
    return ratio if 0 < ratio < float("inf") else None


def strategy_of(aggregates: Iterable[Aggregate]) -> Strategy | None:
    known: tuple[Strategy, ...] = get_args(Strategy)
    given = (each.get(METADATA_KEY) for each in aggregates)
    return next((strategy for text in given for strategy in known if strategy == text), None)
