"""Credentials (keys of other systems, kept for a user) and policies (opaque blobs): https://docs.openstack.org/api-ref/identity/v3/#credentials."""

import json

import sqlalchemy as sa

from nacre.cloud.collection import Collection, Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Forbidden, Invalid
from nacre.cloud.identity.changes import merged, refer, refuse_delegated
from nacre.cloud.identity.ec2_credentials import id_of
from nacre.cloud.identity.tables import credentials, policies, projects, users
from nacre.cloud.identity.totp import key_of
from nacre.store.listing import Listing, columns_of
from nacre.store.schema import new_hex_id


def _check(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    """Only an admin keeps credentials for others."""
    if "user_id" in values:
        if values["user_id"] != ctx.user_id and not ctx.is_admin:
            raise Forbidden("Only an admin may keep credentials of another user.", field="user_id")
        refer(conn, users, "user", values["user_id"], "user_id")
    if values.get("project_id") is not None:
        refer(conn, projects, "project", values["project_id"], "project_id")
    return values


def _before_create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    values = _check(conn, ctx, {**values, "user_id": values.get("user_id") or ctx.user_id})
    refuse_delegated(ctx)
    if values["type"] == "ec2":
        if not values.get("project_id"):
            raise Invalid("A credential of type ec2 needs a project_id.", field="project_id")
        # Who signs with an access key is found by it.
        values["id"] = id_of(_ec2_blob(values["blob"])["access"])
    _check_totp(values)
    return values


DELEGATION_KEYS = ("trust_id", "app_cred_id", "access_token_id")
"""Of an EC2 credential's blob: what it was made with, and is limited to."""


def _ec2_blob(blob: str) -> Row:
    """Raises Invalid for a blob that is no JSON object with `access` and `secret`."""
    try:
        parsed = json.loads(blob)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict) or not all(isinstance(parsed.get(name), str) for name in ("access", "secret")):
        raise Invalid("The blob of a credential of type ec2 is a JSON object with access and secret.", field="blob")
    return parsed


def _check_totp(values: Row) -> None:
    if values["type"] == "totp" and not key_of(values["blob"]):
        raise Invalid("The blob of a credential of type totp is a key in base32.", field="blob")


def _before_update(conn: sa.Connection, ctx: Context, row: Row, changes: Row) -> Row:
    _own_only(ctx, row)
    changes = merged(row, _check(conn, ctx, changes))
    after = {**row, **changes}
    if after["type"] == "ec2":
        if not after.get("project_id"):
            raise Invalid("A credential of type ec2 needs a project_id.", field="project_id")
        before = _ec2_blob(row["blob"]) if row["type"] == "ec2" else {}
        if any(_ec2_blob(after["blob"]).get(name) != before.get(name) for name in DELEGATION_KEYS):
            raise Invalid(f"{', '.join(DELEGATION_KEYS)} of a credential of type ec2 cannot be changed.", field="blob")
    _check_totp(after)
    return changes


def _before_delete(conn: sa.Connection, ctx: Context, row: Row) -> None:
    _own_only(ctx, row)


def _own_only(ctx: Context, row: Row) -> None:
    """A reader of the system sees others' credentials, and changes none."""
    if row["user_id"] != ctx.user_id and not ctx.is_admin:
        raise Forbidden("Only an admin may change credentials of another user.")
    refuse_delegated(ctx)


def _merge(conn: sa.Connection, ctx: Context, row: Row, changes: Row) -> Row:
    return merged(row, changes)


def _own(ctx: Context) -> sa.ColumnElement[bool] | None:
    return None if ctx.sees_all else credentials.c.user_id == ctx.user_id


operations = Collection(
    kind="credential",
    table=credentials,
    listing=Listing(sa.select(credentials), columns_of(credentials), key=credentials.c.id),
    make_id=new_hex_id,
    before_create=_before_create,
    before_update=_before_update,
    before_delete=_before_delete,
    visible=_own,
)

policy_operations = Collection(
    kind="policy",
    table=policies,
    listing=Listing(sa.select(policies), columns_of(policies), key=policies.c.id),
    make_id=new_hex_id,
    before_update=_merge,
)
