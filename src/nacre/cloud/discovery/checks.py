"""Checks: what a service or node is asked, and what becomes of its status.

ttl          whoever registered it reports; silence for the TTL is critical
http, tcp    the node that bears the service's address asks, from inside the tenant's network (see `probing`)
script       refused: nothing of a tenant's runs outside of its own containers
"""

from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.discovery import catalog, durations
from nacre.cloud.discovery.catalog import AGENT, OUTPUT_CHARS_MAX, STATUSES
from nacre.cloud.discovery.indexes import Change, changing
from nacre.cloud.discovery.kv import project_of
from nacre.cloud.discovery.tables import checks
from nacre.cloud.errors import Invalid, NotFound
from nacre.store import Prepared

INTERVAL_NS_MIN = 10**9
"""An interval that is shorter is taken for this."""
TIMEOUT_NS_DEFAULT = 10 * 10**9
TIMEOUT_NS_MAX = 10 * 10**9
DEREGISTER_NS_MIN = 60 * 10**9
SCRIPTS_DISABLED = (
    "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or 'enable_local_script_checks' to true"
)
UNASKED = "The check has not been run yet"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class CheckSpec(Struct, frozen=True, kw_only=True):
    """A check as it is asked for. Durations are texts."""

    id: str = ""
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
    deregister_after: str = ""
    script: bool = False
    other: str = ""
    """The name of a kind that is not served (grpc, alias)."""


def define(spec: CheckSpec) -> Row:
    """The kind and definition of a check, as values of its row. Raises Invalid with Consul's wording."""
    if spec.script:
        raise Invalid(SCRIPTS_DISABLED)
    if spec.other:
        raise Invalid(f"Invalid check: {spec.other} checks are not available here; use HTTP, TCP or TTL")
    if spec.status and spec.status not in STATUSES:
        raise Invalid(f"Bad check status {spec.status!r}; it is passing, warning or critical", field="Status")
    kinds = [kind for kind in ("ttl", "http", "tcp") if getattr(spec, kind)]
    if len(kinds) != 1:
        raise Invalid("Invalid check: TTL must be > 0 for TTL checks, and a check is one of HTTP, TCP and TTL")
    kind = kinds[0]
    interval_ns = _duration(spec.interval, "Interval")
    if kind == "ttl" and interval_ns:
        raise Invalid("Invalid check: Interval and TTL cannot both be specified")
    if kind == "ttl" and _duration(spec.ttl, "TTL") <= 0:
        raise Invalid("Invalid check: TTL must be > 0 for TTL checks")
    if kind != "ttl" and interval_ns <= 0:
        raise Invalid("Invalid check: Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks")
    if spec.method and spec.method.upper() not in METHODS:
        raise Invalid(f"Invalid check: no such method {spec.method!r}", field="Method")
    asked = {
        "TTL": spec.ttl,
        "HTTP": spec.http,
        "Method": spec.method.upper(),
        "Header": spec.header,
        "Body": spec.body,
        "TLSSkipVerify": spec.tls_skip_verify,
        "TCP": spec.tcp,
        "Interval": spec.interval,
        "Timeout": _text(spec.timeout, "Timeout"),
        "DeregisterCriticalServiceAfter": _text(spec.deregister_after, "DeregisterCriticalServiceAfter"),
    }
    return {"type": kind, "definition": {name: value for name, value in asked.items() if value}}


def _duration(text: str, field: str) -> int:
    return durations.nanoseconds(text, field) if text else 0


def _text(text: str, field: str) -> str:
    _duration(text, field)
    return text


def register(change: Change, node: str, spec: CheckSpec) -> Row:
    """A check of a node, or of a service on it. Raises Invalid. It is critical until it was first asked, unless `status` says otherwise."""
    if not spec.name and not spec.id:
        raise Invalid("Missing check name")
    values = {
        **define(spec),
        "name": spec.name or spec.id,
        "notes": spec.notes,
        "service_id": spec.service_id,
        "status": spec.status or "critical",
        "output": "" if spec.ttl else UNASKED,
    }
    return catalog.put_check(change, node, spec.id or spec.name, values)


