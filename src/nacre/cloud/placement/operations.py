"""Placement's reads: providers are the hosts, consumers the servers that have a claim on one."""

from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute.tables import aggregates, servers
from nacre.cloud.context import Context
from nacre.cloud.errors import Forbidden, NotFound
from nacre.cloud.hosts import views
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.hosts.traits import traits_of
from nacre.cloud.placement import rules
from nacre.cloud.placement.rules import COLUMNS, Row
from nacre.cloud.scheduler import Ratios


@dataclass(frozen=True)
class Wanted:
    """What a list of providers is narrowed to. Hosts have no parents, so a tree is one host."""

    name: str | None = None
    uuid: str | None = None
    in_tree: str | None = None
    resources: dict[str, int] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()


def providers(conn: sa.Connection, ctx: Context, wanted: Wanted, ratios: Ratios) -> list[Row]:
    query = sa.select(hosts).order_by(hosts.c.created_at, hosts.c.id)
    if wanted.name is not None:
        query = query.where(hosts.c.hostname == wanted.name)
    for ident in (wanted.uuid, wanted.in_tree):
        if ident is not None:
            query = query.where(hosts.c.id == ident)
    rows = _whole(conn, [dict(row) for row in conn.execute(query).mappings()], ratios)
    return [row for row in rows if rules.fits(row, wanted.resources) and _has_traits(row, wanted)]


def _whole(conn: sa.Connection, rows: list[Row], ratios: Ratios) -> list[Row]:
    """The hosts with the `ratios` that hold for each, and the uuids of its `aggregates`: Nova's, which are Placement's too."""
    found = views.memberships(conn, [row["id"] for row in rows])
    uuids = {row.id: row.uuid for row in conn.execute(sa.select(aggregates.c.id, aggregates.c.uuid))}
    result = []
    for row in rows:
        own = found.get(row["id"], ())
        result.append({**row, "ratios": views.ratios_of(own, ratios), "aggregates": [uuids[each.id] for each in own]})
    return result


def _has_traits(host: Row, wanted: Wanted) -> bool:
    has = traits_of(host)
    return has.issuperset(wanted.required) and has.isdisjoint(wanted.forbidden)


def whole(conn: sa.Connection, ctx: Context, uuid: str, ratios: Ratios) -> Row:
    """The provider with what its aggregates say of it. Raises NotFound."""
    return _whole(conn, [provider(conn, ctx, uuid)], ratios)[0]


def provider(conn: sa.Connection, ctx: Context, uuid: str) -> Row:
    """Raises NotFound."""
    row = conn.execute(sa.select(hosts).where(hosts.c.id == uuid)).mappings().first()
    if row is None:
        raise NotFound(f"No resource provider with uuid {uuid} found", code="placement.resource_provider.not_found")
    return dict(row)


def allocations_of_provider(conn: sa.Connection, ctx: Context, uuid: str) -> tuple[Row, list[Row]]:
    """(the host, the servers that have a claim on it)"""
    host = provider(conn, ctx, uuid)
    query = sa.select(servers).where(servers.c.host_id == uuid).order_by(servers.c.created_at, servers.c.id)
    return host, [dict(row) for row in conn.execute(query).mappings()]


def allocation_of_consumer(conn: sa.Connection, ctx: Context, consumer: str) -> tuple[Row, Row] | None:
    """(the host, the server); None for a consumer that has no claim."""
    query = sa.select(servers).where(servers.c.id == consumer, servers.c.host_id.is_not(None))
    server = conn.execute(query).mappings().first()
    return None if server is None else (provider(conn, ctx, server["host_id"]), dict(server))


def usages_of_project(conn: sa.Connection, ctx: Context, project_id: str, user_id: str | None) -> tuple[int, dict[str, int]]:
    """(consumers, resource class -> amount) of a project, or of one of its users. Raises Forbidden for another's project."""
    if not ctx.sees(project_id) and "service" not in ctx.roles:
        raise Forbidden("Policy doesn't allow placement:usages to be performed on another project.", policy="placement:usages")
    sums: list[Any] = [sa.func.coalesce(sa.func.sum(servers.c[column]), 0).label(name) for name, column in COLUMNS.items()]
    query = sa.select(sa.func.count().label("consumers"), *sums)
    query = query.where(servers.c.project_id == project_id, servers.c.host_id.is_not(None))
    if user_id is not None:
        query = query.where(servers.c.user_id == user_id)
    row = conn.execute(query).mappings().one()
    return int(row["consumers"]), {name: int(row[name]) for name in COLUMNS if row[name]}
