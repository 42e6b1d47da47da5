"""Live migration: a server goes on on another host, where both hosts' nodes have tried that they can checkpoint and restore (CRIU).

https://docs.openstack.org/api-ref/compute/#live-migrate-server-os-migratelive-action

    preparing   on the source, which checkpoints it: what it was in the middle of is written down, and it stands still
    running     on the target, which fetches disk and checkpoint, and on which it goes on; the source keeps both
    completed   the source forgets its copy
    reverting   on the target, which removes it; then it goes on on the source from the same checkpoint: error, cancelled

The phases are those of a cold migration with other words (see `cold_migration`), and so is what holds them together.
"""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute import cold_migration, migrations
from nacre.cloud.compute.actions import ready
from nacre.cloud.compute.placing import Placing, choose
from nacre.cloud.compute.servers import get
from nacre.cloud.compute.states import state_of
from nacre.cloud.containers.tables import containers
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid, NotFound
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.scheduler import ExpressionError, NoValidHost

Row = dict[str, Any]

FROM_STATES = frozenset({"active", "paused"})
UNKNOWN = "its node has not said whether it can"


def migrate(conn: sa.Connection, ctx: Context, ident: str, hostname: str | None, known: Placing) -> None:
    """Raises NotFound, Conflict, and Invalid with the reason where the server, its host or every other host cannot."""
    row = ready(conn, ctx, ident, "os-migrateLive", FROM_STATES)
    _check_server(conn, row)
    names = {each.id: str(each.hostname) for each in conn.execute(sa.select(hosts.c.id, hosts.c.hostname))}
    own = names[row["host_id"]]
    if hostname is not None and hostname not in names.values():
        raise Invalid(f"Compute host {hostname} could not be found.", field="os-migrateLive.host", code="ComputeHostNotFound")
    if hostname == own:
        raise Invalid(
            f"Unable to migrate instance ({ident}) to current host ({own}).",
            field="os-migrateLive.host",
            code="UnableToMigrateToSelf",
        )
    if row["host_id"] not in known.alive:
        raise Invalid(f"Compute service of {own} is unavailable at this time.", code="ComputeServiceUnavailable")
    means, reason = _ability(known, row["host_id"])
    if reason:
        raise Invalid(f"No valid host was found. {own} cannot migrate servers live: {reason}.", code="NoValidHost")
    unable = {host_id: why for host_id in names if host_id != row["host_id"] and (why := _against(known, host_id, means))}
    zone = (row["requested_zone"] or "").partition(":")[0]
    wanted = {**row, "requested_zone": f"{zone}:{hostname}" if hostname else zone or None}
    try:
        target = choose(conn, wanted, known, without=(row["host_id"], *unable), action="live-migrate")
    except (NoValidHost, ExpressionError) as error:
        told = "".join(
            f" {names[host_id]} cannot: {why}." for host_id, why in unable.items() if hostname in (None, names[host_id])
        )
        raise Invalid(
            f"{error}{told}", field="os-migrateLive.host" if hostname else "os-migrateLive", code="NoValidHost"
        ) from None
    cold_migration.begin_live(conn, ctx, row, target)


def _check_server(conn: sa.Connection, row: Row) -> None:
    why = cold_migration.obstacle(conn, row)
    if conn.execute(sa.select(containers.c.server_id).where(containers.c.server_id == row["id"])).first() is not None:
        why = "it is a container of Docker's, whose streams end on its host"
    if state_of(row).vm_state == "paused":
        why = "it is paused"
    if why is not None:
        raise Invalid(f"Instance {row['id']} cannot be migrated live: {why}.", code="MigrationPreCheckError")


def _ability(known: Placing, host_id: str) -> tuple[str, str]:
    """By what the host does it, and what is against it: by its fact `live_migration`."""
    fact = known.facts(host_id).get("live_migration")
    if not isinstance(fact, dict):
        return "", UNKNOWN
    return str(fact.get("means", "")), "" if fact.get("possible") is True else str(fact.get("reason") or UNKNOWN)


def _against(known: Placing, host_id: str, means: str) -> str:
    theirs, reason = _ability(known, host_id)
    return reason or ("" if theirs == means else f"it has {theirs}, and not {means}")


def under_way(conn: sa.Connection, ctx: Context, ident: str) -> list[Row]:
    """The server's live migration while it is none that has ended. Raises NotFound."""
    get(conn, ctx, ident)
    found = migrations.open_of(conn, ident)
    return [found] if found is not None and found["migration_type"] == migrations.LIVE else []


def one_under_way(conn: sa.Connection, ctx: Context, ident: str, number: str) -> Row:
    """Raises NotFound."""
    for found in under_way(conn, ctx, ident):
        if str(found["id"]) == number:
            return found
    raise NotFound(f"In-progress live migration {number} is not found for server {ident}.", code="MigrationNotFoundForInstance")


def abort(conn: sa.Connection, ctx: Context, ident: str, number: str) -> None:
    """It goes on where it was. Raises NotFound, and Invalid where it goes back already."""
    found = one_under_way(conn, ctx, ident, number)
    if found["status"] not in ("preparing", "running"):
        raise Invalid(f"Migration {number} state of instance {ident} is {found['status']}.", code="InvalidMigrationState")
    cold_migration.abort_live(conn, dict(get(conn, ctx, ident)), found)


def refuse_to_force(conn: sa.Connection, ctx: Context, ident: str, number: str) -> None:
    """Raises NotFound, and Conflict: there is nothing to force, since the server stands still while it is on its way."""
    one_under_way(conn, ctx, ident, number)
    raise Conflict(f"Migration {number} of instance {ident} copies no memory that still changes.", code="InvalidMigrationState")
