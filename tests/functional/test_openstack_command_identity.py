"""The unmodified `openstack` command and openstacksdk over what Identity has besides users and projects."""

from pathlib import Path
from typing import Any

import openstack
import pytest

from tests.functional.test_identity_clients import Command, clouds_yaml
from tests.support import ACTORS, RunningCloud

__all__ = ["clouds_yaml"]
MEMBER, OTHER = ACTORS["member"], ACTORS["other"]


@pytest.fixture
def as_admin(clouds_yaml: Path) -> Any:
    run = Command(clouds_yaml)
    return lambda *words: run("nacre-admin", *words, *(("-f", "json") if _shows(words) else ()))


@pytest.fixture
def as_member(clouds_yaml: Path) -> Any:
    run = Command(clouds_yaml)
    return lambda *words: run("nacre", *words, *(("-f", "json") if _shows(words) else ()))


def _shows(words: tuple[str, ...]) -> bool:
    return any(verb in words for verb in ("list", "show", "create", "issue"))


def test_an_application_credential_with_access_rules(as_member: Any, cloud: RunningCloud) -> None:
    rules = '[{"service": "image", "method": "GET", "path": "/v2/images"}]'
    made = as_member("application", "credential", "create", "--role", "reader", "--access-rules", rules, "narrow")
    (listed,) = as_member("access", "rule", "list")
    assert (listed["Service"], listed["Method"], listed["Path"]) == ("image", "GET", "/v2/images")
    assert "/v2/images" in as_member("access", "rule", "show", listed["ID"]).values()
    with openstack.connect(
        auth_type="v3applicationcredential",
        auth_url=f"{cloud.base_url}/identity",
        application_credential_id=made["ID"],
        application_credential_secret=made["Secret"],
        region_name="RegionOne",
    ) as narrow:
        assert list(narrow.image.images()) == []
        with pytest.raises(openstack.exceptions.HttpException) as refused:
            list(narrow.compute.flavors())
        assert refused.value.response.status_code == 401
    as_member("application", "credential", "delete", "narrow")
    as_member("access", "rule", "delete", listed["ID"])
    assert as_member("access", "rule", "list") == []


def test_trusts_and_ec2_credentials(as_admin: Any, as_member: Any) -> None:
    role_id = as_admin("role", "show", "member")["id"]
    who = ("--project", MEMBER.project_id, "--role", role_id, MEMBER.user_id, OTHER.user_id)
    trust = as_member("trust", "create", *who)
    assert as_member("trust", "show", trust["id"])["trustee_user_id"] == OTHER.user_id
    assert [each["ID"] for each in as_admin("trust", "list")] == [trust["id"]]
    as_member("trust", "delete", trust["id"])
    made = as_member("ec2", "credentials", "create")
    assert [each["Access"] for each in as_member("ec2", "credentials", "list")] == [made["access"]]
    assert as_member("ec2", "credentials", "show", made["access"])["secret"] == made["secret"]
    as_member("ec2", "credentials", "delete", made["access"])
    assert as_member("ec2", "credentials", "list") == []


def test_limits_and_endpoint_groups(as_admin: Any, tmp_path: Path) -> None:
    as_admin("service", "create", "--name", "limited", "limited")
    about = ("--service", "limited", "--region", "RegionOne")
    registered = as_admin("registered", "limit", "create", *about, "--default-limit", "10", "things")
    assert registered["default_limit"] == 10
    limit = as_admin("limit", "create", *about, "--project", MEMBER.project_id, "--resource-limit", "7", "things")
    as_admin("limit", "set", "--resource-limit", "8", limit["id"])
    assert as_admin("limit", "show", limit["id"])["resource_limit"] == 8
    as_admin("registered", "limit", "set", "--default-limit", "11", registered["id"])
    assert [each["Default Limit"] for each in as_admin("registered", "limit", "list")] == [11]
    as_admin("limit", "delete", limit["id"])
    as_admin("registered", "limit", "delete", registered["id"])
    filters = tmp_path / "filters.json"
    filters.write_text('{"interface": "public"}')
    group = as_admin("endpoint", "group", "create", "public-ones", str(filters))
    as_admin("endpoint", "group", "add", "project", group["id"], OTHER.project_id)
    as_admin("endpoint", "group", "set", "--name", "others", group["id"])
    assert as_admin("endpoint", "group", "show", group["id"])["name"] == "others"
    as_admin("endpoint", "group", "remove", "project", group["id"], OTHER.project_id)
    as_admin("endpoint", "group", "delete", group["id"])
    as_admin("service", "delete", "limited")


