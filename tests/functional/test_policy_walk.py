"""Every role on every scope walks every route of Identity and Image: who may is a table here, written from the services' own defaults.

Sources: keystone/common/policies and glance/policies of OpenStack's current releases, as their documentation shows them.
"""

import re
from typing import Any

import pytest
import sqlalchemy as sa

from nacre.cloud.context import internal
from nacre.cloud.identity import assignments, tables
from nacre.cloud.identity.assignments import SYSTEM, Grant
from nacre.cloud.identity.scopes import SYSTEM_SCOPE, Scope
from nacre.panes.edge import Route, Service
from nacre.panes.openstack.identity.routes import SERVICE as IDENTITY
from nacre.panes.openstack.image.routes import SERVICE as IMAGE
from tests.support import ACTORS, Client, RunningCloud

ROLES = ("reader", "member", "manager", "admin")
DOMAIN = "d" * 32
PROJECT = "e" * 32
PERSONAS = tuple(f"{scope}-{role}" for scope in ("project", "domain", "system") for role in ROLES)


def of(*scopes: str, role: str) -> set[str]:
    """The personas with that role or one above it, on those scopes."""
    return {f"{scope}-{each}" for scope in scopes for each in ROLES[ROLES.index(role) :]}


ALL = set(PERSONAS)
ADMIN = of("project", "domain", "system", role="admin")
SYSTEM_READER = ADMIN | of("system", role="reader")
DOMAIN_READER = SYSTEM_READER | of("domain", role="reader")
DOMAIN_MANAGER = ADMIN | of("domain", role="manager")
ROLE_READER = SYSTEM_READER | of("domain", role="manager")
OWN_PROJECT = DOMAIN_READER | of("project", role="reader")
PROJECT_READER = ADMIN | of("project", role="reader")
PROJECT_MEMBER = ADMIN | of("project", role="member")
NOBODY: set[str] = set()


def verbs(may: set[str], *names: str) -> dict[str, set[str]]:
    return dict.fromkeys(names, may)


def crud(singular: str, plural: str, read: set[str], change: set[str]) -> dict[str, set[str]]:
    changes = {f"{verb}_{singular}": change for verb in ("create", "update", "delete")}
    return {f"get_{singular}": read, f"list_{plural}": read, **changes}


KEYSTONE: dict[str, set[str]] = {
    **crud("region", "regions", ALL, ADMIN),
    **crud("service", "services", SYSTEM_READER, ADMIN),
    **crud("endpoint", "endpoints", SYSTEM_READER, ADMIN),
    **crud("endpoint_group", "endpoint_groups", SYSTEM_READER, ADMIN),
    **crud("policy", "policies", SYSTEM_READER, ADMIN),
    **crud("consumer", "consumers", SYSTEM_READER, ADMIN),
    "authorize_request_token": ALL,
    **verbs(SYSTEM_READER, "list_access_tokens", "get_access_token", "list_access_token_roles", "get_access_token_role"),
    "delete_access_token": ADMIN,
    **crud("domain", "domains", DOMAIN_READER, ADMIN),
    "get_domain": ALL,
    **crud("project", "projects", DOMAIN_READER, DOMAIN_MANAGER),
    "get_project": OWN_PROJECT,
    **crud("user", "users", DOMAIN_READER, DOMAIN_MANAGER),
    **crud("group", "groups", DOMAIN_READER, DOMAIN_MANAGER),
    **crud("role", "roles", ROLE_READER, ADMIN),
    **crud("registered_limit", "registered_limits", ALL, ADMIN),
    **crud("limit", "limits", ALL, ADMIN),
    **crud("credential", "credentials", ALL, ALL),
    **verbs(ALL, "get_limit_model", "get_security_compliance_domain_config", "validate_token", "check_token", "revoke_token"),
    **verbs(ALL, "get_auth_catalog", "get_auth_projects", "get_auth_domains", "get_auth_system"),
    **verbs(ALL, "create_trust", "get_trust", "delete_trust", "list_trusts", "list_roles_for_trust", "get_role_for_trust"),
    **verbs(DOMAIN_READER, "list_user_projects", "list_groups_for_user", "list_users_in_group", "check_user_in_group"),
    **verbs(DOMAIN_MANAGER, "add_user_to_group", "remove_user_from_group", "create_grant", "revoke_grant"),
    **verbs(DOMAIN_READER, "list_grants", "check_grant", "list_role_assignments"),
    **verbs(SYSTEM_READER, "list_system_grants", "check_system_grant"),
    **verbs(ADMIN, "create_system_grant", "revoke_system_grant", "create_implied_role", "delete_implied_role"),
    **verbs(SYSTEM_READER, "list_role_inference_rules", "list_implied_roles", "get_implied_role", "check_implied_role"),
    **verbs(NOBODY, "create_application_credential"),
    **verbs(SYSTEM_READER, "get_application_credential", "list_application_credentials", "get_access_rule", "list_access_rules"),
    **verbs(ADMIN, "delete_application_credential", "delete_access_rule", "ec2_create_credential", "ec2_delete_credential"),
    **verbs(SYSTEM_READER, "ec2_get_credential", "ec2_list_credentials"),
    **verbs(OWN_PROJECT, "list_project_tags", "get_project_tag"),
    **verbs(DOMAIN_MANAGER, "update_project_tags", "delete_project_tags", "create_project_tag", "delete_project_tag"),
    **verbs(SYSTEM_READER, "list_projects_associated_with_endpoint_group", "list_endpoints_associated_with_endpoint_group"),
    **verbs(SYSTEM_READER, "get_endpoint_group_in_project", "list_endpoint_groups_for_project", "list_projects_for_endpoint"),
    **verbs(SYSTEM_READER, "check_endpoint_in_project", "list_endpoints_for_project"),
    **verbs(ADMIN, "add_endpoint_group_to_project", "remove_endpoint_group_from_project"),
    **verbs(ADMIN, "add_endpoint_to_project", "remove_endpoint_from_project"),
}
"""Of things that are another user's, in the persona's own domain and project. What of those exist for whom is the operations' matter."""

