"""Docker's image calls over HTTP: one thing seen from Docker's pane and from the Image API."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from nacre.cloud.hosts import operations as hosts
from nacre.cloud.image import audit
from nacre.cloud.image.tables import image_layers
from nacre.protocol.messages import Capacity, Hello
from nacre.protocol.streams import Channel, Started
from tests import images
from tests.support import Answer, Client, RunningCloud

BASE, TOP = images.layer({"etc/base": "base"}), images.layer({"etc/top": "top"})
CONFIG = images.config(BASE, TOP, Cmd=["sh"], Env=["A=b"], Labels={"kind": "test"})
TAR = {"Content-Type": "application/x-tar"}


def load(client: Client, archive: bytes) -> list[dict[str, Any]]:
    answer = client("POST", "/docker/images/load?quiet=1", archive, TAR)
    assert answer.status == 200, answer.body
    return lines(answer)


def lines(answer: Answer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.body.splitlines()]


def names(client: Client) -> set[str]:
    return {name for image in client("GET", "/docker/v1.50/images/json").json for name in image["RepoTags"]}


def call(cloud: RunningCloud, work: Any) -> Any:
    """A coroutine in the cloud's own loop."""
    return asyncio.run_coroutine_threadsafe(work, cloud.cloud.store._loop).result(30)  # type: ignore[arg-type]


def blobs(cloud: RunningCloud) -> set[str]:
    return set(cloud.cloud.blobs.digests())


def leftovers(cloud: RunningCloud) -> list[str]:
    return [str(path) for folder in (cloud.cloud.blobs.spool, cloud.cloud.blobs.uploads) for path in folder.glob("*")]


@pytest.fixture
def app(member: Client) -> str:
    """The Docker id of an image `app:1`, loaded."""
    said = load(member, images.docker_archive([(["app:1"], CONFIG, [BASE, TOP])]))
    assert said == [{"stream": "Loaded image: app:1\n"}]
    return images.digest(CONFIG)


def test_a_loaded_image_is_docker_s_and_the_image_api_s(member: Client, app: str) -> None:
    (shown,) = [image for image in member("GET", "/docker/images/json").json if image["Id"] == app]
    assert shown["RepoTags"] == ["app:1"]
    assert shown["Labels"] == {"kind": "test"}
    assert shown["Created"] == 1767323045
    (row,) = [image for image in member("GET", "/image/v2/images").json["images"] if image["name"] == "app:1"]
    assert (row["container_format"], row["status"]) == ("docker", "active")

    inspected = member("GET", "/docker/v1.41/images/app:1/json").json
    assert inspected["Config"]["Cmd"] == ["sh"]
    assert inspected["RootFS"]["Layers"] == [images.digest(BASE), images.digest(TOP)]
    assert inspected["Id"] == app == member("GET", f"/docker/images/{app[7:19]}/json").json["Id"]
    assert [step["CreatedBy"] for step in member("GET", "/docker/images/app:1/history").json] == ["step 1", "step 0"]

    first, second = (member("GET", f"/image/v2/images/{row['id']}/file") for _ in range(2))
    assert first.body == second.body
    assert len(first.body) == row["size"] == int(first.headers["Content-Length"])
    assert row["checksum"] is None


def test_duplicate_bytes_are_stored_once(cloud: RunningCloud, member: Client, other: Client, app: str) -> None:
    before = blobs(cloud)
    load(other, images.docker_archive([(["mine:latest"], CONFIG, [BASE, TOP])]))
    assert blobs(cloud) == before
    assert "mine:latest" not in names(member)
    assert "mine:latest" in names(other)
    assert other("DELETE", "/docker/images/mine").status == 200
    assert blobs(cloud) == before, "the layers are still the first tenant's"


def test_names_come_and_go_and_the_last_one_takes_the_image_along(cloud: RunningCloud, member: Client, app: str) -> None:
    assert member("POST", "/docker/images/app:1/tag?repo=docker.io/library/second").status == 201
    assert member("POST", "/docker/images/app:1/tag?repo=localhost:5000/team/x&tag=v1").status == 201
    assert {"app:1", "second:latest", "localhost:5000/team/x:v1"} <= names(member)
    refused = member("DELETE", f"/docker/images/{app}")
    assert refused.status == 409
    assert "must be forced" in refused.json["message"]
    gone = member("DELETE", "/docker/images/second").json
    assert {"Untagged": "second:latest"} in gone
    assert "Deleted" not in json.dumps(gone)
    assert member("DELETE", "/docker/images/localhost:5000/team/x:v1").status == 200
    assert {"Deleted": app} in member("DELETE", "/docker/images/app:1").json
    assert member("GET", "/docker/images/app:1/json").json == {"message": "No such image: app:1"}
    assert {images.digest(BASE), images.digest(TOP), app}.isdisjoint(blobs(cloud))
    assert leftovers(cloud) == []


