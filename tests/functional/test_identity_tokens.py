"""Tokens over HTTP: getting one, what it says, and how it ends."""

from typing import Any

from tests.support import ACTORS, Answer, Client, RunningCloud

TOKENS = "/identity/v3/auth/tokens"
MEMBER = ACTORS["member"]


def log_in(base_url: str, identity: dict[str, Any], scope: Any = None) -> Answer:
    auth = {"identity": identity} if scope is None else {"identity": identity, "scope": scope}
    return Client(base_url, "")("POST", TOKENS, {"auth": auth})


def by_password(user: dict[str, Any], password: str) -> dict[str, Any]:
    return {"methods": ["password"], "password": {"user": {**user, "password": password}}}


def by_token(token: str) -> dict[str, Any]:
    return {"methods": ["token"], "token": {"id": token}}


def demo() -> dict[str, Any]:
    return by_password({"name": MEMBER.user_name, "domain": {"id": "default"}}, MEMBER.password)


def text_of(answer: Answer) -> str:
    return answer.headers["X-Subject-Token"]


def make_user(admin: Client, name: str, password: str, role: str = "member") -> tuple[dict[str, Any], dict[str, Any]]:
    """A user with a role on a project of its own."""
    project = admin("POST", "/identity/v3/projects", {"project": {"name": f"{name}-project"}}).json["project"]
    user = admin("POST", "/identity/v3/users", {"user": {"name": name, "password": password}}).json["user"]
    role_id = admin("GET", f"/identity/v3/roles?name={role}").json["roles"][0]["id"]
    path = f"/identity/v3/projects/{project['id']}/users/{user['id']}/roles/{role_id}"
    assert admin("PUT", path).status == 204
    return user, project


def test_scopes_and_what_their_tokens_say(cloud: RunningCloud) -> None:
    url = cloud.base_url
    default = log_in(url, demo()).json["token"]
    assert default["project"]["id"] == MEMBER.project_id
    assert default["project"]["domain"] == {"id": "default", "name": "Default"}
    assert [role["name"] for role in default["roles"]] == ["member", "reader"]
    assert default["is_domain"] is False
    assert default["methods"] == ["password"]
    assert {service["type"] for service in default["catalog"]} >= {"identity", "compute", "image", "network", "placement"}
    for moment in ("issued_at", "expires_at"):
        assert len(default[moment]) == len("2026-11-21T12:00:00.000000Z")
    unscoped = log_in(url, demo(), "unscoped").json["token"]
    assert "project" not in unscoped
    assert "roles" not in unscoped
    by_name = log_in(url, demo(), {"project": {"name": "demo", "domain": {"name": "Default"}}})
    assert by_name.json["token"]["project"]["id"] == MEMBER.project_id
    assert log_in(url, demo(), {"system": {"all": True}}).status == 401
    assert log_in(url, demo(), {"domain": {"id": "default"}}).status == 401
    assert log_in(url, demo(), {"project": {"id": ACTORS["other"].project_id}}).status == 401
    admin = by_password({"id": ACTORS["admin"].user_id}, ACTORS["admin"].password)
    system = log_in(url, admin, {"system": {"all": True}}).json["token"]
    assert system["system"] == {"all": True}
    assert "admin" in [role["name"] for role in system["roles"]]


def test_a_domain_scoped_token(admin: Client) -> None:
    user, _ = make_user(admin, "domain-reader", "x")
    role_id = admin("GET", "/identity/v3/roles?name=reader").json["roles"][0]["id"]
    assert admin("PUT", f"/identity/v3/domains/default/users/{user['id']}/roles/{role_id}").status == 204
    answer = log_in(admin.base_url, by_password({"id": user["id"]}, "x"), {"domain": {"name": "Default"}})
    assert answer.json["token"]["domain"] == {"id": "default", "name": "Default"}
    client = Client(admin.base_url, text_of(answer))
    assert [domain["id"] for domain in client("GET", "/identity/v3/auth/domains").json["domains"]] == ["default"]


def test_rescoping_keeps_the_end_and_the_chain(cloud: RunningCloud) -> None:
    first = log_in(cloud.base_url, demo(), "unscoped")
    second = log_in(cloud.base_url, by_token(text_of(first)), {"project": {"id": MEMBER.project_id}})
    assert second.status == 201
    token, parent = second.json["token"], first.json["token"]
    assert token["expires_at"] == parent["expires_at"]
    assert token["audit_ids"][1] == parent["audit_ids"][0]
    assert set(token["methods"]) == {"token", "password"}


def test_wrong_password_and_unknown_user_look_the_same(cloud: RunningCloud) -> None:
    wrong = log_in(cloud.base_url, by_password({"name": "demo", "domain": {"id": "default"}}, "no"))
    unknown = log_in(cloud.base_url, by_password({"name": "nobody", "domain": {"id": "default"}}, "no"))
    nowhere = log_in(cloud.base_url, by_password({"name": "demo", "domain": {"id": "nowhere"}}, "no"))
    assert wrong.status == unknown.status == nowhere.status == 401
    assert wrong.json == unknown.json == nowhere.json
    assert wrong.headers["WWW-Authenticate"].startswith("Keystone")


def test_validation_is_for_oneself_and_admins(admin: Client, member: Client, other: Client) -> None:
    subject = {"X-Subject-Token": member.token}
    for client in (member, admin):
        shown = client("GET", TOKENS, headers=subject)
        assert shown.status == 200
        assert shown.json["token"]["user"]["name"] == "demo"
        assert text_of(shown) == member.token
    assert other("GET", TOKENS, headers=subject).status == 403
    assert "catalog" not in member("GET", f"{TOKENS}?nocatalog", headers=subject).json["token"]
    checked = member("HEAD", TOKENS, headers=subject)
    assert (checked.status, checked.body) == (200, b"")
    assert admin("GET", TOKENS, headers={"X-Subject-Token": "forged"}).status == 404
    assert admin("GET", TOKENS).status == 404


