"""The walk-through examples/microservices on a real cloud: every layer answers its own client, and the document's own line runs."""

import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.dockercli import CLONE, Done, Site, has_client, run, site
from tests.processes import free_port, wait_for

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not all(map(has_client, ("docker", "docker-compose", "curl"))), reason="docker, docker-compose and curl"),
]
PROJECT = "microservices"
LINE = (
    *("run", "-d", "-e", "constraint:system_overload_10min==/[0-2][0-5]/", "-e", "constraint:architecture==x86_64"),
    *("-e", "constraint:virtual=virtualbox", "-e", "constraint:selinux_enforced=false", "-v", "myVol@gold:/data/", "redis"),
)
"""As the document has it, single = and all."""


@pytest.fixture(scope="module")
def cloud() -> Iterator[Site]:
    with site("nacre-walk-") as made:
        yield made


def write_fact(cloud: Site, text: str) -> None:
    path: Path = cloud.state / "facts.d/walk.txt"
    path.write_text(text)
    path.chmod(0o644)


def fact(cloud: Site, name: str) -> str:
    return cloud.nacre("facts", options=("--name", name)).split()[-1]


def up(cloud: Site, port: int) -> str:
    """Runs the script with this checkout's `nacre`."""
    python = str(Path(CLONE / "src"))
    env = {**cloud.env, "NACRE_STATE": str(cloud.state), "PYTHONPATH": python, "PAGE_PORT": str(port)}
    env["NACRE"] = f"{sys.executable} -m nacre.cli"
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    return Site.good([str(CLONE / "examples/microservices/up.sh")], env).out


def docker(cloud: Site, *arguments: str) -> Done:
    return run(["docker", *arguments], {**cloud.env, "DOCKER_HOST": cloud.host(PROJECT)})


def test_the_layers_and_the_line(cloud: Site) -> None:
    port = free_port()
    said = up(cloud, port)
    for layer in ("registry", "scheduling", "orchestration", "data services", "discovery", "image", "page"):
        assert f"\n{layer} " in said
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as page:
        shown = page.read().decode()
    assert "an architecture from scratch" in shown
    assert "Registrator" in shown
    assert up(cloud, port).splitlines()[-1] == said.splitlines()[-1], "it may be run again"

    # No host says virtualbox: the last line names the expression, and the single = has a warning of its own.
    write_fact(cloud, "virtual=kvm\nsystem_overload_10min=11\nselinux_enforced=false\n")
    wait_for(
        lambda: fact(cloud, "virtual") == "kvm" and fact(cloud, "system_overload_10min") == "11", "the facts to be overridden"
    )
    refused = docker(cloud, *LINE)
    assert refused.code == 125
    assert "Unable to find a node that satisfies the following conditions" in refused.err
    assert "virtual==virtualbox" in refused.err

    write_fact(cloud, "virtual=virtualbox\nsystem_overload_10min=11\nselinux_enforced=false\n")
    wait_for(lambda: fact(cloud, "virtual") == "virtualbox", "the host to say virtualbox")
    done = docker(cloud, *LINE)
    assert done.code == 0, done
    assert "virtual=virtualbox: a single = is taken as ==" in done.err
    ident = done.out.split()[-1]
    assert docker(
        cloud, "inspect", "-f", "{{.State.Running}} {{range .Mounts}}{{.Name}} {{.Destination}}{{end}}", ident
    ).out.split() == [
        "true",
        "myVol@gold",
        "/data",
    ]
    env = docker(cloud, "inspect", "-f", "{{.Config.Env}}", ident).out
    assert "constraint" not in env
