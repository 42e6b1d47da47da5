"""The agent: /v1/agent (https://developer.hashicorp.com/consul/api-docs/agent). Each project has one, which is on the node `nacre`."""

import hashlib
from functools import partial
from typing import Any

import msgspec

from nacre import __version__
from nacre.cloud.discovery import agent, catalog, checks
from nacre.cloud.discovery.agent import ServiceSpec
from nacre.cloud.discovery.catalog import AGENT, OUTPUT_CHARS_MAX, STATUSES
from nacre.cloud.discovery.checks import CheckSpec
from nacre.cloud.discovery.indexes import Found
from nacre.cloud.discovery.sessions import NODE_CHECK
from nacre.cloud.errors import Invalid
from nacre.panes.consul import filters, render
from nacre.panes.consul.catalog import Service, introduced, service_values
from nacre.panes.consul.dialect import DATACENTER, Body, body, check_parameters, flag, json_of, shaped, shown
from nacre.panes.consul.queries import headers_of, until_changed
from nacre.panes.edge import Call, Reply, Route

Row = dict[str, Any]
CONSUL_VERSION = "1.20.0"
"""The version whose API this is."""
HEALTH_STATUS = {"passing": 200, "warning": 429, "critical": 503}
TOPIC = f"node/{AGENT}"


class CheckBody(Body):
    id: str = ""
    check_id: str = ""
    name: str = ""
    notes: str = ""
    status: str = ""
    service_id: str = ""
    ttl: str = ""
    http: str = ""
    method: str = ""
    header: dict[str, list[str]] = {}
    body: str = ""
    tls_skip_verify: bool = False
    tcp: str = ""
    interval: str = ""
    timeout: str = ""
    deregister_critical_service_after: str = ""
    args: Any = None
    script: str = ""
    docker_container_id: str = ""
    grpc: str = ""
    udp: str = ""
    h2ping: str = ""
    alias_node: str = ""
    alias_service: str = ""


class ServiceBody(Service):
    check: Any = None
    checks: list[Any] = []


OTHER_KINDS = ("grpc", "udp", "h2ping", "alias_node", "alias_service")


def check_spec(value: Any) -> CheckSpec:
    """Raises Invalid for what is no check."""
    sent = shaped(value, CheckBody)
    same = {name: getattr(sent, name) for name in CheckSpec.__struct_fields__ if name in CheckBody.__struct_fields__}
    return CheckSpec(
        **{**same, "id": sent.check_id or sent.id, "script": bool(sent.args or sent.script or sent.docker_container_id)},
        deregister_after=sent.deregister_critical_service_after,
        other=next((name for name in OTHER_KINDS if getattr(sent, name)), ""),
    )


async def register_service(call: Call) -> Reply:
    sent = await body(call, ServiceBody)
    if not (sent.name or sent.service):
        raise Invalid("Missing service name", field="Name")
    all_checks = [*([sent.check] if sent.check else []), *sent.checks]
    spec = ServiceSpec(
        id=sent.id or sent.name or sent.service,
        values=service_values(sent),
        checks=tuple(check_spec(each) for each in all_checks),
    )
    await call.write(agent.register_service, spec, replace_checks=flag(call, "replace-existing-checks"))
    return done()


def done() -> Reply:
    """200 without a body, as the agent's endpoints answer."""
    return Reply(b"", content_type="text/plain")


async def register_check(call: Call) -> Reply:
    await call.write(agent.register_check, check_spec(await json_of(call)))
    return done()


async def deregister_service(call: Call) -> Reply:
    await call.write(agent.deregister_service, call.path["service"])
    return done()


async def deregister_check(call: Call) -> Reply:
    await call.write(agent.deregister_check, call.path["check"])
    return done()


async def report(call: Call, status: str) -> Reply:
    await call.write(checks.report, call.path["check"], status, call.query.get("note", ""))
    return done()


class Update(Body):
    status: str = ""
    output: str = ""


async def update_check(call: Call) -> Reply:
    sent = await body(call, Update)
    if sent.status not in STATUSES:
        raise Invalid(f"Invalid check status: '{sent.status}'", field="Status")
    await call.write(checks.report, call.path["check"], sent.status, sent.output[:OUTPUT_CHARS_MAX])
    return done()


async def maintain(call: Call) -> Reply:
    """The whole node, or the service that the path names."""
    asked = call.query.get("enable", "").lower()
    if asked not in ("true", "false", "1", "0", "t", "f"):
        raise Invalid("Missing value for enable" if not asked else f"Invalid value for enable: {asked[:40]!r}", field="enable")
    enable = asked in ("true", "1", "t")
    await call.write(agent.maintain, call.path.get("service"), enable=enable, reason=call.query.get("reason", ""))
    return done()


async def own(call: Call, *, filtered: bool = False) -> tuple[Row | None, list[Row], list[Row]]:
    """(node, services, checks) of the agent."""
    check_parameters(call, filtered=filtered)
    await introduced(call)
    found: Found = await call.read(catalog.node, AGENT)
    value: tuple[Row | None, list[Row], list[Row]] = found.value
    return value


async def services(call: Call) -> Reply:
    wanted = filters.wanted(call, filters.SERVICE)
    _, rows, _ = await own(call, filtered=True)
    return shown(call, {row["id"]: each for row in rows if wanted(each := render.agent_service(row))})


async def all_checks(call: Call) -> Reply:
    wanted = filters.wanted(call, filters.CHECK)
    _, _, rows = await own(call, filtered=True)
    return shown(call, {row["id"]: each for row in rows if row["id"] != NODE_CHECK and wanted(each := render.check(row))})