def test_a_revoked_token_is_worth_nothing(admin: Client, cloud: RunningCloud) -> None:
    token = text_of(log_in(cloud.base_url, demo()))
    client = Client(cloud.base_url, token)
    assert client("GET", "/identity/v3/auth/projects").status == 200
    assert client("DELETE", TOKENS, headers={"X-Subject-Token": token}).status == 204
    assert client("GET", "/identity/v3/auth/projects").status == 401
    assert admin("GET", TOKENS, headers={"X-Subject-Token": token}).status == 404


def test_a_changed_password_and_a_disabled_user_end_all_tokens(admin: Client) -> None:
    user, _ = make_user(admin, "leaver", "first")
    first = Client(admin.base_url, text_of(log_in(admin.base_url, by_password({"id": user["id"]}, "first"))))
    change = {"user": {"original_password": "first", "password": "second"}}
    path = f"/identity/v3/users/{user['id']}"
    refused = Client(admin.base_url, "")("POST", f"{path}/password", {"user": {**change["user"], "original_password": "no"}})
    assert refused.status == 401
    assert first("POST", f"{path}/password", change).status == 204
    assert first("GET", path).status == 401
    assert log_in(admin.base_url, by_password({"id": user["id"]}, "first")).status == 401
    second = Client(admin.base_url, text_of(log_in(admin.base_url, by_password({"id": user["id"]}, "second"))))
    assert second("GET", path).status == 200
    assert admin("PATCH", path, {"user": {"enabled": False}}).status == 200
    assert second("GET", path).status == 401
    assert log_in(admin.base_url, by_password({"id": user["id"]}, "second")).status == 401
    assert admin("PATCH", path, {"user": {"enabled": True}}).status == 200
    assert second("GET", path).status == 401, "enabling a user must not bring its old tokens back"


def test_a_token_says_what_is_so_now(admin: Client) -> None:
    user, project = make_user(admin, "climber", "x", role="reader")
    answer = log_in(admin.base_url, by_password({"id": user["id"]}, "x"), {"project": {"id": project["id"]}})
    client, subject = Client(admin.base_url, text_of(answer)), {"X-Subject-Token": text_of(answer)}
    assert [role["name"] for role in client("GET", TOKENS, headers=subject).json["token"]["roles"]] == ["reader"]
    roles = {role["name"]: role["id"] for role in admin("GET", "/identity/v3/roles").json["roles"]}
    path = f"/identity/v3/projects/{project['id']}/users/{user['id']}/roles"
    assert admin("PUT", f"{path}/{roles['manager']}").status == 204
    names = [role["name"] for role in client("GET", TOKENS, headers=subject).json["token"]["roles"]]
    assert names == ["manager", "member", "reader"]
    for name in ("manager", "reader"):
        assert admin("DELETE", f"{path}/{roles[name]}").status == 204
    assert client("GET", "/identity/v3/auth/projects").status == 401
    assert admin("PUT", f"{path}/{roles['reader']}").status == 204
    assert client("GET", "/identity/v3/auth/projects").status == 200
    assert admin("PATCH", f"/identity/v3/projects/{project['id']}", {"project": {"enabled": False}}).status == 200
    assert client("GET", "/identity/v3/auth/projects").status == 401


def test_names_and_passwords_of_any_character(admin: Client) -> None:
    name, password = "žluťoučký 🐎 O'Brien\n\"", "пароль \x00 🔑 " + "x" * 5000
    user = admin("POST", "/identity/v3/users", {"user": {"name": name, "password": password}}).json["user"]
    assert user["name"] == name
    answer = log_in(admin.base_url, by_password({"name": name, "domain": {"name": "Default"}}, password))
    assert answer.status == 201
    assert answer.json["token"]["user"]["name"] == name


def test_keys_rotate_under_living_tokens(cloud: RunningCloud, member: Client) -> None:
    import asyncio

    identity = cloud.cloud.identity
    loop = cloud.runner.server and cloud.runner.server._loop
    assert loop is not None
    for _ in range(2):
        asyncio.run_coroutine_threadsafe(identity.keys.rotate(), loop).result(30)
    assert member("GET", "/identity/v3/auth/projects").status == 200
    fresh = text_of(log_in(cloud.base_url, demo()))
    assert Client(cloud.base_url, fresh)("GET", "/identity/v3/auth/projects").status == 200


def test_what_authentication_refuses(cloud: RunningCloud) -> None:
    url = cloud.base_url
    for identity, status, field in (
        ({"methods": []}, 400, "methods"),
        ({"methods": ["password"]}, 400, "password"),
        ({"methods": ["password"], "password": {"user": {"name": "demo", "password": "x"}}}, 400, "domain"),
        ({"methods": ["password"], "password": {"user": {"password": "x"}}}, 400, "user"),
        ({"methods": ["password"], "password": {"user": {"id": 7, "password": "x"}}}, 400, "id"),
        ({"methods": ["oracle"]}, 401, ""),
        (by_token("nonsense"), 404, "token"),
    ):
        answer = log_in(url, identity)
        assert answer.status == status, identity
        assert field in answer.json["error"]["message"]
    both = {"project": {"id": "x"}, "domain": {"id": "default"}}
    assert log_in(url, demo(), both).status == 400
    assert log_in(url, demo(), {"planet": {}}).status == 400
