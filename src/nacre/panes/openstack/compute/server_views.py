"""What else can be asked about a server or the hosts, where the answer follows from how servers run here."""

from datetime import UTC, datetime
from typing import Any

from nacre.cloud.compute import live_migration, servers, zones
from nacre.cloud.errors import Invalid
from nacre.panes.edge import Call, Reply
from nacre.panes.edge.times import micros


async def topology(call: Call) -> Reply:
    """GET /servers/{id}/topology: containers have no NUMA nodes of their own, and what is shown is then an empty list, as Nova has it."""
    await call.read(servers.get, call.path["server_id"])
    return Reply({"nodes": [], "pagesize_kb": None})


async def migrations(call: Call) -> Reply:
    """GET /servers/{id}/migrations: those that are under way, live ones only."""
    rows = await call.read(live_migration.under_way, call.path["server_id"])
    names = await call.read(lambda conn, ctx: zones.names(conn))
    return Reply({"migrations": [_migration(call, row, names) for row in rows]})


async def migration(call: Call) -> Reply:
    row = await call.read(live_migration.one_under_way, call.path["server_id"], call.path["migration_id"])
    names = await call.read(lambda conn, ctx: zones.names(conn))
    return Reply({"migration": _migration(call, row, names)})


async def abort_migration(call: Call) -> Reply:
    await call.write(live_migration.abort, call.path["server_id"], call.path["migration_id"])
    return Reply(status=202)


async def force_migration(call: Call) -> Reply:
    await call.read(live_migration.refuse_to_force, call.path["server_id"], call.path["migration_id"])
    return Reply(status=202)


def _migration(call: Call, row: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Nobody counts its bytes: they are null, as with a driver of Nova's that does not."""
    source, dest = names.get(row["source_host_id"]), names.get(row["dest_host_id"])
    kinds = ("disk", "memory")
    shown: dict[str, Any] = {
        "id": row["id"],
        "status": row["status"],
        "server_uuid": row["server_id"],
        "source_node": source,
        "source_compute": source,
        "dest_node": dest,
        "dest_compute": dest,
        "dest_host": None,
        "created_at": micros(row["created_at"], ""),
        "updated_at": micros(row["updated_at"], ""),
        **{f"{kind}_{what}_bytes": None for kind in kinds for what in ("total", "processed", "remaining")},
    }
    if call.at_least(59):
        shown["uuid"] = row["uuid"]
    if call.at_least(80):
        shown |= {"user_id": row["user_id"], "project_id": row["project_id"]}
    return shown


async def audit_logs(call: Call) -> Reply:
    return await _audit(call, "instance_usage_audit_logs", datetime.now(UTC))


async def audit_log(call: Call) -> Reply:
    text = call.path["before"]
    try:
        before = datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        try:
            before = datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)
        except ValueError:
            raise Invalid(f"Invalid timestamp for date {text}", field="before") from None
    return await _audit(call, "instance_usage_audit_log", before)


async def _audit(call: Call, name: str, before: datetime) -> Reply:
    """The month before that moment. No host writes such logs, as with Nova's own default (instance_usage_audit): none has run."""
    end = before.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    begin = end.replace(year=end.year - (end.month == 1), month=(end.month - 2) % 12 + 1)
    names = [row["hostname"] for row in await call.read(zones.find)]
    shown = {
        "hosts_not_run": names,
        "log": {},
        "num_hosts": len(names),
        "num_hosts_done": 0,
        "num_hosts_not_run": len(names),
        "num_hosts_running": 0,
        "overall_status": f"0 of {len(names)} hosts done. 0 errors.",
        "period_beginning": f"{begin:%Y-%m-%d %H:%M:%S}",
        "period_ending": f"{end:%Y-%m-%d %H:%M:%S}",
        "total_errors": 0,
        "total_instances": 0,
    }
    return Reply({name: shown})
