"""The `openstack` client at every resource: files of commands, one a line, that must end as they say.

Limits of the client, not of the cloud: `usage show` fails by itself for a project that has used nothing.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import clients
from tests.processes import Processes

COMMANDS_WAIT_S = 900.0
HERE = Path(clients.__file__).parent


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    running = Processes(tmp_path_factory.mktemp("state"), cloud_id="0c11", simulate=2).up()
    clients.add_image(running)
    yield running
    running.down()


@pytest.mark.parametrize("service", ["identity", "image", "network", "compute"])
def test_every_command_ends_as_it_should(processes: Processes, tmp_path: Path, service: str) -> None:
    (tmp_path / "image.tar").write_bytes(clients.IMAGE_BYTES)
    admin = {
        "OS_AUTH_URL": f"{processes.url}/identity/v3",
        "OS_USERNAME": "admin",
        "OS_PASSWORD": "admin-secret",
        "OS_PROJECT_NAME": "admin",
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_DOMAIN_NAME": "Default",
        "OS_REGION_NAME": "RegionOne",
        "HOME": str(tmp_path),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    done = subprocess.run(
        [sys.executable, str(HERE / "openstack_commands.py"), str(HERE / f"{service}.txt")],
        cwd=tmp_path,
        env={**kept, **admin},
        capture_output=True,
        text=True,
        timeout=COMMANDS_WAIT_S,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
