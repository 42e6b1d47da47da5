"""The projects with which an image is shared: https://docs.openstack.org/api-ref/image/v2/#sharing."""

import sqlalchemy as sa

from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge
from nacre.cloud.image import operations, rules
from nacre.cloud.image.rules import Row
from nacre.cloud.image.tables import image_members
from nacre.store.schema import now


def find(conn: sa.Connection, ctx: Context, image_id: str) -> list[Row]:
    """All of them for the image's owner; for a member, only itself."""
    image = operations.get(conn, ctx, image_id)
    if image["visibility"] != "shared":
        raise Forbidden("Only shared images have members.")
    query = sa.select(image_members).where(image_members.c.image_id == image_id).order_by(image_members.c.created_at)
    if not ctx.sees(image["owner"]):
        query = query.where(image_members.c.member_id == ctx.project_id)
    return [dict(row) for row in conn.execute(query).mappings()]


def get(conn: sa.Connection, ctx: Context, image_id: str, member_id: str) -> Row:
    for member in find(conn, ctx, image_id):
        if member["member_id"] == member_id:
            return member
    raise NotFound(f"{member_id} not found in the member list of the image {image_id}.")


def create(conn: sa.Connection, ctx: Context, image_id: str, member_id: str) -> Row:
    image = operations.owned(conn, ctx, image_id)
    if image["visibility"] != "shared":
        raise Forbidden("Only shared images have members.")
    members = [member["member_id"] for member in find(conn, ctx, image_id)]
    if member_id in members:
        raise Conflict(f"{member_id} is already associated with image {image_id}.")
    if len(members) >= rules.MEMBERS_MAX:
        raise TooLarge(f"The limit has been exceeded on the number of allowed image members: {rules.MEMBERS_MAX}.")
    moment = now()
    conn.execute(
        image_members.insert().values(
            image_id=image_id, member_id=member_id, status="pending", created_at=moment, updated_at=moment
        )
    )
    return get(conn, ctx, image_id, member_id)


def set_status(conn: sa.Connection, ctx: Context, image_id: str, member_id: str, status: str) -> Row:
    """Only the member itself (or an admin) accepts or rejects."""
    if status not in rules.MEMBER_STATUSES:
        raise Invalid(f"Member status is one of {', '.join(rules.MEMBER_STATUSES)}, not {status!r}.", field="status")
    get(conn, ctx, image_id, member_id)
    if not ctx.sees(member_id):
        raise Forbidden("You are not permitted to modify the status of another project's membership.")
    conn.execute(_where(image_id, member_id, image_members.update()).values(status=status, updated_at=now()))
    return get(conn, ctx, image_id, member_id)


def delete(conn: sa.Connection, ctx: Context, image_id: str, member_id: str) -> None:
    operations.owned(conn, ctx, image_id)
    get(conn, ctx, image_id, member_id)
    conn.execute(image_members.delete().where(image_members.c.image_id == image_id, image_members.c.member_id == member_id))


def _where(image_id: str, member_id: str, statement: sa.Update) -> sa.Update:
    return statement.where(image_members.c.image_id == image_id, image_members.c.member_id == member_id)
