"""What goes with a user, a project or a domain: the rows that refer to them without a foreign key, and in a domain everything."""

from collections.abc import Sequence

import sqlalchemy as sa

from nacre.cloud.identity.changes import changed
from nacre.cloud.identity.tables import assignments, credentials, groups, projects, roles, users
from nacre.cloud.identity.trees import descendants


def forget_user(conn: sa.Connection, user_id: str) -> None:
    conn.execute(assignments.delete().where(assignments.c.actor_kind == "user", assignments.c.actor_id == user_id))
    changed(conn, user_id)


def forget_projects(conn: sa.Connection, ids: Sequence[str]) -> None:
    conn.execute(assignments.delete().where(assignments.c.target_kind == "project", assignments.c.target_id.in_(ids)))
    conn.execute(credentials.delete().where(credentials.c.project_id.in_(ids)))
    conn.execute(users.update().where(users.c.default_project_id.in_(ids)).values(default_project_id=None))
    changed(conn)


def forget_domain(conn: sa.Connection, domain_id: str) -> None:
    """Its users, groups, roles and projects (leaves first) are deleted."""
    for user_id in conn.execute(sa.select(users.c.id).where(users.c.domain_id == domain_id)).scalars().all():
        forget_user(conn, user_id)
    group_ids = sa.select(groups.c.id).where(groups.c.domain_id == domain_id)
    conn.execute(assignments.delete().where(assignments.c.actor_kind == "group", assignments.c.actor_id.in_(group_ids)))
    for table in (users, groups, roles):
        conn.execute(table.delete().where(table.c.domain_id == domain_id))
    below = descendants(conn, domain_id)
    forget_projects(conn, below)
    for ident in reversed(below):
        conn.execute(projects.delete().where(projects.c.id == ident))
    conn.execute(assignments.delete().where(assignments.c.target_kind == "domain", assignments.c.target_id == domain_id))
    changed(conn)
