"""The audit: intent, books and hosts held against each other. What it finds is a leak, a drift or a stuck thing; a sound cloud has none.

    books    usage rows, hosts' claims, ports and addresses, against the servers and ports that there are
    intent   every transition has a deadline ahead of it
    bytes    every blob of the store has a row that names it, and every row its blob
    hosts    everything of ours on a host is desired there, and what is desired is there

Things that are on their way (marked `gone` and not yet settled, not yet observed) are counted as pending, not as findings.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from nacre.cloud.compute import usage
from nacre.cloud.compute.migrations import SIZES, is_open
from nacre.cloud.compute.states import status_column
from nacre.cloud.compute.tables import migrations, servers
from nacre.cloud.compute.tables import usage as usage_table
from nacre.cloud.core import Cloud
from nacre.cloud.discovery import audit as discovery
from nacre.cloud.errors import Unavailable
from nacre.cloud.hosts.compilers import COMPILERS
from nacre.cloud.hosts.desired import since
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.image import audit as image
from nacre.cloud.network import audit as network
from nacre.cloud.volumes import audit as volumes
from nacre.protocol.messages import Desired, NarrowPath, Survey
from nacre.store.schema import now

DEADLINE_GRACE_S = 30.0


class Finding(Struct, frozen=True):
    """`where` is a host's name, or empty for the books."""

    kind: str
    id: str
    problem: str
    where: str = ""


class Report(Struct, frozen=True):
    findings: tuple[Finding, ...]
    pending: int
    """Things that are being brought about or undone right now: with more than none, audit again later."""
    hosts: int
    unreachable: tuple[str, ...]


async def audit(cloud: Cloud) -> Report:
    """Look at everything. Costs each host a look at its own kernel."""
    findings = [*cloud.store.read_now(_books), *(Finding(*found) for found in await image.findings(cloud))]
    pending = 0
    unreachable = []
    rows = cloud.store.read_now(_hosts)
    for host in rows:
        before = cloud.store.read_now(_desired, host["id"])
        try:
            survey = msgspec.msgpack.decode(await cloud.hosts.dial(host["id"], "survey", "", {}), type=Survey)
        except Unavailable:
            unreachable.append(host["hostname"])
            continue
        after = cloud.store.read_now(_desired, host["id"])
        found, waiting = _compare(host["hostname"], before, after, survey)
        findings += found
        findings += [_narrow(path, host["hostname"]) for path in survey.narrow]
        pending += waiting
    pending += cloud.store.read_now(_transitions)
    return Report(tuple(findings), pending, len(rows), tuple(unreachable))


def _narrow(path: NarrowPath, host: str) -> Finding:
    problem = f"the way to {path.tunnel_ip} does not carry packets of {path.size} bytes: raise the underlay's MTU, or lower the networks'"
    return Finding("underlay", path.tunnel_ip, problem, host)


def _hosts(conn: sa.Connection) -> list[dict[str, Any]]:
    return [dict(row) for row in conn.execute(sa.select(hosts.c.id, hosts.c.hostname)).mappings()]


def _desired(conn: sa.Connection, host_id: str) -> Desired:
    return since(conn, COMPILERS, host_id, 0)


def _transitions(conn: sa.Connection) -> int:
    waiting = servers.c.observed_generation < servers.c.generation
    moving = conn.execute(sa.select(sa.func.count()).where(waiting, servers.c.deadline.is_not(None))).scalar_one()
    return int(moving) + volumes.pending(conn)


def _compare(host: str, before: Desired, after: Desired, survey: Survey) -> tuple[list[Finding], int]:
    """Desired before and after the look, and what was seen in between. A holding without an id is the host's own part of the data plane,
    which is there as long as anything is desired."""
    desired = {(item.kind, item.id): item for desired in (before, after) for item in desired.items}
    leaving = {(gone.kind, gone.id) for desired in (before, after) for gone in desired.gone}
    held = {(holding.kind, holding.id) for holding in survey.holdings}
    findings = [
        Finding(holding.kind, holding.id, f"left over on the host: {holding.what} {holding.name}", host)
        for holding in survey.holdings
        if (holding.kind, holding.id) not in desired
        and (holding.kind, holding.id) not in leaving
        and not (holding.id == "" and desired)
    ]
    seen = {(observation.kind, observation.id): observation for observation in survey.observations}
    both = {(item.kind, item.id) for item in before.items} & {(item.kind, item.id) for item in after.items}
    for key in sorted(both):
        item = desired[key]
        observation = seen.get(key)
        if item.volume is not None and observation is not None and observation.state == "active" and key not in held:
            findings.append(Finding(*key, "said to be there, and nothing of it is on the host", host))
        if item.guest is None or observation is None or observation.generation < item.guest.generation:
            continue
        if observation.state == "running" and key not in held:
            findings.append(Finding(*key, "said to run, and nothing of it is on the host", host))
        if observation.state in ("running", "paused", "stopped") and observation.state != item.guest.power:
            findings.append(Finding(*key, f"is {observation.state} and is wanted {item.guest.power}", host))
    return findings, len(leaving)


