"""Imports: from the stage, from the web, from another image; what the tasks say of them, and where nobody may send the cloud."""

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import sqlalchemy as sa

from nacre.cloud import abandoned
from nacre.cloud.context import Context
from nacre.cloud.image import imports
from nacre.cloud.image.sources import ImportRules
from nacre.cloud.image.tasks import OF_IMAGE_MAX
from nacre.store import Store
from tests.functional.conftest import serving
from tests.functional.test_image_data import BYTES, until
from tests.images import config, docker_archive, layer
from tests.support import ACTORS, Client, RunningCloud

V2 = "/image/v2"
DATA = b"from the web" * 1000
NOWHERE = "11111111-1111-4111-8111-111111111111"


RELEASE = threading.Event()
"""Until then a slow answer does not end."""


class Web(BaseHTTPRequestHandler):
    """A web server with a file, and with every way not to have one."""

    def do_GET(self) -> None:
        if self.path == "/image":
            self.answer(200, DATA)
        elif self.path == "/moved":
            self.answer(302, b"", Location="/image")
        elif self.path == "/inner":
            self.answer(302, b"", Location="http://169.254.169.254/latest/meta-data/")
        elif self.path == "/file":
            self.answer(302, b"", Location="file:///etc/passwd")
        elif self.path == "/round":
            self.answer(302, b"", Location="/round")
        elif self.path == "/slow":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"a beginning")
            RELEASE.wait(60)
        elif self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"too little")
        else:
            self.answer(404, b"nothing")

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    """Its operator allows loopback, where the web server is."""
    with serving(tmp_path_factory.mktemp("cloud"), imports=ImportRules((0,), ("127.0.0.0/8",))) as running:
        yield running


def make(client: Client, **values: Any) -> str:
    body = {"name": "imported", "disk_format": "raw", "container_format": "bare", **values}
    return str(client("POST", f"{V2}/images", body).json["id"])


def ask(client: Client, image_id: str, name: str, **more: Any) -> Any:
    return client("POST", f"{V2}/images/{image_id}/import", {"method": {"name": name, **more}})


def ended(client: Client, image_id: str) -> dict[str, Any]:
    """The last task, once it has ended."""

    def task() -> dict[str, Any]:
        found = client("GET", f"{V2}/images/{image_id}/tasks").json["tasks"]
        return dict(found[0])

    until(lambda: task()["status"] in ("success", "failure"))
    return task()


@pytest.mark.parametrize("path", ["/image", "/moved"])
def test_web_download_brings_the_bytes(member: Client, other: Client, web: str, path: str) -> None:
    image = make(member)
    assert ask(other, image, "web-download", uri=web + path).status == 404
    answer = ask(member, image, "web-download", uri=web + path)
    assert answer.status == 202
    task = ended(member, image)
    assert (task["status"], task["type"], task["message"]) == ("success", "api_image_import", "")
    assert task["request_id"] == answer.headers["X-Openstack-Request-Id"]
    assert task["input"]["import_req"]["method"] == {"name": "web-download", "uri": web + path}
    shown = member("GET", f"{V2}/images/{image}").json
    assert (shown["status"], shown["size"], shown["stores"]) == ("active", len(DATA), "nacre")
    assert shown["os_hash_value"] == hashlib.sha512(DATA).hexdigest()
    assert member("GET", f"{V2}/images/{image}/file").body == DATA
    assert ask(member, image, "web-download", uri=web + path).status == 409
    assert other("GET", f"{V2}/images/{image}/tasks").status == 404


@pytest.mark.parametrize("path", ["/nothing", "/inner", "/file", "/round", "/short"])
def test_a_download_that_fails_leaves_the_image_queued_and_says_why(member: Client, web: str, path: str) -> None:
    image = make(member)
    assert ask(member, image, "web-download", uri=web + path).status == 202
    task = ended(member, image)
    assert task["status"] == "failure"
    assert task["message"]
    shown = member("GET", f"{V2}/images/{image}").json
    assert (shown["status"], shown["size"], shown["os_glance_failed_import"]) == ("queued", None, "nacre")
    assert member("PUT", f"{V2}/images/{image}/file", b"by hand", BYTES).status == 204, "it can be filled another way"
    assert member("GET", f"{V2}/images/{image}").json["os_glance_failed_import"] == ""


