"""Apache Libcloud's OpenStack driver, unmodified, against a cloud of two processes.

Limits of the driver (3.9.1), not of the cloud: it has no name for PAUSED and shows `unknown`; it lists a floating IP from a range for private
use among the private addresses; `ex_rebuild` sends a `flavorRef` that Compute's schema does not allow; `wait_until_running` waits for a public
address unless it is told `ssh_interface="private_ips"`; it uploads no images.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import clients
from tests.processes import Processes

STORIES = Path(clients.__file__).with_name("libcloud_stories.py")


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    running = Processes(tmp_path_factory.mktemp("state"), cloud_id="11bc", simulate=2).up()
    clients.add_image(running)
    yield running
    running.down()


@pytest.mark.parametrize("story", ["limits", "networks", "servers"])
def test_libcloud(processes: Processes, tmp_path: Path, story: str) -> None:
    clients.Desk(tmp_path, clients.LIBCLOUD).run("python", str(STORIES), processes.url, story)
