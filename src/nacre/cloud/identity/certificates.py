"""Certificates that stand for a user on a project. What they may do is looked up at each request: a certificate holds no roles."""

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized
from nacre.cloud.identity.assignments import effective_roles
from nacre.cloud.identity.changes import require
from nacre.cloud.identity.tables import certificates, projects, users
from nacre.store.schema import now

DAYS_MAX = 90
CERTIFICATES_MAX = 100
"""Of one user on one project at a time, those included that were revoked and have not expired."""

_domains = projects.alias("domains")
_homes = projects.alias("homes")
_holder = (
    sa.select(
        certificates.c.user_id,
        certificates.c.project_id,
        certificates.c.expires_at,
        certificates.c.revoked_at,
        users.c.name.label("user_name"),
        users.c.domain_id.label("user_domain_id"),
        projects.c.name.label("project_name"),
        sa.and_(users.c.enabled, _homes.c.enabled).label("user_enabled"),
        sa.and_(projects.c.enabled, _domains.c.enabled).label("project_enabled"),
    )
    .join(users, users.c.id == certificates.c.user_id)
    .join(_homes, _homes.c.id == users.c.domain_id)
    .join(projects, projects.c.id == certificates.c.project_id)
    .join(_domains, _domains.c.id == projects.c.domain_id)
    .where(certificates.c.serial == sa.bindparam("serial"))
)


def check(conn: sa.Connection, ctx: Context, project_id: str, user_id: str) -> None:
    """Whether the caller may have a certificate made for that user there. Raises Forbidden, NotFound, Invalid, Conflict."""
    # A certificate would outlive what the token rests on, and have the user's other roles too.
    if getattr(getattr(ctx.token, "facts", None), "delegation", None) is not None:
        raise Forbidden("A delegated token may not be used for this.")
    if user_id != ctx.user_id and not ctx.is_admin:
        raise Forbidden("Only the user itself, or an administrator, may have its certificates made.")
    require(conn, projects, "project", project_id, projects.c.is_domain.is_(False))
    if conn.execute(sa.select(users.c.id).where(users.c.id == user_id, users.c.enabled)).first() is None:
        raise Invalid(f"user {user_id} could not be found, or is disabled.", field="user_id")
    if not effective_roles(conn, user_id, "project", project_id):
        raise Invalid(f"user {user_id} has no role on project {project_id}.", field="user_id")
    mine = (certificates.c.user_id == user_id, certificates.c.project_id == project_id, certificates.c.expires_at > now())
    if conn.execute(sa.select(sa.func.count()).where(*mine)).scalar_one() >= CERTIFICATES_MAX:
        raise Conflict(f"The user has {CERTIFICATES_MAX} certificates for this project already.")


def add(conn: sa.Connection, ctx: Context, serial: str, project_id: str, user_id: str, expires_at: float) -> Row:
    """Write down a certificate before it is handed out; those that have expired are forgotten. Raises as `check`."""
    check(conn, ctx, project_id, user_id)
    conn.execute(certificates.delete().where(certificates.c.expires_at <= now()))
    values = {"serial": serial, "user_id": user_id, "project_id": project_id, "issued_at": now(), "expires_at": expires_at}
    conn.execute(certificates.insert().values(values))
    return get(conn, ctx, project_id, serial)


def list_of_project(conn: sa.Connection, ctx: Context, project_id: str) -> list[Row]:
    """The caller's own; all of the project's for an admin. The newest first."""
    require(conn, projects, "project", project_id, projects.c.is_domain.is_(False))
    select = sa.select(certificates).where(certificates.c.project_id == project_id, certificates.c.expires_at > now(), _seen(ctx))
    return [dict(row) for row in conn.execute(select.order_by(certificates.c.issued_at.desc(), certificates.c.serial)).mappings()]


def get(conn: sa.Connection, ctx: Context, project_id: str, serial: str) -> Row:
    """Raises NotFound."""
    this = (certificates.c.serial == serial, certificates.c.project_id == project_id, _seen(ctx))
    row = conn.execute(sa.select(certificates).where(*this)).mappings().first()
    if row is None:
        raise NotFound.of("certificate", serial)
    return dict(row)


def _seen(ctx: Context) -> sa.ColumnElement[bool]:
    return sa.true() if ctx.is_admin else certificates.c.user_id == ctx.user_id


def revoke(conn: sa.Connection, ctx: Context, project_id: str, serial: str) -> None:
    """Worth nothing from the next request on. Again: no change. Raises NotFound."""
    row = get(conn, ctx, project_id, serial)
    if row["revoked_at"] is None:
        conn.execute(certificates.update().where(certificates.c.serial == serial).values(revoked_at=now()))


def holder(conn: sa.Connection, serial: str) -> tuple[Context, float]:
    """Whom a certificate stands for now, and when it expires. Raises Unauthorized; Forbidden for a user who has no role there any more."""
    row = conn.execute(_holder, {"serial": serial}).first()
    if row is None or row.revoked_at is not None:
        raise Unauthorized("unauthorized: the certificate was revoked")
    if not row.user_enabled or not row.project_enabled:
        raise Unauthorized("unauthorized: the certificate's user or project is disabled")
    roles = effective_roles(conn, row.user_id, "project", row.project_id)
    if not roles:
        raise Forbidden("the certificate's user has no role on the project any more")
    context = Context(
        user_id=row.user_id,
        user_domain_id=row.user_domain_id,
        project_id=row.project_id,
        roles=frozenset(roles.values()),
        user_name=row.user_name,
        project_name=row.project_name,
    )
    return context, row.expires_at
