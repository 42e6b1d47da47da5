"""docker build without containers: what a Dockerfile's words, files and stages become."""

import bz2
import contextlib
import gzip
import http.server
import io
import json
import lzma
import tarfile
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

from tests import images
from tests.functional.test_docker_images import blobs, leftovers, lines, load, names
from tests.support import ACTORS, Answer, Client, RunningCloud

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
        ("FROM base:1\nADD git://example.com/x /\n", "ADD of git://example.com/x is not available"),
        ("FROM base:1\nADD http://127.0.0.1:1/x /\n", "policy doesn't allow docker:private_urls"),
        ("FROM base:1\nADD http://[::ffff:169.254.169.254]/x /\n", "policy doesn't allow docker:private_urls"),
        ("FROM base:1\nADD http://localhost:1/x /\n", "policy doesn't allow docker:private_urls"),
        ("FROM base:1\nADD http://127.0.0.1:1/ /there/\n", "cannot determine filename for source http://127.0.0.1:1/"),
        ("FROM base:1\nRUN <<EOF\n#!/bin/busybox ash\nEOF\n", "RUN of a here-document with an interpreter of its own"),
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
        ("FROM x\nRUN cat <<EOF\nhello\nEOF2\n", "", "dockerfile parse error line 2: unterminated heredoc: EOF"),
        ("FROM x\nONBUILD RUN cat <<EOF\nhello\nEOF\n", "", "a trigger cannot have a here-document"),
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


DOCUMENTS = r"""FROM base:1
ARG who=me
COPY --chown=app <<motd <<-'plain' x /etc/
# no comment, for $who and ${who:-x}, \$who "quoted"

motd
	it's $who
		twice
	plain
COPY <<EOF /one/file
a \ b
EOF
ENV after=1
"""


def test_here_documents_become_files(member: Client, base: str) -> None:
    output = build(member, DOCUMENTS, "", {"x": "y"})
    found = contents_of(member, built(output))
    assert found["etc/motd"] == b'# no comment, for me and me, $who "quoted"\n\n'
    assert found["etc/plain"] == b"it's $who\ntwice\n"
    assert (found["etc/x"], found["one/file"]) == (b"y", b"a \\ b\n")
    shown = files_of(member, built(output))
    assert (shown["etc/motd"].uid, shown["etc/motd"].mode) == (1000, 0o644)
    again = build(member, DOCUMENTS, "", {"x": "y"})
    assert said(again).count("Using cache") == 4
    other = build(member, DOCUMENTS, f"buildargs={urllib.parse.quote(json.dumps({'who': 'you'}))}", {"x": "y"})
    assert contents_of(member, built(other))["etc/motd"].startswith(b"# no comment, for you")


def contents_of(client: Client, image: str) -> dict[str, bytes]:
    """The files of the image's layers, the upper ones first."""
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(client("GET", f"/docker/images/{image}/get").body)) as archive:
        (entry,) = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        for layer in reversed(entry["Layers"]):
            with tarfile.open(fileobj=archive.extractfile(layer)) as tar:
                for info in tar:
                    if info.isreg():
                        found.setdefault(info.name, tar.extractfile(info).read())  # type: ignore[union-attr]
    return found


class Files(http.server.BaseHTTPRequestHandler):
    """A small server of files: some are there, some lead elsewhere, one has no end."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", urllib.parse.unquote(path.removeprefix("/to/")))
            self.end_headers()
            return
        self.send_response(404 if path == "/none" else 200)
        self.send_header("Last-Modified", "Thu, 01 Jan 2015 00:00:00 GMT")
        self.end_headers()
        if path == "/endless":
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(bytes(1 << 16))
        self.wfile.write(f"this is {path}".encode())

    def log_message(self, *arguments: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[str]:
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_address[1]}"
    made.shutdown()
    made.server_close()


def test_add_fetches_what_an_administrator_lets_it(
    cloud: RunningCloud, member: Client, admin: Client, base: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dockerfile = f"FROM base:1\nADD {server}/some/file.tar?x=1 /got/\nADD {server}/to/{server}/other x /srv/two/\n"
    refused = build(member, dockerfile, "", {"x": "y"})
    assert "is at 127.0.0.1, which is no public address" in refused[-1]["error"]
    grant = f"/nacre/v1/projects/{ACTORS['member'].project_id}/docker-grants/docker:private_urls"
    assert admin("PUT", grant).status == 200
    try:
        output = build(member, dockerfile, "", {"x": "y"})
        found, shown = contents_of(member, built(output)), files_of(member, built(output))
        assert found["got/file.tar"] == b"this is /some/file.tar"
        assert (shown["got/file.tar"].mode, shown["got/file.tar"].uid) == (0o600, 0)
        assert int(shown["got/file.tar"].mtime) == 1420070400
        assert (found["srv/two/other"], found["srv/two/x"]) == (b"this is /other", b"y")
        assert said(build(member, dockerfile, "", {"x": "y"})).count("Using cache") == 2
        monkeypatch.setattr("nacre.panes.docker.downloads.BYTES_MAX", 1 << 20)
        for path, message in (
            ("none", "with status 404 Not Found"),
            ("endless", "is larger than 1048576 bytes"),
            ("to/file%3A%2F%2F%2Fetc%2Fpasswd", "unsupported protocol scheme 'file'"),
            ("to/" + "/to/" * 20, "stopped after 10 redirects"),
        ):
            output = build(member, f"FROM base:1\nADD {server}/{path} /x\n")
            assert message in output[-1]["error"], path
        assert leftovers(cloud) == []
    finally:
        assert admin("DELETE", grant).status == 200
    assert "no public address" in build(member, dockerfile, "nocache=1", {"x": "y"})[-1]["error"]
