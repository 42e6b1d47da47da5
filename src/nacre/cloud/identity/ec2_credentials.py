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
    return _shown(_found(conn, user_id, access))


def _found(conn: sa.Connection, user_id: str, access: str) -> Row:
    """By the key in the blob: a credential's update may have put another there than its id is of."""
    for row in _rows(conn, user_id):
        if _shown(row)["access"] == access:
            return row
    raise NotFound.of("credential", access)


def _rows(conn: sa.Connection, user_id: str) -> list[Row]:
    where = (credentials.c.user_id == user_id, credentials.c.type == "ec2")
    return [dict(row) for row in conn.execute(sa.select(credentials).where(*where).order_by(credentials.c.id)).mappings()]


def list_of_user(conn: sa.Connection, ctx: Context, user_id: str) -> list[Row]:
    require(conn, users, "user", user_id)
    return [_shown(row) for row in _rows(conn, user_id)]


def delete(conn: sa.Connection, ctx: Context, user_id: str, access: str) -> None:
    conn.execute(credentials.delete().where(credentials.c.id == _found(conn, user_id, access)["id"]))


def _shown(row: Row) -> Row:
    """`access`, `secret`, `user_id`, `tenant_id`, `trust_id`. A blob of type ec2 is checked before it is kept, whoever made it."""
    blob = json.loads(row["blob"])
    keys = {name: blob.get(name) for name in ("access", "secret", "trust_id")}
    return {**keys, "user_id": row["user_id"], "tenant_id": row["project_id"]}
