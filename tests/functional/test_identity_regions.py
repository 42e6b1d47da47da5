"""Regions, from the first to the last call."""

from tests.support import Client


def test_a_region_from_create_to_delete(admin: Client) -> None:
    created = admin("POST", "/identity/v3/regions", {"region": {"id": "north", "description": "cold"}})
    assert created.status == 201
    assert created.json["region"]["links"]["self"].endswith("/identity/v3/regions/north")
    child = admin("POST", "/identity/v3/regions", {"region": {"parent_region_id": "north"}}).json["region"]
    assert [r["id"] for r in admin("GET", "/identity/v3/regions?parent_region_id=north").json["regions"]] == [child["id"]]
    assert admin("DELETE", "/identity/v3/regions/north").status == 409
    assert (
        admin("PATCH", "/identity/v3/regions/north", {"region": {"description": "colder"}}).json["region"]["description"]
        == "colder"
    )
    assert admin("DELETE", f"/identity/v3/regions/{child['id']}").status == 204
    assert admin("DELETE", "/identity/v3/regions/north").status == 204
    assert admin("GET", "/identity/v3/regions/north").json["error"]["code"] == 404


def test_what_a_member_may_not_do_and_what_nobody_may_send(admin: Client, member: Client) -> None:
    assert member("GET", "/identity/v3/regions").status == 200
    refused = member("POST", "/identity/v3/regions", {"region": {}})
    assert refused.status == 403
    assert "identity:create_region" in refused.json["error"]["message"]
    wrong = admin("POST", "/identity/v3/regions", {"region": {"description": 7}})
    assert wrong.status == 400
    assert "description" in wrong.json["error"]["message"]
    assert Client(admin.base_url, "forged")("GET", "/identity/v3/regions").status == 401
    assert admin("PUT", "/identity/v3/regions", {}).status == 405
    assert admin("GET", "/identity/v3/nothing").status == 404


def test_paging_by_marker(admin: Client) -> None:
    for number in range(5):
        admin("POST", "/identity/v3/regions", {"region": {"id": f"page-{number}"}})
    seen: list[str] = []
    path = "/identity/v3/regions?limit=2"
    for _ in range(10):
        page = admin("GET", path).json
        seen += [r["id"] for r in page["regions"] if r["id"].startswith("page-")]
        if page["links"]["next"] is None:
            break
        path = page["links"]["next"].removeprefix(admin.base_url)
    assert seen == [f"page-{number}" for number in range(5)]
