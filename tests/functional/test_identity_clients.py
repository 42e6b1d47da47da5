"""The clients that people use: the `openstack` command and openstacksdk, unmodified."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import openstack
import pytest
import yaml

from tests.support import ACTORS, RunningCloud

COMMAND_S = 120


@pytest.fixture
def clouds_yaml(cloud: RunningCloud, tmp_path: Path) -> Path:
    def entry(actor: str) -> dict[str, Any]:
        who = ACTORS[actor]
        auth = {
            "auth_url": f"{cloud.base_url}/identity",
            "username": who.user_name,
            "password": who.password,
            "project_name": who.project_name,
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        }
        return {"auth": auth, "region_name": "RegionOne", "identity_api_version": 3}

    path = tmp_path / "clouds.yaml"
    path.write_text(yaml.safe_dump({"clouds": {"nacre-admin": entry("admin"), "nacre": entry("member")}}))
    return path


class Command:
    def __init__(self, clouds_yaml: Path) -> None:
        self.environment = {**os.environ, "OS_CLIENT_CONFIG_FILE": str(clouds_yaml)}

    def __call__(self, cloud: str, *words: str) -> Any:
        program = Path(sys.executable).with_name("openstack")
        done = subprocess.run(
            [str(program), "--os-cloud", cloud, *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
        )
        assert done.returncode == 0, done.stderr
        try:
            return json.loads(done.stdout) if done.stdout.strip() else None
        except ValueError:
            return done.stdout  # Some commands that change something show it as a table.


def test_the_openstack_command(clouds_yaml: Path) -> None:
    run = Command(clouds_yaml)
    as_json = ("-f", "json")
    token = run("nacre", "token", "issue", *as_json)
    assert token["project_id"] == ACTORS["member"].project_id
    domain = run("nacre-admin", "domain", "create", "cli-domain", *as_json)
    project = run("nacre-admin", "project", "create", "--domain", "cli-domain", "--tag", "t", "cli-project", *as_json)
    assert project["domain_id"] == domain["id"]
    user = run("nacre-admin", "user", "create", "--domain", "cli-domain", "--password", "pä$$wörd", "cli-user", *as_json)
    role = run("nacre-admin", "role", "create", "cli-role", *as_json)
    run("nacre-admin", "role", "add", "--user", user["id"], "--project", project["id"], role["id"])
    found = run("nacre-admin", "role", "assignment", "list", "--user", user["id"], "--names", *as_json)
    assert [(each["Role"], each["Project"]) for each in found] == [("cli-role", "cli-project@cli-domain")]
    run("nacre-admin", "domain", "set", "--disable", "cli-domain")
    run("nacre-admin", "domain", "delete", "cli-domain")
    run("nacre-admin", "role", "delete", "cli-role")
    assert run("nacre", "application", "credential", "list", *as_json) == []


def test_openstacksdk(clouds_yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(clouds_yaml))
    with openstack.connect(cloud="nacre-admin") as connection:
        project = connection.identity.create_project(name="sdk-project", domain_id="default")
        user = connection.identity.create_user(name="sdk-user", password="x", domain_id="default")
        assert connection.grant_role("member", user=user.id, project=project.id)
        names = {each.name for each in connection.identity.projects(domain_id="default")}
        assert {"admin", "demo", "sdk-project"} <= names
        with connection.connect_as(username="sdk-user", password="x", project_name="sdk-project") as theirs:
            assert theirs.current_project_id == project.id
        connection.identity.delete_user(user)
        connection.identity.delete_project(project)
        assert connection.identity.find_project("sdk-project") is None
