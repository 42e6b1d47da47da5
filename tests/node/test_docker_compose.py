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

    def __call__(self, *arguments: str, fails: bool = False) -> Done:
        env = {
            **self._cloud.env,
            "DOCKER_HOST": self._cloud.host("demo"),
            "PATH": os.environ["PATH"],
            "COMPOSE_DOCKER_CLI_BUILD": "0",
        }
        command = ["docker-compose", "--no-ansi", "-f", str(self._file), "-p", self._file.parent.name, *arguments]
        done = run(command, env)
        if fails:
            assert done.code != 0, done.out
            return done
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


BUILT = """
version: "2.1"
services:
  app:
    build:
      context: .
      args: {WHO: compose}
    image: built:1
    command: sh -c "cat /made; exec sleep 1000"
"""
DOCKERFILE = """FROM busybox
ARG WHO
COPY page /page
RUN <<EOF
echo made by $WHO > /made
cat /page >> /made
EOF
"""


def test_what_it_builds_itself(cloud: Site, tmp_path: Path) -> None:
    compose = Compose(cloud, tmp_path / "built", BUILT)
    (tmp_path / "built" / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "built" / "page").write_text("one\n")
    first = compose("build")
    assert "Successfully tagged built:1" in first.out
    compose("up", "-d")
    wait_for(lambda: compose("logs", "app").out.splitlines()[-2:] == ["app_1  | made by compose", "app_1  | one"], "its words")
    assert compose("build").out.count("Using cache") == 3
    (tmp_path / "built" / "page").write_text("two\n")
    compose("up", "-d", "--build")
    wait_for(lambda: compose("logs", "app").out.splitlines()[-1] == "app_1  | two", "the words of the new image")
    compose("down", "--rmi", "all")
    assert "built:1" not in cloud.say("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    assert cloud.say("ps", "-aq") == ""


PLACED = """
version: "2"
services:
  here:
    image: busybox
    command: sleep 1000
    environment: ["constraint:kernel==Linux", "constraint:node==/.+/", "SEEN=yes"]
  beside:
    image: busybox
    command: sleep 1000
    environment: ["affinity:container==placed_here_1"]
    depends_on: [here]
  nowhere:
    image: busybox
    command: sleep 1000
    environment: ["constraint:kernel==Minix"]
"""


def test_constraints_of_its_services(cloud: Site, tmp_path: Path) -> None:
    compose = Compose(cloud, tmp_path / "placed", PLACED)
    compose("up", "-d", "here", "beside")
    env = cloud.inspect("placed_here_1")["Config"]["Env"]
    assert "SEEN=yes" in env
    assert not [line for line in env if line.startswith("constraint")]
    refused = compose("up", "-d", "nowhere", fails=True)
    assert "kernel==Minix" in refused.err, refused.err
    compose("down")
    assert cloud.say("ps", "-aq") == ""


MANY = 16
"""Small enough for CI; `nacre bench containers` measures hundreds."""


def test_scaled_to_many_and_back(cloud: Site, tmp_path: Path) -> None:
    compose = Compose(cloud, tmp_path / "many", FIRST.replace("db:\n", "store:\n", 1).partition("web:")[0])
    compose("up", "-d", "--scale", f"store={MANY}")
    wait_for(lambda: len(cloud.say("ps", "-q").split()) == MANY, "all to run")
    addresses = {cloud.inspect(name)["NetworkSettings"]["IPAddress"] for name in cloud.say("ps", "-q").split()}
    assert len(addresses) == MANY
    assert len(cloud.openstack("server", "list", "-f", "json")) == MANY
    compose("up", "-d", "--scale", "store=2")
    assert len(cloud.say("ps", "-q").split()) == 2
    compose("down")
    assert cloud.say("ps", "-aq") == ""
