"""docker build without containers: what a Dockerfile's words, files and stages become."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
from typing import Any

import pytest

from tests import images
from tests.functional.test_docker_images import blobs, leftovers, lines, load, names
from tests.support import Answer, Client, RunningCloud

BASE = images.layer(
    {
        "etc/passwd": "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/:/bin/sh\n",
        "etc/group": "root:x:0:\napp:x:1001:\n",
        "srv/old": "old",
    }
)


@pytest.fixture
def base(member: Client) -> str:
    """An image `base:1` with users, and a link that points out of its folder."""
    config = images.config(BASE, LINKS, Cmd=["sh"], Env=["PATH=/bin", "A=b"], WorkingDir="/srv")
    load(member, images.docker_archive([(["base:1"], config, [BASE, LINKS])]))
    return images.digest(config)


def links() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, text in (("out", "../../../../srv"), ("loop", "loop")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, text
            tar.addfile(info)
    return target.getvalue()


LINKS = links()


def build(client: Client, dockerfile: str, query: str = "", files: dict[str, str] | None = None) -> list[dict[str, Any]]:
    answer = post(client, images.layer({"Dockerfile": dockerfile, **(files or {})}), query)
    assert answer.status == 200, answer.body
    return lines(answer)


def post(client: Client, context: bytes, query: str = "") -> Answer:
    return client("POST", f"/docker/v1.50/build?{query}", context, {"Content-Type": "application/x-tar"})


def said(output: list[dict[str, Any]]) -> str:
    return "".join(line.get("stream", "") for line in output)


def built(output: list[dict[str, Any]]) -> str:
    assert not [line for line in output if "error" in line], output
    return str(next(line["aux"]["ID"] for line in output if "aux" in line))


def files_of(client: Client, image: str) -> dict[str, tarfile.TarInfo]:
    """What the image's layers have, the upper ones first."""
    found: dict[str, tarfile.TarInfo] = {}
    with tarfile.open(fileobj=io.BytesIO(client("GET", f"/docker/images/{image}/get").body)) as archive:
        (entry,) = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        for layer in reversed(entry["Layers"]):
            with tarfile.open(fileobj=archive.extractfile(layer)) as tar:
                for info in tar:
                    found.setdefault(info.name, info)
    return found


def test_files_and_settings_become_an_image_and_the_second_build_is_the_cache_s(member: Client, base: str) -> None:
    dockerfile = """
# a comment
ARG TAG=1
FROM base:${TAG}
ARG WHO=world
ENV GREETING="hello $WHO" \\
    # a comment within
    B=${A:-none}c
COPY --chown=app --chmod=640 *.txt data/
WORKDIR work/$B
LABEL "the kind"=x
EXPOSE 80 53/udp
USER app
ENTRYPOINT ["echo"]
"""
    files = {"a.txt": "a", "b.txt": "bb", "c.md": "c", ".dockerignore": "*.txt\n!a.txt\n"}
    query = 't=app:1&t=app:2&buildargs={"WHO":"you","UNUSED":"x"}&labels={"from":"here"}'
    output = build(member, dockerfile, query, files)
    ident = built(output)
    assert "Step 1/11 : ARG TAG=1\n" in said(output)
    assert "[UNUSED] were not consumed" in said(output)
    assert said(output).endswith(f"Successfully built {ident[7:19]}\nSuccessfully tagged app:1\nSuccessfully tagged app:2\n")
    shown = member("GET", "/docker/images/app:2/json").json
    config = shown["Config"]
    assert shown["Id"] == ident
    assert config["Env"] == ["PATH=/bin", "A=b", "GREETING=hello you", "B=bc"]
    assert config["Labels"] == {"the kind": "x", "from": "here"}
    assert (config["WorkingDir"], config["User"]) == ("/srv/work/bc", "app")
    assert (config["Entrypoint"], config["Cmd"]) == (["echo"], None)
    assert sorted(config["ExposedPorts"]) == ["53/udp", "80/tcp"]
    found = files_of(member, "app:1")
    assert "srv/data/b.txt" not in found
    info = found["srv/data/a.txt"]
    assert (info.uid, info.gid, info.mode, info.size) == (1000, 1001, 0o640, 1)
    assert found["srv/work/bc"].isdir()
    again = build(member, dockerfile, query, files)
    assert built(again) == ident
    assert said(again).count("Using cache") == 9
    changed = build(member, dockerfile, query, {**files, "a.txt": "other"})
    assert built(changed) != ident
    assert said(changed).count("Using cache") == 2
    assert built(build(member, dockerfile, f"{query}&nocache=1", files)) != ident