def test_a_tag_that_moves_leaves_the_old_image_dangling_and_prune_takes_it(member: Client, app: str) -> None:
    newer = images.config(BASE, Cmd=["true"])
    load(member, images.docker_archive([(["app:1"], newer, [BASE])]))
    dangling = member("GET", '/docker/images/json?filters={"dangling":["true"]}').json
    assert [image["Id"] for image in dangling] == [app]
    assert dangling[0]["RepoTags"] == []
    pruned = member("POST", '/docker/images/prune?filters={"dangling":{"true":true}}').json
    assert pruned["ImagesDeleted"] == [{"Deleted": app}]
    assert pruned["SpaceReclaimed"] > 0
    assert member("DELETE", "/docker/images/app:1").status == 200


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"label": {"kind": True}}, True),
        ({"label": ["kind=test"]}, True),
        ({"label": ["kind=other"]}, False),
        ({"reference": ["ap*"]}, True),
        ({"reference": ["app:2"]}, False),
        ({"dangling": ["true"]}, False),
    ],
)
def test_filters_in_both_encodings(member: Client, app: str, filters: dict[str, Any], found: bool) -> None:
    listed = member("GET", f"/docker/images/json?filters={json.dumps(filters, separators=(',', ':'))}")
    assert (app in [image["Id"] for image in listed.json]) == found
    assert member("GET", '/docker/images/json?filters={"odd":["x"]}').json == {"message": "invalid filter 'odd'"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Upper", "invalid reference format: repository name (library/Upper) must be lowercase"),
        ("a%20b", "invalid reference format"),
        ("x%40sha256:00", "invalid reference format"),
        ("..%2F..%2Fetc%2Fpasswd", "invalid reference format"),
        ("x:" + "t" * 129, "invalid reference format"),
        ("a" * 300, "repository name must not be more than 255 characters"),
        ("nothing", "No such image: nothing:latest"),
        ("reg.example:5000/a/b%40sha256:" + "0" * 64, "No such image: reg.example:5000/a/b@sha256:" + "0" * 64),
        ("sha256:" + "0" * 64, "No such image: sha256:" + "0" * 64),
    ],
)
def test_odd_and_hostile_names_get_docker_s_errors(member: Client, name: str, message: str) -> None:
    answer = member("GET", f"/docker/images/{name}/json")
    assert answer.json == {"message": message}
    assert answer.status == (404 if message.startswith("No such") else 400)


def test_an_archive_of_the_image_api_is_a_docker_image_by_its_plain_name(member: Client, other: Client, admin: Client) -> None:
    """As `nacre up` makes busybox: one public blob. It is pulled apart when its layers are asked for."""
    body = {"name": "bare", "disk_format": "raw", "container_format": "docker", "visibility": "public"}
    ident = admin("POST", "/image/v2/images", body).json["id"]
    archive = images.layer({"bin/sh": "#!"})
    octets = {"Content-Type": "application/octet-stream"}
    assert admin("PUT", f"/image/v2/images/{ident}/file", archive, octets).status == 204
    inspected = member("GET", "/docker/images/bare/json").json
    assert inspected["RepoTags"] == ["bare:latest"]
    assert inspected["Config"]["Cmd"] == ["sh"]
    assert inspected["RootFS"]["Layers"] == [images.digest(archive)]
    saved = other("GET", "/docker/images/bare/get")
    assert saved.status == 200
    assert load(other, saved.body) == [{"stream": "Loaded image: bare:latest\n"}]
    assert admin("GET", f"/image/v2/images/{ident}/file").body == archive, "what was uploaded is what is downloaded"
    assert member("DELETE", "/docker/images/bare").status == 403
    assert admin("DELETE", f"/image/v2/images/{ident}").status == 204
    assert other("GET", "/docker/images/bare/json").status == 200, "its own copy of the name, over the same bytes"


def test_import_makes_one_layer_with_the_changes(member: Client) -> None:
    query = "fromSrc=-&repo=made&tag=1&changes=CMD%20%5B%22sh%22%5D&changes=ENV%20A%3Db%20C%3Dd&changes=EXPOSE%2080"
    answer = member("POST", f"/docker/images/create?{query}", TOP, TAR)
    ident = lines(answer)[-1]["status"]
    config = member("GET", "/docker/images/made:1/json").json
    assert config["Id"] == ident
    assert config["Config"]["Cmd"] == ["sh"]
    assert config["Config"]["Env"] == ["A=b", "C=d"]
    assert config["Config"]["ExposedPorts"] == {"80/tcp": {}}
    assert member("POST", "/docker/images/create?fromSrc=-&changes=FROM%20x", TOP, TAR).status == 400
    assert member("POST", "/docker/images/create?fromSrc=-", b"no tar at all" * 100, TAR).status == 400