@pytest.mark.parametrize(
    "uri", ["http://169.254.169.254/x", "file:///etc/passwd", "http://[::1]/x", "http://0.0.0.0/", "gopher://x/", "", "http://"]
)
def test_inner_places_are_refused_at_once(member: Client, uri: str) -> None:
    image = make(member)
    assert ask(member, image, "web-download", uri=uri).status == 400
    body = {"url": uri}
    assert member("POST", f"{V2}/images/{image}/locations", body).status == 400
    assert member("GET", f"{V2}/images/{image}").json["status"] == "queued"
    assert member("GET", f"{V2}/images/{image}/tasks").json["tasks"] == []


def test_without_the_operators_leave_nothing_of_this_machine_is_asked(tmp_path: Any, web: str) -> None:
    with serving(tmp_path) as running:
        member = running.client("member")
        image = make(member)
        for uri in (f"{web}/image", "http://127.0.0.1/", "http://localhost/"):
            assert ask(member, image, "web-download", uri=uri).status == 400
        assert ask(member, make(member), "web-download", uri="http://name-that-is-nowhere.invalid/").status == 202


def test_another_images_data_is_shared_with_some_of_its_properties(member: Client, other: Client) -> None:
    source = make(member, disk_format="qcow2", hw_cpu_cores="5", os_distro="debian", speed="88mph", visibility="private")
    member("PUT", f"{V2}/images/{source}/file", b"the source", BYTES)
    copy = make(member, hw_cpu_cores="1", kept="yes")
    assert ask(member, copy, "glance-download", glance_image_id="foo", glance_region="RegionOne").status == 400
    assert ask(member, copy, "glance-download", glance_image_id=source, glance_region="RegionOne").status == 202
    shown = member("GET", f"{V2}/images/{copy}").json
    assert (shown["status"], shown["disk_format"], shown["hw_cpu_cores"]) == ("active", "qcow2", "5")
    assert (shown["os_distro"], shown["kept"], shown.get("speed")) == ("debian", "yes", None)
    assert member("DELETE", f"{V2}/images/{source}").status == 204
    assert member("GET", f"{V2}/images/{copy}/file").body == b"the source"
    for region, ident in (("elsewhere", copy), ("RegionOne", NOWHERE)):
        image = make(other)
        assert ask(other, image, "glance-download", glance_image_id=ident, glance_region=region).status == 202
        assert ended(other, image)["status"] == "failure"
    for _ in range(OF_IMAGE_MAX):
        ask(other, image, "glance-download", glance_image_id=NOWHERE, glance_region="RegionOne")
    assert len(other("GET", f"{V2}/images/{image}/tasks").json["tasks"]) == OF_IMAGE_MAX, "the oldest went for the newest"
    stolen = make(other)
    ask(other, stolen, "glance-download", glance_image_id=copy, glance_region="RegionOne")
    assert ended(other, stolen)["status"] == "failure", "another project's private image does not exist"
    assert other("GET", f"{V2}/images/{stolen}").json["status"] == "queued"


def test_an_image_in_layers_is_shared_too(member: Client) -> None:
    layers = [layer({"base": "x" * 2000}), layer({"top": "y"})]
    archive = docker_archive([(["layered:1"], config(*layers, Cmd=["sh"]), layers)])
    assert member("POST", "/docker/images/load", archive, {"Content-Type": "application/x-tar"}).status == 200
    (source,) = [image for image in member("GET", f"{V2}/images").json["images"] if image["container_format"] == "docker"]
    copy = make(member)
    assert ask(member, copy, "glance-download", glance_image_id=source["id"], glance_region="RegionOne").status == 202
    shown = member("GET", f"{V2}/images/{copy}").json
    assert (shown["status"], shown["container_format"], shown["size"]) == ("active", "docker", source["size"])
    before = member("GET", f"{V2}/images/{source['id']}/file").body
    assert member("DELETE", f"{V2}/images/{source['id']}").status == 204
    assert member("GET", f"{V2}/images/{copy}/file").body == before
    assert member("DELETE", f"{V2}/images/{copy}").status == 204


