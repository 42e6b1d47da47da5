"""The containers of services as they are: the rows kept of them, joined with their servers."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute.tables import servers
from nacre.cloud.containers import listing
from nacre.cloud.containers.states import is_pending, status_of
from nacre.cloud.stacks.rules import Member, Status
from nacre.cloud.stacks.tables import service_containers
from nacre.store import Prepared, among

Row = dict[str, Any]

_KEPT = Prepared(
    sa.select(service_containers).where(among(service_containers.c.service_id)).order_by(service_containers.c.number)
)
_SERVERS = Prepared(sa.select(servers).where(among(servers.c.id)))
_STOPPED_BY_USER = frozenset(("stop", "kill", "shelve", "delete"))


def of_services(conn: sa.Connection, service_ids: Iterable[str]) -> dict[str, list[Row]]:
    """By service the rows kept of its containers, each with its `server` (as containers' `lookup.find` gives it), or None under that name."""
    kept = _KEPT.rows(conn, ids=list(service_ids))
    rows = _SERVERS.rows(conn, ids=[each["server_id"] for each in kept])
    known = {row["id"]: row for row in listing.with_containers(conn, rows)}
    found: dict[str, list[Row]] = defaultdict(list)
    for each in kept:
        found[each["service_id"]].append({**each, "server": known.get(each["server_id"])})
    return found


def member(row: Mapping[str, Any]) -> Member:
    """A row of `of_services` as the rules see it."""
    server = row["server"]
    return Member(
        server_id=row["server_id"],
        number=row["number"],
        revision=row["revision"],
        status=_status(row, server),
        there=server is not None,
        exit_code=(server or {}).get("exit_code") or 0,
        by_user=server is not None and server["action"] in _STOPPED_BY_USER,
        destroyed=row["destroyed"],
        due=row["due"],
        host_id=row["host_id"],
    )


def _status(row: Mapping[str, Any], server: Row | None) -> Status:
    if row["leaving"]:
        return "leaving"
    if server is None or server["gone"]:
        return "gone"
    up = server["observed_state"] in ("running", "paused")
    if server["fault"] is not None and not up:
        return "failed"
    if server["power"] == "stopped":
        if is_pending(server) and up:
            return "stopping"
        return "created" if server["boots"] == 0 else "stopped"
    if is_pending(server):
        return "starting"
    return "running" if status_of(server) in ("running", "paused") else "starting"


def cause(rows: Iterable[Mapping[str, Any]]) -> str:
    """Why one of the containers could not be started; empty when none failed."""
    for row in rows:
        if row["server"] is not None and not row["leaving"] and row["server"]["fault"]:
            return f"{row['name']}: {row['server']['fault']}"
    return ""
