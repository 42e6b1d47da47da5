"""The operator API's route table."""

from typing import Any

from nacre import __version__
from nacre.cloud import audit
from nacre.cloud.errors import CloudError, Unavailable
from nacre.cloud.hosts import liveness
from nacre.panes.edge import Call, Reply, Route, Service
from nacre.panes.operator import certificates, decisions, grants, hosts, processes, publishing
from nacre.panes.operator.policies import POLICIES


def render_error(error: CloudError, status: int, request_id: str) -> tuple[Any, str]:
    return {"error": {"code": status, "message": error.message, "field": error.field}}, "application/json"


async def health(call: Call) -> Reply:
    """No token and nothing secret: whether this process serves, how many hosts it has a stream with, and whether the one of its own
    machine is among them. 503 while it cannot reach the store:
    a balancer sends nobody to it then."""
    presence = call.cloud.presence
    if presence is not None and not presence.reaches_store:
        raise Unavailable("This API process cannot reach the store.")
    connected = call.cloud.hosts.connected()
    own = call.cloud.settings.host_id
    return Reply({"api": "ok", "hosts_up": len(connected), "host_up": not own or own in connected, "version": __version__})


async def run_audit(call: Call) -> Reply:
    return Reply(await audit.audit(call.cloud))


async def status(call: Call) -> Reply:
    summary = await call.read(lambda conn, ctx: audit.summary(conn, call.cloud.hosts.alive()))
    return Reply({**summary, "lease_s": call.cloud.settings.lease_s, "warning": liveness.warning(call.cloud)})


async def rotate_keys(call: Call) -> Reply:
    """The staged key signs from now on; tokens that the older ones signed stay valid."""
    await call.cloud.identity.keys.rotate()
    return Reply(status=204)


ROUTES: tuple[Route, ...] = (
    Route("GET", "/healthz", health, None, "Whether this process serves"),
    Route("GET", "/nacre/v1/audit", run_audit, "nacre:audit", "Hold intent, books and hosts against each other"),
    Route("POST", "/nacre/v1/keys/rotate", rotate_keys, "nacre:rotate_keys", "Rotate the keys that sign tokens"),
    Route("GET", "/nacre/v1/status", status, "nacre:status", "Hosts and counts"),
    *hosts.ROUTES,
    *decisions.ROUTES,
    *processes.ROUTES,
    *grants.ROUTES,
    *publishing.ROUTES,
    *certificates.ROUTES,
)

SERVICE = Service("operator", "", ROUTES, render_error, POLICIES)
"""To be the last of the services: its prefix is empty, so what nobody else answers is not found here."""
