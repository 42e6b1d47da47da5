"""Trusts and application credentials: acting in another's name, and no further than that."""

from typing import Any

from tests.functional.test_identity_tokens import by_password, log_in, make_user, text_of
from tests.support import ACTORS, Client

V3 = "/identity/v3"


def scoped(client: Client, identity: dict[str, Any], scope: Any = None) -> Client:
    answer = log_in(client.base_url, identity, scope)
    assert answer.status == 201, answer.body
    return Client(client.base_url, text_of(answer))


def test_a_trust_from_create_to_delete(admin: Client) -> None:
    trustor, project = make_user(admin, "trustor", "x")
    trustee, _ = make_user(admin, "trustee", "y")
    giver = scoped(admin, by_password({"id": trustor["id"]}, "x"), {"project": {"id": project["id"]}})
    taker = scoped(admin, by_password({"id": trustee["id"]}, "y"))
    body = {
        "trustor_user_id": trustor["id"],
        "trustee_user_id": trustee["id"],
        "project_id": project["id"],
        "impersonation": True,
        "roles": [{"name": "reader"}],
        "remaining_uses": 1,
    }
    assert taker("POST", f"{V3}/OS-TRUST/trusts", {"trust": body}).status == 403
    assert giver("POST", f"{V3}/OS-TRUST/trusts", {"trust": {**body, "roles": [{"name": "admin"}]}}).status == 403
    trust = giver("POST", f"{V3}/OS-TRUST/trusts", {"trust": body}).json["trust"]
    path = f"{V3}/OS-TRUST/trusts/{trust['id']}"
    assert [role["name"] for role in trust["roles"]] == ["reader"]
    assert trust["id"] in [each["id"] for each in admin("GET", f"{V3}/OS-TRUST/trusts").json["trusts"]]
    assert taker("GET", f"{V3}/OS-TRUST/trusts").status == 403
    own = taker("GET", f"{V3}/OS-TRUST/trusts?trustee_user_id={trustee['id']}").json["trusts"]
    assert [each["id"] for each in own] == [trust["id"]]
    wanted = {"OS-TRUST:trust": {"id": trust["id"]}}
    answer = log_in(admin.base_url, by_password({"id": trustee["id"]}, "y"), wanted)
    token = answer.json["token"]
    assert token["user"]["id"] == trustor["id"]
    assert [role["name"] for role in token["roles"]] == ["reader"]
    assert token["OS-TRUST:trust"]["trustee_user"] == {"id": trustee["id"]}
    acting = Client(admin.base_url, text_of(answer))
    assert acting("GET", f"{V3}/projects/{project['id']}").status == 200
    assert acting("POST", f"{V3}/OS-TRUST/trusts", {"trust": body}).status == 403
    wider = {"methods": ["token"], "token": {"id": acting.token}}
    assert log_in(admin.base_url, wider, "unscoped").status == 403
    assert log_in(admin.base_url, by_password({"id": trustee["id"]}, "y"), wanted).status == 403, "its only use is gone"
    assert giver("DELETE", path).status == 204 or giver("GET", path).status == 404
    assert admin("DELETE", path).status in (204, 404)


def test_a_deleted_trust_ends_its_tokens(admin: Client) -> None:
    trustor, project = make_user(admin, "giver", "x")
    trustee, _ = make_user(admin, "taker", "y")
    giver = scoped(admin, by_password({"id": trustor["id"]}, "x"), {"project": {"id": project["id"]}})
    body = {"trustor_user_id": trustor["id"], "trustee_user_id": trustee["id"], "project_id": project["id"]}
    body |= {"impersonation": False, "roles": [{"name": "member"}]}
    trust = giver("POST", f"{V3}/OS-TRUST/trusts", {"trust": body}).json["trust"]
    acting = scoped(admin, by_password({"id": trustee["id"]}, "y"), {"OS-TRUST:trust": {"id": trust["id"]}})
    assert acting("GET", f"{V3}/users/{trustee['id']}").status == 200
    assert acting("DELETE", f"{V3}/OS-TRUST/trusts/{trust['id']}").status == 403
    assert giver("DELETE", f"{V3}/OS-TRUST/trusts/{trust['id']}").status == 204
    assert acting("GET", f"{V3}/users/{trustee['id']}").status == 401


