"""examples/database, as its reader runs it: a database on a volume, an application, a second database on a snapshot of the first."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.dockercli import Site, has_client, run, site
from tests.processes import free_port

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "database"
BUILD_S = 900

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not has_client("docker"), reason="there is no docker CLI on this machine"),
    pytest.mark.skipif(not has_client("mmdebstrap"), reason="the image of the database is made with mmdebstrap"),
]


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root file system of the image, made once."""
    archive = tmp_path_factory.mktemp("database") / "mysql.tar"
    # Without an engine the script ends once it has the archive.
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DOCKER_HOST": "unix:///nonexistent.sock"}
    done = subprocess.run([EXAMPLE / "image.sh", archive], env=env, capture_output=True, text=True, timeout=BUILD_S, check=False)
    if not archive.exists():
        pytest.skip(f"MariaDB of Debian cannot be had: {done.stderr[-500:]}")
    return archive


@pytest.fixture(scope="module")
def cloud() -> Iterator[Site]:
    with site("nacre-database-") as made:
        yield made


def test_a_database_its_application_and_a_second_one_on_a_snapshot(rootfs: Path, cloud: Site) -> None:
    ports = {"PORT": str(free_port()), "SNAP_PORT": str(free_port())}
    env = {**cloud.env, **ports, "DOCKER_HOST": cloud.host("demo"), "PYTHON": sys.executable}
    cloud.good([str(EXAMPLE / "image.sh"), str(rootfs)], env)
    done = run([str(EXAMPLE / "run.sh")], env)
    assert done.code == 0, done.out + done.err + cloud.say("ps", "-a")
    assert done.lines[-2:] == ["first: Ada Grace Linus ", "snapshot: Ada Barbara Grace "]
    shown = re.search(r"^\[{volume demoVol@gold /flocker/(\S+) /var/lib/mysql flocker z true }]$", done.out, re.MULTILINE)
    assert shown is not None, done.out
    copy = f"demoVol-snap@snapshot-{shown[1][:8]}"
    assert set(cloud.say("volume", "ls", "-q").split()) == {"demoVol@gold", copy}
    assert {server["Name"] for server in cloud.openstack("server", "list", "-f", "json")} == {"MySQL", "MySQL-snap"}
    cloud.say("rm", "-f", "MySQL", "MySQL-snap")
    cloud.say("volume", "rm", copy, "demoVol")
    assert "0 findings" in cloud.nacre("audit")
