"""Images' bytes over HTTP: upload, download, ranges, and what becomes of an upload that fails."""

import hashlib
import http.client
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nacre.cloud.image import imports
from tests.functional.test_image_images import BYTES, make
from tests.support import Client, RunningCloud


def files(cloud: RunningCloud) -> list[Path]:
    return [path for path in (cloud.cloud.settings.state / "blobs").rglob("*") if path.is_file()]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(0.01)


def open_upload(client: Client, image_id: str, *headers: tuple[str, str]) -> http.client.HTTPConnection:
    """The head of an upload; the body is the caller's to send."""
    connection = http.client.HTTPConnection(client.base_url.removeprefix("http://"), timeout=60)
    connection.putrequest("PUT", f"/image/v2/images/{image_id}/file")
    for name, value in (("X-Auth-Token", client.token), ("Content-Type", "application/octet-stream"), *headers):
        connection.putheader(name, value)
    connection.endheaders()
    return connection


def status_of(client: Client, image_id: str) -> str:
    status: str = client("GET", f"/image/v2/images/{image_id}").json["status"]
    return status


@pytest.fixture(autouse=True)
def _nothing_is_left_over(cloud: RunningCloud, admin: Client) -> Iterator[None]:
    yield
    for image in admin("GET", "/image/v2/images?visibility=all").json["images"]:
        assert admin("DELETE", f"/image/v2/images/{image['id']}").status == 204
    until(lambda: files(cloud) == [])


def test_data_goes_in_and_comes_out_the_same(member: Client, cloud: RunningCloud) -> None:
    data = os.urandom(5_000_017)
    image = make(member, "whole")["id"]
    path = f"/image/v2/images/{image}"
    assert member("GET", f"{path}/file").status == 204
    assert member("PUT", f"{path}/file", data, BYTES).status == 204
    shown = member("GET", path).json
    assert shown["status"] == "active"
    assert shown["size"] == shown["virtual_size"] == len(data)
    assert shown["checksum"] == hashlib.md5(data).hexdigest()
    assert (shown["os_hash_algo"], shown["os_hash_value"]) == ("sha512", hashlib.sha512(data).hexdigest())
    assert [file.name for file in files(cloud)] == [hashlib.sha256(data).hexdigest()]
    got = member("GET", f"{path}/file")
    assert got.body == data
    assert got.headers["Content-MD5"] == shown["checksum"]
    assert got.headers["Content-Type"] == "application/octet-stream"
    head = member("HEAD", f"{path}/file")
    assert (head.headers["Content-Length"], head.body) == (str(len(data)), b"")
    part = member("GET", f"{path}/file", headers={"Range": "bytes=1000-1999"})
    assert (part.status, part.body) == (206, data[1000:2000])
    assert member("GET", f"{path}/file", headers={"Range": f"bytes={len(data)}-"}).status == 416
    assert member("PUT", f"{path}/file", data, BYTES).status == 409