GLANCE: dict[str, set[str]] = {
    **verbs(PROJECT_READER, "get_images", "get_image", "get_members", "get_member"),
    **verbs(PROJECT_MEMBER, "add_image", "modify_image", "delete_image", "communitize_image", "upload_image", "download_image"),
    **verbs(
        PROJECT_MEMBER, "stage_image", "import_image", "deactivate", "reactivate", "add_image_location", "set_image_location"
    ),
    **verbs(PROJECT_MEMBER, "add_member", "modify_member", "delete_member"),
    **verbs(ADMIN, "publicize_image", "copy_image", "fetch_image_location", "delete_image_location"),
    **verbs(ADMIN, "stores_info_detail", "tasks_api_access"),
    **verbs(ALL, "get_image_schema", "get_import_info"),
    **verbs(PROJECT_READER, "get_metadef_namespaces", "get_metadef_namespace", "get_metadef_objects", "get_metadef_object"),
    **verbs(PROJECT_READER, "get_metadef_properties", "get_metadef_property", "get_metadef_tags", "get_metadef_tag"),
    **verbs(PROJECT_READER, "list_metadef_resource_types", "get_metadef_resource_type"),
    **verbs(ADMIN, "add_metadef_namespace", "modify_metadef_namespace", "delete_metadef_namespace"),
    **verbs(ADMIN, "add_metadef_object", "modify_metadef_object", "delete_metadef_object"),
    **verbs(ADMIN, "add_metadef_property", "modify_metadef_property", "remove_metadef_property"),
    **verbs(ADMIN, "add_metadef_tags", "add_metadef_tag", "modify_metadef_tag", "delete_metadef_tag", "delete_metadef_tags"),
    **verbs(ADMIN, "add_metadef_resource_type_association", "remove_metadef_resource_type_association"),
}
OPERATIONS_REFUSE = frozenset({"identity:list_trusts", "identity:get_auth_catalog"})
"""Rows that let anyone in, and whose operations say 403 to some."""
SERVICES = ((IDENTITY, {f"identity:{name}": may for name, may in KEYSTONE.items()}), (IMAGE, GLANCE))


