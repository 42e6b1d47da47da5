"""Who may call what of Compute: each role at each route and at each action, over HTTP, held against the defaults of Nova's own policy.

https://docs.openstack.org/nova/latest/configuration/policy.html
"""

import re
from typing import Any

import pytest

from nacre.panes.edge.microversion import Version
from nacre.panes.openstack.compute.actions import ACTIONS
from nacre.panes.openstack.compute.routes import ROUTES, SERVICE
from tests.support import ACTORS, Client

ROLES = ("reader", "member", "manager", "admin")
NOBODY = "00000000-0000-4000-8000-000000000000"
PROJECT = ACTORS["member"].project_id

ANYONE = """
extensions flavors limits os-availability-zone:list os-floating-ip-pools os-quota-sets:defaults gone
os-keypairs:index os-keypairs:show os-keypairs:create os-keypairs:delete
"""
READER = """
servers:index servers:detail servers:show servers:action os-ips:index os-ips:show server-metadata:index server-metadata:show
os-server-tags:index os-server-tags:show os-attach-interfaces:list os-attach-interfaces:show os-instance-actions:list
os-instance-actions:show os-flavor-extra-specs:index os-flavor-extra-specs:show os-quota-sets:show os-quota-sets:detail
os-security-groups:get os-security-groups:show os-security-groups:list images os-floating-ips:list os-floating-ips:show
os-networks:list os-networks:show os-server-groups:index os-server-groups:show os-simple-tenant-usage:show os-server-password:show
os-volumes-attachments:index os-volumes-attachments:show compute:server:topology:index
"""
MEMBER = """
servers:create servers:update servers:delete servers:start servers:stop servers:reboot servers:resize servers:confirm_resize
servers:revert_resize servers:rebuild servers:create_image servers:trigger_crash_dump os-pause-server:pause os-pause-server:unpause
os-suspend-server:suspend os-suspend-server:resume os-create-backup os-rescue os-unrescue os-shelve:shelve os-shelve:unshelve
os-admin-password os-remote-consoles os-server-password:clear os-volumes-attachments:create os-volumes-attachments:update
os-volumes-attachments:delete os-lock-server:lock os-lock-server:unlock os-console-output os-deferred-delete:force
os-deferred-delete:restore os-multinic:add os-multinic:remove server-metadata:create server-metadata:update_all
server-metadata:update server-metadata:delete os-server-tags:update os-server-tags:update_all os-server-tags:delete
os-server-tags:delete_all os-attach-interfaces:create os-attach-interfaces:delete os-security-groups:create
os-security-groups:update os-security-groups:delete os-security-groups:rule:create os-security-groups:rule:delete
os-security-groups:add os-security-groups:remove images:change os-floating-ips:create os-floating-ips:delete os-floating-ips:add
os-floating-ips:remove os-server-groups:create os-server-groups:delete
"""
MANAGER = """
os-migrate-server:migrate os-migrate-server:migrate_live os-migrations:index servers:migrations:index servers:migrations:delete
servers:migrations:force_complete
"""
LEAST = {
    f"os_compute_api:{name}": role
    for role, names in (("any", ANYONE), ("reader", READER), ("member", MEMBER), ("manager", MANAGER))
    for name in names.split()
}
"""Row -> the least role that may; every row that is not here is an admin's."""


@pytest.fixture(scope="module")
def clients(cloud: Any) -> dict[str, Client]:
    """One of each role in the same project."""
    admin = cloud.client("admin")
    user = {"name": "boss", "password": "boss-secret", "default_project_id": PROJECT}
    ident = admin("POST", "/identity/v3/users", {"user": user}).json["user"]["id"]
    (role,) = admin("GET", "/identity/v3/roles?name=manager").json["roles"]
    assert admin("PUT", f"/identity/v3/projects/{PROJECT}/users/{ident}/roles/{role['id']}").status == 204
    password = {"user": {"id": ident, "password": "boss-secret"}}
    body = {"auth": {"identity": {"methods": ["password"], "password": password}, "scope": {"project": {"id": PROJECT}}}}
    token = Client(cloud.base_url, "")("POST", "/identity/v3/auth/tokens", body).headers["X-Subject-Token"]
    manager = Client(cloud.base_url, token)
    return {"reader": cloud.client("reader"), "member": cloud.client("member"), "manager": manager, "admin": admin}


def may(role: str, policy: str) -> bool:
    least = LEAST.get(policy, "admin")
    return least == "any" or ROLES.index(role) >= ROLES.index(least)


def at(version: Version | None) -> dict[str, str]:
    return {"OpenStack-API-Version": f"compute {version or '2.1'}"}


def test_every_row_is_one_of_novas_or_an_admins() -> None:
    assert [name for name in LEAST if name not in SERVICE.policies] == []


@pytest.mark.parametrize("role", ROLES)
def test_each_role_at_each_route(clients: dict[str, Client], role: str) -> None:
    wrong = []
    for route in ROUTES:
        if route.policy is None:
            continue
        path = re.sub(r"\{\w*project_id\}", PROJECT, route.path)
        path = re.sub(r"\{\w+\}", NOBODY, path)
        body = {} if route.method in ("POST", "PUT") else None
        answer = clients[role](route.method, f"/compute{path}", body, at(route.since))
        refused = answer.status == 403 and f"{route.policy} " in answer.json["forbidden"]["message"]
        if refused == may(role, route.policy):
            wrong.append((route.method, route.path, route.policy, answer.status))
    assert wrong == []


@pytest.mark.parametrize("role", ROLES)
def test_each_role_at_each_action(clients: dict[str, Client], role: str) -> None:
    wrong = []
    for name, action in ACTIONS.items():
        policy = f"os_compute_api:{action.policy}"
        version = Version(2, action.since) if action.since > 1 else None
        answer = clients[role]("POST", f"/compute/v2.1/servers/{NOBODY}/action", {name: None}, at(version))
        refused = answer.status == 403
        if refused == may(role, policy):
            wrong.append((name, policy, answer.status))
        assert refused or answer.status in (400, 404, 410), (name, answer.body)
    assert wrong == []