def test_a_place_is_remembered_and_its_data_held_against_what_was_said(admin: Client, member: Client, web: str) -> None:
    image = make(member)
    path = f"{V2}/images/{image}/locations"
    right = {"os_hash_algo": "sha256", "os_hash_value": hashlib.sha256(DATA).hexdigest()}
    for wrong in ({"os_hash_value": "0" * 64}, {**right, "os_hash_algo": "sha512"}, {**right, "os_hash_algo": "md6"}, {"x": 1}):
        assert member("POST", path, {"url": f"{web}/image", "validation_data": wrong}).status == 400
    other_hash = {"os_hash_algo": "sha512", "os_hash_value": "0" * 128}
    assert member("POST", path, {"url": f"{web}/image", "validation_data": other_hash}).status == 202
    assert ended(member, image)["status"] == "failure"
    assert member("GET", f"{V2}/images/{image}").json["status"] == "queued"
    assert member("POST", path, {"url": f"{web}/image", "validation_data": right}).status == 202
    assert ended(member, image)["status"] == "success"
    shown = member("GET", f"{V2}/images/{image}").json
    assert (shown["os_hash_algo"], shown["os_hash_value"]) == ("sha256", right["os_hash_value"])
    assert member("GET", path).status == 403, "places are for services to know"
    assert admin("GET", path).json == [{"url": f"{web}/image", "metadata": {}}]


def test_tasks_are_an_admins(admin: Client, member: Client, web: str) -> None:
    properties = {"name": "by a task", "disk_format": "raw", "container_format": "bare"}
    body = {
        "type": "import",
        "input": {"import_from": f"{web}/image", "import_from_format": "raw", "image_properties": properties},
    }
    assert member("POST", f"{V2}/tasks", body).status == 403
    assert member("GET", f"{V2}/tasks").status == 403
    assert admin("POST", f"{V2}/tasks", {**body, "type": "export"}).status == 400
    bad = {**body, "input": {**body["input"], "import_from": "http://169.254.169.254/"}}
    assert admin("POST", f"{V2}/tasks", bad).status == 400
    made = admin("POST", f"{V2}/tasks", body)
    assert made.status == 201
    path = f"{V2}/tasks/{made.json['id']}"
    until(lambda: admin("GET", path).json["status"] == "success")
    image = admin("GET", path).json["result"]["image_id"]
    assert admin("GET", f"{V2}/images/{image}").json["name"] == "by a task"
    listed = admin("GET", f"{V2}/tasks?type=import&status=success&limit=1").json
    assert [task["id"] for task in listed["tasks"]] == [made.json["id"]]
    assert "input" not in listed["tasks"][0]
    assert admin("GET", f"{V2}/tasks?sort_key=colour").status == 400
    assert admin("GET", f"{V2}/tasks/{NOWHERE}").status == 404


def test_there_is_one_store(admin: Client, member: Client) -> None:
    (store,) = member("GET", f"{V2}/info/stores").json["stores"]
    assert (store["id"], store["default"]) == ("nacre", "true")
    assert member("GET", f"{V2}/info/stores/detail").status == 403
    assert admin("GET", f"{V2}/info/stores/detail").json["stores"][0]["type"] == "file"
    image = make(member)
    path = f"{V2}/images/{image}"
    assert member("PUT", f"{path}/file", b"x", {**BYTES, "X-Image-Meta-Store": "elsewhere"}).status == 400
    assert member("PUT", f"{path}/file", b"x", {**BYTES, "X-Image-Meta-Store": "nacre"}).status == 204
    body = {"method": {"name": "copy-image"}, "all_stores": True}
    assert member("POST", f"{path}/import", body).status == 403
    assert admin("POST", f"{path}/import", body).status == 202
    assert admin("POST", f"{path}/import", {**body, "stores": ["nacre"]}).status == 400, "one or the other"
    assert admin("POST", f"{path}/import", {"method": {"name": "copy-image"}, "stores": ["x"]}).status == 409
    assert admin("DELETE", f"{V2}/stores/nacre/{image}").status == 403, "the last copy stays"
    assert admin("DELETE", f"{V2}/stores/x/{image}").status == 404
    assert member("DELETE", f"{V2}/stores/nacre/{image}").status == 403
    for unknown in ("cache", f"cache/{image}", "cached_images", f"queued_images/{image}"):
        assert admin("GET", f"{V2}/{unknown}").status == 404, "there is no cache"