async def service(call: Call) -> Reply:
    """One service, with a hash of it; `?hash=` waits until that is another."""
    await introduced(call)
    ident = call.path["service"]

    def seen(found: Found) -> tuple[Row | None, str]:
        row = next((each for each in found.value[1] if each["id"] == ident), None)
        shown_row = row and render.agent_service(row)
        return shown_row, hashlib.sha256(msgspec.json.encode(shown_row)).hexdigest()[:16]

    known = call.query.get("hash")
    if known:
        found = await until_changed(call, [TOPIC], lambda each: seen(each)[1] != known, catalog.node, AGENT)
    else:
        found = await call.read(catalog.node, AGENT)
    row, digest = seen(found)
    if row is None:
        return Reply(f"unknown service ID: {ident}".encode(), 404, content_type="text/plain")
    return shown(call, {**row, "ContentHash": digest}, headers={"X-Consul-ContentHash": digest})


async def health_of_name(call: Call) -> Reply:
    return await health(call, lambda row: row["name"] == call.path["service"], listing=True)


async def health_of_id(call: Call) -> Reply:
    return await health(call, lambda row: row["id"] == call.path["service"], listing=False)


async def health(call: Call, wanted: Any, *, listing: bool) -> Reply:
    """The status as a number of HTTP's: 200, 429, 503, or 404 without such a service. `?format=text` is the word alone."""
    _, rows, found = await own(call)
    shown_rows = []
    for row in filter(wanted, rows):
        concerned = [each for each in found if each["service_id"] in ("", row["id"])]
        status = catalog.worst(concerned)
        shown_checks = [render.check(each) for each in concerned]
        shown_rows.append({"AggregatedStatus": status, "Service": render.agent_service(row), "Checks": shown_checks})
    if not shown_rows:
        return Reply(f"Service {call.path['service']} not found".encode(), 404, content_type="text/plain")
    worst = max((str(row["AggregatedStatus"]) for row in shown_rows), key=STATUSES.index)
    if call.query.get("format") == "text":
        return Reply(worst.encode(), HEALTH_STATUS[worst], content_type="text/plain")
    return shown(call, shown_rows if listing else shown_rows[0], HEALTH_STATUS[worst])


def member(row: Row) -> Row:
    return {
        "Name": row["name"],
        "Addr": row["address"],
        "Port": 8301,
        "Tags": {"dc": DATACENTER, "role": "consul" if row["name"] == AGENT else "node", "id": row["id"]},
        "Status": 1,
        **{f"Protocol{name}": value for name, value in (("Min", 1), ("Max", 5), ("Cur", 2))},
        **{f"Delegate{name}": value for name, value in (("Min", 2), ("Max", 5), ("Cur", 4))},
    }


async def members(call: Call) -> Reply:
    wanted = filters.wanted(call, filters.MEMBER)
    await introduced(call)
    found: Found = await call.read(catalog.find_nodes)
    rows = (row for row in found.value if row["name"] == AGENT or row["host_id"])
    return shown(call, [each for row in rows if wanted(each := member(row))])


async def self(call: Call) -> Reply:
    node, _, _ = await own(call)
    assert node is not None
    config = {
        "Datacenter": DATACENTER,
        "PrimaryDatacenter": DATACENTER,
        "NodeName": AGENT,
        "NodeID": node["id"],
        "Revision": __version__,
        "Server": True,
        "Version": CONSUL_VERSION,
    }
    debug = {"Datacenter": DATACENTER, "NodeName": AGENT, "EnableLocalScriptChecks": False, "EnableRemoteScriptChecks": False}
    return shown(
        call,
        {"Config": config, "DebugConfig": debug, "Coord": None, "Member": member(node), "Meta": node["meta"], "Stats": {}},
        headers=headers_of(call),
    )


ROUTES: tuple[Route, ...] = (
    Route("GET", "/agent/self", self, "discovery:read", "The agent's configuration"),
    Route("GET", "/agent/members", members, "discovery:read", "The members: the agent and the hosts with the project's services"),
    Route("GET", "/agent/services", services, "discovery:read", "The agent's services"),
    Route("GET", "/agent/service/{service}", service, "discovery:read", "One of the agent's services"),
    Route("GET", "/agent/checks", all_checks, "discovery:read", "The agent's checks"),
    Route("GET", "/agent/health/service/name/{service}", health_of_name, "discovery:read", "The health of a service, by name"),
    Route("GET", "/agent/health/service/id/{service}", health_of_id, "discovery:read", "The health of a service, by id"),
    Route("PUT", "/agent/service/register", register_service, "discovery:write", "Register a service with its checks"),
    Route("PUT", "/agent/service/deregister/{service}", deregister_service, "discovery:write", "Take a service away"),
    Route("PUT", "/agent/service/maintenance/{service}", maintain, "discovery:write", "Take a service out of service"),
    Route("PUT", "/agent/maintenance", maintain, "discovery:write", "Take the agent's node out of service"),
    Route("PUT", "/agent/check/register", register_check, "discovery:write", "Register a check"),
    Route("PUT", "/agent/check/deregister/{check}", deregister_check, "discovery:write", "Take a check away"),
    Route(
        "PUT", "/agent/check/pass/{check}", partial(report, status="passing"), "discovery:write", "Report a TTL check as passing"
    ),
    Route(
        "PUT", "/agent/check/warn/{check}", partial(report, status="warning"), "discovery:write", "Report a TTL check as warning"
    ),
    Route(
        "PUT",
        "/agent/check/fail/{check}",
        partial(report, status="critical"),
        "discovery:write",
        "Report a TTL check as critical",
    ),
    Route("PUT", "/agent/check/update/{check}", update_check, "discovery:write", "Report a TTL check with its output"),
)
