"""Availability zones, services and hypervisors: the hosts, for users and for administrators."""

from typing import Any

from nacre.cloud.collection import Row
from nacre.cloud.compute import zones
from nacre.cloud.errors import Invalid, NotFound
from nacre.panes.edge import Call, Reply
from nacre.panes.edge.times import micros
from nacre.panes.openstack.compute import schemas, schemas_admin
from nacre.panes.openstack.compute.dialect import Unimplemented, check_ranges, limit_of, with_next
from nacre.panes.openstack.query import parse_boolean
from nacre.store import Page

BINARY = "nova-compute"
"""The name under which clients look for the service that runs servers; here it is the node's process."""
HYPERVISOR_VERSION = 1


def _moment(moment: float | None) -> str | None:
    return micros(moment, "")


async def zone_list(call: Call) -> Reply:
    found = await call.read(zones.zones, call.cloud.hosts.alive())
    return Reply(
        {
            "availabilityZoneInfo": [
                {"zoneName": zone, "zoneState": {"available": available}, "hosts": None} for zone, available, _ in found
            ]
        }
    )


async def zone_detail(call: Call) -> Reply:
    alive = call.cloud.hosts.alive()
    info = []
    for zone, available, members in await call.read(zones.zones, alive):
        hosts = {
            row["hostname"]: {
                BINARY: {
                    "available": zones.is_up(row, alive),
                    "active": row["enabled"],
                    "updated_at": _moment(row["updated_at"]),
                }
            }
            for row in members
        }
        info.append({"zoneName": zone, "zoneState": {"available": available}, "hosts": hosts})
    return Reply({"availabilityZoneInfo": info})


def _ident(call: Call, row: Row) -> str | int:
    ident: str = row["id"]
    return ident if call.at_least(53) else zones.number_of(ident)


def _service(call: Call, row: Row) -> Row:
    shown: Row = {
        "id": _ident(call, row),
        "binary": BINARY,
        "host": row["hostname"],
        "zone": row["availability_zone"],
        "status": "enabled" if row["enabled"] else "disabled",
        "state": "up" if zones.is_up(row, call.cloud.hosts.alive()) else "down",
        "updated_at": _moment(row["updated_at"]),
        "disabled_reason": row["disabled_reason"],
    }
    if call.at_least(11):
        shown["forced_down"] = row["forced_down"]
    return shown


async def service_delete(call: Call) -> Reply:
    """DELETE /os-services/{id}: a host that is gone for good, and has no servers any more."""
    await call.write(zones.delete, call.path["service_id"], call.cloud.hosts.alive())
    return Reply(status=204)


async def service_list(call: Call) -> Reply:
    rows = await call.read(zones.find)
    host, binary = call.query.get("host"), call.query.get("binary")
    if binary not in (None, BINARY):
        rows = []
    return Reply({"services": [_service(call, row) for row in rows if host in (None, row["hostname"])]})


SERVICE_VERBS = ("enable", "disable", "disable-log-reason", "force-down")


async def service_by_name(call: Call) -> Reply:
    """PUT /os-services/{verb}, until 2.52."""
    verb = call.path["service_id"]
    if verb not in SERVICE_VERBS or (verb == "force-down" and not call.at_least(11)):
        raise NotFound("Unknown action", code="HTTPNotFound")
    sent = await call.body(schemas.ServiceByName)
    if sent.binary != BINARY:
        raise NotFound(f"Could not find binary {sent.binary} on host {sent.host}.", code="HostBinaryNotFound")
    row = await call.read(zones.by_name, sent.host)
    shown: Row = {"host": sent.host, "binary": sent.binary}
    if verb == "force-down":
        if not isinstance(sent.forced_down, (bool, str)):
            raise Invalid("Missing forced_down field", field="forced_down")
        forced = schemas.truth(sent.forced_down)
        await call.write(zones.set_forced_down, row["id"], forced)
        return Reply({"service": {**shown, "forced_down": forced}})
    reason = sent.disabled_reason if isinstance(sent.disabled_reason, str) else None
    if verb == "disable-log-reason" and reason is None:
        raise Invalid("Missing disabled reason field", field="disabled_reason")
    await call.write(zones.set_enabled, row["id"], verb == "enable", reason)
    shown["status"] = "enabled" if verb == "enable" else "disabled"
    if verb == "disable-log-reason":
        shown["disabled_reason"] = reason
    return Reply({"service": shown})


