"""The operator's view of the API processes."""

from nacre.cloud.processes import operations
from nacre.panes.edge import Call, Reply, Route


async def list_processes(call: Call) -> Reply:
    """`state` is as this process sees it; `hosts` are those whose main streams a process has."""
    cloud = call.cloud
    rows = await call.read(lambda conn, ctx: operations.listed(conn))
    living = {cloud.process_id} | ({each.id for each in cloud.presence.processes} if cloud.presence is not None else set())
    shown = [
        {
            "id": row.id,
            "hostname": row.hostname,
            "address": row.address,
            "url": row.url,
            "version": row.version,
            "state": "up" if row.id in living else "silent",
            "leads": row.leads,
            "hosts": len(row.heard) if cloud.presence is not None else len(cloud.hosts.connected()),
        }
        for row in rows
    ]
    return Reply({"processes": shown})


ROUTES = (Route("GET", "/nacre/v1/api-processes", list_processes, "nacre:api_processes", "List the API processes"),)
