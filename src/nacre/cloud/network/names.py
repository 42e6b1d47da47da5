"""Names that the nodes' resolvers ask the control plane for."""

from collections.abc import Callable

import sqlalchemy as sa

from nacre.cloud.discovery import names as discovery
from nacre.cloud.network.tables import ports
from nacre.protocol.names import NameAnswer

Lookup = Callable[[sa.Connection, str, str, str], NameAnswer]
"""(conn, project id, name in lower case without its last dot, record type) -> the answer, with what that project may know."""

LOOKUPS: dict[str, Lookup] = {"consul": discovery.lookup, "nacre": discovery.lookup}
"""Top-level domain -> who knows its names. A domain that serves names adds its line."""


def project_of_port(conn: sa.Connection, host_id: str, port_id: str) -> str | None:
    """Whose a port is, if it is on that host."""
    found = conn.execute(sa.select(ports.c.project_id).where(ports.c.id == port_id, ports.c.host_id == host_id)).scalar()
    return None if found is None else str(found)


def lookup(conn: sa.Connection, host_id: str, port_id: str, name: str, rtype: str) -> NameAnswer | None:
    """As the project of the port sees it that asks; None where no such port is on that host."""
    project_id = project_of_port(conn, host_id, port_id)
    if project_id is None:
        return None
    known = LOOKUPS.get(name.rpartition(".")[2])
    return NameAnswer(found=False) if known is None else known(conn, project_id, name, rtype)