def test_imports_that_make_no_sense(member: Client) -> None:
    image = make(member)
    bodies: tuple[Any, ...] = ({}, [], {"method": "x"}, {"method": {}}, {"method": {"name": "x"}}, {"method": {"name": 1}})
    for body in (*bodies, {"method": {"name": "web-download"}}, {"method": {"name": "web-download", "uri": 1}}):
        assert member("POST", f"{V2}/images/{image}/import", body).status == 400, body
    assert ask(member, image, "glance-direct").status == 409
    formless = str(member("POST", f"{V2}/images", {"name": "formless"}).json["id"])
    assert ask(member, formless, "web-download", uri="http://name-that-is-nowhere.invalid/").status == 400


def test_an_import_that_a_process_took_with_it_is_queued_again(cloud: RunningCloud, member: Client) -> None:
    image = make(member)
    actor = ACTORS["member"]
    context = Context(actor.user_id, "default", project_id=actor.project_id, roles=frozenset({"member"}))

    async def story() -> None:
        await cloud.cloud.store.write(imports.begin, context, image, {"method": "web-download"}, cloud.cloud.process_id)
        # As the next start of the process does before it serves.
        await abandoned.recover(cloud.cloud)

    asyncio.run_coroutine_threadsafe(story(), cloud.loop).result(30)
    shown = member("GET", f"{V2}/images/{image}").json
    (task,) = member("GET", f"{V2}/images/{image}/tasks").json["tasks"]
    assert (shown["status"], task["status"]) == ("queued", "failure")
    assert "ended before" in task["message"]


def test_a_project_has_so_many_imports_under_way_and_no_more(member: Client, cloud: RunningCloud) -> None:
    actor = ACTORS["member"]
    context = Context(actor.user_id, "default", project_id=actor.project_id, roles=frozenset({"member"}))

    async def story() -> None:
        for _ in range(imports.UNDER_WAY_MAX):
            ident = await asyncio.to_thread(make, member)
            await cloud.cloud.store.write(imports.begin, context, ident, {}, cloud.cloud.process_id)

    asyncio.run_coroutine_threadsafe(story(), cloud.loop).result(60)
    assert ask(member, make(member), "web-download", uri="http://name-that-is-nowhere.invalid/").status == 409
    asyncio.run_coroutine_threadsafe(abandoned.recover(cloud.cloud), cloud.loop).result(30)


def test_a_process_that_ends_gives_up_what_it_fetches(tmp_path: Any, web: str) -> None:
    with serving(tmp_path, imports=ImportRules((0,), ("127.0.0.0/8",))) as running:
        member = running.client("member")
        image = make(member)
        assert ask(member, image, "web-download", uri=f"{web}/slow").status == 202
        until(lambda: member("GET", f"{V2}/images/{image}").json["status"] == "importing")
        assert ask(member, image, "web-download", uri=f"{web}/slow").status == 409
    RELEASE.set()
    store = Store(running.store_url)
    assert store.read_now(rows_of, "SELECT status, import_result FROM images") == [("queued", "failure")]
    assert store.read_now(rows_of, "SELECT status FROM image_tasks") == [("failure",)]
    store.close()


def rows_of(conn: sa.Connection, statement: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in conn.exec_driver_sql(statement)]


def test_a_deleted_image_ends_its_import(member: Client, web: str) -> None:
    image = make(member)
    assert ask(member, image, "web-download", uri=f"{web}/slow").status == 202
    assert member("DELETE", f"{V2}/images/{image}").status == 204
    RELEASE.set()
    assert member("GET", f"{V2}/images/{image}").status == 404
