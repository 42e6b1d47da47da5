"""Images over HTTP: their attributes, lists, patches, tags and visibility."""

from typing import Any

from tests.support import Answer, Client

V21 = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
V20 = {"Content-Type": "application/openstack-images-v2.0-json-patch"}
BYTES = {"Content-Type": "application/octet-stream"}


def make(client: Client, name: str, **attributes: Any) -> dict[str, Any]:
    body = {"name": name, "disk_format": "raw", "container_format": "bare", **attributes}
    made = client("POST", "/image/v2/images", body)
    assert made.status == 201, made.body
    result: dict[str, Any] = made.json
    return result


def names(client: Client, query: str) -> list[str]:
    answer = client("GET", f"/image/v2/images?{query}")
    assert answer.status == 200, answer.body
    return [image["name"] for image in answer.json["images"]]


def patch(client: Client, image_id: str, *operations: dict[str, Any]) -> Answer:
    return client("PATCH", f"/image/v2/images/{image_id}", list(operations), V21)


def test_versions_need_no_token(admin: Client) -> None:
    stranger = Client(admin.base_url, "")
    for path in ("/image", "/image/"):
        assert stranger("GET", path).status == 300
    versions = stranger("GET", "/image/versions").json["versions"]
    assert versions[0]["status"] == "CURRENT"
    assert versions[0]["links"][0]["href"] == f"{admin.base_url}/image/v2/"


def test_an_image_from_create_to_delete(member: Client) -> None:
    image = make(member, "first", tags=["b", "a", "b"], hw_disk_bus="virtio", min_ram=64)
    assert image["status"] == "queued"
    assert image["tags"] == ["a", "b"]
    assert image["hw_disk_bus"] == "virtio"
    assert image["visibility"] == "shared"
    assert image["owner"] == "1" * 32
    path = f"/image/v2/images/{image['id']}"
    changed = patch(
        member,
        image["id"],
        {"op": "replace", "path": "/name", "value": "renamed"},
        {"op": "add", "path": "/os~1type", "value": "linux"},
        {"op": "remove", "path": "/hw_disk_bus"},
        {"op": "replace", "path": "/tags", "value": ["z"]},
    )
    assert changed.status == 200, changed.body
    shown = member("GET", path).json
    assert (shown["name"], shown["os/type"], shown["tags"]) == ("renamed", "linux", ["z"])
    assert "hw_disk_bus" not in shown
    assert shown["updated_at"] >= shown["created_at"]
    assert member("HEAD", path).status == 200
    assert member("PATCH", path, [{"replace": "/name", "value": "older form"}], V20).json["name"] == "older form"
    assert member("DELETE", path).status == 204
    gone = member("GET", path)
    assert gone.status == 404
    assert gone.json["code"] == "404 Not Found"
    assert image["id"] in gone.json["message"]


def test_what_a_create_may_not_say(member: Client, reader: Client) -> None:
    refused = {
        "status": (403, {"status": "active"}),
        "disk_format": (400, {"disk_format": "floppy"}),
        "min_ram": (400, {"min_ram": -1}),
        "name": (400, {"name": 5}),
        "colour": (400, {"colour": 5}),
        "protected": (400, {"protected": "yes"}),
        "tags": (400, {"tags": ["x" * 256]}),
        "id": (400, {"id": "not-a-uuid"}),
        "locations": (403, {"locations": []}),
        "publicize_image": (403, {"visibility": "public"}),
        "another project": (403, {"owner": "2" * 32}),
        "upload_id": (403, {"upload_id": "x"}),
        "os_glance_importing": (403, {"os_glance_importing": "x"}),
    }
    for word, (status, body) in refused.items():
        answer = member("POST", "/image/v2/images", body)
        assert answer.status == status, (word, answer.body)
        assert word in answer.json["message"]
    assert member("POST", "/image/v2/images", b"{").status == 400
    assert reader("POST", "/image/v2/images", {"name": "x"}).status == 403
    image = make(member, "taken")
    assert member("POST", "/image/v2/images", {"id": image["id"]}).status == 409
    assert names(member, "name=in:x,colour") == []


