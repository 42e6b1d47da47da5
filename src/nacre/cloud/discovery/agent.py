"""The project's own agent: services and checks that clients register with it (https://developer.hashicorp.com/consul/api-docs/agent)."""

import sqlalchemy as sa
from msgspec import Struct
from msgspec.structs import replace

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.discovery import catalog, checks
from nacre.cloud.discovery.catalog import AGENT
from nacre.cloud.discovery.checks import CheckSpec
from nacre.cloud.discovery.indexes import changing
from nacre.cloud.discovery.kv import project_of
from nacre.cloud.discovery.tables import checks as checks_table
from nacre.cloud.discovery.tables import nodes
from nacre.cloud.errors import NotFound

NODE_MAINTENANCE = "_node_maintenance"
SERVICE_MAINTENANCE = "_service_maintenance:"
REASON = "Maintenance mode is enabled for this {}, but no reason was provided. This is a default message."


class ServiceSpec(Struct, frozen=True, kw_only=True):
    id: str
    values: Row
    """The row's columns: name, tags, address, port, meta, tagged_addresses, weights, enable_tag_override."""
    checks: tuple[CheckSpec, ...] = ()


def introduce(conn: sa.Connection, ctx: Context) -> None:
    """The agent's node is there from the first look at the catalog on."""
    with changing(conn, project_of(ctx)) as change:
        catalog.ensure_agent(change)


def is_introduced(conn: sa.Connection, ctx: Context) -> bool:
    where = (nodes.c.project_id == project_of(ctx), nodes.c.name == AGENT)
    return conn.execute(sa.select(nodes.c.name).where(*where)).first() is not None


def register_service(conn: sa.Connection, ctx: Context, spec: ServiceSpec, *, replace_checks: bool) -> None:
    """Again: it is changed. With `replace_checks`, checks of it that are not named go. Raises Invalid."""
    with changing(conn, project_of(ctx)) as change:
        catalog.ensure_agent(change)
        catalog.put_service(change, AGENT, spec.id, spec.values)
        made = set()
        for number, check in enumerate(spec.checks, 1):
            ident = check.id or (f"service:{spec.id}" if len(spec.checks) == 1 else f"service:{spec.id}:{number}")
            name = check.name or f"Service '{spec.values['name']}' check"
            full = replace(check, id=ident, name=name, service_id=spec.id, status=check.status or _status(conn, ctx, ident))
            made.add(checks.register(change, AGENT, full)["id"])
        if replace_checks:
            for row in catalog.node(conn, ctx, AGENT).value[2]:
                if row["service_id"] == spec.id and row["id"] not in made:
                    catalog.drop_check(change, AGENT, row["id"])


def _status(conn: sa.Connection, ctx: Context, ident: str) -> str:
    """What a check that is registered again has found so far."""
    where = (checks_table.c.project_id == project_of(ctx), checks_table.c.node == AGENT, checks_table.c.id == ident)
    return conn.execute(sa.select(checks_table.c.status).where(*where)).scalar() or ""


def register_check(conn: sa.Connection, ctx: Context, spec: CheckSpec) -> None:
    """Raises Invalid."""
    with changing(conn, project_of(ctx)) as change:
        catalog.ensure_agent(change)
        checks.register(change, AGENT, spec)


def deregister_service(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """Raises NotFound."""
    with changing(conn, project_of(ctx)) as change:
        if not catalog.drop_service(change, AGENT, ident):
            raise NotFound(f'Unknown service ID "{ident}". Ensure that the service ID is passed, not the service name.')


def deregister_check(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """Raises NotFound."""
    with changing(conn, project_of(ctx)) as change:
        if not catalog.drop_check(change, AGENT, ident):
            raise NotFound(f'Unknown check ID "{ident}". Ensure that the check ID is passed, not the check name.')


def maintain(conn: sa.Connection, ctx: Context, service_id: str | None, *, enable: bool, reason: str) -> None:
    """Take a service, or (None) the whole node, out of service by a critical check, or put it back. Raises NotFound."""
    ident = NODE_MAINTENANCE if service_id is None else f"{SERVICE_MAINTENANCE}{service_id}"
    with changing(conn, project_of(ctx)) as change:
        catalog.ensure_agent(change)
        if service_id is not None and service_id not in {row["id"] for row in catalog.node(conn, ctx, AGENT).value[1]}:
            raise NotFound(f'Unknown service "{service_id}"')
        if not enable:
            catalog.drop_check(change, AGENT, ident)
            return
        what = "node" if service_id is None else "service"
        values = {"name": f"{what.title()} Maintenance Mode", "status": "critical", "service_id": service_id or ""}
        catalog.put_check(change, AGENT, ident, {**values, "notes": reason or REASON.format(what), "type": "maintenance"})
