"""Ansible's modules for OpenStack, unmodified: a playbook makes a project's things, changes nothing when it is run again, and takes them back.

Limits of the collection (openstack.cloud 2.5.0), not of the cloud: it needs an openstacksdk that still has `openstack.version` (its
constraints pin one). Some modules compare less than they take, so these change something on every run, whatever the cloud answers: `image`
with a property that openstacksdk has no attribute for, `port` with a fixed address but without its subnet.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import clients
from tests.processes import Processes

CHANGED = re.compile(r"changed=(\d+)")
TASKS_PRESENT = 18
TASKS_ABSENT = {"member": 8, "admin": 4}
"""Each task of the playbooks changes something when it is run first."""


@dataclass
class Play:
    """Somebody with playbooks, who is the admin and a member of the project `ansible`."""

    desk: clients.Desk

    def __call__(self, name: str, *options: str) -> list[str]:
        """Run a playbook; the names of the tasks that changed something."""
        said = self.desk.run("ansible-playbook", "--inventory", "localhost,", "--connection", "local", *options, name)
        tasks = re.split(r"^TASK \[", said, flags=re.MULTILINE)[1:]
        changed = [task.partition("]")[0] for task in tasks if re.search(r"^changed: ", task, flags=re.MULTILINE)]
        counted = CHANGED.search(said)
        assert counted is not None, said
        assert (int(counted[1]) == 0) == (not changed), said
        return changed


def cloud_of(processes: Processes, user: str) -> dict[str, object]:
    domain = {"user_domain_name": "Default", "project_domain_name": "Default"}
    who = {"username": user, "password": f"{user}-secret", "project_name": user}
    return {"auth": {"auth_url": f"{processes.url}/identity/v3", **who, **domain}, "region_name": "RegionOne"}


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    running = Processes(tmp_path_factory.mktemp("state"), cloud_id="a251", simulate=2).up()
    yield running
    running.down()


@pytest.fixture
def play(processes: Processes, tmp_path: Path) -> Play:
    """A directory with the playbooks and what they name. JSON is YAML."""
    for name in ("present.yml", "absent.yml"):
        (tmp_path / name).write_text(Path(clients.__file__).with_name(name).read_text())
    (tmp_path / "clouds.yaml").write_text(
        json.dumps({"clouds": {user: cloud_of(processes, user) for user in ("admin", "ansible")}})
    )
    (tmp_path / "image.tar").write_bytes(clients.IMAGE_BYTES)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "id")], check=True)
    python = clients.ANSIBLE.ensure() / "python"
    return Play(clients.Desk(tmp_path, clients.ANSIBLE, {"ANSIBLE_PYTHON_INTERPRETER": str(python), "ANSIBLE_NOCOLOR": "1"}))


def test_a_playbook_makes_a_project_once_and_takes_it_back(processes: Processes, play: Play) -> None:
    made = play("present.yml")
    assert len(made) == TASKS_PRESENT, made
    assert play("present.yml") == []
    member = processes.login("ansible", "ansible")
    servers = {server["name"]: server for server in member("GET", "/compute/v2.1/servers/detail").json["servers"]}
    assert {name: server["status"] for name, server in servers.items()} == {"first": "ACTIVE", "second": "ACTIVE"}
    kinds = [address["OS-EXT-IPS:type"] for server in servers.values() for address in server["addresses"]["inner"]]
    assert sorted(kinds) == ["fixed", "fixed", "floating", "floating"]
    assert "10.93.0.7" in [address["addr"] for address in servers["second"]["addresses"]["inner"]]
    for by, tasks in TASKS_ABSENT.items():
        undone = play("absent.yml", "--tags", by)
        assert len(undone) == tasks, undone
        assert play("absent.yml", "--tags", by) == []
    assert nothing_is_left(processes)


def nothing_is_left(processes: Processes) -> bool:
    admin = processes.login()
    names = [network["name"] for network in admin("GET", "/network/v2.0/networks").json["networks"]]
    ports, floating = (
        admin("GET", "/network/v2.0/ports").json["ports"],
        admin("GET", "/network/v2.0/floatingips").json["floatingips"],
    )
    projects = [project["name"] for project in admin("GET", "/identity/v3/projects").json["projects"]]
    return (names, ports, floating, "ansible" in projects) == (["public"], [], [], False)
