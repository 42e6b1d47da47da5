"""Servers that go to another host: migration (see `cold_migration`), evacuation from one that is lost (see `evacuating`), and what is not served."""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute import cold_migration
from nacre.cloud.compute.actions import ready
from nacre.cloud.compute.evacuating import evacuate as move
from nacre.cloud.compute.migrations import SIZES
from nacre.cloud.compute.placing import Placing, choose
from nacre.cloud.compute.rescuing import refuse_container
from nacre.cloud.compute.servers import changeable, let_go
from nacre.cloud.compute.states import state_of
from nacre.cloud.compute.tables import servers
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.scheduler import ExpressionError, NoValidHost

Row = dict[str, Any]

EVACUATED = frozenset({"active", "stopped", "error"})


def evacuate(
    conn: sa.Connection,
    ctx: Context,
    ident: str,
    hostname: str | None,
    password_hash: str,
    known: Placing,
    *,
    stay_stopped: bool,
) -> None:
    """Make the server of a lost host anew on another one. Raises Invalid while its host is up, and where no other can take it."""
    row = changeable(conn, ctx, ident)
    state = state_of(row)
    if row["host_id"] is None or row["gone"] or state.vm_state not in EVACUATED:
        raise Conflict(
            f"Cannot 'evacuate' instance {ident} while it is in vm_state {state.vm_state}", code="InstanceInvalidState"
        )
    refuse_container(conn, row, "evacuated")
    host = conn.execute(sa.select(hosts).where(hosts.c.id == row["host_id"])).mappings().one()
    if row["host_id"] in known.alive and not host["forced_down"]:
        raise Invalid(f"Compute service of {host['hostname']} is still in use.", code="ComputeServiceInUse")
    zone = (row["requested_zone"] or "").partition(":")[0]
    wanted = {**row, "requested_zone": f"{zone}:{hostname}" if hostname else zone or None}
    try:
        target = choose(conn, wanted, known, without=(row["host_id"],), action="evacuate")
    except (NoValidHost, ExpressionError) as error:
        raise Invalid(str(error), field="host", code="NoValidHost") from None
    kept = {**row, "power": "stopped"} if stay_stopped else row
    let_go(conn, row, own=False)
    conn.execute(servers.update().where(servers.c.id == ident).values(password_hash=password_hash, rescue=sa.null()))
    move(conn, ctx, kept, target)


MIGRATED = frozenset({"active", "stopped"})


def migrate(
    conn: sa.Connection, ctx: Context, ident: str, hostname: str | None, known: Placing, *, automatic: bool = False
) -> None:
    """Stop the server, and start it on another host (the one that is named). Raises Invalid where none can take it, Conflict."""
    row = ready(conn, ctx, ident, "migrate", MIGRATED)
    own = conn.execute(sa.select(hosts.c.id, hosts.c.hostname).where(hosts.c.id == row["host_id"])).one()
    if hostname is not None:
        if conn.execute(sa.select(hosts.c.id).where(hosts.c.hostname == hostname)).first() is None:
            raise Invalid(f"Compute host {hostname} could not be found.", field="migrate.host", code="ComputeHostNotFound")
        if hostname == own.hostname:
            raise Invalid(
                "Cannot migrate to the host where the server exists.", field="migrate.host", code="CannotMigrateToSameHost"
            )
    if row["host_id"] not in known.alive:
        raise Conflict(f"Service is unavailable at this time: {own.hostname}.", code="ServiceUnavailable")
    zone = (row["requested_zone"] or "").partition(":")[0]
    wanted = {**row, "requested_zone": f"{zone}:{hostname}" if hostname else zone or None}
    try:
        target = choose(conn, wanted, known, without=(row["host_id"],), action="migrate")
    except (NoValidHost, ExpressionError) as error:
        raise Invalid(str(error), field="migrate.host" if hostname else "migrate", code="NoValidHost") from None
    size = {name: row[name] for name in SIZES}
    cold_migration.begin(conn, ctx, row, target, row["flavor"], size, automatic=automatic)


def refuse_crash_dump(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """Raises NotFound, Conflict, and Invalid for a server that runs."""
    ready(conn, ctx, ident, "trigger_crash_dump", frozenset({"active", "paused", "rescued", "resized", "error"}))
    raise Invalid(
        f"Unable to trigger a crash dump in instance {ident}: it is a container, which has no kernel of its own.",
        code="TriggerCrashDumpNotSupported",
    )
