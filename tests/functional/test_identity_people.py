"""Domains, projects, users and groups, from the first to the last call."""

from tests.support import ACTORS, Client

V3 = "/identity/v3"


def test_a_domain_goes_with_all_that_is_in_it(admin: Client, member: Client) -> None:
    domain = admin("POST", f"{V3}/domains", {"domain": {"name": "acme", "description": "Acme", "colour": "red"}}).json["domain"]
    assert domain["enabled"] is True
    assert domain["colour"] == "red"
    ident = domain["id"]
    project = admin("POST", f"{V3}/projects", {"project": {"name": "p", "domain_id": ident}}).json["project"]
    child = admin("POST", f"{V3}/projects", {"project": {"name": "c", "parent_id": project["id"]}}).json["project"]
    assert child["domain_id"] == ident
    user = admin("POST", f"{V3}/users", {"user": {"name": "u", "domain_id": ident, "password": "x"}}).json["user"]
    assert admin("POST", f"{V3}/domains", {"domain": {"name": "acme"}}).status == 409
    assert admin("DELETE", f"{V3}/domains/{ident}").status == 403
    assert member("GET", f"{V3}/domains/default").status == 200
    assert member("GET", f"{V3}/domains/{ident}").status == 404
    assert member("GET", f"{V3}/domains").status == 403
    changed = admin("PATCH", f"{V3}/domains/{ident}", {"domain": {"enabled": False, "size": 3}}).json["domain"]
    assert (changed["enabled"], changed["colour"], changed["size"]) == (False, "red", 3)
    assert [d["id"] for d in admin("GET", f"{V3}/domains?enabled=false").json["domains"]] == [ident]
    assert admin("DELETE", f"{V3}/domains/{ident}").status == 204
    for path in (f"projects/{project['id']}", f"projects/{child['id']}", f"users/{user['id']}", f"domains/{ident}"):
        assert admin("GET", f"{V3}/{path}").status == 404


def test_a_tree_of_projects(admin: Client, member: Client, other: Client) -> None:
    root = admin("POST", f"{V3}/projects", {"project": {"name": "root"}}).json["project"]
    assert root["parent_id"] == root["domain_id"] == "default"
    assert admin("POST", f"{V3}/projects", {"project": {"name": "root"}}).status == 409
    leaf = admin("POST", f"{V3}/projects", {"project": {"name": "leaf", "parent_id": root["id"]}}).json["project"]
    shown = admin("GET", f"{V3}/projects/{leaf['id']}?parents_as_list&parents_as_ids").json["project"]
    assert [each["project"]["id"] for each in shown["parents"]] == [root["id"]]
    shown = admin("GET", f"{V3}/projects/{root['id']}?subtree_as_ids").json["project"]
    assert shown["subtree"] == {leaf["id"]: None}
    assert [p["id"] for p in admin("GET", f"{V3}/projects?parent_id={root['id']}").json["projects"]] == [leaf["id"]]
    assert admin("DELETE", f"{V3}/projects/{root['id']}").status == 403
    assert admin("PATCH", f"{V3}/projects/{root['id']}", {"project": {"domain_id": "elsewhere"}}).status == 400
    assert member("GET", f"{V3}/projects/{ACTORS['member'].project_id}").status == 200
    assert other("GET", f"{V3}/projects/{ACTORS['member'].project_id}").status == 403
    for ident in (leaf["id"], root["id"]):
        assert admin("DELETE", f"{V3}/projects/{ident}").status == 204


def test_tags_of_a_project(admin: Client) -> None:
    project = admin("POST", f"{V3}/projects", {"project": {"name": "tagged", "tags": ["blue", "old"]}}).json["project"]
    path = f"{V3}/projects/{project['id']}/tags"
    assert sorted(project["tags"]) == ["blue", "old"]
    assert admin("PUT", f"{path}/new").status == 201
    assert admin("GET", f"{path}/new").status == 204
    assert admin("GET", f"{path}/none").status == 404
    found = admin("GET", f"{V3}/projects?tags=blue,new").json["projects"]
    assert [p["id"] for p in found] == [project["id"]]
    assert admin("DELETE", f"{path}/old").status == 204
    assert sorted(admin("GET", path).json["tags"]) == ["blue", "new"]
    for query, there in (("tags-any=blue,none", 1), ("tags-any=none", 0), ("not-tags=blue,none", 1), ("not-tags=blue,new", 0)):
        names = [each["name"] for each in admin("GET", f"{V3}/projects?{query}").json["projects"]]
        assert names.count("tagged") == there, query
    assert "tagged" not in [each["name"] for each in admin("GET", f"{V3}/projects?not-tags-any=blue").json["projects"]]
    assert admin("PUT", path, {"tags": ["only"]}).json["tags"] == ["only"]
    assert admin("PUT", path, {"tags": ["a/b"]}).status == 400
    assert admin("DELETE", path).status == 204
    assert admin("GET", path).json["tags"] == []


