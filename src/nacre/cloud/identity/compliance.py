"""Security compliance: what an operator may ask of passwords and logins, and users' exemptions from it.

Source: https://docs.openstack.org/keystone/latest/admin/configuration.html#security-compliance-and-pci-dss. Nothing is asked by default.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.errors import Invalid
from nacre.cloud.identity.tables import password_history, users
from nacre.store.schema import new_hex_id, now

DAY_S = 86_400.0
HISTORY_MAX = 64
"""Former passwords of a user that are kept at most."""


@dataclass(frozen=True)
class SecurityCompliance:
    """The names are those of Keystone's section [security_compliance]; what lasts says its unit here. 0 and "" ask for nothing."""

    lockout_failure_attempts: int = 0
    lockout_duration_s: int = 1800
    password_expires_days: int = 0
    unique_last_password_count: int = 0
    minimum_password_age_days: int = 0
    password_regex: str = ""
    password_regex_description: str = ""
    change_password_upon_first_use: bool = False
    disable_user_account_days_inactive: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for what no password could meet or no login survive."""
        for name, value in vars(self).items():
            if isinstance(value, int) and value < 0:
                raise ValueError(f"security_compliance.{name} is negative")
        if self.unique_last_password_count > HISTORY_MAX:
            raise ValueError(f"security_compliance.unique_last_password_count is more than {HISTORY_MAX}")
        if self.password_expires_days and self.minimum_password_age_days >= self.password_expires_days:
            raise ValueError("security_compliance.minimum_password_age_days leaves no day before password_expires_days")
        try:
            re.compile(self.password_regex)
        except re.error as error:
            raise ValueError(f"security_compliance.password_regex: {error}") from error

    def check_strength(self, password: str) -> None:
        """Raises Invalid for a password that does not match the operator's expression."""
        if self.password_regex and re.match(self.password_regex, password) is None:
            reason = self.password_regex_description or "it does not match the expression that this cloud asks for"
            raise Invalid(f"The password does not match the requirements: {reason}.", field="password")

    def shown(self) -> dict[str, str | None]:
        """What every user may know of it, so that one can choose a password."""
        return {
            "password_regex": self.password_regex or None,
            "password_regex_description": self.password_regex_description or None,
        }


def exempt(user: Mapping[str, Any], option: str) -> bool:
    """Whether the user's options take it out of a rule."""
    return bool((user["options"] or {}).get(option))


def locked(rules: SecurityCompliance, user: Mapping[str, Any]) -> bool:
    """Whether too many logins in a row failed a moment ago."""
    attempts = rules.lockout_failure_attempts
    if not attempts or exempt(user, "ignore_lockout_failure_attempts") or user["failed_attempts"] < attempts:
        return False
    return bool(user["failed_at"] + rules.lockout_duration_s > now())


def expired(user: Mapping[str, Any]) -> bool:
    return user["password_expires_at"] is not None and user["password_expires_at"] <= now()


def idle(rules: SecurityCompliance, user: Mapping[str, Any]) -> bool:
    """Whether the user has not come for too long."""
    days = rules.disable_user_account_days_inactive
    if not days or user["last_active_at"] is None or exempt(user, "ignore_user_inactivity"):
        return False
    return bool(user["last_active_at"] + days * DAY_S < now())


def note_failure(conn: sa.Connection, rules: SecurityCompliance, user_id: str) -> None:
    """One more login failed. After the time of a lockout, counting begins anew."""
    row = conn.execute(sa.select(users.c.failed_attempts, users.c.failed_at).where(users.c.id == user_id)).first()
    if row is None:
        return
    old = row.failed_at is not None and row.failed_at + rules.lockout_duration_s <= now()
    count = 1 if old else row.failed_attempts + 1
    conn.execute(users.update().where(users.c.id == user_id).values(failed_attempts=count, failed_at=now()))


def note_success(conn: sa.Connection, user_id: str) -> None:
    conn.execute(users.update().where(users.c.id == user_id).values(failed_attempts=0, failed_at=None, last_active_at=now()))


def wants_note(rules: SecurityCompliance, user: Mapping[str, Any]) -> bool:
    """Whether a login that succeeds is to be written down: most are not, so that a login costs no write."""
    if user["failed_attempts"]:
        return True
    days = rules.disable_user_account_days_inactive
    return bool(days and (user["last_active_at"] is None or user["last_active_at"] + DAY_S < now()))


def dated(rules: SecurityCompliance, user: Mapping[str, Any], *, own: bool) -> Row:
    """The columns that go with a new password. One that an admin gave (`own` False) may have to be changed at its first use."""
    expires_at = now() + rules.password_expires_days * DAY_S if rules.password_expires_days else None
    if exempt(user, "ignore_password_expiry"):
        expires_at = None
    first_use = rules.change_password_upon_first_use and not exempt(user, "ignore_change_password_upon_first_use")
    if first_use and not own:
        expires_at = now()
    return {"password_created_at": now(), "password_expires_at": expires_at, "failed_attempts": 0, "failed_at": None}


def too_young(rules: SecurityCompliance, user: Mapping[str, Any]) -> bool:
    """Whether the present password must be kept a while longer. One that has expired may always go."""
    days, made_at = rules.minimum_password_age_days, user["password_created_at"]
    return bool(days and made_at is not None and not expired(user) and made_at + days * DAY_S > now())


def former(conn: sa.Connection, rules: SecurityCompliance, user: Mapping[str, Any]) -> list[str]:
    """The hashes of the passwords that the user may not come back to, the present one among them."""
    count = rules.unique_last_password_count
    if count < 2:
        return []
    table = password_history
    select = sa.select(table.c.password_hash).where(table.c.user_id == user["id"]).order_by(table.c.created_at.desc())
    return [user["password_hash"], *conn.execute(select.limit(count - 1)).scalars()]


def remember(conn: sa.Connection, rules: SecurityCompliance, user: Mapping[str, Any]) -> None:
    """The present password becomes a former one."""
    table = password_history
    if rules.unique_last_password_count < 2 or user["password_hash"] is None:
        return
    conn.execute(
        table.insert().values(id=new_hex_id(), user_id=user["id"], password_hash=user["password_hash"], created_at=now())
    )
    select = sa.select(table.c.id).where(table.c.user_id == user["id"]).order_by(table.c.created_at.desc())
    old = conn.execute(select.offset(rules.unique_last_password_count - 1)).scalars().all()
    conn.execute(table.delete().where(table.c.id.in_(old)))
