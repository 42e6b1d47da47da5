"""What a new security group begins with: the templates that an admin may change (`default_rules`), for groups to come."""

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.network.common import stamped
from nacre.cloud.network.tables import default_rules, network_sequences
from nacre.store import Prepared

PARENT = "PARENT"
"""As a remote group: the new group itself."""
SEEDED = "default_rules"
"""Set once Neutron's own templates were put in; an admin may have taken them away since."""
COPIED = ("direction", "ethertype", "protocol", "port_range_min", "port_range_max", "remote_ip_prefix", "description")

_SEEDED = Prepared(sa.select(network_sequences.c.value).where(network_sequences.c.name == SEEDED))
_OF_DEFAULT, _OF_OTHERS = [
    Prepared(sa.select(default_rules).where(column).order_by(default_rules.c.direction, default_rules.c.created_at))
    for column in (default_rules.c.used_in_default_sg, default_rules.c.used_in_non_default_sg)
]


def lacking(conn: sa.Connection) -> bool:
    """Whether Neutron's own templates were never put in."""
    return _SEEDED.scalar(conn) is None


def seed(conn: sa.Connection) -> None:
    """Neutron's own, once: all out, and into a project's default group what comes from its members."""
    if not lacking(conn):
        return
    conn.execute(network_sequences.insert().values(name=SEEDED, value=1))
    for ethertype in ("IPv4", "IPv6"):
        out = {"direction": "egress", "remote_group_id": None, "used_in_non_default_sg": True}
        inward = {"direction": "ingress", "remote_group_id": PARENT, "used_in_non_default_sg": False}
        for values in (out, inward):
            conn.execute(default_rules.insert(), stamped("", {**values, "ethertype": ethertype, "used_in_default_sg": True}))


def rules_of(conn: sa.Connection, project_id: str, group_id: str, *, default: bool) -> list[Row]:
    """The rows of the rules that the new group begins with."""
    seed(conn)
    found = (_OF_DEFAULT if default else _OF_OTHERS).rows(conn)
    return [
        stamped(
            project_id,
            {
                **{name: row[name] for name in COPIED},
                "security_group_id": group_id,
                "remote_group_id": group_id if row["remote_group_id"] == PARENT else None,
            },
        )
        for row in found
    ]
