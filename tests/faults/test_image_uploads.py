"""Kill -9 of the API in the middle of uploads: an image has all of its bytes or none, and the store holds nothing else."""

import hashlib
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Processes, wait_for
from tests.support import Client

KILLS = 12
UPLOADS_AT_ONCE = 3
BYTES_MAX = 12_000_000
BYTES = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Processes]:
    """The API alone: images need no host."""
    cloud = Processes(tmp_path)
    start(cloud)
    yield cloud
    cloud.down()


def start(cloud: Processes) -> None:
    def serves() -> bool:
        try:
            return Client(cloud.url, "")("GET", "/image/versions").status == 200
        except OSError:
            return False

    cloud.start("api")
    wait_for(serves, "the API to serve")


class Uploader(threading.Thread):
    """Makes one image and uploads its data; `answered` is the status, 0 when the API died before it answered."""

    def __init__(self, client: Client, number: int, size: int) -> None:
        super().__init__()
        self.client, self.data = client, os.urandom(size)
        body = {"name": f"upload-{number}", "disk_format": "raw", "container_format": "bare"}
        self.image: str = client("POST", "/image/v2/images", body).json["id"]
        self.answered = 0

    def run(self) -> None:
        try:
            self.answered = self.client("PUT", f"/image/v2/images/{self.image}/file", self.data, BYTES).status
        except OSError:
            self.answered = 0

    def check(self) -> str:
        """After the restart. Returns the image's status."""
        shown = self.client("GET", f"/image/v2/images/{self.image}").json
        status: str = shown["status"]
        assert status == "active" if self.answered == 204 else status in ("active", "queued"), (self.answered, status)
        if status == "active":
            assert shown["os_hash_value"] == hashlib.sha512(self.data).hexdigest()
            assert self.client("GET", f"/image/v2/images/{self.image}/file").body == self.data
        else:
            assert shown["size"] is None
        return status


def test_killed_uploads_are_whole_or_queued(cloud: Processes) -> None:
    chance = random.Random(7)
    client = cloud.login()
    kept: set[str] = {path.name for path in blobs(cloud)}
    statuses: set[str] = set()
    for kill in range(KILLS):
        sizes = [chance.randrange(1, BYTES_MAX) for _ in range(UPLOADS_AT_ONCE)]
        uploads = [Uploader(client, kill * UPLOADS_AT_ONCE + number, size) for number, size in enumerate(sizes)]
        for upload in uploads:
            upload.start()
        threading.Event().wait(chance.random() * 0.3)
        cloud.kill("api")
        for upload in uploads:
            upload.join(60)
        start(cloud)
        for upload in uploads:
            status = upload.check()
            statuses.add(status)
            if status == "active":
                kept.add(hashlib.sha256(upload.data).hexdigest())
        assert {path.name for path in blobs(cloud)} == kept
    assert "queued" in statuses, "no kill met an upload: the test has shown nothing"


def blobs(cloud: Processes) -> list[Path]:
    return [path for path in (cloud.state / "api" / "blobs").rglob("*") if path.is_file()]
