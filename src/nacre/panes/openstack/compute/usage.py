"""Usage reports: what projects have used over a time, by the hour."""

from itertools import groupby

from nacre.cloud.collection import Row
from nacre.cloud.compute import accounting
from nacre.cloud.errors import Forbidden, Invalid
from nacre.panes.edge import Call, Reply, times
from nacre.panes.edge.times import micros
from nacre.panes.openstack.compute.dialect import unexpected
from nacre.store.schema import now

DAY_S = 86_400
WINDOW_S = 28 * DAY_S
"""What is reported on when the caller names no beginning."""
QUERY = frozenset({"start", "end", "detailed", "limit", "marker"})
STRICT_QUERY = 75
PAGED = 40
TOTALS = {"total_memory_mb_usage": "memory_mb", "total_vcpus_usage": "vcpus", "total_local_gb_usage": "disk_gb"}


def _window(call: Call) -> tuple[float, float]:
    if call.at_least(STRICT_QUERY):
        for name in call.query:
            if name not in QUERY:
                raise unexpected(name)
    end = times.parse(call.query["end"], "end") if call.query.get("end") else now()
    start = times.parse(call.query["start"], "start") if call.query.get("start") else end - WINDOW_S
    if start > end:
        raise Invalid("Invalid start time. The start time cannot occur after the end time.", field="start")
    return start, end


def _server(row: Row, start: float, end: float) -> Row:
    return {
        "instance_id": row["id"],
        "name": row["name"],
        "hours": accounting.hours(row, start, end),
        "vcpus": row["vcpus"],
        "memory_mb": row["memory_mb"],
        "local_gb": row["disk_gb"],
        "tenant_id": row["project_id"],
        "flavor": row["flavor"],
        "started_at": micros(row["started_at"], ""),
        "ended_at": micros(row["ended_at"], ""),
        "state": row["state"],
        "uptime": int((row["ended_at"] or now()) - row["started_at"]),
    }


def _project(project_id: str, rows: list[Row], start: float, end: float, *, detailed: bool) -> Row:
    """The project's sums; sizes are in hours times what was used."""
    shown: Row = {
        "tenant_id": project_id,
        "start": micros(start, ""),
        "stop": micros(end, ""),
        "total_hours": sum(accounting.hours(row, start, end) for row in rows),
    }
    for name, column in TOTALS.items():
        shown[name] = float(sum(row[column] * accounting.hours(row, start, end) for row in rows))
    if detailed:
        shown["server_usages"] = [_server(row, start, end) for row in rows]
    return shown


async def index(call: Call) -> Reply:
    start, end = _window(call)
    rows = await call.read(accounting.between, start, end)
    detailed = call.query.get("detailed") == "1"
    found = [
        _project(project_id, list(members), start, end, detailed=detailed)
        for project_id, members in groupby(rows, key=lambda row: row["project_id"])
    ]
    return Reply({"tenant_usages": found})


async def show(call: Call) -> Reply:
    project_id = call.path["usage_project_id"]
    if not call.context.sees(project_id):
        raise Forbidden(f"Policy doesn't allow {call.route.policy} to be performed.", code="PolicyNotAuthorized")
    start, end = _window(call)
    rows = await call.read(accounting.between, start, end, project_id)
    return Reply({"tenant_usage": _project(project_id, rows, start, end, detailed=True) if rows else {}})
