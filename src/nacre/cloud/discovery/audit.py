"""Discovery's part of the audit: services against what runs, locks against sessions, checks against nodes, indexes against the counter."""

import sqlalchemy as sa

from nacre.cloud.compute.tables import servers
from nacre.cloud.discovery import derived
from nacre.cloud.discovery.tables import checks, indexes, keys, marks, nodes, services, sessions

Found = tuple[str, str, str]
"""(kind, id, problem)."""
EVERY = 2**31
"""More servers than there are."""


def findings(conn: sa.Connection) -> list[Found]:
    """What contradicts itself in discovery's books. A server that is on its way is not held against them."""
    return [*_stale(conn), *_locks(conn), *_homeless(conn), *_indexes(conn)]


def _stale(conn: sa.Connection) -> list[Found]:
    moving = set(conn.execute(sa.select(servers.c.id).where(servers.c.observed_generation < servers.c.generation)).scalars())
    differing = derived.differing(conn, derived.some_ids(conn, "", EVERY))
    return [("service", ident, "its services are not what it is") for ident in differing if ident not in moving]


def _locks(conn: sa.Connection) -> list[Found]:
    held = sa.select(keys.c.key, keys.c.session).where(
        keys.c.session.is_not(None), keys.c.session.not_in(sa.select(sessions.c.id))
    )
    return [("key", row.key, f"is held by session {row.session}, which is not there") for row in conn.execute(held)]


def _homeless(conn: sa.Connection) -> list[Found]:
    found: list[Found] = []
    for kind, table in (("service", services), ("check", checks)):
        at = sa.and_(nodes.c.project_id == table.c.project_id, nodes.c.name == table.c.node)
        statement = sa.select(table.c.id, table.c.node).where(~sa.exists().where(at))
        found += [(kind, row.id, f"is on node {row.node}, which is not there") for row in conn.execute(statement)]
    return found


def _indexes(conn: sa.Connection) -> list[Found]:
    found: list[Found] = []
    for table, column in ((keys, keys.c.modify_index), (services, services.c.modify_index), (marks, marks.c.index)):
        late = (
            sa.select(table.c.project_id)
            .join(indexes, indexes.c.project_id == table.c.project_id)
            .where(column > indexes.c.value)
        )
        found += [("index", project, f"{table.name} is ahead of it") for project in conn.execute(late.distinct()).scalars()]
    return found
