"""The operator's hosts: their books, labels and facts."""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.context import Context
from nacre.cloud.hosts import labels
from nacre.cloud.hosts.tables import hosts
from nacre.panes.edge import Call, Reply, Route

SHOWN = ("id", "hostname", "enabled", "availability_zone", "hypervisor_type", "guests", "labels")


def _rows(conn: sa.Connection, ctx: Context) -> list[dict[str, Any]]:
    columns = [hosts.c[name] for name in SHOWN]
    return [dict(row) for row in conn.execute(sa.select(*columns).order_by(hosts.c.hostname)).mappings()]


async def list_hosts(call: Call) -> Reply:
    alive = call.cloud.hosts.alive()
    return Reply({"hosts": [{**row, "alive": row["id"] in alive} for row in await call.read(_rows)]})


async def list_facts(call: Call) -> Reply:
    """Of every host, or of the one that `host` names by id or name."""
    wanted = call.query.get("host")
    rows = await call.read(_rows) if wanted is None else [await call.read(lambda conn, ctx: labels.find(conn, wanted))]
    facts = call.cloud.hosts.facts
    return Reply({"hosts": [{"id": row["id"], "hostname": row["hostname"], "facts": facts(row["id"])} for row in rows]})


async def change_labels(call: Call) -> Reply:
    """The body is NAME: value, with null for a label that is to go."""
    changes = await call.body(dict[str, str | None])
    return Reply({"labels": await call.write(labels.change, call.path["host"], changes)})


ROUTES: tuple[Route, ...] = (
    Route("GET", "/nacre/v1/hosts", list_hosts, "nacre:hosts", "List hosts with their labels"),
    Route("PATCH", "/nacre/v1/hosts/{host}/labels", change_labels, "nacre:label_hosts", "Change a host's labels"),
    Route("GET", "/nacre/v1/facts", list_facts, "nacre:facts", "Show the facts of hosts"),
)
