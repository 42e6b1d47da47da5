"""The tree of projects below each domain."""

import sqlalchemy as sa

from nacre.cloud.identity.tables import projects

DEPTH_MAX = 5
"""Levels of projects below a domain, as Keystone's max_project_tree_depth."""


_step = sa.select(projects.c.parent_id, projects.c.is_domain).where(projects.c.id == sa.bindparam("ident"))


def above(conn: sa.Connection, ident: str) -> list[str]:
    """A project's parent, its parent and so on up to the domain; nothing for a domain."""
    chain: list[str] = []
    current: str | None = ident
    for _ in range(DEPTH_MAX + 1):
        row = conn.execute(_step, {"ident": current}).first()
        if row is None or row.is_domain:
            break
        current = row.parent_id
        chain.append(row.parent_id)
    return chain


def ancestors(conn: sa.Connection, ident: str) -> list[str]:
    """The project itself, its parent and so on, without the domain at the root."""
    chain = above(conn, ident)
    return [ident, *chain[:-1]] if chain else []


def descendants(conn: sa.Connection, ident: str) -> list[str]:
    """All projects below one (or below a domain), nearest first."""
    found: list[str] = []
    level = [ident]
    for _ in range(DEPTH_MAX + 1):
        level = list(
            conn.execute(sa.select(projects.c.id).where(projects.c.parent_id.in_(level)).order_by(projects.c.id)).scalars()
        )
        if not level:
            break
        found += level
    return found
