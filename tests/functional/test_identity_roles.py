"""Roles: who has which, where it comes from, and what it implies."""

from typing import Any

from tests.functional.test_identity_tokens import by_password, log_in
from tests.support import Client

V3 = "/identity/v3"


def make(admin: Client, plural: str, singular: str, **body: Any) -> dict[str, Any]:
    answer = admin("POST", f"{V3}/{plural}", {singular: body})
    assert answer.status == 201, answer.body
    made: dict[str, Any] = answer.json[singular]
    return made


def assignments(admin: Client, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = admin("GET", f"{V3}/role_assignments?{query}").json["role_assignments"]
    return found


def test_the_calls_of_an_assignment(admin: Client, member: Client) -> None:
    user, project = make(admin, "users", "user", name="assignee"), make(admin, "projects", "project", name="assigned")
    role = make(admin, "roles", "role", name="painter")
    stem = f"{V3}/projects/{project['id']}/users/{user['id']}/roles"
    path = f"{stem}/{role['id']}"
    assert admin("HEAD", path).status == 404
    assert member("PUT", path).status == 403
    for _ in range(2):
        assert admin("PUT", path).status == 204
    assert admin("HEAD", path).status == admin("GET", path).status == 204
    assert [r["name"] for r in admin("GET", stem).json["roles"]] == ["painter"]
    assert admin("PUT", f"{stem}/nothing").status == 404
    assert admin("PUT", f"{V3}/projects/nothing/users/{user['id']}/roles/{role['id']}").status == 404
    (found,) = assignments(admin, f"user.id={user['id']}&include_names")
    assert found["role"]["name"] == "painter"
    assert found["user"] == {"id": user["id"], "name": "assignee", "domain": {"id": "default", "name": "Default"}}
    assert found["scope"]["project"]["name"] == "assigned"
    assert found["links"]["assignment"].endswith(path)
    assert admin("DELETE", path).status == 204
    assert admin("DELETE", path).status == 404
    assert assignments(admin, f"user.id={user['id']}") == []


def test_a_group_gives_its_roles_to_its_members(admin: Client) -> None:
    user = make(admin, "users", "user", name="grouped", password="x")
    group, project = make(admin, "groups", "group", name="givers"), make(admin, "projects", "project", name="given")
    role_id = admin("GET", f"{V3}/roles?name=manager").json["roles"][0]["id"]
    assert admin("PUT", f"{V3}/groups/{group['id']}/users/{user['id']}").status == 204
    assert admin("PUT", f"{V3}/projects/{project['id']}/groups/{group['id']}/roles/{role_id}").status == 204
    effective = assignments(admin, f"scope.project.id={project['id']}&effective=true&include_names=true")
    assert {(each["user"]["name"], each["role"]["name"]) for each in effective} == {
        ("grouped", "manager"),
        ("grouped", "member"),
        ("grouped", "reader"),
    }
    assert all("membership" in each["links"] for each in effective)
    scope = {"project": {"id": project["id"]}}
    assert log_in(admin.base_url, by_password({"id": user["id"]}, "x"), scope).status == 201
    assert admin("DELETE", f"{V3}/groups/{group['id']}/users/{user['id']}").status == 204
    assert log_in(admin.base_url, by_password({"id": user["id"]}, "x"), scope).status == 401
    assert admin("GET", f"{V3}/role_assignments?effective&group.id={group['id']}").status == 400


def test_an_inherited_role_holds_below_and_not_at_the_domain(admin: Client) -> None:
    domain = make(admin, "domains", "domain", name="heirs")
    project = make(admin, "projects", "project", name="heir", domain_id=domain["id"])
    user = make(admin, "users", "user", name="inheritor", password="x", domain_id=domain["id"])
    role_id = admin("GET", f"{V3}/roles?name=member").json["roles"][0]["id"]
    stem = f"{V3}/OS-INHERIT/domains/{domain['id']}/users/{user['id']}/roles"
    path = f"{stem}/{role_id}/inherited_to_projects"
    assert admin("PUT", path).status == 204
    assert admin("HEAD", path).status == 204
    assert [r["id"] for r in admin("GET", f"{stem}/inherited_to_projects").json["roles"]] == [role_id]
    who = by_password({"id": user["id"]}, "x")
    assert log_in(admin.base_url, who, {"domain": {"id": domain["id"]}}).status == 401
    token = log_in(admin.base_url, who, {"project": {"id": project["id"]}})
    assert [role["name"] for role in token.json["token"]["roles"]] == ["member", "reader"]
    client = Client(admin.base_url, token.headers["X-Subject-Token"])
    assert [p["name"] for p in client("GET", f"{V3}/auth/projects").json["projects"]] == ["heir"]
    (found,) = assignments(admin, f"user.id={user['id']}&scope.OS-INHERIT:inherited_to=projects")
    assert found["scope"]["OS-INHERIT:inherited_to"] == "projects"
    assert admin("DELETE", path).status == 204
    assert client("GET", f"{V3}/auth/projects").status == 401


def test_roles_on_the_system(admin: Client) -> None:
    user = make(admin, "users", "user", name="operator", password="x")
    role_id = admin("GET", f"{V3}/roles?name=reader").json["roles"][0]["id"]
    path = f"{V3}/system/users/{user['id']}/roles/{role_id}"
    assert admin("PUT", path).status == 204
    answer = log_in(admin.base_url, by_password({"id": user["id"]}, "x"), {"system": {"all": True}})
    client = Client(admin.base_url, answer.headers["X-Subject-Token"])
    assert client("GET", f"{V3}/auth/system").json["system"] == [{"all": True}]
    assert user["id"] in [each["user"]["id"] for each in assignments(admin, "scope.system=all")]
    assert admin("DELETE", path).status == 204


def test_one_role_implies_another(admin: Client) -> None:
    boss, worker = make(admin, "roles", "role", name="boss"), make(admin, "roles", "role", name="worker")
    path = f"{V3}/roles/{boss['id']}/implies/{worker['id']}"
    assert admin("PUT", path).json["role_inference"]["implies"]["name"] == "worker"
    assert admin("PUT", path).status == 409
    assert admin("PUT", f"{V3}/roles/{worker['id']}/implies/{boss['id']}").status == 403
    assert [r["name"] for r in admin("GET", f"{V3}/roles/{boss['id']}/implies").json["role_inference"]["implies"]] == ["worker"]
    names = {
        (rule["prior_role"]["name"], implied["name"])
        for rule in admin("GET", f"{V3}/role_inferences").json["role_inferences"]
        for implied in rule["implies"]
    }
    assert names >= {("boss", "worker"), ("admin", "manager"), ("manager", "member"), ("member", "reader")}
    assert admin("DELETE", path).status == 204
    assert admin("HEAD", path).status == 404


def test_roles_that_must_stay(admin: Client) -> None:
    admin_id = admin("GET", f"{V3}/roles?name=admin").json["roles"][0]["id"]
    assert admin("DELETE", f"{V3}/roles/{admin_id}").status == 403
    role = make(admin, "roles", "role", name="fixed", options={"immutable": True})
    path = f"{V3}/roles/{role['id']}"
    assert admin("PATCH", path, {"role": {"description": "x"}}).status == 403
    assert admin("DELETE", path).status == 403
    assert admin("PATCH", path, {"role": {"options": {"immutable": False}}}).status == 200
    assert admin("DELETE", path).status == 204
