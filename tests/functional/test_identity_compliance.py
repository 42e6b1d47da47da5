"""What an operator may ask of passwords and logins, in a cloud that asks for everything at once."""

import asyncio
import base64
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

from nacre.cloud.identity import totp
from nacre.cloud.identity.compliance import SecurityCompliance
from nacre.cloud.identity.tables import users
from tests.functional.conftest import serving
from tests.functional.test_identity_tokens import by_password, log_in, make_user
from tests.support import Client, RunningCloud

V3 = "/identity/v3"
RULES = SecurityCompliance(
    lockout_failure_attempts=2,
    lockout_duration_s=3600,
    password_expires_days=90,
    unique_last_password_count=3,
    password_regex=r"^(?=.*\d).{6,}$",
    password_regex_description="six characters, one of them a digit",
)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    with serving(tmp_path_factory.mktemp("cloud"), security=RULES) as running:
        yield running


def change(client: Client, user_id: str, old: str, new: str) -> Any:
    return client("POST", f"{V3}/users/{user_id}/password", {"user": {"original_password": old, "password": new}})


def set_column(cloud: RunningCloud, user_id: str, **values: float) -> None:
    """As if time had passed."""
    statement = users.update().where(users.c.id == user_id).values(values)
    asyncio.run_coroutine_threadsafe(cloud.cloud.store.write(lambda conn: conn.execute(statement)), cloud.loop).result(30)