def test_chunked_and_empty_uploads(member: Client) -> None:
    image = make(member, "in chunks")["id"]
    connection = open_upload(member, image, ("Transfer-Encoding", "chunked"))
    connection.send(b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
    assert connection.getresponse().status == 204
    connection.close()
    assert member("GET", f"/image/v2/images/{image}/file").body == b"abcdefg"
    empty = make(member, "empty")["id"]
    assert member("PUT", f"/image/v2/images/{empty}/file", b"", BYTES).status == 204
    assert member("GET", f"/image/v2/images/{empty}").json["size"] == 0


def test_what_an_upload_must_be(member: Client, reader: Client) -> None:
    image = make(member, "strict")["id"]
    assert member("PUT", f"/image/v2/images/{image}/file", b"x").status == 415
    assert reader("PUT", f"/image/v2/images/{image}/file", b"x", BYTES).status == 403
    bare = member("POST", "/image/v2/images", {"name": "no formats"}).json["id"]
    refused = member("PUT", f"/image/v2/images/{bare}/file", b"x", BYTES)
    assert refused.status == 400
    assert "disk_format" in refused.json["message"]
    assert status_of(member, bare) == "queued"


def test_two_uploads_at_once(member: Client) -> None:
    image = make(member, "contended")["id"]
    connection = open_upload(member, image, ("Content-Length", "6"))
    connection.send(b"abc")
    until(lambda: status_of(member, image) == "saving")
    assert member("PUT", f"/image/v2/images/{image}/file", b"second", BYTES).status == 409
    assert member("GET", f"/image/v2/images/{image}/file").status == 204
    connection.send(b"def")
    assert connection.getresponse().status == 204
    connection.close()
    assert member("GET", f"/image/v2/images/{image}/file").body == b"abcdef"


@pytest.mark.parametrize("framing", [("Content-Length", "60000000"), ("Transfer-Encoding", "chunked")])
def test_a_dropped_upload_leaves_the_image_queued_and_no_bytes(
    member: Client, cloud: RunningCloud, framing: tuple[str, str]
) -> None:
    image = make(member, "dropped")["id"]
    connection = open_upload(member, image, framing)
    connection.send(b"%x\r\n" % 9_000_000 + b"x" * 5_000_000)
    until(lambda: status_of(member, image) == "saving" and files(cloud) != [])
    assert isinstance(connection.sock, socket.socket)
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    until(lambda: status_of(member, image) == "queued")
    until(lambda: files(cloud) == [])
    assert member("PUT", f"/image/v2/images/{image}/file", b"at last", BYTES).status == 204


def test_an_image_deleted_while_its_data_comes(member: Client, cloud: RunningCloud) -> None:
    image = make(member, "doomed")["id"]
    connection = open_upload(member, image, ("Content-Length", "6"))
    connection.send(b"abc")
    until(lambda: status_of(member, image) == "saving")
    assert member("DELETE", f"/image/v2/images/{image}").status == 204
    connection.send(b"def")
    assert connection.getresponse().status == 410
    connection.close()
    until(lambda: files(cloud) == [])


def test_more_than_the_limit(member: Client, cloud: RunningCloud) -> None:
    whole = cloud.cloud.settings
    cloud.cloud.settings = replace(whole, image_size_max_bytes=1000)
    try:
        image = make(member, "too long")["id"]
        assert member("PUT", f"/image/v2/images/{image}/file", b"x" * 1001, BYTES).status == 413
        assert status_of(member, image) == "queued"
        assert member("PUT", f"/image/v2/images/{image}/file", b"x" * 1000, BYTES).status == 204
    finally:
        cloud.cloud.settings = whole


def test_the_same_bytes_are_kept_once_and_go_with_the_last_image(member: Client, cloud: RunningCloud) -> None:
    images = [make(member, f"twin-{number}")["id"] for number in range(2)]
    for image in images:
        assert member("PUT", f"/image/v2/images/{image}/file", b"same", BYTES).status == 204
    assert len(files(cloud)) == 1
    assert member("DELETE", f"/image/v2/images/{images[0]}").status == 204
    assert member("GET", f"/image/v2/images/{images[1]}/file").body == b"same"


def test_a_deactivated_image_gives_its_data_to_admins_only(member: Client, admin: Client) -> None:
    image = make(member, "suspect")["id"]
    path = f"/image/v2/images/{image}"
    assert member("POST", f"{path}/actions/deactivate").status == 403
    member("PUT", f"{path}/file", b"data", BYTES)
    assert member("POST", f"{path}/actions/deactivate").status == 204
    assert member("GET", path).json["status"] == "deactivated"
    assert member("GET", f"{path}/file").status == 403
    assert admin("GET", f"{path}/file").body == b"data"
    assert member("POST", f"{path}/actions/reactivate").status == 204
    assert member("GET", f"{path}/file").body == b"data"


def test_formats_are_fixed_once_there_is_data(member: Client) -> None:
    image = make(member, "set")["id"]
    member("PUT", f"/image/v2/images/{image}/file", b"data", BYTES)
    operation = [{"op": "replace", "path": "/disk_format", "value": "qcow2"}]
    headers = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
    assert member("PATCH", f"/image/v2/images/{image}", operation, headers).status == 403


def test_stage_and_import(member: Client) -> None:
    assert member("GET", "/image/v2/info/import").json["import-methods"]["value"] == [*imports.METHODS]
    image = make(member, "staged")["id"]
    path = f"/image/v2/images/{image}"
    method = {"method": {"name": "glance-direct"}}
    assert member("POST", f"{path}/import", method).status == 409
    assert member("PUT", f"{path}/stage", b"from the stage", BYTES).status == 204
    assert status_of(member, image) == "uploading"
    assert member("GET", f"{path}/file").status == 204
    assert member("POST", f"{path}/import", {"method": {"name": "web-download"}}).status == 400
    assert member("POST", f"{path}/import", method).status == 202
    until(lambda: status_of(member, image) == "active")
    assert member("GET", f"{path}/file").body == b"from the stage"
    (task,) = member("GET", f"{path}/tasks").json["tasks"]
    assert (task["status"], task["result"]) == ("success", {"image_id": image})


def test_a_qcow2_that_names_another_file_is_refused(member: Client, cloud: RunningCloud) -> None:
    def header(backing: int) -> bytes:
        words = b"QFI\xfb" + (2).to_bytes(4, "big") + backing.to_bytes(8, "big") + (0).to_bytes(4, "big")
        return words + (16).to_bytes(4, "big") + (7 << 30).to_bytes(8, "big") + bytes(480)

    image = make(member, "q", disk_format="qcow2")["id"]
    refused = member("PUT", f"/image/v2/images/{image}/file", header(backing=104), BYTES)
    assert (refused.status, status_of(member, image)) == (400, "queued")
    until(lambda: files(cloud) == [])
    assert member("PUT", f"/image/v2/images/{image}/file", header(backing=0), BYTES).status == 204
    assert member("GET", f"/image/v2/images/{image}").json["virtual_size"] == 7 << 30
