"""docker-compose 1.29 on a real cloud, in both of its file formats."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.dockercli import Done, Site, has_client, run, site
from tests.processes import wait_for

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        not has_client("docker-compose"), reason="there is no docker-compose (Debian: apt-get install docker-compose)"
    ),
]

PAGE = "mkdir -p /data; echo from-db > /data/index.html; exec httpd -f -p 80 -h /data"
SECOND = f"""
version: "2"
services:
  db:
    image: busybox
    command: sh -c "{PAGE}"
    volumes: ["data:/data"]
    networks:
      back: {{aliases: [store]}}
  web:
    image: busybox
    command: sh -c "echo web is up; exec sleep 1000"
    depends_on: [db]
    environment: {{COLOUR: blue}}
    networks: [back]
networks:
  back: {{}}
volumes:
  data: {{}}
"""
FIRST = f"""
db:
  image: busybox
  command: sh -c "{PAGE}"
web:
  image: busybox
  command: sh -c "echo web is up; exec sleep 1000"
  links: ["db:store"]
"""


@pytest.fixture(scope="module")
def cloud() -> Iterator[Site]:
    with site("nacre-compose-") as made:
        yield made


class Compose:
    """A project folder with a compose file."""

    def __init__(self, cloud: Site, folder: Path, text: str) -> None:
        folder.mkdir()
        (folder / "docker-compose.yml").write_text(text)
        self._file, self._cloud = folder / "docker-compose.yml", cloud

    def __call__(self, *arguments: str) -> Done:
        env = {**self._cloud.env, "DOCKER_HOST": self._cloud.host("demo"), "PATH": os.environ["PATH"]}
        command = ["docker-compose", "--no-ansi", "-f", str(self._file), "-p", self._file.parent.name, *arguments]
        done = run(command, env)
        assert done.code == 0, f"{' '.join(arguments)}\n{done.out}{done.err}"
        return done

    def reads(self, address: str) -> str:
        """The page at the address, as `web` sees it; empty while nobody answers."""
        return self("exec", "-T", "web", "sh", "-c", f"wget -qO- {address} || true").out.strip()


def test_the_second_format(cloud: Site, tmp_path: Path) -> None:
    """Volumes, a network with an alias, dependencies; scaled, looked at, and taken down without a trace."""
    compose = Compose(cloud, tmp_path / "shop", SECOND)
    compose("up", "-d")
    assert [line.split()[0] for line in compose("ps").out.splitlines()[2:]] == ["shop_db_1", "shop_web_1"]
    for name in ("db", "store"):
        wait_for(lambda name=name: compose.reads(f"http://{name}/") == "from-db", f"the page at {name}")  # type: ignore[misc]
    wait_for(lambda: "web is up" in compose("logs", "web").out, "the log of web")
    assert compose("exec", "-T", "web", "sh", "-c", "echo $COLOUR").out.strip() == "blue"
    compose("up", "-d", "--scale", "web=3")
    assert len(compose("ps", "-q", "web").lines) == 3
    compose("up", "-d", "--scale", "web=1")
    assert len(compose("ps", "-q", "web").lines) == 1
    assert cloud.say("volume", "ls", "-q") == "shop_data"
    compose("down", "-v")
    assert cloud.say("ps", "-aq") == ""
    assert cloud.say("volume", "ls", "-q") == ""
    assert cloud.say("network", "ls", "--format", "{{.Name}}").split() == ["bridge", "host", "none"]


def test_the_first_format(cloud: Site, tmp_path: Path) -> None:
    """No version, no networks: links on the default one."""
    compose = Compose(cloud, tmp_path / "old", FIRST)
    compose("up", "-d")
    wait_for(lambda: compose.reads("http://store/") == "from-db", "the page of the linked container")
    compose("down")
    assert cloud.say("ps", "-aq") == ""
