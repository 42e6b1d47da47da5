"""What hands over the host: refused, unless an admin allows it to the project (or asks for it).

The node asks its own root once more (`Container.host_access`): what is written here alone opens no host.
"""

import sqlalchemy as sa

from nacre.cloud.containers.policies import GRANTED, HOST_ACCESS, POLICIES
from nacre.cloud.containers.tables import grants
from nacre.cloud.context import Context
from nacre.cloud.errors import Forbidden, Invalid
from nacre.protocol.containers import Container


def check(conn: sa.Connection, ctx: Context, container: Container) -> None:
    """Raises Forbidden that names the policy rows."""
    asked = [f"docker:{name}" for name in HOST_ACCESS if name in container.host_access]
    if not asked:
        return
    granted = of_project(conn, ctx, ctx.project_id or "")
    missing = [name for name in asked if name not in granted and not POLICIES[name].allows(ctx, {})]
    if missing:
        rows = ", ".join(missing)
        project = ctx.project_name or ctx.project_id
        raise Forbidden(
            f"Policy doesn't allow {rows} to be performed: it hands over the host. "
            f"An administrator allows it with: nacre docker allow --project {project} {' '.join(missing)}",
            code="PolicyNotAuthorized",
            policy=missing[0],
        )


def has(conn: sa.Connection, ctx: Context, policy: str) -> bool:
    """Whether the project has been granted the row, or whoever asks needs no grant."""
    return POLICIES[policy].allows(ctx, {}) or policy in of_project(conn, ctx, ctx.project_id or "")


def of_project(conn: sa.Connection, ctx: Context, project_id: str) -> list[str]:
    """The policy rows that the project has been granted, sorted."""
    select = sa.select(grants.c.policy).where(grants.c.project_id == project_id).order_by(grants.c.policy)
    return list(conn.execute(select).scalars())


def allow(conn: sa.Connection, ctx: Context, project_id: str, policy: str) -> None:
    """Again: no change. Raises Invalid for a row that cannot be granted."""
    name = _row(policy)
    if name not in of_project(conn, ctx, project_id):
        conn.execute(grants.insert().values(project_id=project_id, policy=name))


def forbid(conn: sa.Connection, ctx: Context, project_id: str, policy: str) -> None:
    """Containers that were made stay as they are."""
    conn.execute(grants.delete().where(grants.c.project_id == project_id, grants.c.policy == _row(policy)))


def _row(policy: str) -> str:
    """`docker:privileged` or `privileged`."""
    name = policy.removeprefix("docker:")
    if name not in GRANTED:
        raise Invalid(f"{policy} cannot be granted: use one of {', '.join(f'docker:{each}' for each in GRANTED)}", field="policy")
    return f"docker:{name}"