def test_a_patch_is_all_or_nothing(member: Client, admin: Client) -> None:
    image = make(member, "whole", colour="red")
    name = {"op": "replace", "path": "/name", "value": "half"}
    refused = [
        (403, {"op": "replace", "path": "/status", "value": "active"}),
        (403, {"op": "replace", "path": "/checksum", "value": "0"}),
        (403, {"op": "remove", "path": "/name"}),
        (403, {"op": "add", "path": "/os_glance_importing", "value": "x"}),
        (403, {"op": "add", "path": "/locations/-", "value": {}}),
        (403, {"op": "replace", "path": "/visibility", "value": "public"}),
        (403, {"op": "replace", "path": "/owner", "value": "2" * 32}),
        (409, {"op": "replace", "path": "/shape", "value": "round"}),
        (409, {"op": "remove", "path": "/shape"}),
        (400, {"op": "add", "path": "/colour/deep", "value": "x"}),
        (400, {"op": "add", "path": "colour", "value": "x"}),
        (400, {"op": "add", "path": "/colour", "value": 7}),
        (400, {"op": "add", "path": "/colour"}),
        (400, {"op": "test", "path": "/colour", "value": "red"}),
        (400, {"path": "/colour", "value": "red"}),
        (400, {"op": "replace", "path": "/tags", "value": [""]}),
    ]
    for status, operation in refused:
        answer = patch(member, image["id"], name, operation)
        assert answer.status == status, (operation, answer.body)
    assert member("GET", f"/image/v2/images/{image['id']}").json == image
    assert member("PATCH", f"/image/v2/images/{image['id']}", [name]).status == 415
    assert patch(admin, image["id"], {"op": "replace", "path": "/visibility", "value": "public"}).status == 200


def test_another_tenants_image_is_not_there_unless_shared_or_open(member: Client, other: Client, admin: Client) -> None:
    private = make(member, "mine", visibility="private")["id"]
    assert other("GET", f"/image/v2/images/{private}").status == 404
    assert other("DELETE", f"/image/v2/images/{private}").status == 404
    assert other("PUT", f"/image/v2/images/{private}/file", b"x", BYTES).status == 404
    assert "mine" not in names(other, "visibility=all")
    assert "mine" in names(admin, "")
    community = make(member, "for all who know", visibility="community")["id"]
    assert other("GET", f"/image/v2/images/{community}").status == 200
    assert other("DELETE", f"/image/v2/images/{community}").status == 403
    assert "for all who know" not in names(other, "")
    assert "for all who know" in names(member, "")
    assert "for all who know" in names(other, "visibility=community")
    public = make(admin, "for all", visibility="public")["id"]
    assert "for all" in names(other, "")
    assert patch(other, public, {"op": "add", "path": "/colour", "value": "x"}).status == 403


def test_filters(member: Client) -> None:
    for number in range(4):
        make(member, f"f-{number}", min_ram=number, tags=["every", f"t{number}"], os_distro="debian" if number % 2 else "alpine")
    make(member, "f,comma", disk_format="qcow2", os_hidden=True, tags=["every"], protected=True)
    first = member("GET", "/image/v2/images?name=f-0").json["images"][0]
    everywhere = "tag=every&sort=name:asc"
    assert names(member, everywhere) == ["f-0", "f-1", "f-2", "f-3"]
    assert names(member, f"{everywhere}&tag=t2") == ["f-2"]
    assert names(member, f"{everywhere}&os_distro=debian") == ["f-1", "f-3"]
    assert names(member, f"{everywhere}&os_distro=windows") == []
    assert names(member, f"{everywhere}&min_ram=3") == ["f-3"]
    assert names(member, f"{everywhere}&id=in:{first['id']},{'0' * 8}") == ["f-0"]
    assert names(member, f'{everywhere}&os_hidden=true&name=in:f-1,"f,comma"') == ["f,comma"]
    assert names(member, f"{everywhere}&os_hidden=true&protected=true&disk_format=in:qcow2,iso") == ["f,comma"]
    assert names(member, f"{everywhere}&created_at=gte:{first['created_at']}") == ["f-0", "f-1", "f-2", "f-3"]
    assert names(member, f"{everywhere}&created_at=gt:2100-01-01T00:00:00Z") == []
    assert names(member, f"{everywhere}&size_min=1") == []
    assert names(member, f"{everywhere}&status=queued&owner={'1' * 32}&visibility=shared") == ["f-0", "f-1", "f-2", "f-3"]
    wrong = ("created_at=never", "created_at=near:2020-01-01", "size_min=x", "visibility=secret", "protected=perhaps")
    for query in (
        *wrong,
        "sort_key=shape",
        "sort=name:up",
        "sort=name&sort_key=id",
        "limit=-1",
        "limit=x",
        "marker=none",
        'id=in:"a',
    ):
        assert member("GET", f"/image/v2/images?{query}").status == 400, query


