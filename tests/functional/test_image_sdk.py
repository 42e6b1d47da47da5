"""Images through openstacksdk, unmodified."""

import hashlib
import os
from pathlib import Path

import openstack

from tests.support import ACTORS, RunningCloud


def test_the_sdk_uploads_finds_changes_downloads_and_deletes(cloud: RunningCloud, tmp_path: Path) -> None:
    actor = ACTORS["member"]
    connection = openstack.connect(
        auth={
            "auth_url": f"{cloud.base_url}/identity/v3",
            "username": actor.user_name,
            "password": actor.password,
            "project_name": actor.project_name,
            "user_domain_id": "default",
            "project_domain_id": "default",
        },
        region_name="RegionOne",
        load_yaml_config=False,
        load_envvars=False,
    )
    data = os.urandom(3_000_000)
    source = tmp_path / "disk.raw"
    source.write_bytes(data)
    made = connection.create_image(
        "by sdk", filename=str(source), disk_format="raw", container_format="bare", wait=True, hw_disk_bus="virtio", tags=["sdk"]
    )
    assert made.status == "active"
    assert made.hash_value == hashlib.sha512(data).hexdigest()
    for number in range(30):
        connection.image.create_image(name=f"page-{number:02}", disk_format="raw", container_format="bare")
    # More than a page of 25: the SDK follows `next` by itself.
    assert len([image for image in connection.image.images() if image.name.startswith("page-")]) == 30
    assert [image.id for image in connection.image.images(name="by sdk", tag="sdk")] == [made.id]
    connection.image.update_image(made.id, name="renamed", min_ram=64)
    found = connection.image.find_image("renamed")
    assert (found.min_ram, found.hw_disk_bus) == (64, "virtio")
    assert connection.image.download_image(made.id).content == data
    connection.image.deactivate_image(made.id)
    connection.image.reactivate_image(made.id)
    member = connection.image.add_member(made.id, member=ACTORS["other"].project_id)
    assert [found.member_id for found in connection.image.members(made.id)] == [member.member_id]
    assert connection.delete_image(made.id, wait=True)
    assert connection.image.find_image("renamed") is None
    connection.close()