@pytest.fixture(scope="module")
def personas(cloud: RunningCloud) -> dict[str, Client]:
    """A user for each role on each scope, and somebody else of the same domain."""

    def make(conn: sa.Connection) -> None:
        conn.execute(tables.projects.insert().values(id=DOMAIN, name="walk", is_domain=True))
        conn.execute(tables.projects.insert().values(id=PROJECT, name="walk", domain_id=DOMAIN, parent_id=DOMAIN))
        roles = {row.name: row.id for row in conn.execute(sa.select(tables.roles))}
        targets: Any = {"project": PROJECT, "domain": DOMAIN, "system": SYSTEM}
        conn.execute(tables.users.insert().values(id="somebody", name="somebody", domain_id=DOMAIN))
        for persona in PERSONAS:
            scope, role = persona.split("-")
            conn.execute(tables.users.insert().values(id=persona, name=persona, domain_id=DOMAIN))
            kind: Any = scope
            assignments.add(conn, internal(), Grant("user", persona, kind, targets[scope], roles[role]))

    import asyncio

    asyncio.run_coroutine_threadsafe(cloud.cloud.store.write(make), cloud.loop).result(30)
    scopes = {"project": Scope("project", PROJECT), "domain": Scope("domain", DOMAIN), "system": SYSTEM_SCOPE}
    tokens = cloud.cloud.identity.tokens
    return {each: Client(cloud.base_url, tokens.issue(each, ("password",), scopes[each.split("-")[0]])[0]) for each in PERSONAS}


def path_of(service: Service, route: Route) -> str:
    known = {"project_id": PROJECT, "domain_id": DOMAIN, "user_id": "somebody"}
    return service.prefix + re.sub(r"\{(\w+)\}", lambda match: known.get(match[1], "nothing"), route.path)


def rows() -> list[tuple[Service, Route, set[str]]]:
    return [
        (service, route, table[route.policy])
        for service, table in SERVICES
        for route in service.routes
        if route.policy is not None
    ]


def test_the_table_has_every_row_and_no_other() -> None:
    for service, table in SERVICES:
        assert set(table) == set(service.policies)


def test_who_may_not_is_told_so_and_nothing_else(personas: dict[str, Client]) -> None:
    """No body is sent: the policy speaks before anything is read."""
    wrong = []
    for service, route, may in rows():
        for persona in set(PERSONAS) - may:
            answer = personas[persona](route.method, path_of(service, route))
            if answer.status != 403:
                wrong.append(f"{persona} {route.method} {route.path}: {answer.status}")
    assert not wrong, "\n".join(wrong)


def test_who_may_is_let_in(personas: dict[str, Client]) -> None:
    """With a body that says nothing, so that nothing changes: it may be refused for what it is, never for who asks."""
    wrong = []
    for service, route, may in rows():
        if route.policy in OPERATIONS_REFUSE:
            continue
        for persona in may:
            body = None if route.method in ("GET", "HEAD", "DELETE") else b"[]"
            answer = personas[persona](route.method, _spared(route, path_of(service, route)), body)
            if answer.status in (401, 403) or answer.status >= 500:
                wrong.append(f"{persona} {route.method} {route.path}: {answer.status} {answer.body[:120]!r}")
    assert not wrong, "\n".join(wrong)


def _spared(route: Route, path: str) -> str:
    """What takes no body would really be done: not to what the walk needs."""
    if route.method == "DELETE" or (route.method == "PUT" and route.path.endswith("/tags/{tag}")):
        return path.replace(PROJECT, "nothing").replace(DOMAIN, "nothing")
    return path


