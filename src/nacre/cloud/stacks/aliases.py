"""The names by which services find each other: more names of their containers' ports, which the networks' resolvers know.

NAME is all containers of a service and NAME-N one of them; with a stack they are NAME.STACK and NAME-N.STACK too; a link's alias is one
more name of what it leads to. A name is one service's in a project, the oldest's: another that has it is known with its stack.
Level-triggered: `reconcile` writes what differs.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from nacre.cloud.containers import lookup
from nacre.cloud.containers.networking import ALIASES_MAX, SHORT_ID_LENGTH
from nacre.cloud.errors import CloudError
from nacre.cloud.network import marks
from nacre.cloud.network.tables import ports
from nacre.cloud.stacks import finding, making
from nacre.cloud.stacks.specs import stored
from nacre.cloud.stacks.tables import service_containers, services

Row = dict[str, Any]


def owned(conn: sa.Connection, project_id: str) -> dict[str, str]:
    """Name -> the id of the service that has it."""
    where = (services.c.project_id == project_id, services.c.intent != "gone")
    rows = [
        dict(row)
        for row in conn.execute(sa.select(services).where(*where).order_by(services.c.created_at, services.c.id)).mappings()
    ]
    found: dict[str, str] = {}
    for row in rows:
        stack = finding.stack_name(conn, row)
        found.setdefault(row["name"], row["id"])
        if stack:
            found.setdefault(f"{row['name']}.{stack}", row["id"])
    for row in rows:
        for link in stored(row).linked_to_service:
            if link.name and link.name not in found:
                try:
                    found[link.name] = finding.service(conn, making.context_of(row), link.to_service, row["stack_id"])["id"]
                except CloudError:
                    continue
    return found


def names_of(names: Mapping[str, str], service_id: str, number: int) -> list[str]:
    """Of one container."""
    own = [name for name, holder in names.items() if holder == service_id]
    numbered = []
    for name in own:
        head, dot, stack = name.partition(".")
        numbered.append(f"{head}-{number}{dot}{stack}")
    return [*own, *numbered]


def differing(conn: sa.Connection, project_id: str) -> list[tuple[Row, list[str]]]:
    """(port, the aliases that it ought to have) where they differ."""
    names = owned(conn, project_id)
    joined = (
        sa.select(
            ports, service_containers.c.service_id, service_containers.c.number, service_containers.c.name.label("container")
        )
        .join(service_containers, service_containers.c.server_id == ports.c.device_id)
        .where(ports.c.project_id == project_id, service_containers.c.leaving.is_(False))
    )
    found = []
    for row in conn.execute(joined).mappings():
        short = lookup.docker_id(row["device_id"])[:SHORT_ID_LENGTH]
        wanted = list(dict.fromkeys((row["container"], short, *names_of(names, row["service_id"], row["number"]))))[:ALIASES_MAX]
        if sorted(wanted) != sorted(row["aliases"]):
            found.append((dict(row), wanted))
    return found


def reconcile(conn: sa.Connection, project_id: str) -> None:
    gathered = marks.Marks()
    for row, wanted in differing(conn, project_id):
        conn.execute(ports.update().where(ports.c.id == row["id"]).values(aliases=wanted))
        marks.changed(conn, gathered, row)
    gathered.flush(conn)