async def service_update(call: Call) -> Reply:
    """PUT /os-services/{id}, from 2.53 on."""
    sent = await call.body(schemas.ServiceUpdate)
    check_ranges(call, sent, {})
    row = await call.read(zones.get, call.path["service_id"])
    reason = sent.disabled_reason if isinstance(sent.disabled_reason, str) else None
    if reason is not None and sent.status != "disabled":
        raise Invalid("Specifying disabled_reason requires that status is 'disabled'.", field="disabled_reason")
    if isinstance(sent.status, str):
        row = await call.write(zones.set_enabled, row["id"], sent.status == "enabled", reason)
    if isinstance(sent.forced_down, (bool, str)):
        row = await call.write(zones.set_forced_down, row["id"], schemas.truth(sent.forced_down))
    elif not isinstance(sent.status, str):
        raise Invalid("No updates were requested. Fields 'status' or 'forced_down' should be specified.", field="body")
    return Reply({"service": _service(call, row)})


async def host_list(call: Call) -> Reply:
    """GET /os-hosts, until 2.42: one line per service of a host."""
    zone = call.query.get("zone")
    rows = [row for row in await call.read(zones.find) if not zone or row["availability_zone"] == zone]
    shown = [{"host_name": row["hostname"], "service": "compute", "zone": row["availability_zone"]} for row in rows]
    return Reply({"hosts": shown})


async def host_show(call: Call) -> Reply:
    """What a host has, what of it is claimed, and what each project has of that."""
    name = call.path["host_name"]
    row = next((row for row in await call.read(zones.find) if row["hostname"] == name), None)
    if row is None:
        raise NotFound(f"Compute host {name} could not be found.", code="ComputeHostNotFound")
    lines = [
        ("(total)", row["vcpus"], row["memory_mb"], row["disk_gb"]),
        ("(used_now)", row["claimed_vcpus"], row["claimed_memory_mb"], row["claimed_disk_gb"]),
        *await call.read(lambda conn, ctx: zones.claims_by_project(conn, row["id"])),
    ]
    names = ("project", "cpu", "memory_mb", "disk_gb")
    return Reply({"host": [{"resource": {"host": name, **dict(zip(names, line, strict=True))}} for line in lines]})


async def host_update(call: Call) -> Reply:
    """PUT /os-hosts/{name}: enable or disable it. Maintenance mode is nothing that a node knows."""
    sent = await call.body(schemas_admin.HostUpdate)
    row = await call.read(zones.by_name, call.path["host_name"])
    if sent.maintenance_mode is not None:
        raise Invalid("Virt driver does not implement host maintenance mode.", field="maintenance_mode")
    enabled = sent.status.strip().lower() == "enable" if sent.status else row["enabled"]
    await call.write(zones.set_enabled, row["id"], enabled)
    return Reply({"host": row["hostname"], "status": "enabled" if enabled else "disabled"})


async def host_power(call: Call) -> Reply:
    """GET /os-hosts/{name}/startup, shutdown, reboot: no node has the power over its own host."""
    await call.read(zones.by_name, call.path["host_name"])
    raise Unimplemented("Virt driver does not implement host power management.")


async def hypervisor_uptime(call: Call) -> Reply:
    """GET /os-hypervisors/{id}/uptime, until 2.87: from the node's facts."""
    row = await _one(call)
    uptime = _uptime(call, row)
    if uptime is None:
        raise Invalid(f"The host {row['hostname']} does not tell its uptime.", field="hypervisor_id")
    return Reply({"hypervisor": {**_hypervisor_brief(call, row), "uptime": uptime}})


def _uptime(call: Call, row: Row) -> str | None:
    """As uptime(1) says it, as far as the host's facts know."""
    facts = call.cloud.hosts.facts(row["id"])
    uptime, load = facts.get("uptime"), facts.get("load_averages")
    if not uptime or not isinstance(load, dict):
        return None
    loads = ", ".join(f"{load.get(span, 0):.2f}" for span in ("1m", "5m", "15m"))
    return f"up {uptime},  load average: {loads}"


def _hypervisor_brief(call: Call, row: Row) -> Row:
    return {
        "id": _ident(call, row),
        "hypervisor_hostname": row["hostname"],
        "state": "up" if zones.is_up(row, call.cloud.hosts.alive()) else "down",
        "status": "enabled" if row["enabled"] else "disabled",
    }


def _hypervisor(call: Call, row: Row) -> Row:
    shown = _hypervisor_brief(call, row)
    shown |= {
        "hypervisor_type": row["hypervisor_type"],
        "hypervisor_version": HYPERVISOR_VERSION,
        "host_ip": row["tunnel_ip"],
        "service": {"id": _ident(call, row), "host": row["hostname"], "disabled_reason": row["disabled_reason"]},
    }
    if call.at_least(88):
        return {**shown, "uptime": _uptime(call, row)}
    return {
        **shown,
        "cpu_info": {} if call.at_least(28) else "",
        "vcpus": row["vcpus"],
        "vcpus_used": row["claimed_vcpus"],
        "memory_mb": row["memory_mb"],
        "memory_mb_used": row["claimed_memory_mb"],
        "free_ram_mb": row["memory_mb"] - row["claimed_memory_mb"],
        "local_gb": row["disk_gb"],
        "local_gb_used": row["claimed_disk_gb"],
        "free_disk_gb": row["disk_gb"] - row["claimed_disk_gb"],
        "disk_available_least": row["disk_gb"] - row["claimed_disk_gb"],
        "running_vms": row["guests"],
        "current_workload": 0,
    }


