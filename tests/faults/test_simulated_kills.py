"""Kill -9 at random moments while servers come and go on simulated hosts: afterwards everything is as asked, and nothing is left over."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.storm import kill_in_a_storm
from tests.processes import Processes
from tests.support import Client

KILLS = 160
HOSTS = 5


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Processes]:
    cloud = Processes(tmp_path, simulate=HOSTS).up()
    yield cloud
    cloud.down()
    print(cloud.logs())


def upload_image(client: Client) -> str:
    """An image that simulated hosts take for a container's."""
    body = {"name": "empty", "container_format": "docker", "disk_format": "raw"}
    image = client("POST", "/image/v2/images", body).json["id"]
    data = client("PUT", f"/image/v2/images/{image}/file", b"nothing", {"Content-Type": "application/octet-stream"})
    assert data.status == 204, data.body
    return str(image)


def test_nothing_is_lost_or_leaked_by_160_kills(cloud: Processes) -> None:
    client = cloud.login()
    kill_in_a_storm(cloud, client, upload_image(client), kills=KILLS, servers_max=30, allowed={"ACTIVE"})
