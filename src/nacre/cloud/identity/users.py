"""Users: https://docs.openstack.org/api-ref/identity/v3/#users. Passwords arrive here already hashed."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import sqlalchemy as sa

from nacre.cloud.collection import Collection, Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Forbidden, Invalid
from nacre.cloud.identity import compliance
from nacre.cloud.identity.assignments import refuse_above_managers
from nacre.cloud.identity.cascades import forget_user
from nacre.cloud.identity.changes import changed, hold_to_domain, home_domain, in_scope, merged, require
from nacre.cloud.identity.compliance import SecurityCompliance
from nacre.cloud.identity.tables import projects, users
from nacre.store import Criterion
from nacre.store.listing import Listing, columns_of
from nacre.store.schema import new_hex_id, now


def _before_create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    values["domain_id"] = values.get("domain_id") or home_domain(ctx)
    hold_to_domain(ctx, values["domain_id"])
    require(conn, projects, "domain", values["domain_id"], projects.c.is_domain)
    return values


def _before_update(conn: sa.Connection, ctx: Context, row: Row, changes: Row) -> Row:
    """A new password or `enabled` false revokes the user's tokens."""
    # One that it sees since it is that user itself may be of another domain.
    hold_to_domain(ctx, row["domain_id"])
    refuse_above_managers(conn, ctx, "user", row["id"])
    if changes.pop("domain_id", row["domain_id"]) != row["domain_id"]:
        raise Invalid("A user's domain_id cannot be changed.", field="domain_id")
    if "password_hash" in changes or changes.get("enabled") is False:
        changes["tokens_valid_from"] = now()
    if changes.get("enabled") is True:
        # An admin's word ends a lockout, and lets one in again who had been away for too long.
        changes |= {"failed_attempts": 0, "failed_at": None, "last_active_at": None}
    changed(conn, row["id"])
    return merged(row, changes, "options")


def _before_delete(conn: sa.Connection, ctx: Context, row: Row) -> None:
    hold_to_domain(ctx, row["domain_id"])
    refuse_above_managers(conn, ctx, "user", row["id"])
    forget_user(conn, row["id"])


_EXPIRY: Mapping[str, Callable[[float], sa.ColumnElement[bool]]] = {
    "lt": lambda moment: users.c.password_expires_at < moment,
    "lte": lambda moment: users.c.password_expires_at <= moment,
    "gt": lambda moment: users.c.password_expires_at > moment,
    "gte": lambda moment: users.c.password_expires_at >= moment,
    "eq": lambda moment: users.c.password_expires_at == moment,
    "neq": lambda moment: users.c.password_expires_at != moment,
}


def _expiring(criterion: Criterion) -> sa.ColumnElement[bool]:
    """`password_expires_at=lt:2026-12-01T00:00:00Z`; without an operator that very moment. Raises Invalid."""
    operator, colon, text = str(criterion.value).partition(":")
    if not colon or operator not in _EXPIRY:
        operator, text = "eq", str(criterion.value)
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise Invalid(f"Invalid time format {text[:80]!r} for password_expires_at.", field="password_expires_at") from None
    return _EXPIRY[operator](seconds)


operations = Collection(
    kind="user",
    table=users,
    listing=Listing(
        sa.select(users),
        columns_of(users, "id", "name", "domain_id", "enabled", "default_project_id"),
        key=users.c.id,
        custom={"password_expires_at": _expiring},
    ),
    make_id=new_hex_id,
    before_create=_before_create,
    before_update=_before_update,
    before_delete=_before_delete,
    visible=lambda ctx: in_scope(ctx, users.c.domain_id, users.c.id == ctx.user_id),
)


def create(conn: sa.Connection, ctx: Context, values: Row, rules: SecurityCompliance) -> Row:
    if values.get("password_hash") is not None:
        values |= compliance.dated(rules, {"options": values.get("options")}, own=False)
    return operations.create(conn, ctx, values)


def update(conn: sa.Connection, ctx: Context, user_id: str, values: Row, rules: SecurityCompliance) -> Row:
    """An admin's change. The password that it gives is held against no history."""
    if "password_hash" in values:
        user = operations.get(conn, ctx, user_id)
        options = {**user["options"], **(values.get("options") or {})}
        values |= compliance.dated(rules, {"options": options}, own=False)
        compliance.remember(conn, rules, user)
    return operations.update(conn, ctx, user_id, values)


def set_password(conn: sa.Connection, ctx: Context, user_id: str, password_hash: str, rules: SecurityCompliance) -> None:
    """A user's own change. Raises Forbidden when its option lock_password is set, Invalid while the present one is too young."""
    user = operations.get(conn, ctx, user_id)
    if user["options"].get("lock_password"):
        raise Forbidden("The password of this user is locked.", code="Forbidden")
    if compliance.too_young(rules, user):
        days = rules.minimum_password_age_days
        raise Invalid(f"The password must be kept for {days} days before it may be changed.", field="password")
    compliance.remember(conn, rules, user)
    dates = compliance.dated(rules, user, own=True)
    operations.update(conn, ctx, user_id, {"password_hash": password_hash, **dates})
