"""Drained hosts: all servers go elsewhere by migrations that nobody need confirm, a few at a time; what cannot go is listed with its reason.

A drain is a row of `host_drains`, and the host is cordoned. It goes on until the host is given work again, so that what hindered a server
may be seen to: it is tried again. Whoever is killed goes on from the rows.
"""

import logging
from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute import cold_migration, moving
from nacre.cloud.compute.migrations import is_open
from nacre.cloud.compute.moving import MIGRATED
from nacre.cloud.compute.placing import Placing
from nacre.cloud.compute.states import state_of
from nacre.cloud.compute.tables import migrations, servers
from nacre.cloud.context import Context, internal
from nacre.cloud.core import Cloud
from nacre.cloud.errors import CloudError
from nacre.cloud.hosts import joining
from nacre.cloud.hosts.labels import find
from nacre.cloud.hosts.tables import host_drains
from nacre.store.schema import new_id, now

Row = dict[str, Any]

EVERY_S = 0.5
AT_ONCE_MAX = 4
"""Migrations away from one host at the same time: its disk and its link are shared by all of them."""
RETRY_S = 30.0
"""How long a server whose migration failed stays, until it is tried again."""

log = logging.getLogger("nacre.draining")


def start(conn: sa.Connection, ctx: Context, ref: str, reason: str | None = None) -> Row:
    """Cordon the host and begin. Again: no change. Raises NotFound."""
    row = joining.cordon(conn, ctx, ref, cordoned=True, reason=reason or "drained")
    known = conn.execute(sa.select(host_drains.c.host_id).where(host_drains.c.host_id == row["id"])).first()
    if known is None:
        total = len(_there(conn, row["id"]))
        conn.execute(host_drains.insert().values(host_id=row["id"], total=total, staying={}, started_at=now()))
    return row


def stop(conn: sa.Connection, ctx: Context, ref: str) -> Row:
    """Give the host work again. What is on its way arrives. Raises NotFound."""
    conn.execute(host_drains.delete().where(host_drains.c.host_id == find(conn, ref)["id"]))
    return joining.cordon(conn, ctx, ref, cordoned=False)


def progress(conn: sa.Connection, host_id: str) -> Row | None:
    """How far a drain is: total, left, moving, and why those that stay do so, by server id. None where there is none."""
    row = conn.execute(sa.select(host_drains).where(host_drains.c.host_id == host_id)).mappings().first()
    if row is None:
        return None
    left = {server["id"]: server["name"] for server in _there(conn, host_id)}
    staying = {ident: {"name": left[ident], "reason": reason} for ident, reason in row["staying"].items() if ident in left}
    return {
        "total": row["total"],
        "left": len(left),
        "moving": len(_moving(conn, host_id)),
        "staying": staying,
        "started_at": row["started_at"],
        "finished_at": row["finished_at"],
    }


def _there(conn: sa.Connection, host_id: str) -> list[Row]:
    wanted = sa.select(servers).where(servers.c.host_id == host_id, servers.c.gone.is_(False))
    return [dict(row) for row in conn.execute(wanted.order_by(servers.c.created_at, servers.c.id)).mappings()]


def _moving(conn: sa.Connection, host_id: str) -> set[str]:
    """The servers that leave the host now, or have left it and may come back."""
    leaving = (is_open(), migrations.c.source_host_id == host_id, migrations.c.status != "finished")
    return set(conn.execute(sa.select(migrations.c.server_id).where(*leaving)).scalars())


async def turn(cloud: Cloud) -> None:
    """Go on with every drain."""
    drained = cloud.store.read_now(lambda conn: list(conn.execute(sa.select(host_drains.c.host_id)).scalars()))
    for host_id in drained:
        await _go_on(cloud, host_id)


async def _go_on(cloud: Cloud, host_id: str) -> None:
    settings = cloud.settings
    known = Placing(cloud.hosts.alive(), settings.ratios, cloud.hosts.facts, settings.strategy)
    there, under_way, failed = cloud.store.read_now(_look, host_id)
    staying: dict[str, str] = {}
    for row in there:
        if row["id"] in under_way:
            continue
        why = failed.get(row["id"]) or _hindrance(row)
        if why is None and len(under_way) >= AT_ONCE_MAX:
            continue
        if why is None:
            why = await _send(cloud, row["id"], known)
        if why is None:
            under_way.add(row["id"])
        else:
            staying[row["id"]] = why
    await _note(cloud, host_id, staying, done=not there and not under_way)


def _look(conn: sa.Connection, host_id: str) -> tuple[list[Row], set[str], dict[str, str]]:
    """What is there, what is under way, and what failed lately, with its cause."""
    tried = sa.select(migrations.c.server_id, migrations.c.message).where(
        migrations.c.source_host_id == host_id, migrations.c.status == "error", migrations.c.updated_at > now() - RETRY_S
    )
    failed = {row.server_id: row.message for row in conn.execute(tried.order_by(migrations.c.id))}
    return _there(conn, host_id), _moving(conn, host_id), failed


def _hindrance(row: Row) -> str | None:
    state = state_of(row)
    if state.task_state is not None:
        return f"it is at something else: {state.task_state}"
    return None if state.vm_state in MIGRATED else f"it is {state.vm_state}"


async def _send(cloud: Cloud, ident: str, known: Placing) -> str | None:
    """Returns why it cannot go."""

    def migrate(conn: sa.Connection) -> str | None:
        row = conn.execute(sa.select(servers).where(servers.c.id == ident)).mappings().first()
        why = cold_migration.obstacle(conn, dict(row)) if row is not None else None
        if row is not None and why is None:
            moving.migrate(conn, internal(f"req-{new_id()}"), ident, None, known, automatic=True)
        return why

    try:
        return await cloud.store.write(migrate)
    except CloudError as error:
        return error.message


async def _note(cloud: Cloud, host_id: str, staying: dict[str, str], *, done: bool) -> None:
    def note(conn: sa.Connection) -> bool:
        row = conn.execute(sa.select(host_drains).where(host_drains.c.host_id == host_id)).mappings().first()
        if row is None or (row["staying"] == staying and (row["finished_at"] is not None) == done):
            return False
        finished_at = (row["finished_at"] or now()) if done else None
        values = {"staying": staying, "finished_at": finished_at}
        conn.execute(host_drains.update().where(host_drains.c.host_id == host_id).values(values))
        return done

    seen = cloud.store.read_now(lambda conn: conn.execute(sa.select(host_drains).where(host_drains.c.host_id == host_id)).first())
    if seen is None or (seen.staying == staying and (seen.finished_at is not None) == done):
        return
    if await cloud.store.write(note):
        log.info("host %s is empty", host_id)
