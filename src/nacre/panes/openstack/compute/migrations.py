"""Migrations: the log of resizes and moves, for administrators, and of a project for its managers."""

from nacre.cloud.collection import Row
from nacre.cloud.compute import migrations, zones
from nacre.panes.edge import Call, Reply
from nacre.panes.edge.times import micros
from nacre.panes.openstack.compute.dialect import LIMIT_MAX, limit_of, with_next
from nacre.store import Criterion, Query

PAGED = 59
FILTERS = {
    "status": "status",
    "instance_uuid": "server_id",
    "migration_type": "migration_type",
    "user_id": "user_id",
    "project_id": "project_id",
}


def _number(flavor_id: str) -> int | None:
    return int(flavor_id) if flavor_id.isdecimal() else None


def _shown(call: Call, row: Row, names: dict[str, str]) -> Row:
    source, dest = names.get(row["source_host_id"]), names.get(row["dest_host_id"])
    shown: Row = {
        "id": row["id"],
        "status": row["status"],
        "instance_uuid": row["server_id"],
        "source_node": source,
        "source_compute": source,
        "dest_node": dest,
        "dest_compute": dest,
        "dest_host": None,
        "old_instance_type_id": _number(row["old_flavor_id"]),
        "new_instance_type_id": _number(row["new_flavor_id"]),
        "created_at": micros(row["created_at"], ""),
        "updated_at": micros(row["updated_at"], ""),
    }
    if call.at_least(23):
        shown["migration_type"] = row["migration_type"]
    if call.at_least(PAGED):
        shown["uuid"] = row["uuid"]
    if call.at_least(80):
        shown |= {"user_id": row["user_id"], "project_id": row["project_id"]}
    return shown


async def index(call: Call) -> Reply:
    query = call.query
    criteria = [Criterion(column, "eq", query[name]) for name, column in FILTERS.items() if name in query]
    paged = call.at_least(PAGED)
    asked = Query(tuple(criteria), limit=limit_of(call) if paged else LIMIT_MAX, marker=query.get("marker") if paged else None)
    page = await call.read(migrations.find, asked)
    # Hosts are an admin's matter.
    names = await call.read(lambda conn, ctx: zones.names(conn)) if call.context.is_admin else {}
    body = {"migrations": [_shown(call, row, names) for row in page.rows]}
    return Reply(with_next(call, body, "migrations", page, "uuid") if paged else body)