async def _hypervisor_page(call: Call) -> Page:
    """Pages by id from 2.33 on; a pattern in the name from 2.53 on."""
    rows = await call.read(zones.find)
    if call.at_least(53) and "hypervisor_hostname_pattern" in call.query:
        if "limit" in call.query or "marker" in call.query:
            raise Invalid("Paging over hypervisors with the hypervisor_hostname_pattern is not supported.", field="marker")
        pattern = call.query["hypervisor_hostname_pattern"]
        rows = [row for row in rows if pattern in row["hostname"]]
        if not rows:
            raise NotFound(f"No hypervisor matching '{pattern}' could be found.")
    if not call.at_least(33):
        return Page(rows, False)
    marker = call.query.get("marker")
    if marker is not None:
        idents = [str(_ident(call, row)) for row in rows]
        if marker not in idents:
            raise Invalid(f"marker [{marker}] not found", field="marker")
        rows = rows[idents.index(marker) + 1 :]
    limit = limit_of(call)
    return Page(rows[:limit], len(rows) > limit)


async def _with_servers(call: Call, rows: list[Row], shown: list[Row]) -> list[Row]:
    if call.at_least(53) and parse_boolean(call.query.get("with_servers", "false"), "with_servers"):
        servers = await call.read(lambda conn, ctx: zones.servers_on(conn, [row["id"] for row in rows]))
        for row, item in zip(rows, shown, strict=True):
            if servers[row["id"]] or call.at_least(75):
                item["servers"] = servers[row["id"]]
    return shown


async def _hypervisors(call: Call, render: Any) -> Reply:
    page = await _hypervisor_page(call)
    shown = await _with_servers(call, page.rows, [render(call, row) for row in page.rows])
    marked = Page([{"id": str(_ident(call, row))} for row in page.rows], page.more)
    return Reply(with_next(call, {"hypervisors": shown}, "hypervisors", marked))


async def hypervisor_list(call: Call) -> Reply:
    return await _hypervisors(call, _hypervisor_brief)


async def hypervisor_detail(call: Call) -> Reply:
    return await _hypervisors(call, _hypervisor)


async def _one(call: Call) -> Row:
    try:
        return await call.read(zones.get, call.path["hypervisor_id"])
    except NotFound:
        raise NotFound(f"Hypervisor with ID '{call.path['hypervisor_id']}' could not be found.") from None


async def hypervisor_show(call: Call) -> Reply:
    row = await _one(call)
    (shown,) = await _with_servers(call, [row], [_hypervisor(call, row)])
    return Reply({"hypervisor": shown})


async def hypervisor_statistics(call: Call) -> Reply:
    totals = await call.read(zones.totals)
    free_disk = totals["disk_gb"] - totals["claimed_disk_gb"]
    return Reply(
        {
            "hypervisor_statistics": {
                "count": totals["count"],
                "vcpus": totals["vcpus"],
                "vcpus_used": totals["claimed_vcpus"],
                "memory_mb": totals["memory_mb"],
                "memory_mb_used": totals["claimed_memory_mb"],
                "free_ram_mb": totals["memory_mb"] - totals["claimed_memory_mb"],
                "local_gb": totals["disk_gb"],
                "local_gb_used": totals["claimed_disk_gb"],
                "free_disk_gb": free_disk,
                "disk_available_least": free_disk,
                "running_vms": totals["guests"],
                "current_workload": 0,
            }
        }
    )


async def hypervisor_search(call: Call) -> Reply:
    """GET /os-hypervisors/{pattern}/search, until 2.52."""
    pattern = call.path["hypervisor_id"]
    rows = [row for row in await call.read(zones.find) if pattern in row["hostname"]]
    if not rows:
        raise NotFound(f"No hypervisor matching '{pattern}' could be found.")
    return Reply({"hypervisors": [_hypervisor_brief(call, row) for row in rows]})


async def hypervisor_servers(call: Call) -> Reply:
    """GET /os-hypervisors/{pattern}/servers, until 2.52."""
    pattern = call.path["hypervisor_id"]
    rows = [row for row in await call.read(zones.find) if pattern in row["hostname"]]
    if not rows:
        raise NotFound(f"No hypervisor matching '{pattern}' could be found.")
    servers = await call.read(lambda conn, ctx: zones.servers_on(conn, [row["id"] for row in rows]))
    shown = []
    for row in rows:
        item = _hypervisor_brief(call, row)
        if servers[row["id"]]:
            item["servers"] = servers[row["id"]]
        shown.append(item)
    return Reply({"hypervisors": shown})