_OF_NODE = Prepared(
    sa.select(checks).where(
        checks.c.project_id == sa.bindparam("project"), checks.c.node == sa.bindparam("at"), checks.c.id == sa.bindparam("ident")
    )
)
_RENEW = Prepared(
    checks.update()
    .where(
        checks.c.project_id == sa.bindparam("project"), checks.c.node == sa.bindparam("at"), checks.c.id == sa.bindparam("ident")
    )
    .values(renewals=checks.c.renewals + 1)
)


def report(conn: sa.Connection, ctx: Context, ident: str, status: str, output: str) -> None:
    """The holder of a TTL check says how it is. Raises NotFound, Invalid (no TTL check)."""
    row = _OF_NODE.first(conn, project=project_of(ctx), at=AGENT, ident=ident) or _of_own(conn, ctx, ident)
    if row is None:
        raise NotFound(f'Unknown check ID "{ident}". Ensure that the check ID is passed, not the check name.')
    if row["type"] != "ttl":
        raise Invalid(f'CheckID "{ident}" does not have associated TTL')
    _RENEW.run(conn, project=row["project_id"], at=row["node"], ident=ident)
    with changing(conn, row["project_id"]) as change:
        catalog.put_check(change, row["node"], ident, {"status": status, "output": output[:OUTPUT_CHARS_MAX]})


def _of_own(conn: sa.Connection, ctx: Context, ident: str) -> Row | None:
    """The check of a service that the cloud has registered for one of the project's servers, wherever that runs."""
    where = (checks.c.project_id == project_of(ctx), checks.c.id == ident, checks.c.type == "ttl")
    row = conn.execute(sa.select(checks).where(*where).limit(1)).mappings().first()
    return None if row is None else dict(row)


def record(conn: sa.Connection, results: list[Row]) -> None:
    """What was found by asking: project_id, node, id, status, output and the renewals at the time of asking each. A check that was
    registered anew meanwhile, or is gone, is left alone."""
    for seen in results:
        row = _OF_NODE.first(conn, project=seen["project_id"], at=seen["node"], ident=seen["id"])
        if row is None or row["renewals"] != seen["renewals"] or row["definition"] != seen["definition"]:
            continue
        with changing(conn, seen["project_id"]) as change:
            values = {"status": seen["status"], "output": seen["output"][:OUTPUT_CHARS_MAX]}
            catalog.put_check(change, seen["node"], seen["id"], values)


def of_types(conn: sa.Connection, *types: str) -> list[Row]:
    """The checks of all projects that the cloud keeps."""
    return [dict(row) for row in conn.execute(sa.select(checks).where(checks.c.type.in_(types))).mappings()]


def ttl_over(row: Row) -> Row:
    """What an expired TTL is written down as."""
    return {**row, "status": "critical", "output": "TTL expired"}


def deregister_services(conn: sa.Connection, rows: list[Row]) -> None:
    """Services whose check was critical for longer than they allow."""
    for row in rows:
        with changing(conn, row["project_id"]) as change:
            catalog.drop_service(change, row["node"], row["service_id"])


def deregister_after_s(row: Row) -> float | None:
    """After how many seconds of being critical the service goes; None for never."""
    text = row["definition"].get("DeregisterCriticalServiceAfter")
    if not text or not row["service_id"] or row["status"] != "critical":
        return None
    return max(DEREGISTER_NS_MIN, durations.nanoseconds(text, "DeregisterCriticalServiceAfter")) / 10**9


def seconds(definition: dict[str, Any], name: str, default_ns: int) -> float:
    text = definition.get(name)
    return (durations.nanoseconds(text, name) if text else default_ns) / 10**9