def _books(conn: sa.Connection) -> Sequence[Finding]:
    return [
        *_usage(conn),
        *_claims(conn),
        *_deadlines(conn),
        *(Finding(*found) for each in (network, volumes, discovery) for found in each.findings(conn)),
    ]


def _usage(conn: sa.Connection) -> list[Finding]:
    counted = usage.recount(conn)
    written = {row["project_id"]: row for row in conn.execute(sa.select(usage_table)).mappings()}
    found = []
    for project_id in sorted(counted.keys() | written.keys()):
        for name in usage.RESOURCES:
            is_there = counted.get(project_id, {}).get(name, 0)
            says = written[project_id][name] if project_id in written else 0
            if is_there != says:
                found.append(Finding("usage", project_id, f"{name}: the row says {says}, there are {is_there}"))
    return found


def _claims(conn: sa.Connection) -> list[Finding]:
    sums = (
        sa.func.count(servers.c.id).label("guests"),
        sa.func.coalesce(sa.func.sum(servers.c.vcpus), 0).label("claimed_vcpus"),
        sa.func.coalesce(sa.func.sum(servers.c.memory_mb), 0).label("claimed_memory_mb"),
        sa.func.coalesce(sa.func.sum(servers.c.disk_gb), 0).label("claimed_disk_gb"),
    )
    statement = sa.select(hosts.c.id, *sums).select_from(hosts.outerjoin(servers, servers.c.host_id == hosts.c.id))
    counted = {row["id"]: dict(row) for row in conn.execute(statement.group_by(hosts.c.id)).mappings()}
    moving = sa.select(migrations, servers.c.host_id).join(servers, servers.c.id == migrations.c.server_id).where(is_open())
    for row in conn.execute(moving).mappings():
        there = counted[row["source_host_id"] if row["host_id"] == row["dest_host_id"] else row["dest_host_id"]]
        there["guests"] += 1
        for name in SIZES:
            there[f"claimed_{name}"] += row[name]
    return [
        Finding(
            "claim", row["id"], f"{sum_.name}: the host's book says {row[sum_.name]}, its servers {counted[row['id']][sum_.name]}"
        )
        for row in conn.execute(sa.select(hosts)).mappings()
        for sum_ in sums
        if row[sum_.name] != counted[row["id"]][sum_.name]
    ]


def _deadlines(conn: sa.Connection) -> list[Finding]:
    late = servers.c.deadline < now() - DEADLINE_GRACE_S
    stuck = sa.and_(servers.c.observed_generation < servers.c.generation, servers.c.deadline.is_(None), servers.c.fault.is_(None))
    rows = conn.execute(sa.select(servers.c.id, servers.c.action).where(sa.or_(late, stuck))).all()
    return [Finding("server", row.id, f"'{row.action}' has no deadline ahead of it") for row in rows]


def summary(conn: sa.Connection, alive: frozenset[str]) -> dict[str, Any]:
    """What `status` shows: the hosts with their books, and how many servers are in which state."""
    by_status = conn.execute(sa.select(status_column().label("status"), sa.func.count()).group_by("status")).all()
    columns = (
        "id",
        "hostname",
        "enabled",
        "availability_zone",
        "vcpus",
        "memory_mb",
        "claimed_vcpus",
        "claimed_memory_mb",
        "guests",
    )
    rows = conn.execute(sa.select(*(hosts.c[name] for name in columns)).order_by(hosts.c.hostname)).mappings()
    return {
        "hosts": [{**row, "alive": row["id"] in alive} for row in rows],
        "servers": {status: count for status, count in by_status},  # noqa: C416 - rows are no pairs to dict()
    }
