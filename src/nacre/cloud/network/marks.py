"""Which hosts a change of Networking concerns.

A host has a network, or a security group, while a port that is bound to it uses it: `presence` counts those. A port concerns every host that
has its network (elsewhere only its addresses count); a group also the hosts whose groups name it as remote.
"""

from collections.abc import Iterable
from typing import cast

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.hosts.desired import mark_all
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.network.tables import networks, port_groups, ports, presence, routers, rules
from nacre.protocol.messages import Kind
from nacre.store import Prepared, insert


class Marks:
    """Gathers the marks of one operation, so that each host's revision is raised once."""

    def __init__(self) -> None:
        self._things: dict[str, list[tuple[Kind, str]]] = {}

    def add(self, host_id: str | None, kind: Kind, *object_ids: str) -> None:
        if host_id is not None and object_ids:
            self._things.setdefault(host_id, []).extend((kind, ident) for ident in object_ids)

    def everywhere(self, host_ids: Iterable[str], kind: Kind, *object_ids: str) -> None:
        for host_id in host_ids:
            self.add(host_id, kind, *object_ids)

    def flush(self, conn: sa.Connection) -> None:
        for host_id, things in self._things.items():
            mark_all(conn, host_id, things)
        self._things.clear()


_HOSTS_WITH = Prepared(
    sa.select(presence.c.host_id).where(presence.c.kind == sa.bindparam("of_kind"), presence.c.object_id == sa.bindparam("ident"))
)
_GROUPS_OF = Prepared(
    sa.select(port_groups.c.security_group_id)
    .where(port_groups.c.port_id == sa.bindparam("port"))
    .order_by(port_groups.c.security_group_id)
)
_NAMING_HOSTS = Prepared(
    sa.select(presence.c.host_id)
    .join(rules, sa.and_(presence.c.kind == "security_group", presence.c.object_id == rules.c.security_group_id))
    .where(rules.c.remote_group_id == sa.bindparam("remote"))
    .distinct()
)
_REFERRING_HOSTS = Prepared(
    sa.select(presence.c.host_id)
    .join(rules, sa.and_(presence.c.kind == "security_group", presence.c.object_id == rules.c.security_group_id))
    .where(rules.c.remote_address_group_id == sa.bindparam("remote"))
    .distinct()
)
_PHYSICAL = Prepared(sa.select(networks.c.physical).where(networks.c.id == sa.bindparam("network")))
_INSERT_COUNT = insert(presence)
_COUNT = Prepared(
    _INSERT_COUNT.on_conflict_do_update(
        index_elements=["kind", "object_id", "host_id"], set_={"ports": presence.c.ports + _INSERT_COUNT.excluded.ports}
    ).returning(presence.c.ports)
)


def hosts_with(conn: sa.Connection, kind: Kind, object_id: str) -> list[str]:
    """The hosts with a bound port that uses the network or group."""
    return _HOSTS_WITH.scalars(conn, of_kind=kind, ident=object_id)


def groups_of(conn: sa.Connection, port_id: str) -> list[str]:
    return _GROUPS_OF.scalars(conn, port=port_id)


def bound(conn: sa.Connection, marks: Marks, port: Row, groups: Iterable[str]) -> None:
    """The port (with its host_id) was bound to its host."""
    host_id, network_id = port["host_id"], port["network_id"]
    if _count(conn, "network", network_id, host_id, 1) == 1:
        marks.add(host_id, "network", network_id)
        marks.add(host_id, "port", *_bound_ports(conn, network_id))
        _anchor(conn, marks, network_id, host_id, 1)
    join_groups(conn, marks, host_id, groups)
    marks.everywhere(_port_hosts(conn, port), "port", port["id"])


def unbound(conn: sa.Connection, marks: Marks, port: Row, groups: Iterable[str]) -> None:
    """The port (with the host_id that it had) is bound no more."""
    host_id, network_id = port["host_id"], port["network_id"]
    marks.everywhere(_port_hosts(conn, port), "port", port["id"])
    leave_groups(conn, marks, host_id, groups)
    if _count(conn, "network", network_id, host_id, -1) == 0:
        marks.add(host_id, "port", *_bound_ports(conn, network_id))
        marks.add(host_id, "network", network_id)
        _anchor(conn, marks, network_id, host_id, -1)


def _anchor(conn: sa.Connection, marks: Marks, network_id: str, host_id: str, change: int) -> None:
    """A physical network came to a host, or left it: the cloud's own machine, which bears its gateway addresses, has it as long as any."""
    if _PHYSICAL.scalar(conn, network=network_id) is None:
        return
    if not conn.execute(sa.select(hosts.c.enrolled).where(hosts.c.id == host_id)).scalar():
        return
    for own in conn.execute(sa.select(hosts.c.id).where(hosts.c.enrolled.is_(False))).scalars().all():
        if _count(conn, "network", network_id, own, change) == max(change, 0):
            marks.add(own, "network", network_id)


