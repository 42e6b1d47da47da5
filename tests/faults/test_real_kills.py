"""Kill -9 at random moments while real servers come and go: no process, namespace, mount, cgroup or address is left over."""

import asyncio
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nacre.cli.busybox import write_tar
from nacre.node.config import load
from nacre.node.purge import purge
from tests.cgroups import cgroups
from tests.faults.storm import kill_in_a_storm
from tests.processes import Processes
from tests.support import Client

pytestmark = pytest.mark.root
KILLS = 44


@pytest.fixture
def cloud() -> Iterator[Processes]:
    # Guests' own root walks through these folders: not through pytest's, which every pytest that starts closes to others.
    with tempfile.TemporaryDirectory(prefix="nacre-kills-", dir="/var/tmp") as folder:
        state = Path(folder)
        state.chmod(0o755)
        cloud = Processes(state, simulate=0, cloud_id="fa17", external="198.18.71").up()
        yield cloud
        cloud.down()
        print(cloud.logs())
        asyncio.run(purge(load(state / "run/node.json")))
        mounts = Path("/proc/self/mountinfo").read_text()
        assert str(state / "node") not in mounts
        assert not cgroups("nacre-fa17*")
        assert not [name for name in _links() if "fa17" in name]


def _links() -> list[str]:
    return [path.name for path in Path("/sys/class/net").iterdir()]


def upload_busybox(client: Client) -> str:
    """The default image, made on the spot."""
    content = io.BytesIO()
    write_tar(content)
    body = {"name": "busybox", "container_format": "docker", "disk_format": "raw"}
    image = client("POST", "/image/v2/images", body).json["id"]
    headers = {"Content-Type": "application/octet-stream"}
    assert client("PUT", f"/image/v2/images/{image}/file", content.getvalue(), headers).status == 204
    return str(image)


def test_nothing_is_lost_or_leaked_by_44_kills_on_a_real_host(cloud: Processes) -> None:
    client = cloud.login()
    image = upload_busybox(client)
    kill_in_a_storm(cloud, client, image, kills=KILLS, servers_max=8, allowed={"ACTIVE"})
