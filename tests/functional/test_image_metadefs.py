"""Metadata definitions: an admin defines, a project reads what is public or its own."""

from typing import Any

from tests.support import ACTORS, Client

ROOT = "/image/v2/metadefs/namespaces"
PROPERTY = {"name": "cores", "title": "Cores", "type": "integer", "minimum": 1, "default": 1, "operators": ["<or>"]}


def make(admin: Client, name: str, **values: Any) -> Any:
    answer = admin("POST", ROOT, {"namespace": name, **values})
    assert answer.status == 201, answer.body
    return answer.json


def names(client: Client, query: str = "") -> list[str]:
    return [each["namespace"] for each in client("GET", f"{ROOT}{query}").json["namespaces"]]


def test_a_namespace_with_all_that_it_holds(admin: Client, member: Client) -> None:
    held = {
        "resource_type_associations": [{"name": "OS::Nova::Flavor", "prefix": "hw:"}],
        "properties": {"size": {"title": "Size", "type": "string", "enum": ["s", "l"]}},
        "objects": [{"name": "cpu", "required": ["cores"], "properties": {"cores": {"title": "Cores", "type": "integer"}}}],
        "tags": [{"name": "gold"}],
    }
    assert member("POST", ROOT, {"namespace": "NS::Mine"}).status == 403
    made = make(admin, "NS::Whole", visibility="public", display_name="Whole", **held)
    assert (made["owner"], made["protected"], made["visibility"]) == (ACTORS["admin"].project_id, False, "public")
    shown = member("GET", f"{ROOT}/NS::Whole").json
    assert shown["properties"] == {"size": {"title": "Size", "type": "string", "enum": ["s", "l"]}}
    assert [each["name"] for each in shown["objects"]] == ["cpu"]
    assert [each["name"] for each in shown["tags"]] == ["gold"]
    flavored = member("GET", f"{ROOT}/NS::Whole?resource_type=OS::Nova::Flavor").json
    assert list(flavored["properties"]) == ["hw:size"]
    assert flavored["objects"][0]["required"] == ["hw:cores"]
    assert names(member, "?resource_types=OS::Nova::Flavor") == ["NS::Whole"]
    assert names(member, "?resource_types=OS::Nova::Server") == []
    assert admin("POST", ROOT, {"namespace": "NS::Whole"}).status == 409
    changed = admin("PUT", f"{ROOT}/NS::Whole", {"namespace": "NS::Renamed", "description": "d"}).json
    assert (changed["namespace"], changed["description"], changed["display_name"]) == ("NS::Renamed", "d", "Whole")
    assert admin("GET", f"{ROOT}/NS::Whole").status == 404
    assert admin("DELETE", f"{ROOT}/NS::Renamed").status == 204
    assert member("GET", f"{ROOT}/NS::Renamed/objects").status == 404


def test_a_private_namespace_is_its_projects(admin: Client, member: Client, other: Client, reader: Client) -> None:
    make(admin, "NS::Private", owner=ACTORS["member"].project_id)
    assert [client("GET", f"{ROOT}/NS::Private").status for client in (admin, member, reader, other)] == [200, 200, 200, 404]
    assert "NS::Private" in names(member)
    assert "NS::Private" not in names(other)
    assert other("GET", f"{ROOT}/NS::Private/tags").status == 404
    assert other("GET", f"{ROOT}?marker=NS::Private").status == 404
    assert member("PUT", f"{ROOT}/NS::Private", {"namespace": "NS::Private"}).status == 403
    assert member("DELETE", f"{ROOT}/NS::Private").status == 403
    assert admin("DELETE", f"{ROOT}/NS::Private").status == 204


def test_protection_holds_for_a_namespace_and_what_is_in_it(admin: Client) -> None:
    make(admin, "NS::Protected", protected=True, tags=[{"name": "a"}])
    path = f"{ROOT}/NS::Protected"
    for inner in ("", "/tags", "/tags/a", "/objects", "/properties"):
        assert admin("DELETE", path + inner).status == 403, inner
    assert admin("PUT", path, {"namespace": "NS::Protected", "protected": False}).json["protected"] is False
    assert admin("DELETE", path).status == 204


