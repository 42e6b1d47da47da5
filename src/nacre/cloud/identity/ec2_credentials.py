"""EC2 credentials: an access key and a secret of a user's for one project. They are credentials of type `ec2` under another view.

https://docs.openstack.org/api-ref/identity/v3/#credentials: the id is the SHA-256 of the access key, the blob a JSON object.
"""

import hashlib
import json
import secrets

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Forbidden, NotFound
from nacre.cloud.identity.assignments import effective_roles
from nacre.cloud.identity.changes import refuse_delegated, require
from nacre.cloud.identity.tables import credentials, projects, users
from nacre.store.schema import new_hex_id

SECRET_BYTES = 16


def id_of(access: str) -> str:
    return hashlib.sha256(access.encode("utf-8", "surrogatepass")).hexdigest()


def create(conn: sa.Connection, ctx: Context, user_id: str, project_id: str) -> Row:
    """Raises NotFound, Forbidden when the user has no role on the project."""
    refuse_delegated(ctx)
    require(conn, users, "user", user_id)
    if not ctx.is_admin and not effective_roles(conn, user_id, "project", project_id):
        raise Forbidden("The user has no role on that project.", field="tenant_id")
    require(conn, projects, "project", project_id)
    access, secret = new_hex_id(), secrets.token_hex(SECRET_BYTES)
    blob = json.dumps({"access": access, "secret": secret, "trust_id": None, "app_cred_id": None, "access_token_id": None})
    values = {"id": id_of(access), "type": "ec2", "blob": blob, "user_id": user_id, "project_id": project_id}
    conn.execute(credentials.insert().values(values))
    return get(conn, ctx, user_id, access)


def get(conn: sa.Connection, ctx: Context, user_id: str, access: str) -> Row:
    """Raises NotFound, also for another user's."""
    where = (credentials.c.id == id_of(access), credentials.c.user_id == user_id, credentials.c.type == "ec2")
    row = conn.execute(sa.select(credentials).where(*where)).mappings().first()
    if row is None:
        raise NotFound.of("credential", access)
    return _shown(dict(row))


def list_of_user(conn: sa.Connection, ctx: Context, user_id: str) -> list[Row]:
    require(conn, users, "user", user_id)
    where = (credentials.c.user_id == user_id, credentials.c.type == "ec2")
    rows = conn.execute(sa.select(credentials).where(*where).order_by(credentials.c.id)).mappings()
    return [_shown(dict(row)) for row in rows]


def delete(conn: sa.Connection, ctx: Context, user_id: str, access: str) -> None:
    get(conn, ctx, user_id, access)
    conn.execute(credentials.delete().where(credentials.c.id == id_of(access)))


def _shown(row: Row) -> Row:
    """`access`, `secret`, `user_id`, `tenant_id`, `trust_id`. A blob of type ec2 is checked before it is kept, whoever made it."""
    blob = json.loads(row["blob"])
    keys = {name: blob.get(name) for name in ("access", "secret", "trust_id")}
    return {**keys, "user_id": row["user_id"], "tenant_id": row["project_id"]}
