"""Rally's boot-and-delete scenario, unmodified: its users, projects and networks come and go with it.

Of the seconds that Rally prints most are its own: it first looks one second after a boot and two after a delete.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import clients
from tests.processes import Processes

RUNS = 4
BOOT_AND_DELETE = {
    "title": "boot and delete",
    "scenario": {
        "NovaServers.boot_and_delete_server": {"flavor": {"name": "m1.nano"}, "image": {"name": "tiny"}, "auto_assign_nic": True}
    },
    "runner": {"constant": {"times": RUNS, "concurrency": 2}},
    "contexts": {"users": {"tenants": 2, "users_per_tenant": 1}, "network": {}},
    "sla": {"failure_rate": {"max": 0}},
}


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    running = Processes(tmp_path_factory.mktemp("state"), cloud_id="4a11", simulate=2).up()
    clients.add_image(running)
    yield running
    running.down()


@pytest.fixture
def desk(processes: Processes, tmp_path: Path) -> clients.Desk:
    """A directory with Rally's own database, the cloud's admin, and the task."""
    domain = {"user_domain_name": "Default", "project_domain_name": "Default"}
    admin = {"username": "admin", "password": "admin-secret", "project_name": "admin", **domain}
    cloud = {"auth_url": f"{processes.url}/identity/v3", "region_name": "RegionOne", "admin": admin}
    (tmp_path / "cloud.json").write_text(json.dumps({"openstack": cloud}))
    (tmp_path / "task.json").write_text(json.dumps({"version": 2, "title": "servers", "subtasks": [BOOT_AND_DELETE]}))
    (tmp_path / "rally.conf").write_text(f"[database]\nconnection = sqlite:///{tmp_path}/rally.db\n")
    return clients.Desk(tmp_path, clients.RALLY)


def things(processes: Processes) -> dict[str, Any]:
    """The names of what Rally makes, in all projects."""
    admin = processes.login()
    paths = {
        "servers": "/compute/v2.1/servers?all_tenants=1",
        "networks": "/network/v2.0/networks",
        "routers": "/network/v2.0/routers",
        "projects": "/identity/v3/projects",
        "users": "/identity/v3/users",
    }
    return {kind: sorted(thing["name"] for thing in admin("GET", path).json[kind]) for kind, path in paths.items()}


def test_rally_boots_and_deletes_servers(processes: Processes, desk: clients.Desk) -> None:
    before = things(processes)

    def rally(*words: str) -> str:
        return desk.run("rally", "--config-file", "rally.conf", *words)

    rally("db", "create")
    rally("env", "create", "--name", "nacre", "--spec", "cloud.json")
    rally("env", "check")
    said = rally("task", "start", "task.json")
    rally("task", "report", "--json", "--out", "report.json")
    (subtask,) = json.loads((desk.home / "report.json").read_text())["tasks"][0]["subtasks"]
    (workload,) = subtask["workloads"]
    runs = workload["data"]
    assert [run["error"] for run in runs] == [[]] * RUNS, said
    assert {action["name"] for run in runs for action in run["atomic_actions"]} == {"nova.boot_server", "nova.delete_server"}
    assert workload["pass_sla"] is True
    assert things(processes) == before