def test_broken_archives_leave_nothing(cloud: RunningCloud, member: Client) -> None:
    before = blobs(cloud)
    good = images.docker_archive([(["broken:1"], CONFIG, [BASE, TOP])])
    swapped = images.docker_archive([(["broken:1"], CONFIG, [TOP, BASE])])
    for archive in (good[: len(good) // 2], swapped, b"", b"\0" * 10240, b"\x1f\x8b" + b"x" * 100):
        answer = member("POST", "/docker/images/load", archive, TAR)
        assert answer.status == 400, archive[:20]
        assert isinstance(answer.json["message"], str)
    assert "broken:1" not in names(member)
    assert blobs(cloud) == before
    assert leftovers(cloud) == []


class Committing:
    """A host whose guest has changed one file."""

    exit_code = 0
    started = Started()

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def facts(self, host_id: str) -> dict[str, Any]:
        return {}

    async def open(self, host_id: str, kind: str, ident: str, params: dict[str, Any]) -> "Committing":
        self.asked.append((kind, params))
        return self

    async def __aiter__(self) -> AsyncIterator[tuple[Channel, bytes]]:
        yield Channel.STDOUT, TOP

    async def close(self) -> None:
        pass

    def alive(self) -> frozenset[str]:
        return frozenset({"h" * 8})

    connected = alive


def test_commit_puts_what_changed_on_top_of_the_image(cloud: RunningCloud, member: Client) -> None:
    below = images.config(BASE, Cmd=["sh"], Env=["A=b"])
    load(member, images.docker_archive([(["below:1"], below, [BASE])]))
    (row,) = [image for image in member("GET", "/image/v2/images").json["images"] if image["name"] == "below:1"]
    host = Committing()
    cloud.cloud.hosts = host  # type: ignore[assignment]
    hello = Hello(1, 1, "h" * 8, "host", "b", Capacity(8, 8192, 100), ("container",), "nacre", {})
    call(cloud, cloud.cloud.store.write(hosts.register, hello))
    flavor = member("GET", "/compute/v2.1/flavors").json["flavors"][0]["id"]
    body = {"server": {"name": "box", "flavorRef": flavor, "imageRef": row["id"], "networks": "none"}}
    made = member("POST", "/compute/v2.1/servers", body, {"OpenStack-API-Version": "compute 2.37"})
    assert made.status == 202, made.body
    query = "container=box&repo=snap&tag=1&comment=why&pause=0&changes=ENV%20C%3Dd"
    answer = member("POST", f"/docker/commit?{query}", {"Labels": {"x": "y"}})
    assert answer.status == 201, answer.body
    shown = member("GET", "/docker/images/snap:1/json").json
    assert shown["Id"] == answer.json["Id"]
    assert shown["RootFS"]["Layers"] == [images.digest(BASE), images.digest(TOP)]
    assert shown["Config"]["Env"] == ["A=b", "C=d"]
    assert (shown["Config"]["Labels"], shown["Comment"]) == ({"x": "y"}, "why")
    assert host.asked == [("commit", {"pause": False})]
    used = member("DELETE", "/docker/images/below:1")
    assert used.status == 409
    assert "is using its referenced image" in used.json["message"]
    assert member("POST", "/docker/commit?container=nobody").json == {"message": "No such container: nobody"}


def test_the_audit_finds_bytes_without_a_row_and_rows_without_their_bytes(cloud: RunningCloud, member: Client, app: str) -> None:
    def findings() -> dict[str, str]:
        return {ident: problem for kind, ident, problem in call(cloud, audit.findings(cloud.cloud))}

    assert findings() == {}
    store = cloud.cloud.blobs

    async def plant() -> str:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"nobody's"

        blob = await store.write(chunks(), 100)
        return blob.digest

    stray = call(cloud, plant())
    assert findings() == {}, "what is on its way into a row is none"
    store.release(stray)
    assert findings() == {stray: "8 bytes that no row names"}
    store.delete(stray, lambda: False)

    member("POST", "/docker/images/app:1/tag?repo=other&tag=1")
    layer = cloud.cloud.store.read_now(lambda conn: conn.execute(sa.select(image_layers.c.digest)).scalars().all())[0]
    path = store.path(layer)
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    (said,) = findings().values()
    assert said.startswith(f"is {len(data) - 1} bytes long, and "), said
    assert said.endswith(f" says {len(data)}")
    path.unlink()
    (said,) = findings().values()
    assert said.endswith(" names it, and it is not there")
    path.write_bytes(data)
    assert findings() == {}
