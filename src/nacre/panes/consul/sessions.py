"""Sessions: /v1/session (https://developer.hashicorp.com/consul/api-docs/session)."""

from typing import Any

from nacre.cloud.discovery import durations, sessions
from nacre.cloud.discovery.catalog import AGENT
from nacre.cloud.discovery.sessions import LOCK_DELAY_NS_DEFAULT, NODE_CHECK, SessionSpec
from nacre.cloud.errors import Invalid
from nacre.panes.consul.catalog import introduced
from nacre.panes.consul.dialect import Body, body, check_datacenter, shaped, shown
from nacre.panes.consul.queries import listed
from nacre.panes.edge import Call, Reply, Route


class Session(Body):
    name: str = ""
    node: str = AGENT
    lock_delay: str | int | float = ""
    behavior: str = ""
    ttl: str = ""
    checks: tuple[str, ...] | None = None
    node_checks: tuple[str, ...] | None = None
    service_checks: tuple[Any, ...] = ()


class ServiceCheck(Body):
    id: str
    namespace: str = ""


def spec_of(sent: Session) -> SessionSpec:
    checks = sent.node_checks if sent.node_checks is not None else sent.checks
    service_checks = tuple(
        {"ID": each if isinstance(each, str) else shaped(each, ServiceCheck).id, "Namespace": ""} for each in sent.service_checks
    )
    return SessionSpec(
        node=sent.node or AGENT,
        name=sent.name,
        lock_delay_ns=lock_delay_ns(sent.lock_delay),
        behavior=sent.behavior or "release",
        ttl=sent.ttl,
        node_checks=(NODE_CHECK,) if checks is None else checks,
        service_checks=service_checks,
    )


def lock_delay_ns(value: str | int | float) -> int:
    """A duration, or a number: of nanoseconds, or as Consul reads small ones, of seconds."""
    if value == "":
        return LOCK_DELAY_NS_DEFAULT
    if isinstance(value, str):
        return durations.nanoseconds(value, "LockDelay")
    if not 0 <= value < 2**62:
        raise Invalid("Invalid LockDelay", field="LockDelay")
    return int(value * 10**9 if value < 1000 else value)


def show(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "ID": row["id"],
            "Name": row["name"],
            "Node": row["node"],
            "LockDelay": row["lock_delay_ns"],
            "Behavior": row["behavior"],
            "TTL": row["ttl"],
            "NodeChecks": row["node_checks"],
            "ServiceChecks": row["service_checks"] or None,
            "CreateIndex": row["create_index"],
            "ModifyIndex": row["modify_index"],
        }
        for row in rows
    ]


async def create(call: Call) -> Reply:
    check_datacenter(call)
    spec = spec_of(await body(call, Session, needed=False))
    await introduced(call)
    return shown(call, {"ID": await call.write(sessions.create, spec)})


async def destroy(call: Call) -> Reply:
    check_datacenter(call)
    await call.write(sessions.destroy, call.path["session"])
    return shown(call, True)


async def renew(call: Call) -> Reply:
    check_datacenter(call)
    return shown(call, show([await call.write(sessions.renew, call.path["session"])]))


async def info(call: Call) -> Reply:
    ident = call.path["session"]
    return await listed(call, [f"session/{ident}"], show, sessions.info, ident)


async def of_node(call: Call) -> Reply:
    node = call.path["node"]
    return await listed(call, [f"sessions/{node}"], show, sessions.of_node, node)


async def every(call: Call) -> Reply:
    return await listed(call, ["sessions"], show, sessions.every)


ROUTES: tuple[Route, ...] = (
    Route("PUT", "/session/create", create, "discovery:write", "Create a session"),
    Route("PUT", "/session/destroy/{session}", destroy, "discovery:write", "End a session"),
    Route("PUT", "/session/renew/{session}", renew, "discovery:write", "Renew a session that has a TTL"),
    Route("GET", "/session/info/{session}", info, "discovery:read", "Show a session"),
    Route("GET", "/session/node/{node}", of_node, "discovery:read", "The sessions of a node"),
    Route("GET", "/session/list", every, "discovery:read", "All sessions"),
)
