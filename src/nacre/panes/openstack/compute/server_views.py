"""What else can be asked about a server or the hosts, where the answer follows from how servers run here."""

from datetime import UTC, datetime

from nacre.cloud.compute import servers, zones
from nacre.cloud.errors import Invalid, NotFound
from nacre.panes.edge import Call, Reply


async def topology(call: Call) -> Reply:
    """GET /servers/{id}/topology: containers have no NUMA nodes of their own, and what is shown is then an empty list, as Nova has it."""
    await call.read(servers.get, call.path["server_id"])
    return Reply({"nodes": [], "pagesize_kb": None})


async def migrations(call: Call) -> Reply:
    """GET /servers/{id}/migrations: those that are under way, live ones only. None ever is."""
    await call.read(servers.get, call.path["server_id"])
    return Reply({"migrations": []})


async def migration(call: Call) -> Reply:
    """One of them: show, abort, force to complete."""
    server, ident = call.path["server_id"], call.path["migration_id"]
    await call.read(servers.get, server)
    raise NotFound(f"In-progress live migration {ident} is not found for server {server}.", code="MigrationNotFoundForInstance")


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