def test_roles_groups_policies_and_credentials(as_admin: Any, tmp_path: Path) -> None:
    as_admin("role", "create", "watcher")
    as_admin("implied", "role", "create", "--implied-role", "reader", "watcher")
    pairs = {(each["Prior Role Name"], each["Implied Role Name"]) for each in as_admin("implied", "role", "list")}
    assert {("watcher", "reader"), ("admin", "manager"), ("manager", "member"), ("member", "reader")} <= pairs
    as_admin("domain", "create", "tree")
    as_admin("project", "create", "--domain", "tree", "--tag", "a", "root")
    as_admin("project", "create", "--domain", "tree", "--parent", "root", "leaf")
    user = as_admin("user", "create", "--domain", "tree", "--password", "x", "--ignore-lockout-failure-attempts", "climber")
    assert user["options"] == {"ignore_lockout_failure_attempts": True}
    as_admin("group", "create", "--domain", "tree", "climbers")
    as_admin("group", "add", "user", "climbers", user["id"])
    as_admin("role", "add", "--group", "climbers", "--domain", "tree", "--inherited", "watcher")
    effective = as_admin("role", "assignment", "list", "--user", user["id"], "--effective", "--names")
    found = {(each["Role"], each["Project"]) for each in effective}
    assert found == {(role, f"{project}@tree") for role in ("watcher", "reader") for project in ("root", "leaf")}
    as_admin("role", "add", "--user", user["id"], "--system", "all", "reader")
    system = as_admin("role", "assignment", "list", "--system", "all", "--user", user["id"])
    assert [each["System"] for each in system] == ["all"]
    as_admin("domain", "set", "--disable", "tree")
    as_admin("domain", "delete", "tree")
    as_admin("implied", "role", "delete", "--implied-role", "reader", "watcher")
    as_admin("role", "delete", "watcher")
    rules = tmp_path / "rules.json"
    rules.write_text("{}")
    policy = as_admin("policy", "create", "--type", "application/json", str(rules))
    assert as_admin("policy", "show", policy["id"])["type"] == "application/json"
    as_admin("policy", "delete", policy["id"])
    made = as_admin("credential", "create", "--type", "cert", OTHER.user_id, str(rules))
    assert [each["ID"] for each in as_admin("credential", "list", "--user", OTHER.user_id)] == [made["id"]]
    as_admin("credential", "delete", made["id"])


def test_the_system_scope_and_inference_by_the_sdk(cloud: RunningCloud) -> None:
    admin = ACTORS["admin"]
    with openstack.connect(
        auth_url=f"{cloud.base_url}/identity",
        username=admin.user_name,
        password=admin.password,
        user_domain_name="Default",
        system_scope="all",
        region_name="RegionOne",
    ) as connection:
        assert {"admin", "demo"} <= {user.name for user in connection.identity.users()}
        assert {"RegionOne"} <= {region.id for region in connection.identity.regions()}
        service = connection.identity.create_service(type="sdk", name="sdk")
        registered = connection.identity.create_registered_limit(service_id=service.id, resource_name="things", default_limit=3)
        assert connection.identity.get_registered_limit(registered.id).default_limit == 3
        connection.identity.delete_registered_limit(registered)
        connection.identity.delete_service(service)
        group = connection.identity.create_group(name="sdk", domain_id="default")
        connection.identity.add_user_to_group(ACTORS["other"].user_id, group)
        assert [user.id for user in connection.identity.group_users(group)] == [ACTORS["other"].user_id]
        connection.identity.delete_group(group)