def changed(conn: sa.Connection, marks: Marks, port: Row) -> None:
    """What the hosts need of a port has changed, but not its binding nor its groups."""
    if port["host_id"] is not None:
        marks.everywhere(_port_hosts(conn, port), "port", port["id"])
        members_changed(conn, marks, groups_of(conn, port["id"]))


def join_groups(conn: sa.Connection, marks: Marks, host_id: str, groups: Iterable[str]) -> None:
    groups = list(groups)
    for group in groups:
        if _count(conn, "security_group", group, host_id, 1) == 1:
            marks.add(host_id, "security_group", group, *_named_by(conn, [group]))
    members_changed(conn, marks, groups)


def leave_groups(conn: sa.Connection, marks: Marks, host_id: str, groups: Iterable[str]) -> None:
    groups = list(groups)
    for group in groups:
        if _count(conn, "security_group", group, host_id, -1) == 0:
            marks.add(host_id, "security_group", group, *_named_by(conn, [group]))
    members_changed(conn, marks, groups)


def members_changed(conn: sa.Connection, marks: Marks, groups: Iterable[str]) -> None:
    """Addresses came to or left these groups: it concerns the hosts where some rule names one of them as remote."""
    for group in groups:
        for host_id in _NAMING_HOSTS.scalars(conn, remote=group):
            marks.add(host_id, "security_group", group)


def rules_changed(conn: sa.Connection, marks: Marks, group: str, remote: str | None = None) -> None:
    """A rule of the group came or went; `remote` is the group that it names."""
    ids = [group] if remote is None else [group, remote]
    marks.everywhere(hosts_with(conn, "security_group", group), "security_group", *ids)


def address_group_changed(conn: sa.Connection, marks: Marks, ident: str) -> None:
    """An address group's addresses changed: it concerns the hosts where some rule names it."""
    marks.everywhere(_REFERRING_HOSTS.scalars(conn, remote=ident), "security_group", ident)


def network_changed(conn: sa.Connection, marks: Marks, network_id: str) -> None:
    """The network or one of its subnets changed; the routers behind it know its gateways."""
    marks.everywhere(hosts_with(conn, "network", network_id), "network", network_id)
    gateways = sa.select(routers.c.host_id, routers.c.id).where(
        routers.c.external_network_id == network_id, routers.c.host_id.is_not(None)
    )
    for host_id, router_id in conn.execute(gateways).all():
        marks.add(host_id, "router", router_id)


def router_changed(conn: sa.Connection, marks: Marks, router: Row) -> None:
    """It concerns its host; and the cloud's own machine, which leads to what a router elsewhere does not hide."""
    marks.add(router["host_id"], "router", router["id"])
    if router["external_network_id"] is not None:
        own = (
            sa.select(presence.c.host_id)
            .join(hosts, hosts.c.id == presence.c.host_id)
            .where(
                presence.c.kind == "network", presence.c.object_id == router["external_network_id"], hosts.c.enrolled.is_(False)
            )
            .where(hosts.c.id != (router["host_id"] or ""))
        )
        marks.everywhere(conn.execute(own).scalars(), "network", router["external_network_id"])


def _port_hosts(conn: sa.Connection, port: Row) -> list[str]:
    """A port of a physical network concerns its own host alone: there is no tunnel to it."""
    physical = _PHYSICAL.scalar(conn, network=port["network_id"])
    return [port["host_id"]] if physical else hosts_with(conn, "network", port["network_id"])


def _bound_ports(conn: sa.Connection, network_id: str) -> list[str]:
    return list(
        conn.execute(
            sa.select(ports.c.id)
            .join(networks, networks.c.id == ports.c.network_id)
            .where(ports.c.network_id == network_id, ports.c.host_id.is_not(None), networks.c.physical.is_(None))
        ).scalars()
    )


def _named_by(conn: sa.Connection, groups: list[str]) -> list[str]:
    return [
        cast(str, ident)
        for column in (rules.c.remote_group_id, rules.c.remote_address_group_id)
        for ident in conn.execute(
            sa.select(column).where(rules.c.security_group_id.in_(groups), column.is_not(None)).distinct()
        ).scalars()
    ]


def _count(conn: sa.Connection, kind: Kind, object_id: str, host_id: str, change: int) -> int:
    count: int = _COUNT.scalar(conn, kind=kind, object_id=object_id, host_id=host_id, ports=change)
    if count <= 0:
        conn.execute(
            presence.delete().where(presence.c.kind == kind, presence.c.object_id == object_id, presence.c.host_id == host_id)
        )
    return count
