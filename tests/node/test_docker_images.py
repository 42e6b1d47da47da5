"""docker build, load, save, commit and the registry with the real docker CLI and docker-py on a real cloud."""

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import docker as docker_py
import pytest

from tests.node.dockercli import Done, Site, has_client, run, site

pytestmark = [pytest.mark.root, pytest.mark.skipif(not has_client("docker"), reason="there is no docker CLI on this machine")]


@pytest.fixture(scope="module")
def cloud() -> Iterator[Site]:
    with site("nacre-builds-") as made:
        yield made


def build(cloud: Site, folder: Path, files: dict[str, str], *arguments: str, project: str = "demo") -> Done:
    """`docker build` by the classic builder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    env = {**cloud.env, "DOCKER_HOST": cloud.host(project), "DOCKER_BUILDKIT": "0"}
    return run(["docker", "build", *arguments, str(folder)], env)


def images_of(cloud: Site, project: str = "demo") -> set[str]:
    return set(cloud.say("images", "-q", "--no-trunc", project=project).split())


def test_three_steps_are_built_run_and_found_in_the_cache(cloud: Site, tmp_path: Path) -> None:
    files = {
        "Dockerfile": 'FROM busybox\nRUN echo made > /made && chown 1000 /made && rm -r /etc/passwd\nCMD ["cat", "/made"]\n',
        ".dockerignore": "big\n",
        "big": "x" * 100_000,
    }
    begun = time.monotonic()
    first = build(cloud, tmp_path, files, "-t", "three")
    print(f"cold: {time.monotonic() - begun:.2f} s")
    assert first.code == 0, first.out + first.err
    assert "Successfully tagged three:latest" in first.out
    assert cloud.say("run", "--rm", "three") == "made"
    assert cloud.say("run", "--rm", "three", "sh", "-c", "stat -c %u /made; ls /etc/passwd 2>/dev/null || true") == "1000"
    begun = time.monotonic()
    second = build(cloud, tmp_path, files, "-t", "three")
    print(f"cached: {time.monotonic() - begun:.2f} s")
    assert second.out.count("Using cache") == 2
    assert cloud.say("ps", "-aq") == ""


def test_stages_arguments_and_ignored_files(cloud: Site, tmp_path: Path) -> None:
    files = {
        "Dockerfile": (
            "ARG BASE=nothing\nFROM $BASE AS made\nARG WHO\nWORKDIR /w\nCOPY . .\nRUN echo $WHO > who\n"
            'FROM busybox\nCOPY --from=made --chown=1000:1000 /w /got\nUSER 1000\nENTRYPOINT ["ls", "-A"]\nCMD ["/got"]\n'
        ),
        "kept": "k",
        "left": "l",
        ".dockerignore": "left\nDockerfile\n.dockerignore\n",
    }
    done = build(cloud, tmp_path, files, "-t", "stages", "--build-arg", "BASE=busybox", "--build-arg", "WHO=me")
    assert done.code == 0, done.out + done.err
    assert cloud.say("run", "--rm", "stages").split() == ["kept", "who"]
    assert cloud.say("run", "--rm", "--entrypoint", "cat", "stages", "/got/who") == "me"


def test_a_command_that_fails_ends_the_build_with_its_status(cloud: Site, tmp_path: Path) -> None:
    before = images_of(cloud)
    done = build(cloud, tmp_path, {"Dockerfile": "FROM busybox\nRUN echo before; exit 7\n"}, "-t", "never")
    assert done.code == 7
    assert "before" in done.out
    assert "The command '/bin/sh -c echo before; exit 7' returned a non-zero code: 7" in done.err
    assert images_of(cloud) == before
    assert cloud.say("ps", "-aq") == ""


def test_docker_py_builds_from_a_file(cloud: Site) -> None:
    client = docker_py.DockerClient(base_url=cloud.host("demo"), version="1.41")
    image, logs = client.images.build(fileobj=io.BytesIO(b"FROM busybox\nENV A=b\nRUN echo $A >/a\n"), tag="py:1", rm=True)
    assert "py:1" in image.tags
    assert client.containers.run("py:1", ["cat", "/a"], remove=True) == b"b\n"
    assert any("Successfully built" in line.get("stream", "") for line in logs)


def test_a_running_container_is_committed_saved_loaded_and_imported(cloud: Site, tmp_path: Path) -> None:
    ident = cloud.say("run", "-d", "busybox", "sh", "-c", "echo x > /x; sleep 600")
    cloud.say("exec", ident, "sh", "-c", "while ! [ -s /x ]; do sleep 0.1; done")
    image = cloud.say("commit", "-c", 'CMD ["cat", "/x"]', ident, "kept:1")
    cloud.say("rm", "-f", ident)
    assert cloud.say("run", "--rm", "kept:1") == "x"
    cloud.say("save", "-o", str(tmp_path / "kept.tar"), "kept:1")
    cloud.say("rmi", "kept:1")
    assert "Loaded image: kept:1" in cloud.say("load", "-i", str(tmp_path / "kept.tar"))
    assert json.loads(cloud.say("inspect", "kept:1"))[0]["Id"] == image
    assert cloud.say("run", "--rm", "kept:1") == "x"


def test_commands_of_here_documents(cloud: Site, tmp_path: Path) -> None:
    dockerfile = """FROM busybox
ENV WHO=you
RUN <<EOF
echo for $WHO > /made
if true; then
  echo and more >> /made
fi
EOF
RUN cat <<'ONE' > /one && cat <<-TWO > /two
$WHO stays
ONE
\tfor $WHO
\tTWO
"""
    done = build(cloud, tmp_path, {"Dockerfile": dockerfile}, "-t", "here")
    assert done.code == 0, done.out + done.err
    assert cloud.say("run", "--rm", "here", "cat", "/made", "/one", "/two").splitlines() == [
        *("for you", "and more"),
        *("$WHO stays", "for you"),
    ]
    failing = build(cloud, tmp_path, {"Dockerfile": "FROM busybox\nRUN <<EOF\nexit 7\nEOF\n"})
    assert failing.code == 7, failing.err