def test_properties_objects_and_tags_from_create_to_delete(admin: Client, member: Client) -> None:
    make(admin, "NS::Parts", visibility="public")
    path = f"{ROOT}/NS::Parts"
    assert member("POST", f"{path}/properties", PROPERTY).status == 403
    assert admin("POST", f"{path}/properties", PROPERTY).json == PROPERTY
    assert admin("POST", f"{path}/properties", PROPERTY).status == 409
    assert member("GET", f"{path}/properties").json["properties"]["cores"]["title"] == "Cores"
    renamed = {**PROPERTY, "name": "threads", "maximum": 8}
    assert admin("PUT", f"{path}/properties/cores", renamed).json == renamed
    assert member("GET", f"{path}/properties/cores").status == 404
    assert member("DELETE", f"{path}/properties/threads").status == 403
    assert admin("DELETE", f"{path}/properties/threads").status == 204
    made = admin("POST", f"{path}/objects", {"name": "cpu", "description": "d"}).json
    assert (made["name"], made["schema"]) == ("cpu", "/v2/schemas/metadefs/object")
    assert admin("PUT", f"{path}/objects/cpu", {**made, "name": "gpu"}).json["name"] == "gpu", "as it was shown it may come back"
    assert [each["name"] for each in member("GET", f"{path}/objects").json["objects"]] == ["gpu"]
    assert admin("DELETE", f"{path}/objects").status == 204
    assert member("GET", f"{path}/objects").json["objects"] == []
    assert admin("POST", f"{path}/tags/one").status == 201
    assert admin("POST", f"{path}/tags", {"tags": [{"name": "two"}]}, {"X-Openstack-Append": "True"}).status == 201
    assert [each["name"] for each in member("GET", f"{path}/tags").json["tags"]] == ["one", "two"]
    assert admin("POST", f"{path}/tags", {"tags": [{"name": "x"}, {"name": "x"}]}).status == 409
    assert len(member("GET", f"{path}/tags").json["tags"]) == 2, "all or none"
    assert admin("PUT", f"{path}/tags/one", {"name": "three"}).json["name"] == "three"
    assert admin("POST", f"{path}/tags", {"tags": [{"name": "four"}]}).json == {"tags": [{"name": "four"}]}
    assert member("GET", f"{path}/tags/three").status == 404
    assert admin("DELETE", f"{path}/tags/four").status == 204
    assert admin("DELETE", path).status == 204


def test_resource_types(admin: Client, member: Client) -> None:
    def known() -> list[str]:
        return [each["name"] for each in member("GET", "/image/v2/metadefs/resource_types").json["resource_types"]]

    assert "OS::Glance::Image" in known()
    make(admin, "NS::Typed", visibility="public")
    path = f"{ROOT}/NS::Typed/resource_types"
    assert member("POST", path, {"name": "My::Type"}).status == 403
    assert admin("POST", path, {"name": "My::Type", "prefix": "my_"}).json["prefix"] == "my_"
    assert admin("POST", path, {"name": "My::Type"}).status == 409
    assert "My::Type" in known()
    assert [each["name"] for each in member("GET", path).json["resource_type_associations"]] == ["My::Type"]
    assert admin("DELETE", f"{path}/My::Type").status == 204
    assert admin("DELETE", f"{path}/My::Type").status == 404
    assert "My::Type" not in known()


def test_pages_and_order(admin: Client, member: Client) -> None:
    for number in range(3):
        make(admin, f"Page::{number}", visibility="public")
    first = member("GET", f"{ROOT}?limit=2&sort_key=namespace&sort_dir=asc&visibility=public").json
    assert len(first["namespaces"]) == 2
    following = member("GET", "/image" + first["next"]).json["namespaces"]
    assert following[0]["namespace"] > first["namespaces"][1]["namespace"]
    for query in ("?limit=x", "?sort_key=colour", "?sort_dir=up"):
        assert member("GET", ROOT + query).status == 400


def test_definitions_that_make_no_sense(admin: Client) -> None:
    make(admin, "NS::Strict")
    path = f"{ROOT}/NS::Strict"
    for body in ({}, {"namespace": ""}, {"namespace": "a/b"}, {"namespace": "a\n"}, {"namespace": "x" * 81}, {"namespace": 1}):
        assert admin("POST", ROOT, body).status == 400, body
    for more in ({"visibility": "shared"}, {"protected": "yes"}, {"colour": "red"}, {"tags": [{}]}, {"properties": {"a": {}}}):
        assert admin("POST", ROOT, {"namespace": "NS::Bad", **more}).status == 400, more
    assert admin("POST", ROOT, {"namespace": "NS::Twice", "tags": [{"name": "a"}, {"name": "a"}]}).status == 409
    assert admin("GET", f"{ROOT}/NS::Twice").status == 404, "nothing half made"
    for body in ({"name": "a"}, {**PROPERTY, "type": "colour"}, {**PROPERTY, "minLength": -1}, {**PROPERTY, "x": 1}, []):
        assert admin("POST", f"{path}/properties", body).status == 400, body
    assert admin("POST", f"{path}/tags/{'x' * 81}").status == 400
    assert make(admin, "NS::Ünï ☃", visibility="public")["namespace"] == "NS::Ünï ☃"
    assert admin("DELETE", f"{ROOT}/NS::%C3%9Cn%C3%AF%20%E2%98%83").status == 204


def test_schemas_of_all_of_it(member: Client) -> None:
    for name in ("namespace", "namespaces", "object", "objects", "property", "properties", "tag", "tags"):
        assert member("GET", f"/image/v2/schemas/metadefs/{name}").json["name"] == name
    assert "prefix" in member("GET", "/image/v2/schemas/metadefs/resource_type").json["properties"]