def test_stages_copy_from_each_other_and_the_target_ends_the_build(member: Client, base: str) -> None:
    dockerfile = (
        'FROM base:1 AS One\nCOPY x /made/x\nFROM scratch\nCOPY --from=one /made /got\nCOPY --from=0 /etc/passwd /p\nCMD ["x"]\n'
    )
    ident = built(build(member, dockerfile, "", {"x": "y"}))
    assert {"got/x", "p"} <= set(files_of(member, ident))
    only = build(member, dockerfile, "target=one&q=1", {"x": "y"})
    assert [list(line) for line in only] == [["stream"]]
    assert only[0]["stream"].startswith("sha256:")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, bytes])
def test_contexts_may_be_compressed_and_archives_are_unpacked_by_add(member: Client, base: str, pack: Any) -> None:
    inner = images.layer({"deep/er": "1", "../../up": "2"})
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, data in (
            ("Dockerfile", b"FROM base:1\nADD in.tgz /into/\nCOPY in.tgz /plain\n"),
            ("in.tgz", gzip.compress(inner)),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    answer = post(member, pack(target.getvalue()))
    found = files_of(member, built(lines(answer)))
    assert {"into/deep/er", "into/up", "plain"} <= set(found)


def test_links_in_an_image_lead_nowhere_but_into_it(member: Client, base: str) -> None:
    found = files_of(member, built(build(member, "FROM base:1\nCOPY x /out/../out/new\n", "", {"x": "y"})))
    assert "srv/new" in found
    assert not [name for name in found if ".." in name]
    output = build(member, "FROM base:1\nCOPY x /loop/x\n", "", {"x": "y"})
    assert "too many levels of symbolic links" in output[-1]["error"]


@pytest.mark.parametrize(
    ("dockerfile", "message"),
    [
        (
            "FROM base:1\nCOPY none /\n",
            "file not found in build context or excluded by .dockerignore: stat none: file does not exist",
        ),
        ("FROM base:1\nCOPY x Dockerfile /y\n", "the destination must be a directory and end with a /"),
        ("FROM base:1\nADD https://example.com/x /\n", "ADD of https://example.com/x is not available"),
        ("FROM base:1\nCOPY --chown=nobody x /\n", "no such user: nobody"),
        ("FROM base:1\nCOPY x /srv/old/\n", "cannot copy to non-directory: /srv/old"),
        ("FROM base:1\nCOPY x /a/.wh.b\n", ".wh."),
        ("FROM base:1\nENV a=${b:%c}\n", "unsupported modifier"),
        ("FROM scratch\nRUN true\n", "scratch"),
    ],
)
def test_what_fails_is_told_in_the_stream(cloud: RunningCloud, member: Client, base: str, dockerfile: str, message: str) -> None:
    output = build(member, dockerfile, "", {"x": "y"})
    assert output[-1]["errorDetail"]["message"] == output[-1]["error"]
    assert message in output[-1]["error"]
    assert leftovers(cloud) == []


@pytest.mark.parametrize(
    ("dockerfile", "query", "message"),
    [
        ("FORM x\n", "", "dockerfile parse error line 1: unknown instruction: FORM"),
        ("FROM x\nRUN --mount=type=cache true\n", "", "BuildKit"),
        ("FROM x\nRUN cat <<EOF\nhello\nEOF\n", "", "here-document"),
        ("", "", "cannot be empty"),
        ("COPY a b\n", "", "no build stage in current context"),
        ("FROM x\n", "dockerfile=other", "Cannot locate specified Dockerfile: other"),
        ("FROM x\n", "remote=https://example.com/x.git", "remote context"),
        ("FROM x\n", "version=2", "BuildKit"),
        ("FROM x\n", "buildargs=[", "invalid buildargs"),
        ("FROM x\n", "target=nope", "failed to reach build target nope"),
    ],
)
def test_what_can_be_no_build_is_refused_at_once(member: Client, dockerfile: str, query: str, message: str) -> None:
    answer = post(member, images.layer({"Dockerfile": dockerfile}), query)
    assert answer.status == 400, answer.body
    assert message in answer.json["message"]


def test_triggers_of_a_base_run_first(member: Client, base: str) -> None:
    build(member, "FROM base:1\nONBUILD COPY x /from/child\n", "t=parent")
    output = build(member, "FROM parent\nCMD x\n", "t=child", {"x": "y"})
    assert "# Executing 1 build trigger\n" in said(output)
    assert "from/child" in files_of(member, "child")
    assert member("GET", "/docker/images/child/json").json["Config"]["OnBuild"] is None


def test_the_steps_of_a_build_go_with_its_last_name(cloud: RunningCloud, member: Client, base: str) -> None:
    before = blobs(cloud)
    shown = {image["id"] for image in member("GET", "/image/v2/images").json["images"]}
    build(member, "FROM base:1\nENV C=d\nCOPY x /x\n", "t=brief", {"x": "brief"})
    assert len({image["id"] for image in member("GET", "/image/v2/images").json["images"]} - shown) == 1
    assert "brief:latest" in names(member)
    removed = member("DELETE", "/docker/images/brief").json
    assert len([line for line in removed if "Deleted" in line]) == 2
    assert blobs(cloud) == before
