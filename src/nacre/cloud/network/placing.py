"""Which host bears a router: chosen when the router first has an interface or a gateway, and again when a router that is `ha` loses it.

A host can bear routers that reaches the external network's segment: the cloud's own machine, and those that joined with `--external`.
"""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.network import marks
from nacre.cloud.network.ports import ROUTER_OWNERS
from nacre.cloud.network.ports import move as move_port
from nacre.cloud.network.tables import forwards, ports, routers


def ensure_placed(conn: sa.Connection, router: Row) -> None:
    """Gives the router the host that can bear it with the fewest routers, if it has none and there is one; its ports are bound there."""
    if router["host_id"] is not None:
        _bind_ports(conn, router["id"], router["host_id"])
    elif (host_id := choose(conn)) is not None:
        move(conn, router, host_id)


def choose(conn: sa.Connection, *, own: bool = False) -> str | None:
    """The host for one more router; `own`: of the cloud's own machine alone, whose published ports are its users' `localhost`.

    On several that are as good it is the cloud's own machine, where what leaves the cloud must pass anyway.
    """
    return conn.execute(
        fit(own=own)
        .outerjoin(routers, routers.c.host_id == hosts.c.id)
        .group_by(hosts.c.id, hosts.c.enrolled)
        .order_by(sa.func.count(routers.c.id), hosts.c.enrolled, hosts.c.id)
        .limit(1)
    ).scalar()


def fit(*, own: bool = False) -> sa.Select[Any]:
    """The ids of the hosts that can bear routers."""
    reaches = hosts.c.enrolled.is_(False) if own else sa.or_(hosts.c.enrolled.is_(False), hosts.c.external.is_(True))
    sound = (hosts.c.enabled.is_(True), hosts.c.lost.is_(False), hosts.c.forced_down.is_(False), hosts.c.acceptance == "accepted")
    return sa.select(hosts.c.id).select_from(hosts).where(reaches, *sound)


def move(conn: sa.Connection, router: Row, host_id: str | None) -> None:
    """Bind the router, with its ports, to another host, or to none. Its floating IPs and forwards are its own and go along; the former
    host is told that nothing of it may be left there, whenever it can be told."""
    conn.execute(routers.update().where(routers.c.id == router["id"]).values(host_id=host_id, observed=None, fault=""))
    gathered = marks.Marks()
    gathered.add(router["host_id"], "router", router["id"])
    gathered.flush(conn)
    _bind_ports(conn, router["id"], host_id)
    marks.router_changed(conn, gathered, {**router, "host_id": host_id})
    gathered.flush(conn)


def bring_home(conn: sa.Connection, router: Row) -> str | None:
    """A port of a host is to be published: that is one of the cloud's own machine. The host that the router then has."""
    enrolled = conn.execute(sa.select(hosts.c.enrolled).where(hosts.c.id == router["host_id"])).scalar()
    own = choose(conn, own=True) if enrolled else None
    if own is not None:
        move(conn, router, own)
    return own or router["host_id"]


def _bind_ports(conn: sa.Connection, router_id: str, host_id: str | None) -> None:
    own = sa.select(ports).where(
        ports.c.device_id == router_id, ports.c.device_owner.in_(ROUTER_OWNERS), ports.c.host_id.is_distinct_from(host_id)
    )
    for port in conn.execute(own).mappings().all():
        move_port(conn, dict(port), host_id)


def place_routers(conn: sa.Connection, host_id: str) -> int:
    """A host joined: the routers that wait for one get theirs. Returns how many."""
    used = sa.select(ports.c.device_id).where(ports.c.device_owner.in_(ROUTER_OWNERS))
    waiting = conn.execute(sa.select(routers).where(routers.c.host_id.is_(None), routers.c.id.in_(used))).mappings().all()
    for router in waiting:
        ensure_placed(conn, dict(router))
    return len(waiting)


def note_lost(conn: sa.Connection, lost: frozenset[str]) -> None:
    """Write down which hosts are lost, so that no router is placed there."""
    conn.execute(hosts.update().where(hosts.c.lost.is_(True), hosts.c.id.not_in(lost)).values(lost=False))
    conn.execute(hosts.update().where(hosts.c.lost.is_(False), hosts.c.id.in_(lost)).values(lost=True))


def stranded(conn: sa.Connection) -> list[Row]:
    """The routers that are to be moved: `ha`, on a host that is lost. One that publishes ports of its host stays: those are that machine's."""
    published = sa.select(forwards.c.router_id).where(forwards.c.external_address == "")
    lost = sa.select(hosts.c.id).where(hosts.c.lost.is_(True))
    chosen = (routers.c.ha.is_(True), routers.c.host_id.in_(lost), routers.c.id.not_in(published))
    return [dict(row) for row in conn.execute(sa.select(routers).where(*chosen).order_by(routers.c.id)).mappings()]


def rescue(conn: sa.Connection) -> list[tuple[str, str]]:
    """Move what is stranded to hosts that can bear it. The routers that were moved, each with its new host; the others wait where they are."""
    moved: list[tuple[str, str]] = []
    for router in stranded(conn):
        host_id = choose(conn)
        if host_id is None:
            break
        move(conn, router, host_id)
        moved.append((router["id"], host_id))
    return moved


def due(conn: sa.Connection, lost: frozenset[str]) -> bool:
    """Whether `note_lost` or `rescue` has anything to do."""
    noted = frozenset(conn.execute(sa.select(hosts.c.id).where(hosts.c.lost.is_(True))).scalars())
    return noted != lost or (bool(stranded(conn)) and choose(conn) is not None)
