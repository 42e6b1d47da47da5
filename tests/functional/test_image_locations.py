"""Locations of images, where the operator has them shown: the places on the web that they are from."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nacre.cloud.image.sources import ImportRules
from tests.functional.conftest import serving
from tests.functional.test_image_data import BYTES
from tests.functional.test_image_imports import DATA, V2, Web, make
from tests.support import Answer, Client, RunningCloud

PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    rules = ImportRules((0,), ("127.0.0.0/8",), show_locations=True)
    with serving(tmp_path_factory.mktemp("cloud"), imports=rules) as running:
        yield running


def patch(client: Client, image: str, op: str, path: str, **value: Any) -> Answer:
    return client("PATCH", f"{V2}/images/{image}", [{"op": op, "path": path, **value}], PATCH)


def add(client: Client, image: str, url: str, **more: Any) -> Answer:
    return patch(client, image, "add", "/locations/-", value={"url": url, "metadata": {}, **more})


def test_a_place_gives_an_image_its_data(admin: Client, member: Client, other: Client, web: str) -> None:
    image = make(member, visibility="community")
    assert member("GET", f"{V2}/images/{image}").json["locations"] == []
    assert add(other, image, f"{web}/image").status == 403
    shown = add(member, image, f"{web}/image", metadata={"a": "b"}).json
    assert (shown["status"], shown["size"], shown["os_hash_value"]) == ("active", len(DATA), None)
    assert shown["locations"] == [{"url": f"{web}/image", "metadata": {"a": "b"}}]
    assert member("GET", f"{V2}/images/{image}/file").body == DATA
    assert add(member, image, f"{web}/image").status == 400, "it is there already"
    assert add(member, image, f"{web}/nothing").status == 400
    assert len(add(member, image, f"{web}/image#new").json["locations"]) == 2
    places = member("GET", f"{V2}/images/{image}").json["locations"]
    places[1]["metadata"] = {"fast": True}
    assert patch(member, image, "replace", "/locations", value=places).json["locations"] == places
    assert patch(member, image, "replace", "/locations", value=places[:1]).status == 400
    assert patch(member, image, "remove", "/locations/0").status == 403, "an admin's"
    assert patch(admin, image, "remove", "/locations/0").json["locations"] == places[1:]
    assert patch(admin, image, "remove", "/locations/7").status == 404
    assert patch(admin, image, "remove", "/locations/0").status == 403, "the last one stays"


def test_a_place_that_says_something_else_is_refused(member: Client, web: str) -> None:
    image = make(member)
    wrong = {"os_hash_algo": "sha256", "os_hash_value": "0" * 64}
    assert add(member, image, f"{web}/image", validation_data=wrong).status == 400
    for url in ("gopher://x/", "http://169.254.169.254/", f"{web}/inner", f"{web}/short", f"{web}/nothing"):
        assert add(member, image, url).status == 400, url
    shown = member("GET", f"{V2}/images/{image}").json
    assert (shown["status"], shown["locations"], shown["size"]) == ("queued", [], None)
    right = {"os_hash_algo": "sha256", "os_hash_value": hashlib.sha256(DATA).hexdigest()}
    assert add(member, image, f"{web}/image", validation_data=right).json["os_hash_value"] == right["os_hash_value"]
    uploaded = make(member)
    assert member("PUT", f"{V2}/images/{uploaded}/file", b"other data", BYTES).status == 204
    assert member("GET", f"{V2}/images/{uploaded}").json["locations"][0]["url"].startswith("nacre:///sha256:")
    assert add(member, uploaded, f"{web}/image").status == 409, "it is not the same data"


def test_patches_of_locations_that_make_no_sense(member: Client, web: str) -> None:
    image = make(member)
    for op, path, value in (
        ("add", "/locations/-", {"url": 1, "metadata": {}}),
        ("add", "/locations/-", {"url": f"{web}/image"}),
        ("add", "/locations/-", None),
        ("add", "/locations/x", {"url": f"{web}/image", "metadata": {}}),
        ("replace", "/locations", {}),
        ("add", "/locations/0/url", "x"),
    ):
        assert patch(member, image, op, path, value=value).status == 400, (op, path, value)
    assert patch(member, image, "replace", "/locations/0", value={}).status == 403
    two = [{"op": "replace", "path": "/name", "value": "x"}, {"op": "remove", "path": "/locations/0"}]
    assert member("PATCH", f"{V2}/images/{image}", two, PATCH).status == 400
    assert member("GET", f"{V2}/images/{image}").json["name"] == "imported"


def test_they_are_not_shown_where_the_operator_does_not_want_it(tmp_path: Path, web: str) -> None:
    with serving(tmp_path, imports=ImportRules((0,), ("127.0.0.0/8",))) as running:
        member = running.client("member")
        image = make(member)
        assert "locations" not in member("GET", f"{V2}/images/{image}").json
        assert add(member, image, f"{web}/image").status == 403
