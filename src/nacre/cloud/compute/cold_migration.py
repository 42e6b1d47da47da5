"""Cold migration: a server is stopped, its disk goes to another host, and it starts there.
https://docs.openstack.org/api-ref/compute/#migrate-server-migrate-action

    pre-migrating   on the source, which stops it. The target's claim is taken.
    migrating       on the target, which fetches the disk and starts it; the source keeps its copy, stopped and without ports.
    finished        on the target (VERIFY_RESIZE) until somebody confirms or reverts; an automatic one is confirmed at once.
    confirmed       the source forgets its copy.
    reverting       on the target, which removes it. Only when nothing of it is left there, the server is the source's again and starts:
    reverted, error

Each step is one transaction, made by an observation, a deadline or a lost host. Whoever is killed finds in the rows where it stands. There
are never two copies that run: the source has said that it is stopped before the target hears of the server, and the target that nothing is
left before the source starts it again. While it moves it is fenced, so that a target that is lost has gone silent when it is taken for lost.
"""

from collections.abc import Collection
from typing import Any

import msgspec
import sqlalchemy as sa

from nacre.cloud.compute import migrations, timeline, usage
from nacre.cloud.compute.actions import intend
from nacre.cloud.compute.evacuating import NEVER_SEEN
from nacre.cloud.compute.fencing import is_fenced
from nacre.cloud.compute.migrations import COMING, LEAVING, LIVE, SIZES, change, close, is_open, open_of
from nacre.cloud.compute.tables import migrations as table
from nacre.cloud.compute.tables import servers
from nacre.cloud.containers.tables import containers
from nacre.cloud.context import Context, internal
from nacre.cloud.errors import Conflict
from nacre.cloud.hosts import operations as hosts
from nacre.cloud.hosts.desired import mark
from nacre.cloud.network import servers as network
from nacre.cloud.scheduler import HostView
from nacre.cloud.volumes import use
from nacre.protocol.containers import Container
from nacre.protocol.messages import Observation
from nacre.store.schema import now

Row = dict[str, Any]

STOPS, ARRIVES, RETURNS = "migrate", "migrate-finish", "migrate-undo"
"""The server's `action` while it is stopped, while it comes, and while it starts again where it was because its migration failed."""
LIVE_ACTIONS = {STOPS: "live-migrate", ARRIVES: "live-migrate-finish", RETURNS: "live-migrate-undo"}
"""The same of a live migration: it is checkpointed, comes, and goes on where it was."""
ON_THE_WAY = frozenset({STOPS, ARRIVES, LIVE_ACTIONS[STOPS], LIVE_ACTIONS[ARRIVES]})
BACK = frozenset({RETURNS, LIVE_ACTIONS[RETURNS]})
ABORTED = "It was aborted."
FETCH_S_MAX = 3600.0
"""How long a disk may take on its way. One that does not get on at all fails much sooner (see the node's `arriving`)."""


def obstacle(conn: sa.Connection, row: Row) -> str | None:
    """What keeps the server on its host; None where nothing does."""
    if row["rescue"] is not None:
        return "it is rescued"
    kept = conn.execute(sa.select(containers.c.spec).where(containers.c.server_id == row["id"])).scalar()
    if kept is None:
        return None
    spec = msgspec.convert(kept, Container)
    if use.host_of(conn, spec.mounts) is not None:
        return "its volumes lie on that host's disk"
    if any(mount.kind == "host" for mount in spec.mounts) or spec.host_access:
        return "it uses the host itself"
    if spec.network_of or spec.pid_of or spec.ipc_of:
        return "it shares another container's namespaces"
    others = sa.select(containers.c.server_id, containers.c.spec).join(servers, servers.c.id == containers.c.server_id)
    for other in conn.execute(others.where(servers.c.host_id == row["host_id"], servers.c.id != row["id"])):
        shares = msgspec.convert(other.spec, Container)
        if row["id"] in (shares.network_of, shares.pid_of, shares.ipc_of):
            return "another container shares its namespaces"
    return None


def begin(
    conn: sa.Connection,
    ctx: Context,
    row: Row,
    host: HostView,
    flavor: Row,
    size: dict[str, int],
    *,
    automatic: bool,
    **changes: Any,
) -> None:
    """To that host, with this size. The caller has checked that it may, and that it fits. Raises Conflict for what cannot leave its host."""
    why = obstacle(conn, row)
    if why is not None:
        raise Conflict(f"Instance {row['id']} cannot be moved: {why}.", code="InstanceInvalidState")
    hosts.claim(conn, host.id, **size)
    more = {name: larger - row[name] for name, larger in migrations.held(row, size).items()}
    resized = flavor["id"] != row["flavor"]["id"]
    values = {**size, "status": "pre-migrating", "power": row["power"], "automatic": automatic}
    migrations.begin(conn, ctx, row, "resize" if resized else "migration", host.id, flavor, **values)
    intend(conn, ctx, row, STOPS, {**changes, "power": "stopped", "flavor": flavor, "old_flavor": row["flavor"]})
    timeline.begin(conn, ctx, row, "resize" if resized else "migrate")
    usage.change(conn, row["project_id"], instances=0, cores=more["vcpus"], ram=more["memory_mb"])


