"""Which host bears a router: chosen when the router first has an interface or a gateway."""

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.network import marks
from nacre.cloud.network.ports import ROUTER_OWNERS, move
from nacre.cloud.network.tables import ports, routers


def ensure_placed(conn: sa.Connection, router: Row) -> None:
    """Gives the router the enabled host with the fewest routers, if it has none and there is one; its ports are bound there."""
    host_id = router["host_id"] or _choose(conn)
    if host_id is None:
        return
    if router["host_id"] is None:
        conn.execute(routers.update().where(routers.c.id == router["id"]).values(host_id=host_id, observed=None, fault=""))
    own = sa.select(ports).where(
        ports.c.device_id == router["id"],
        ports.c.device_owner.in_(ROUTER_OWNERS),
        sa.or_(ports.c.host_id.is_(None), ports.c.host_id != host_id),
    )
    for port in conn.execute(own).mappings().all():
        move(conn, dict(port), host_id)


def _choose(conn: sa.Connection) -> str | None:
    """The external network is on the cloud's own machine: hosts that have joined bear no routers."""
    return conn.execute(
        sa.select(hosts.c.id)
        .outerjoin(routers, routers.c.host_id == hosts.c.id)
        .where(hosts.c.enabled, hosts.c.enrolled.is_(False))
        .group_by(hosts.c.id)
        .order_by(sa.func.count(routers.c.id), hosts.c.id)
        .limit(1)
    ).scalar()


def place_routers(conn: sa.Connection, host_id: str) -> int:
    """A host joined: the routers that wait for one get theirs. Returns how many."""
    used = sa.select(ports.c.device_id).where(ports.c.device_owner.in_(ROUTER_OWNERS))
    waiting = conn.execute(sa.select(routers).where(routers.c.host_id.is_(None), routers.c.id.in_(used))).mappings().all()
    gathered = marks.Marks()
    for router in waiting:
        ensure_placed(conn, dict(router))
        placed = conn.execute(sa.select(routers.c.host_id).where(routers.c.id == router["id"])).scalar()
        gathered.add(placed, "router", router["id"])
    gathered.flush(conn)
    return len(waiting)
