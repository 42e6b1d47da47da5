"""Why a server is where it is: each time that the scheduler looked for a place, a row says what it found.

Rows are bounded: in what each holds, in how many a server has, and in how many there are; `sweep` trims them. Those of servers that are gone
are kept for KEPT_S.
"""

from typing import Any

import sqlalchemy as sa
from msgspec import Struct, convert, to_builtins

from nacre.cloud.compute.rules import host_hash
from nacre.cloud.compute.tables import scheduler_decisions, servers
from nacre.cloud.context import Context
from nacre.cloud.core import Cloud
from nacre.cloud.errors import NotFound
from nacre.cloud.scheduler import HostView, Plan, Request, why
from nacre.cloud.scheduler.plan import BEST_MAX
from nacre.cloud.scheduler.strategies import of_host, used_share
from nacre.store import Prepared
from nacre.store.schema import now

Row = dict[str, Any]

PER_SERVER_MAX = 20
"""The latest of each server are kept."""
DECISIONS_MAX = 200_000
KEPT_S = 7 * 86_400.0
SWEEP_EVERY_S = 300.0


class Dropped(Struct):
    """Hosts that a filter, or a step of Swarm's conditions, took away."""

    filter: str
    why: str
    count: int
    hosts: list[tuple[str, str]]
    """(id, name) of the first few."""


class Weighed(Struct):
    """One of the hosts that were left, best first."""

    id: str
    hostname: str
    weight: float
    """What decides: the greater, the better. Spreading counts what is used against a host, packing for it; by chance all are 0."""
    strategy: str
    guests: int
    group_members: int
    """Of the server's group, that are there."""
    used: dict[str, int]
    of: dict[str, float]
    """Claimed and claimable vCPUs, memory_mb and disk_gb, before this server came."""


class Detail(Struct):
    wanted: Row
    dropped: list[Dropped]
    best: list[Weighed]


_INSERT = Prepared(scheduler_decisions.insert())


def record(conn: sa.Connection, row: Row, action: str, request: Request, plan: Plan) -> None:
    """For the server of that row. A plan without a best host is one that failed."""
    chosen = plan.best[0] if plan.best else None
    detail = Detail(
        wanted=_wanted(request),
        dropped=[
            Dropped(name, why(name), count, [(host.id, host.hostname) for host in plan.dropped.named[name]])
            for name, count in plan.dropped.counts.items()
        ],
        best=[_weighed(host, request) for host in plan.best[:BEST_MAX]],
    )
    _INSERT.run(
        conn,
        server_id=row["id"],
        project_id=row["project_id"],
        request_id=row["request_id"],
        action=action,
        host_id=chosen.id if chosen else None,
        hostname=chosen.hostname if chosen else None,
        hosts=plan.hosts,
        detail=to_builtins(detail),
        created_at=now(),
    )


def _wanted(request: Request) -> Row:
    """What was asked for, without what was not."""
    conditions, demands = request.conditions, request.demands
    asked: Row = {
        "vcpus": request.vcpus,
        "memory_mb": request.memory_mb,
        "disk_gb": request.disk_gb,
        "availability_zone": request.availability_zone,
        "host": request.host,
        "group_policy": request.group_policy,
        "constraints": [str(each) for each in conditions.constraints],
        "affinities": [str(each) for each in conditions.affinities],
        "whitelists": [str(each) for each in conditions.whitelists],
        "same_host": list(conditions.same_host),
        "different_host": list(conditions.different_host),
        "beside": [each.flag for each in conditions.dependencies],
        "network_drivers": list(conditions.network_drivers),
        "required_traits": sorted(demands.required_traits),
        "forbidden_traits": sorted(demands.forbidden_traits),
        "aggregate_extra_specs": dict(demands.aggregate_specs),
        "capabilities": dict(demands.capabilities),
        "architecture": demands.architecture,
        "hypervisor_type": demands.hypervisor_type,
    }
    return {name: value for name, value in asked.items() if value or isinstance(value, int)}


def _weighed(host: HostView, request: Request) -> Weighed:
    strategy = of_host(host, request)
    share = round(used_share(host), 6)
    return Weighed(
        id=host.id,
        hostname=host.hostname,
        weight={"spread": -share, "binpack": share, "random": 0.0}[strategy] + 0.0,
        strategy=strategy,
        guests=host.guests,
        group_members=request.group_hosts.get(host.id, 0),
        used={"vcpus": host.claimed_vcpus, "memory_mb": host.claimed_memory_mb, "disk_gb": host.claimed_disk_gb},
        of={"vcpus": host.vcpus, "memory_mb": host.memory_mb, "disk_gb": host.disk_gb},
    )


def of_server(conn: sa.Connection, ctx: Context, ident: str, *, whole: bool) -> list[Row]:
    """The decisions on a server, the latest first; of one that is gone too, to who sees its project. Raises NotFound.

    `whole`: with hosts' names and books. Without, a host is known by `hostId`, as its owner sees it elsewhere.
    """
    newest = scheduler_decisions.c.id.desc()
    statement = sa.select(scheduler_decisions).where(scheduler_decisions.c.server_id == ident).order_by(newest)
    rows = [dict(row) for row in conn.execute(statement.limit(PER_SERVER_MAX)).mappings() if ctx.sees(row["project_id"])]
    if not rows:
        project_id = conn.execute(sa.select(servers.c.project_id).where(servers.c.id == ident)).scalar()
        if project_id is None or not ctx.sees(project_id):
            raise NotFound(f"Instance {ident} could not be found.", code="InstanceNotFound")
    return [_shown(row, whole) for row in rows]


def _shown(row: Row, whole: bool) -> Row:
    detail = convert(row["detail"], Detail)
    shown: Row = {
        "server_id": row["server_id"],
        "request_id": row["request_id"],
        "action": row["action"],
        "created_at": row["created_at"],
        "hosts": row["hosts"],
        "wanted": detail.wanted,
        "host_id": host_hash(row["project_id"], row["host_id"]) or None,
        "dropped": [{"filter": each.filter, "why": each.why, "count": each.count} for each in detail.dropped],
        "best": [{"weight": each.weight, "strategy": each.strategy} for each in detail.best],
    }
    if not whole:
        return shown
    for told, each in zip(shown["dropped"], detail.dropped, strict=True):
        told["hosts"] = [name for _, name in each.hosts]
    return {**shown, "host_id": row["host_id"], "hostname": row["hostname"], "best": to_builtins(detail.best)}


async def sweep(cloud: Cloud) -> None:
    await cloud.store.write(trim)


def trim(conn: sa.Connection, per_server: int = PER_SERVER_MAX, in_all: int = DECISIONS_MAX, kept_s: float = KEPT_S) -> None:
    """Drop what is beyond the bounds."""
    table = scheduler_decisions
    counts = sa.select(table.c.server_id).group_by(table.c.server_id).having(sa.func.count() > per_server)
    for server_id in conn.execute(counts).scalars().all():
        of_one = sa.select(table.c.id).where(table.c.server_id == server_id).order_by(table.c.id.desc())
        oldest = conn.execute(of_one.offset(per_server - 1).limit(1)).scalar_one()
        conn.execute(table.delete().where(table.c.server_id == server_id, table.c.id < oldest))
    last = conn.execute(sa.select(sa.func.coalesce(sa.func.max(table.c.id), 0))).scalar_one()
    conn.execute(table.delete().where(table.c.id <= last - in_all))
    there = sa.select(servers.c.id).where(servers.c.id == table.c.server_id)
    conn.execute(table.delete().where(table.c.created_at < now() - kept_s, ~sa.exists(there)))
