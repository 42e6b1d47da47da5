"""The unmodified `openstack` command and openstacksdk over images and metadata definitions."""

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openstack
import pytest

from nacre.cloud.image.sources import ImportRules
from tests.functional.conftest import serving
from tests.functional.test_identity_clients import clouds_yaml
from tests.functional.test_image_data import until
from tests.functional.test_image_imports import DATA, Web
from tests.functional.test_openstack_command_identity import as_admin, as_member
from tests.support import ACTORS, Client, RunningCloud

__all__ = ["as_admin", "as_member", "clouds_yaml"]
OTHER = ACTORS["other"]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    """Its operator allows loopback, where the web server is."""
    with serving(tmp_path_factory.mktemp("cloud"), imports=ImportRules((0,), ("127.0.0.0/8",))) as running:
        yield running


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_image_from_create_to_delete(as_member: Any, tmp_path: Path) -> None:
    file = tmp_path / "image.raw"
    file.write_bytes(b"bytes of an image")
    made = as_member("image", "create", "--file", str(file), "--tag", "t", "--property", "os_distro=debian", "first")
    assert as_member("image", "show", "first")["status"] == "active"
    as_member("image", "set", "--protected", "--hidden", "--name", "second", "--tag", "u", made["id"])
    assert [each["Name"] for each in as_member("image", "list", "--hidden")] == ["second"]
    as_member("image", "set", "--unprotected", "--unhidden", "--deactivate", "second")
    assert as_member("image", "show", "second")["status"] == "deactivated"
    as_member("image", "set", "--activate", "second")
    as_member("image", "add", "project", "second", OTHER.project_id)
    assert [each["Member ID"] for each in as_member("image", "member", "list", "second")] == [OTHER.project_id]
    as_member("image", "remove", "project", "second", OTHER.project_id)
    as_member("image", "save", "--file", str(tmp_path / "again"), "second")
    assert (tmp_path / "again").read_bytes() == b"bytes of an image"
    as_member("image", "unset", "--tag", "u", "--property", "os_distro", "second")
    as_member("image", "delete", "second")
    assert as_member("image", "list") == []


def test_imports_by_the_command(member: Client, as_admin: Any, as_member: Any, web: str, tmp_path: Path) -> None:
    assert "web-download" in str(as_member("image", "import", "info", "-f", "json"))
    # The command takes data from its input, and a test has no terminal.
    made = member("POST", "/image/v2/images", {"name": "empty", "container_format": "bare", "disk_format": "raw"}).json
    as_member("image", "import", "--method", "web-download", "--uri", f"{web}/image", made["id"])
    until(lambda: as_member("image", "show", made["id"])["status"] == "active")
    assert as_member("image", "show", made["id"])["size"] == len(DATA)
    (task,) = as_admin("image", "task", "list")
    assert as_admin("image", "task", "show", task["ID"])["status"] == "success"
    assert "nacre" in str(as_member("image", "stores", "list"))
    staged = member("POST", "/image/v2/images", {"name": "staged", "container_format": "bare", "disk_format": "raw"}).json
    file = tmp_path / "image.raw"
    file.write_bytes(b"from the stage")
    as_member("image", "stage", "--file", str(file), staged["id"])
    as_member("image", "import", "--method", "glance-direct", staged["id"])
    assert as_member("image", "show", staged["id"])["status"] == "active"


def test_metadata_definitions_by_the_command(as_admin: Any, as_member: Any) -> None:
    as_admin("image", "metadef", "namespace", "create", "--public", "--description", "d", "Cli::NS")
    as_admin("image", "metadef", "namespace", "set", "--display-name", "Cli", "Cli::NS")
    schema = '{"minimum": 1}'
    as_admin(
        "image",
        "metadef",
        "property",
        "create",
        "--name",
        "p",
        "--title",
        "P",
        "--type",
        "integer",
        "--schema",
        schema,
        "Cli::NS",
    )
    assert as_member("image", "metadef", "property", "show", "Cli::NS", "p")["minimum"] == 1
    as_admin("image", "metadef", "object", "create", "--namespace", "Cli::NS", "o")
    assert [each["name"] for each in as_member("image", "metadef", "object", "list", "Cli::NS")] == ["o"]
    as_admin("image", "metadef", "resource", "type", "association", "create", "Cli::NS", "OS::Nova::Server")
    assert "OS::Nova::Server" in str(as_member("image", "metadef", "resource", "type", "association", "list", "Cli::NS"))
    assert len(as_member("image", "metadef", "resource", "type", "list")) > 3
    assert as_member("image", "metadef", "namespace", "show", "Cli::NS")["display_name"] == "Cli"
    as_admin("image", "metadef", "namespace", "delete", "Cli::NS")
    assert as_member("image", "metadef", "namespace", "list") == []


def test_the_sdk_imports_shares_and_defines(cloud: RunningCloud, web: str) -> None:
    admin = ACTORS["admin"]
    with openstack.connect(
        auth_url=f"{cloud.base_url}/identity",
        username=admin.user_name,
        password=admin.password,
        project_name=admin.project_name,
        user_domain_name="Default",
        project_domain_name="Default",
        region_name="RegionOne",
    ) as connection:
        image = connection.image.create_image(name="sdk", container_format="bare", disk_format="raw", allow_duplicates=True)
        connection.image.import_image(image, method="web-download", uri=f"{web}/image")
        until(lambda: connection.image.get_image(image.id).status == "active")
        member = connection.image.add_member(image, member_id=OTHER.project_id)
        assert member.status == "pending"
        connection.image.remove_member(OTHER.project_id, image=image.id)
        namespace = connection.image.create_metadef_namespace(namespace="Sdk::NS", visibility="public")
        connection.image.create_metadef_property(namespace, name="p", title="P", type="string")
        assert [each.name for each in connection.image.metadef_properties(namespace)] == ["p"]
        made = connection.image.create_metadef_object(namespace, name="o")
        assert connection.image.get_metadef_object(made, namespace).name == "o"
        connection.image.delete_metadef_namespace(namespace)
        assert connection.image.get_import_info().import_methods["value"][0] == "glance-direct"
        connection.image.delete_image(image)