def test_a_manager_of_a_domain_manages_that_domain_and_no_other(personas: dict[str, Client], admin: Client) -> None:
    manager, reader = personas["domain-manager"], personas["domain-reader"]
    v3 = "/identity/v3"
    user = manager("POST", f"{v3}/users", {"user": {"name": "hers", "password": "x"}}).json["user"]
    assert user["domain_id"] == DOMAIN
    project = manager("POST", f"{v3}/projects", {"project": {"name": "hers"}}).json["project"]
    group = manager("POST", f"{v3}/groups", {"group": {"name": "hers"}}).json["group"]
    assert manager("PUT", f"{v3}/groups/{group['id']}/users/{user['id']}").status == 204
    roles = {role["name"]: role["id"] for role in manager("GET", f"{v3}/roles").json["roles"]}
    grant = f"{v3}/projects/{project['id']}/users/{user['id']}/roles"
    assert manager("PUT", f"{grant}/{roles['member']}").status == 204
    assert manager("PUT", f"{grant}/{roles['admin']}").status == 403, "nobody becomes an admin by a manager's hand"
    assert manager("PUT", f"{grant}/{roles['service']}").status == 403
    found = reader("GET", f"{v3}/role_assignments?user.id={user['id']}").json["role_assignments"]
    assert [each["role"]["id"] for each in found] == [roles["member"]]
    for kind in ("users", "projects", "groups"):
        body = {kind.removesuffix("s"): {"name": "elsewhere", "domain_id": "default"}}
        assert manager("POST", f"{v3}/{kind}", body).status == 403, kind
        assert {each["domain_id"] for each in reader("GET", f"{v3}/{kind}").json[kind]} == {DOMAIN}
    other = ACTORS["other"]
    assert reader("GET", f"{v3}/users/{other.user_id}").status == 404
    assert manager("PATCH", f"{v3}/users/{other.user_id}", {"user": {"name": "x"}}).status == 404
    assert manager("DELETE", f"{v3}/projects/{other.project_id}").status == 404
    assert manager("PUT", f"{v3}/projects/{other.project_id}/users/{user['id']}/roles/{roles['member']}").status == 404
    assert manager("PUT", f"{v3}/projects/{project['id']}/users/{other.user_id}/roles/{roles['member']}").status == 404
    assert manager("PATCH", f"{v3}/projects/{DOMAIN}", {"project": {"name": "mine now"}}).status == 403
    assert manager("POST", f"{v3}/projects", {"project": {"name": "d", "is_domain": True}}).status == 403
    assert [each["id"] for each in reader("GET", f"{v3}/domains").json["domains"]] == [DOMAIN]
    assert reader("GET", f"{v3}/domains/default").status == 404
    assert all(each["scope"].get("system") is None for each in reader("GET", f"{v3}/role_assignments").json["role_assignments"])
    for path in (f"users/{user['id']}", f"projects/{project['id']}", f"groups/{group['id']}"):
        assert reader("DELETE", f"{v3}/{path}").status == 403
        assert manager("DELETE", f"{v3}/{path}").status == 204


def test_a_manager_does_not_become_an_admin_by_another_way(personas: dict[str, Client], admin: Client) -> None:
    manager, v3 = personas["domain-manager"], "/identity/v3"
    assert manager("PATCH", f"{v3}/users/domain-admin", {"user": {"password": "mine now"}}).status == 403
    assert manager("DELETE", f"{v3}/users/domain-admin").status == 403
    assert manager("PATCH", f"{v3}/users/domain-reader", {"user": {"description": "d"}}).status == 200
    group = manager("POST", f"{v3}/groups", {"group": {"name": "trap"}}).json["group"]
    roles = {role["name"]: role["id"] for role in admin("GET", f"{v3}/roles").json["roles"]}
    made = admin("POST", f"{v3}/roles", {"role": {"name": "step"}}).json["role"]
    assert admin("PUT", f"{v3}/projects/{PROJECT}/groups/{group['id']}/roles/{made['id']}").status == 204
    assert manager("PUT", f"{v3}/groups/{group['id']}/users/domain-reader").status == 204
    assert admin("PUT", f"{v3}/projects/{PROJECT}/groups/{group['id']}/roles/{roles['admin']}").status == 204
    assert manager("PUT", f"{v3}/groups/{group['id']}/users/domain-manager").status == 403
    assert manager("PATCH", f"{v3}/users/domain-reader", {"user": {"password": "mine"}}).status == 403, "an admin by its group"
    assert admin("DELETE", f"{v3}/groups/{group['id']}").status == 204


def test_a_reader_of_the_system_sees_all_and_changes_nothing(personas: dict[str, Client], member: Client) -> None:
    reader, v3 = personas["system-reader"], "/identity/v3"
    own = ACTORS["member"]
    made = member("POST", f"{v3}/credentials", {"credential": {"type": "cert", "blob": "x"}}).json["credential"]
    path = f"{v3}/credentials/{made['id']}"
    assert reader("GET", path).status == 200
    assert reader("PATCH", path, {"credential": {"blob": "y"}}).status == 403
    assert reader("DELETE", path).status == 403
    assert reader("GET", f"{v3}/auth/tokens", headers={"X-Subject-Token": member.token}).status == 200
    assert reader("DELETE", f"{v3}/auth/tokens", headers={"X-Subject-Token": member.token}).status == 403
    assert reader("GET", f"{v3}/users/{own.user_id}/application_credentials").status == 200
    assert reader("POST", f"{v3}/users/{own.user_id}/application_credentials", {}).status == 403
    assert member("DELETE", path).status == 204