def begin_live(conn: sa.Connection, ctx: Context, row: Row, host: HostView) -> None:
    """To that host, while it runs: checkpointed here, it goes on there. The caller has checked that both can, and that nothing keeps it."""
    size = {name: row[name] for name in SIZES}
    hosts.claim(conn, host.id, **size)
    values = {**size, "status": "preparing", "power": row["power"], "automatic": True}
    migrations.begin(conn, ctx, row, LIVE, host.id, row["flavor"], **values)
    intend(conn, ctx, row, LIVE_ACTIONS[STOPS], {"power": "checkpointed"})
    timeline.begin(conn, ctx, row, LIVE)


def abort_live(conn: sa.Connection, row: Row, migration: Row) -> None:
    """It goes on where it was, as soon as nothing of it is left on the target."""
    if migration["status"] in LEAVING:
        _stay(conn, row, migration, ABORTED)
    else:
        revert(conn, internal(row["request_id"]), row, migration, ABORTED)


def confirm(conn: sa.Connection, row: Row, migration: Row) -> None:
    """It stays where it is."""
    conn.execute(servers.update().where(servers.c.id == row["id"]).values(old_flavor=sa.null(), updated_at=now()))
    close(conn, row, migration, "completed" if is_live(migration) else "confirmed")


def is_live(migration: Row) -> bool:
    return bool(migration["migration_type"] == LIVE)


def _action(migration: Row, name: str) -> str:
    return LIVE_ACTIONS[name] if is_live(migration) else name


def _failed(message: str) -> str:
    """The status of a migration that went back, as Nova has it."""
    return "cancelled" if message == ABORTED else "error"


def revert(conn: sa.Connection, ctx: Context, row: Row, migration: Row, message: str = "") -> None:
    """It leaves the target again. With a message the migration has failed."""
    change(conn, migration, status="reverting", message=message)
    intend(conn, ctx, row, _action(migration, RETURNS) if message else "revert-resize", {})


def met(conn: sa.Connection, ident: str, seen: Observation) -> None:
    """A host's node has met the generation of a server that moves (or could not)."""
    row, migration = _both(conn, ident)
    if row is None or migration is None or row["gone"]:
        return
    failure = seen.fault or "the node does not say why" if seen.state == "error" else None
    match migration["status"]:
        case "pre-migrating" | "preparing" if failure is not None:
            verb = "checkpointed" if is_live(migration) else "stopped"
            _stay(conn, row, migration, f"The server could not be {verb}: {failure}")
        case "pre-migrating" if seen.state == "stopped":
            _go(conn, row, migration)
        case "preparing" if seen.state == "checkpointed":
            _go(conn, row, migration)
        case "migrating" | "running" if failure is not None:
            revert(conn, internal(row["request_id"]), row, migration, failure)
        case "migrating" | "running":
            change(conn, migration, status="finished")
            # It is fenced no more, and its disk is not fetched any more.
            mark(conn, row["host_id"], "guest", ident)
            if migration["automatic"]:
                confirm(conn, row, {**migration, "status": "finished"})


def left(conn: sa.Connection, ident: str) -> None:
    """The target has nothing of the server any more, which goes back to the source."""
    row, migration = _both(conn, ident)
    if row is not None and migration is not None and migration["status"] == "reverting" and not row["gone"]:
        _return(conn, row, migration)


def expired(conn: sa.Connection, ident: str) -> bool:
    """The deadline of a server's transition has passed. Whether that was a phase of its migration, which ends otherwise now."""
    row, migration = _both(conn, ident)
    if row is None or migration is None or row["action"] not in ON_THE_WAY:
        return False
    why = f"'{migration['status']}' did not end before its deadline"
    if migration["status"] in LEAVING:
        _stay(conn, row, migration, why)
    elif migration["status"] in COMING:
        revert(conn, internal(row["request_id"]), row, migration, why)
    else:
        return False
    return True


def waiting_for(conn: sa.Connection, host_ids: Collection[str]) -> list[str]:
    """The servers with an open migration from or to one of these hosts."""
    listed = list(host_ids)
    either = sa.or_(table.c.source_host_id.in_(listed), table.c.dest_host_id.in_(listed))
    return list(conn.execute(sa.select(table.c.server_id).where(is_open(), either).order_by(table.c.id)).scalars())


