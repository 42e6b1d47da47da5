"""The log of what happened, as Docker tells it: written in the transaction of what it tells of, read by `docker events`.

A container's events are told for every server, whichever pane made it.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from nacre.cloud.containers.lookup import docker_id
from nacre.cloud.containers.tables import containers, events
from nacre.cloud.containers.tables import networks as docker_networks
from nacre.cloud.network.tables import networks, ports
from nacre.store import Prepared, announce
from nacre.store.schema import now

Row = dict[str, Any]

EVENTS_MAX = 100_000
"""How many events are kept, of all projects together."""

_INSERT = Prepared(events.insert())
_TOLD = Prepared(sa.select(containers.c.labels, containers.c.image_ref).where(containers.c.server_id == sa.bindparam("ident")))

_NETWORKS_OF = Prepared(
    sa.select(networks.c.id, networks.c.name, docker_networks.c.driver, docker_networks.c.is_bridge)
    .join(ports, ports.c.network_id == networks.c.id)
    .join(
        docker_networks,
        sa.and_(docker_networks.c.network_id == networks.c.id, docker_networks.c.project_id == sa.bindparam("project")),
        isouter=True,
    )
    .where(ports.c.device_id == sa.bindparam("server"))
    .order_by(ports.c.position, ports.c.created_at, ports.c.id)
)


def topic(project_id: str) -> str:
    """The store's topic on which a project's events are announced."""
    return f"events:{project_id}"


def server_topic(server_id: str) -> str:
    """The store's topic on which every change of one server is announced."""
    return f"server:{server_id}"


def emit(conn: sa.Connection, project_id: str, kind: str, action: str, actor_id: str, attributes: Mapping[str, str]) -> None:
    """Write one event down. `kind` is Docker's: container, image, network, volume ..."""
    _INSERT.run(conn, project_id=project_id, type=kind, action=action, actor_id=actor_id, attributes=dict(attributes), at=now())
    announce(conn, topic(project_id))


def of_server(conn: sa.Connection, row: Mapping[str, Any], action: str, **extra: str) -> None:
    """An event of a container: its attributes are its labels, image and name, and what is particular to this action.

    By its start it comes into its networks, and by its end it leaves them: that is told too.
    """
    if action == "start":
        _of_networks(conn, row, "connect")
    told = _TOLD.first(conn, ident=row["id"])
    labels = told["labels"] if told else {}
    image = (told["image_ref"] if told else "") or row["image"].get("name") or row["image"].get("id") or ""
    emit(
        conn,
        row["project_id"],
        "container",
        action,
        docker_id(row["id"]),
        {**labels, "image": image, "name": row["name"], **extra},
    )
    if action == "die":
        _of_networks(conn, row, "disconnect")


def _of_networks(conn: sa.Connection, row: Mapping[str, Any], action: str) -> None:
    for network in _NETWORKS_OF.rows(conn, server=row["id"], project=row["project_id"]):
        name = "bridge" if network["is_bridge"] else network["name"] or network["id"]
        told = {"name": name, "type": network["driver"] or "nacre", "container": docker_id(row["id"])}
        emit(conn, row["project_id"], "network", action, docker_id(network["id"]), told)


def changed(conn: sa.Connection, server_id: str) -> None:
    """Wake whoever waits for this server."""
    announce(conn, server_topic(server_id))


def since(conn: sa.Connection, project_id: str, last_id: int, limit: int) -> list[Row]:
    """The project's events after that one, in order."""
    where = (events.c.project_id == project_id, events.c.id > last_id)
    return [dict(row) for row in conn.execute(sa.select(events).where(*where).order_by(events.c.id).limit(limit)).mappings()]


def before(conn: sa.Connection, project_id: str, moment: float) -> int:
    """The id of the project's last event before that moment; 0 without one."""
    where = (events.c.project_id == project_id, events.c.at < moment)
    return int(conn.execute(sa.select(sa.func.max(events.c.id)).where(*where)).scalar() or 0)


def last_id(conn: sa.Connection) -> int:
    """The id of the newest event of all."""
    return int(conn.execute(sa.select(sa.func.max(events.c.id))).scalar() or 0)


_LAST_OF = Prepared(
    sa.select(events)
    .where(
        events.c.project_id == sa.bindparam("project"),
        events.c.actor_id == sa.bindparam("actor"),
        events.c.action == sa.bindparam("action"),
        events.c.id > sa.bindparam("after"),
    )
    .order_by(events.c.id.desc())
    .limit(1)
)


def last_of(conn: sa.Connection, project_id: str, actor_id: str, action: str, after: int = 0) -> Row | None:
    """The newest event of a thing, if there was one after that id."""
    return _LAST_OF.first(conn, project=project_id, actor=actor_id, action=action, after=after)


def trim(conn: sa.Connection, keep: int = EVENTS_MAX) -> int:
    """Drop the oldest beyond `keep`. Returns how many went."""
    return conn.execute(events.delete().where(events.c.id <= last_id(conn) - keep)).rowcount