def test_a_user_from_create_to_delete(admin: Client, member: Client) -> None:
    body = {"name": "ada", "password": "s3cret", "email": "ada@example.org", "description": "first"}
    user = admin("POST", f"{V3}/users", {"user": body}).json["user"]
    assert "password" not in user
    assert "password_hash" not in user
    assert user["email"] == "ada@example.org"
    assert user["password_expires_at"] is None
    assert admin("POST", f"{V3}/users", {"user": {"name": "ada"}}).status == 409
    assert [u["name"] for u in admin("GET", f"{V3}/users?name=ada").json["users"]] == ["ada"]
    assert "ada" in [u["name"] for u in admin("GET", f"{V3}/users?name__startswith=ad").json["users"]]
    path = f"{V3}/users/{user['id']}"
    changed = admin("PATCH", path, {"user": {"email": None, "enabled": False, "nick": "a"}}).json["user"]
    assert (changed["email"], changed["enabled"], changed["nick"], changed["description"]) == (None, False, "a", "first")
    assert member("GET", path).status == 403
    own = ACTORS["member"].user_id
    assert member("GET", f"{V3}/users/{own}").json["user"]["name"] == "demo"
    assert [p["name"] for p in member("GET", f"{V3}/users/{own}/projects").json["projects"]] == ["demo"]
    assert member("PATCH", f"{V3}/users/{own}", {"user": {"name": "boss"}}).status == 403
    assert admin("DELETE", path).status == 204
    assert admin("GET", path).status == 404


def test_a_locked_password_stays(admin: Client) -> None:
    user = {"name": "locked", "password": "x", "options": {"lock_password": True}}
    ident = admin("POST", f"{V3}/users", {"user": user}).json["user"]["id"]
    change = {"user": {"original_password": "x", "password": "y"}}
    assert Client(admin.base_url, "")("POST", f"{V3}/users/{ident}/password", change).status == 403
    assert admin("POST", f"{V3}/users", {"user": {"name": "z", "options": {"no_such_option": 1}}}).status == 400


def test_groups_and_their_members(admin: Client, member: Client) -> None:
    group = admin("POST", f"{V3}/groups", {"group": {"name": "crew"}}).json["group"]
    own = ACTORS["member"].user_id
    path = f"{V3}/groups/{group['id']}/users/{own}"
    assert admin("HEAD", path).status == 404
    assert admin("PUT", path).status == 204
    assert admin("PUT", path).status == 204
    assert admin("HEAD", path).status == 204
    assert [u["id"] for u in admin("GET", f"{V3}/groups/{group['id']}/users").json["users"]] == [own]
    assert [g["name"] for g in member("GET", f"{V3}/users/{own}/groups").json["groups"]] == ["crew"]
    assert member("PUT", path).status == 403
    assert admin("DELETE", path).status == 204
    assert admin("GET", f"{V3}/groups/{group['id']}/users").json["users"] == []
    assert admin("DELETE", f"{V3}/groups/{group['id']}").status == 204


def test_pages_of_users(admin: Client) -> None:
    names = {f"paged-{number}" for number in range(7)}
    for name in names:
        admin("POST", f"{V3}/users", {"user": {"name": name}})
    seen: list[str] = []
    path: str | None = f"{V3}/users?name__startswith=paged-&limit=3"
    for _ in range(10):
        if path is None:
            break
        page = admin("GET", path).json
        seen += [user["name"] for user in page["users"]]
        path = page["links"]["next"] and page["links"]["next"].removeprefix(admin.base_url)
    assert len(seen) == 7
    assert set(seen) == names
    assert admin("GET", f"{V3}/users?marker=none").status == 400
    assert admin("GET", f"{V3}/users?limit=x").status == 400


def test_credentials_belong_to_their_user(admin: Client, member: Client, other: Client) -> None:
    body = {"credential": {"type": "cert", "blob": "-----"}}
    credential = member("POST", f"{V3}/credentials", body).json["credential"]
    path = f"{V3}/credentials/{credential['id']}"
    assert credential["user_id"] == ACTORS["member"].user_id
    assert other("GET", path).status == 404
    assert other("GET", f"{V3}/credentials").json["credentials"] == []
    assert (
        other("POST", f"{V3}/credentials", {"credential": {**body["credential"], "user_id": credential["user_id"]}}).status == 403
    )
    assert member("POST", f"{V3}/credentials", {"credential": {"type": "ec2", "blob": "{}"}}).status == 400
    assert member("PATCH", path, {"credential": {"blob": "+"}}).json["credential"]["blob"] == "+"
    assert [c["id"] for c in admin("GET", f"{V3}/credentials?type=cert").json["credentials"]] == [credential["id"]]
    assert member("DELETE", path).status == 204