def hosts_lost(conn: sa.Connection, host_ids: Collection[str]) -> list[str]:
    """End the phases that wait for these hosts, which are lost: back to the source. Returns the servers that this concerns."""
    ended = []
    for ident in waiting_for(conn, host_ids):
        row, migration = _both(conn, ident)
        if row is not None and migration is not None and not row["gone"] and _ended_by_loss(conn, row, migration, host_ids):
            ended.append(ident)
    return ended


def _ended_by_loss(conn: sa.Connection, row: Row, migration: Row, lost: Collection[str]) -> bool:
    target_lost = migration["dest_host_id"] in lost
    why = f"The host {migration['dest_host_id' if target_lost else 'source_host_id']} was lost"
    if migration["status"] in LEAVING:
        _stay(conn, row, migration, why)
        return True
    if not target_lost:
        return False
    if migration["status"] in COMING or (migration["status"] == "finished" and _fenced(conn, row)):
        change(conn, migration, message=why)
    elif not (migration["status"] == "reverting" and (migration["message"] or _fenced(conn, row))):
        return False
    _return(conn, row, {**migration, "message": migration["message"] or why})
    return True


def _fenced(conn: sa.Connection, row: Row) -> bool:
    container = conn.execute(sa.select(containers.c.labels).where(containers.c.server_id == row["id"])).mappings().first()
    return is_fenced(row, None if container is None else dict(container))


def _both(conn: sa.Connection, ident: str) -> tuple[Row | None, Row | None]:
    row = conn.execute(sa.select(servers).where(servers.c.id == ident)).mappings().first()
    return (dict(row), open_of(conn, ident)) if row is not None else (None, None)


def _boot(row: Row, migration: Row) -> Row:
    """With its power again. It boots, unless it goes on from its checkpoint."""
    power = migration["power"]
    return {"power": power, "boots": row["boots"] + (power == "running" and not is_live(migration))}


def _go(conn: sa.Connection, row: Row, migration: Row) -> None:
    """Stopped on the source: from here on it is the target's."""
    conn.execute(servers.update().where(servers.c.id == row["id"]).values({name: migration[name] for name in SIZES}))
    status = "running" if is_live(migration) else "migrating"
    change(conn, migration, status=status, **{name: row[name] for name in SIZES})
    _place(conn, row, migration["dest_host_id"], _action(migration, ARRIVES), {}, migration)
    mark(conn, migration["source_host_id"], "guest", row["id"])
    conn.execute(servers.update().where(servers.c.id == row["id"]).values(deadline=now() + FETCH_S_MAX))


def _stay(conn: sa.Connection, row: Row, migration: Row, message: str) -> None:
    """It has not left the source, and goes on there."""
    close(conn, row, migration, _failed(message), message)
    changes = {**_boot(row, migration), **_as_before(row, migration)}
    intend(conn, internal(row["request_id"]), row, _action(migration, RETURNS), changes)
    _tell_failure(conn, row, message)


def _return(conn: sa.Connection, row: Row, migration: Row) -> None:
    """Nothing of it is left on the target (or what is left has been cut off): it is the source's again."""
    before = {name: migration[name] for name in SIZES}
    conn.execute(servers.update().where(servers.c.id == row["id"]).values(before))
    swapped = {**migration, **{name: row[name] for name in SIZES}}
    source, message = migration["source_host_id"], migration["message"]
    action = _action(migration, RETURNS) if message else "revert-resize"
    _place(conn, row, source, action, _as_before(row, migration), migration)
    close(conn, {**row, **before, "host_id": source}, swapped, _failed(message) if message else "reverted", message)
    if message:
        _tell_failure(conn, row, message)


def _as_before(row: Row, migration: Row) -> Row:
    return {} if is_live(migration) else {"flavor": row["old_flavor"], "old_flavor": sa.null()}


def _place(conn: sa.Connection, row: Row, host_id: str, action: str, changes: Row, migration: Row) -> None:
    """Intent, ports and all go to that host."""
    network.move(conn, row["id"], host_id)
    kept = conn.execute(sa.select(containers.c.spec).where(containers.c.server_id == row["id"])).scalar()
    if kept is not None:
        use.place(conn, internal(), msgspec.convert(kept, Container).mounts, host_id)
    zone = hosts.get(conn, host_id)["availability_zone"]
    values = {**NEVER_SEEN, **changes, **_boot(row, migration), "host_id": host_id, "availability_zone": zone}
    intend(conn, internal(row["request_id"]), {**row, "host_id": host_id}, action, values)


def _tell_failure(conn: sa.Connection, row: Row, message: str) -> None:
    moment = now()
    timeline.event(conn, row, "compute_finish_resize", moment, moment, error=message)
    timeline.finish(conn, row, moment, error=message)