def soon() -> str:
    return (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_weak_password_is_refused_with_the_operators_words(admin: Client, member: Client) -> None:
    for verb, path in (("POST", f"{V3}/users"), ("PATCH", f"{V3}/users/{'c' * 32}")):
        refused = admin(verb, path, {"user": {"name": "weak", "password": "short"}})
        assert refused.status == 400
        assert "six characters, one of them a digit" in refused.json["error"]["message"]
    user, _ = make_user(admin, "strong", "secret1")
    assert change(admin, user["id"], "secret1", "short").status == 400
    shown = member("GET", f"{V3}/domains/default/config/security_compliance").json["config"]["security_compliance"]
    assert shown["password_regex"] == RULES.password_regex
    one = member("GET", f"{V3}/domains/default/config/security_compliance/password_regex_description")
    assert one.json == {"config": {"password_regex_description": RULES.password_regex_description}}
    assert member("GET", f"{V3}/domains/default/config/security_compliance/lockout_duration").status == 404
    assert member("GET", f"{V3}/domains/default/config/ldap").status == 404


def test_failed_logins_lock_a_user_out_until_time_or_an_admin_lets_it_in(cloud: RunningCloud, admin: Client) -> None:
    user, _ = make_user(admin, "locked", "secret1")
    right, wrong = (by_password({"id": user["id"]}, word) for word in ("secret1", "secret2"))
    assert log_in(admin.base_url, wrong).status == 401
    assert log_in(admin.base_url, right).status == 201, "a login that succeeds counts from the start"
    assert {log_in(admin.base_url, wrong).status for _ in range(2)} == {401}
    refused = log_in(admin.base_url, right)
    assert refused.status == 401
    assert refused.json == log_in(admin.base_url, wrong).json, "it does not say that the password was right"
    assert change(admin, user["id"], "secret1", "secret9").status == 401
    set_column(cloud, user["id"], failed_at=time.time() - RULES.lockout_duration_s - 1)
    assert log_in(admin.base_url, right).status == 201
    assert {log_in(admin.base_url, wrong).status for _ in range(2)} == {401}
    assert admin("PATCH", f"{V3}/users/{user['id']}", {"user": {"enabled": True}}).status == 200
    assert log_in(admin.base_url, right).status == 201
    options = {"user": {"options": {"ignore_lockout_failure_attempts": True}}}
    assert admin("PATCH", f"{V3}/users/{user['id']}", options).json["user"]["options"] == options["user"]["options"]
    assert {log_in(admin.base_url, wrong).status for _ in range(5)} == {401}
    assert log_in(admin.base_url, right).status == 201


def test_former_passwords_do_not_come_back(admin: Client) -> None:
    user, _ = make_user(admin, "forgetful", "secret1")
    ident = user["id"]
    assert change(admin, ident, "secret1", "secret1").status == 400
    assert change(admin, ident, "secret1", "secret2").status == 204
    assert change(admin, ident, "secret2", "secret1").status == 400
    assert change(admin, ident, "secret2", "secret3").status == 204
    assert change(admin, ident, "secret3", "secret1").status == 400
    assert change(admin, ident, "secret3", "secret4").status == 204
    assert change(admin, ident, "secret4", "secret1").status == 204, "three others came between"
    reset = admin("PATCH", f"{V3}/users/{ident}", {"user": {"password": "secret4"}})
    assert reset.status == 200, "an admin's reset is held against no history"


def test_a_password_expires_and_can_still_be_changed(cloud: RunningCloud, admin: Client) -> None:
    user, _ = make_user(admin, "old", "secret1")
    assert user["password_expires_at"] is not None
    proof = by_password({"id": user["id"]}, "secret1")
    assert log_in(admin.base_url, proof).json["token"]["user"]["password_expires_at"] is not None
    set_column(cloud, user["id"], password_expires_at=time.time() - 1)
    ids = [each["id"] for each in admin("GET", f"{V3}/users?password_expires_at=lt:{soon()}").json["users"]]
    assert ids == [user["id"]], "those who are to be told"
    assert user["id"] not in str(admin("GET", f"{V3}/users?password_expires_at=gt:{soon()}").json["users"])
    assert admin("GET", f"{V3}/users?password_expires_at=lt:soon").status == 400
    refused = log_in(admin.base_url, proof)
    assert refused.status == 401
    assert "expired" in refused.json["error"]["message"]
    assert "expired" not in log_in(admin.base_url, by_password({"id": user["id"]}, "wrong")).json["error"]["message"]
    assert change(admin, user["id"], "secret1", "secret2").status == 204
    assert log_in(admin.base_url, by_password({"id": user["id"]}, "secret2")).status == 201
    lasting = {"user": {"options": {"ignore_password_expiry": True}, "password": "secret3"}}
    assert admin("PATCH", f"{V3}/users/{user['id']}", lasting).json["user"]["password_expires_at"] is None


def test_the_first_use_changes_an_admins_password_and_a_young_one_stays(tmp_path: Any) -> None:
    rules = SecurityCompliance(change_password_upon_first_use=True, minimum_password_age_days=1)
    with serving(tmp_path, security=rules) as running:
        admin = running.client("admin")
        user, _ = make_user(admin, "fresh", "x")
        assert log_in(admin.base_url, by_password({"id": user["id"]}, "x")).status == 401
        assert change(admin, user["id"], "x", "y").status == 204
        assert log_in(admin.base_url, by_password({"id": user["id"]}, "y")).status == 201
        assert change(admin, user["id"], "y", "z").status == 400, "it is younger than a day"


def test_who_was_away_for_too_long_is_not_let_in(tmp_path: Any) -> None:
    with serving(tmp_path, security=SecurityCompliance(disable_user_account_days_inactive=30)) as running:
        admin = running.client("admin")
        user, _ = make_user(admin, "idle", "x")
        proof = by_password({"id": user["id"]}, "x")
        assert log_in(admin.base_url, proof).status == 201
        set_column(running, user["id"], last_active_at=time.time() - 31 * 86_400)
        assert log_in(admin.base_url, proof).status == 401
        assert admin("PATCH", f"{V3}/users/{user['id']}", {"user": {"enabled": True}}).status == 200
        assert log_in(admin.base_url, proof).status == 201


def test_passcodes_and_rules_of_several_factors(admin: Client, member: Client) -> None:
    user, _ = make_user(admin, "careful", "secret1")
    key = b"12345678901234567890"
    blob = base64.b32encode(key).decode()
    assert member("POST", f"{V3}/credentials", {"credential": {"type": "totp", "blob": "not base32!"}}).status == 400
    body = {"credential": {"type": "totp", "blob": blob, "user_id": user["id"]}}
    assert admin("POST", f"{V3}/credentials", body).status == 201
    rules = {"multi_factor_auth_enabled": True, "multi_factor_auth_rules": [["password", "totp"]]}
    assert admin("PATCH", f"{V3}/users/{user['id']}", {"user": {"options": rules}}).status == 200
    password = by_password({"id": user["id"]}, "secret1")
    assert log_in(admin.base_url, password).status == 401

    def both(code: str) -> int:
        proof = {"methods": ["password", "totp"], "password": password["password"]}
        return log_in(admin.base_url, {**proof, "totp": {"user": {"id": user["id"], "passcode": code}}}).status

    assert both("00000x") == 401
    code = totp.passcode(key, int(time.time()) // totp.STEP_S)
    assert both(code) == 201
    assert both(code) == 401, "a passcode is good once"
    assert log_in(admin.base_url, {"methods": ["totp"], "totp": {"user": {"id": "nobody", "passcode": "1"}}}).status == 401
    wrong = {"user": {"options": {"multi_factor_auth_rules": [["retina"]]}}}
    assert admin("PATCH", f"{V3}/users/{user['id']}", wrong).status == 400


def test_keystoneauth_logs_in_with_two_factors(admin: Client) -> None:
    user, project = make_user(admin, "twofold", "secret1")
    key = b"abcdefghijabcdefghij"
    body = {"credential": {"type": "totp", "blob": base64.b32encode(key).decode(), "user_id": user["id"]}}
    assert admin("POST", f"{V3}/credentials", body).status == 201
    rules = {"multi_factor_auth_rules": [["password", "totp"]]}
    assert admin("PATCH", f"{V3}/users/{user['id']}", {"user": {"options": rules}}).status == 200
    factors = [
        v3.PasswordMethod(user_id=user["id"], password="secret1"),
        v3.TOTPMethod(user_id=user["id"], passcode=totp.passcode(key, int(time.time()) // totp.STEP_S)),
    ]
    auth = v3.Auth(f"{admin.base_url}/identity/v3", factors, project_id=project["id"])
    session = Session(auth=auth)
    assert session.get_user_id() == user["id"]
    assert set(auth.get_access(session)._data["token"]["methods"]) == {"password", "totp"}


def test_the_passcodes_of_the_rfc() -> None:
    """RFC 6238, appendix B (eight digits there, the last six here)."""
    key = b"12345678901234567890"
    found = [totp.passcode(key, moment // totp.STEP_S) for moment in (59, 1111111109, 1234567890, 20000000000)]
    assert found == ["287082", "081804", "005924", "353130"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"lockout_failure_attempts": -1},
        {"password_regex": "("},
        {"unique_last_password_count": 1000},
        {"password_expires_days": 1, "minimum_password_age_days": 1},
    ],
)
def test_rules_that_make_no_sense_are_refused_at_the_start(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="security_compliance"):
        SecurityCompliance(**wrong)
