"""The cloud's own security groups: the wall around a Docker network, and the doors in it.

They belong to no project: they are in nobody's quota, no tenant lists or changes them, and their ids follow from what they are for.
The wall of a network lets in what comes from the network itself, on every port, and nothing else. A door lets in one published port from
everywhere; it is the same for every port of the cloud that publishes it, since a rule without a remote knows no tenant.
"""

import uuid
from typing import Literal

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.network import marks
from nacre.cloud.network.common import rows_of, stamped
from nacre.cloud.network.tables import rules, security_groups, subnets
from nacre.store import Prepared

NOBODY = ""
Protocol = Literal["tcp", "udp", "sctp"]
_SPACE = uuid.UUID("6f0d1f0e-4c1c-4c5b-8d2c-7a1c0e6b9a10")
_THERE = Prepared(sa.select(security_groups.c.id).where(security_groups.c.id == sa.bindparam("ident")))
_ETHERTYPES = {4: "IPv4", 6: "IPv6"}


def wall_id(network_id: str) -> str:
    return str(uuid.uuid5(_SPACE, network_id))


def door_id(protocol: Protocol, port: int) -> str:
    return str(uuid.uuid5(_SPACE, f"{protocol}/{port}"))


def ensure_wall(conn: sa.Connection, network_id: str, name: str) -> str:
    """The id of the network's wall, made on first need."""
    ident = wall_id(network_id)
    if _THERE.scalar(conn, ident=ident) is None:
        _insert(conn, ident, f"docker-{name}", f"What Docker's containers on network {network_id} let in: each other.")
        _let_in(conn, ident, network_id)
    return ident


def ensure_door(conn: sa.Connection, protocol: Protocol, port: int) -> str:
    """The id of the group that lets everyone in to this port."""
    ident = door_id(protocol, port)
    if _THERE.scalar(conn, ident=ident) is None:
        _insert(conn, ident, f"published-{protocol}-{port}", "A port that a container publishes.")
        doors = {"direction": "ingress", "protocol": protocol, "port_range_min": port, "port_range_max": port}
        _add_rules(conn, ident, [{**doors, "ethertype": ethertype} for ethertype in _ETHERTYPES.values()])
    return ident


def subnets_changed(conn: sa.Connection, network_id: str) -> None:
    """A subnet came to or left the network: its wall, if it has one, follows."""
    ident = wall_id(network_id)
    if _THERE.scalar(conn, ident=ident) is None:
        return
    conn.execute(rules.delete().where(rules.c.security_group_id == ident, rules.c.direction == "ingress"))
    _let_in(conn, ident, network_id)
    gathered = marks.Marks()
    marks.rules_changed(conn, gathered, ident)
    gathered.flush(conn)


def forget(conn: sa.Connection, network_id: str) -> None:
    """The network goes, and no port is left on it."""
    ident = wall_id(network_id)
    conn.execute(rules.delete().where(rules.c.security_group_id == ident))
    conn.execute(security_groups.delete().where(security_groups.c.id == ident))


def _insert(conn: sa.Connection, ident: str, name: str, description: str) -> None:
    conn.execute(security_groups.insert(), stamped(NOBODY, {"id": ident, "name": name, "description": description}))
    _add_rules(conn, ident, [{"direction": "egress", "ethertype": ethertype} for ethertype in _ETHERTYPES.values()])


def _let_in(conn: sa.Connection, ident: str, network_id: str) -> None:
    found = rows_of(conn, sa.select(subnets.c.cidr, subnets.c.ip_version), subnets.c.network_id, [network_id])
    _add_rules(
        conn,
        ident,
        [
            {"direction": "ingress", "ethertype": _ETHERTYPES[subnet["ip_version"]], "remote_ip_prefix": subnet["cidr"]}
            for subnet in found
        ],
    )


def _add_rules(conn: sa.Connection, ident: str, wanted: list[Row]) -> None:
    if wanted:
        conn.execute(rules.insert(), [stamped(NOBODY, {"security_group_id": ident, **rule}) for rule in wanted])
