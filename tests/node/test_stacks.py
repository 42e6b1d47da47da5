"""The walk-through of a Tutum stack on a real host, and what its containers see of each other."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.test_first_steps import CLONE, Cloud
from tests.processes import free_port, wait_for

pytestmark = pytest.mark.root

EXAMPLE = CLONE / "examples" / "tutum"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with tempfile.TemporaryDirectory(prefix="nacre-stack-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        made = Cloud(Path(directory))
        made.nacre("up", "--detach", "--port", str(free_port()))
        try:
            yield made
        finally:
            made.nacre("down", "--purge")
        assert directory not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture(scope="module")
def busybox(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of the project demo, made on the spot."""
    from nacre.cli.busybox import write_tar

    path = tmp_path_factory.mktemp("image") / "busybox.tar"
    with path.open("wb") as file:
        write_tar(file)
    made = (
        "image",
        "create",
        "busybox",
        "--file",
        str(path),
        "--container-format",
        "docker",
        "--disk-format",
        "raw",
        "-f",
        "json",
    )
    cloud.openstack(*made, cloud="nacre")


def nacre(cloud: Cloud, *arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "nacre.cli", "stack", *arguments]
    env = {**cloud.env, "NACRE_STATE": str(cloud.state)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def docker(cloud: Cloud, *arguments: str) -> str:
    project = cloud.openstack("project", "show", "demo", "-f", "json")["id"]
    host = next(path for path in cloud.state.rglob(f"{project}.sock"))
    done = subprocess.run(
        ["docker", "-H", f"unix://{host}", *arguments], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_walk_through(cloud: Cloud, busybox: None) -> None:
    env = {**os.environ, **cloud.env, "NACRE_STATE": str(cloud.state), "NACRE": f"{sys.executable} -m nacre.cli"}
    done = subprocess.run([str(EXAMPLE / "run.sh")], env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "deployment_strategy: high_availability" in done.stdout
    assert cloud.openstack("server", "list", "-f", "json", cloud="nacre") == []
    cloud.nacre("audit")


def test_services_find_each_other_and_what_dies_is_replaced(cloud: Cloud, busybox: None) -> None:
    nacre(cloud, "up", "-f", str(EXAMPLE / "tutum.yml"), "--name", "shop")
    listed: list[dict[str, Any]] = cloud.openstack("server", "list", "-f", "json", cloud="nacre")
    names = sorted(docker(cloud, "ps", "--format", "{{.Names}}").split())
    assert names == sorted(row["Name"] for row in listed) == ["keeper-1", "web-1", "web-2"]
    # The resolver and the environment agree, and the service answers at that address.
    for name in ("keeper", "store", "keeper-1", "store-1", "keeper.shop"):
        ask = f"echo PING | timeout 2 nc {name} 6379"
        said = wait_for(lambda ask=ask: docker(cloud, "exec", "web-1", "sh", "-c", f"{ask} || true").strip(), name)
        assert said == "PONG"
    page = docker(cloud, "exec", "web-2", "wget", "-qO-", "http://web-1/")
    assert "and keep at tcp://" in page
    before = docker(cloud, "inspect", "-f", "{{.Id}}", "web-1")
    docker(cloud, "rm", "-f", "web-1")
    wait_for(lambda: "web-1" in docker(cloud, "ps", "--format", "{{.Names}}").split(), "another web-1")
    assert docker(cloud, "inspect", "-f", "{{.Id}}", "web-1") != before
    nacre(cloud, "redeploy", "keeper")
    said = wait_for(
        lambda: docker(cloud, "exec", "web-1", "sh", "-c", "echo PING | timeout 2 nc store 6379 || true").strip(),
        "the new keeper",
    )
    assert said == "PONG"
    nacre(cloud, "down", "shop")
    assert docker(cloud, "ps", "-aq") == ""
    cloud.nacre("audit")