def test_sorting_and_paging_meet_every_image_once(member: Client) -> None:
    for number in range(7):
        make(member, f"p-{number}", tags=["paged"], min_ram=number // 2)
    assert names(member, "tag=paged&sort=min_ram:desc,name:asc") == ["p-6", "p-4", "p-5", "p-2", "p-3", "p-0", "p-1"]
    by_pairs = "tag=paged&sort_key=min_ram&sort_key=name&sort_dir=desc&sort_dir=asc"
    assert names(member, by_pairs) == ["p-6", "p-4", "p-5", "p-2", "p-3", "p-0", "p-1"]
    seen: list[str] = []
    path = f"/v2/images?limit=3&{by_pairs}"
    for _ in range(10):
        page = member("GET", f"/image{path}").json
        assert page["first"].startswith("/v2/images?limit=3")
        assert "marker" not in page["first"]
        seen += [image["name"] for image in page["images"]]
        if "next" not in page:
            break
        path = page["next"]
    assert seen == ["p-6", "p-4", "p-5", "p-2", "p-3", "p-0", "p-1"]


def test_tags_and_protection(member: Client) -> None:
    image = make(member, "kept", protected=True)["id"]
    path = f"/image/v2/images/{image}"
    assert member("PUT", f"{path}/tags/old%20one").status == 204
    assert member("PUT", f"{path}/tags/old%20one").status == 204
    assert member("GET", path).json["tags"] == ["old one"]
    assert member("PUT", f"{path}/tags/{'x' * 256}").status == 400
    assert member("DELETE", f"{path}/tags/old%20one").status == 204
    assert member("DELETE", f"{path}/tags/old%20one").status == 404
    assert member("DELETE", path).status == 403
    patch(member, image, {"op": "replace", "path": "/protected", "value": False})
    assert member("DELETE", path).status == 204


def test_sharing_with_another_project(member: Client, other: Client) -> None:
    image = make(member, "shared one")["id"]
    path = f"/image/v2/images/{image}"
    assert other("GET", path).status == 404
    assert other("GET", f"{path}/members").status == 404
    made = member("POST", f"{path}/members", {"member": "2" * 32})
    assert (made.status, made.json["status"]) == (200, "pending")
    assert member("POST", f"{path}/members", {"member": "2" * 32}).status == 409
    assert other("GET", path).status == 200
    assert "shared one" not in names(other, "")
    assert "shared one" in names(other, "member_status=pending&visibility=shared")
    own = f"{path}/members/{'2' * 32}"
    assert member("PUT", own, {"status": "accepted"}).status == 403
    assert other("PUT", own, {"status": "perhaps"}).status == 400
    assert other("PUT", own, {"status": "accepted"}).json["status"] == "accepted"
    assert "shared one" in names(other, "")
    assert [m["member_id"] for m in other("GET", f"{path}/members").json["members"]] == ["2" * 32]
    assert other("DELETE", own).status == 403
    assert member("DELETE", own).status == 204
    assert member("GET", own).status == 404
    assert other("GET", path).status == 404
    private = make(member, "not shared", visibility="private")["id"]
    assert member("POST", f"/image/v2/images/{private}/members", {"member": "2" * 32}).status == 403


def test_schemas_name_what_an_image_shows(member: Client) -> None:
    image = make(member, "schematic")
    schema = member("GET", "/image/v2/schemas/image").json
    assert set(schema["properties"]) - set(image) == {"stores"}, "it is in none yet"
    assert set(image) <= set(schema["properties"])
    assert schema["properties"]["status"]["readOnly"] is True
    assert "qcow2" in schema["properties"]["disk_format"]["enum"]
    assert schema["properties"]["name"]["type"] == ["string", "null"]
    for name in ("images", "member", "members"):
        assert member("GET", f"/image/v2/schemas/{name}").json["name"] == name