def test_an_application_credential_from_create_to_delete(member: Client, other: Client) -> None:
    own = ACTORS["member"]
    path = f"{V3}/users/{own.user_id}/application_credentials"
    body = {"application_credential": {"name": "ci", "roles": [{"name": "reader"}]}}
    assert other("POST", path, body).status == 403
    made = member("POST", path, body).json["application_credential"]
    assert member("POST", path, body).status == 409
    secret = made.pop("secret")
    assert "secret" not in member("GET", f"{path}/{made['id']}").json["application_credential"]
    by_id = {"id": made["id"], "secret": secret}
    by_name = {"name": "ci", "user": {"name": "demo", "domain": {"id": "default"}}, "secret": secret}
    for credential in (by_id, by_name):
        answer = log_in(member.base_url, {"methods": ["application_credential"], "application_credential": credential})
        assert answer.status == 201
        token = answer.json["token"]
        assert [role["name"] for role in token["roles"]] == ["reader"]
        assert token["project"]["id"] == own.project_id
        assert token["application_credential"] == {"id": made["id"], "name": "ci", "restricted": True}
    bad = {"methods": ["application_credential"], "application_credential": {**by_id, "secret": "no"}}
    assert log_in(member.base_url, bad).status == 401
    acting = Client(member.base_url, text_of(answer))
    assert acting("POST", path, {"application_credential": {"name": "more"}}).status == 403
    assert acting("DELETE", f"{path}/{made['id']}").status == 403
    assert [each["name"] for each in member("GET", f"{path}?name=ci").json["application_credentials"]] == ["ci"]
    assert member("DELETE", f"{path}/{made['id']}").status == 204
    assert acting("GET", path).status == 401


def test_access_rules_hold_requests_to_what_they_name(admin: Client, member: Client, other: Client) -> None:
    own = f"{V3}/users/{ACTORS['member'].user_id}"
    rules = [
        {"service": "compute", "method": "GET", "path": "/v2.1/servers/*/ips"},
        {"service": "image", "method": "GET", "path": "/v2/images/**"},
        {"service": "network", "method": "GET", "path": "/network/v2.0/networks"},
    ]
    body = {"application_credential": {"name": "narrow", "access_rules": rules}}
    made = member("POST", f"{own}/application_credentials", body).json["application_credential"]
    shown = [{name: rule[name] for name in ("service", "method", "path")} for rule in made["access_rules"]]
    assert sorted(shown, key=str) == sorted(rules, key=str)
    proof = {"methods": ["application_credential"], "application_credential": {"id": made["id"], "secret": made["secret"]}}
    acting = scoped(member, proof)
    nothing = "11111111-1111-4111-8111-111111111111"
    allowed = (f"/compute/v2.1/servers/{nothing}/ips", f"/image/v2/images/{nothing}", f"/image/v2/images/{nothing}/file")
    assert [acting("GET", path).status for path in allowed] == [404, 404, 404]
    assert acting("GET", "/network/v2.0/networks").status == 200
    refused = (
        ("GET", "/compute/v2.1/servers"),
        ("GET", f"/compute/v2.1/servers/{nothing}/metadata"),
        ("DELETE", f"/image/v2/images/{nothing}"),
        ("GET", "/image/v2/images"),
        ("GET", "/network/v2.0/ports"),
        ("GET", f"{V3}/auth/projects"),
    )
    assert {acting(method, path).status for method, path in refused} == {401}
    subject = {"X-Subject-Token": acting.token}
    assert admin("GET", f"{V3}/auth/tokens", headers=subject).status == 404, "who does not know of rules would not hold to them"
    knowing = admin("GET", f"{V3}/auth/tokens", headers={**subject, "OpenStack-Identity-Access-Rules": "1.0"})
    assert len(knowing.json["token"]["application_credential"]["access_rules"]) == 3
    rule_id = made["access_rules"][0]["id"]
    assert len(member("GET", f"{own}/access_rules").json["access_rules"]) == 3
    assert other("GET", f"{own}/access_rules").status == 403
    assert other("GET", f"{V3}/users/{ACTORS['other'].user_id}/access_rules/{rule_id}").status == 404
    assert member("DELETE", f"{own}/access_rules/{rule_id}").status == 403, "a credential names it"
    again = {"application_credential": {"name": "again", "access_rules": [{"id": rule_id}]}}
    second = member("POST", f"{own}/application_credentials", again).json["application_credential"]
    assert [rule["id"] for rule in second["access_rules"]] == [rule_id]
    for ident in (made["id"], second["id"]):
        assert member("DELETE", f"{own}/application_credentials/{ident}").status == 204
    assert member("DELETE", f"{own}/access_rules/{rule_id}").status == 204
    assert member("GET", f"{own}/access_rules/{rule_id}").status == 404
    for wrong in (
        [{"service": "compute", "method": "GET"}],
        [{"service": "x", "method": "get", "path": "/"}],
        [{"id": "no"}],
        "x",
    ):
        bad = {"application_credential": {"name": "bad", "access_rules": wrong}}
        assert member("POST", f"{own}/application_credentials", bad).status in (400, 404), wrong
