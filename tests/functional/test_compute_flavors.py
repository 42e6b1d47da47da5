"""Flavors, their extra specs and who may use private ones."""

from typing import Any

import pytest

from tests.support import Client

BASE = "/compute/v2.1/flavors"
LATEST = {"OpenStack-API-Version": "compute 2.96"}


def flavor(**more: Any) -> dict[str, Any]:
    return {"flavor": {"name": "grown", "ram": 256, "vcpus": 2, "disk": 3, **more}}


def test_a_new_cloud_has_the_usual_flavors(member: Client) -> None:
    found = member("GET", f"{BASE}/detail").json["flavors"]
    assert {(f["id"], f["name"], f["ram"]) for f in found} >= {
        ("42", "m1.nano", 64),
        ("84", "m1.micro", 128),
        ("1", "m1.tiny", 512),
    }
    assert [f["id"] for f in member("GET", f"{BASE}?minRam=8192").json["flavors"]] == ["4", "5"]
    by_size = member("GET", f"{BASE}?sort_key=memory_mb&sort_dir=desc&limit=2").json
    assert [f["name"] for f in by_size["flavors"]] == ["m1.xlarge", "m1.large"]
    path = by_size["flavors_links"][0]["href"].removeprefix(member.base_url)
    assert [f["name"] for f in member("GET", path).json["flavors"]] == ["m1.medium", "m1.small"]


def test_a_flavor_from_create_to_delete(admin: Client) -> None:
    made = admin("POST", BASE, flavor(id="grown", description="d"), LATEST).json["flavor"]
    assert (made["swap"], made["description"], made["extra_specs"], made["os-flavor-access:is_public"]) == (0, "d", {}, True)
    assert "description" not in admin("GET", f"{BASE}/grown").json["flavor"]
    assert admin("GET", f"{BASE}/grown").json["flavor"]["swap"] == ""
    changed = admin("PUT", f"{BASE}/grown", {"flavor": {"description": "större"}}, LATEST)
    assert changed.json["flavor"]["description"] == "större"
    taken = admin("POST", BASE, flavor(id="grown"))
    assert (taken.status, taken.json["conflictingRequest"]["code"]) == (409, 409)
    assert admin("POST", BASE, flavor(id="another")).status == 409
    assert admin("DELETE", f"{BASE}/grown").status == 202
    gone = admin("GET", f"{BASE}/grown")
    assert gone.json["itemNotFound"]["message"] == "Flavor grown could not be found."


def test_extra_specs(admin: Client, member: Client) -> None:
    admin("POST", BASE, flavor(id="specs", name="specs"))
    path = f"{BASE}/specs/os-extra_specs"
    assert admin("POST", path, {"extra_specs": {"hw:cpus": "2", "a": "b"}}).json == {"extra_specs": {"hw:cpus": "2", "a": "b"}}
    assert admin("PUT", f"{path}/a", {"a": "c"}).json == {"a": "c"}
    assert admin("PUT", f"{path}/a", {"b": "c"}).status == 400
    assert admin("DELETE", f"{path}/hw:cpus").status == 200
    assert member("GET", path).json == {"extra_specs": {"a": "c"}}
    assert member("GET", f"{path}/hw:cpus").status == 404
    assert member("POST", path, {"extra_specs": {"x": "y"}}).status == 403
    assert admin("POST", path, {"extra_specs": {"bad/key": "y"}}).status == 400


def test_a_private_flavor_is_for_those_who_were_given_it(admin: Client, member: Client, other: Client) -> None:
    admin("POST", BASE, flavor(id="secret", name="secret", **{"os-flavor-access:is_public": False}))
    access = f"{BASE}/secret/os-flavor-access"
    assert member("GET", f"{BASE}/secret").status == 404
    given = admin("POST", f"{BASE}/secret/action", {"addTenantAccess": {"tenant": "1" * 32}})
    assert {"flavor_id": "secret", "tenant_id": "1" * 32} in given.json["flavor_access"]
    assert admin("POST", f"{BASE}/secret/action", {"addTenantAccess": {"tenant": "1" * 32}}).status == 409
    assert member("GET", f"{BASE}/secret").status == 200
    assert "secret" in [f["id"] for f in member("GET", BASE).json["flavors"]]
    assert other("GET", f"{BASE}/secret").status == 404
    assert "secret" not in [f["id"] for f in admin("GET", BASE).json["flavors"]]
    assert "secret" in [f["id"] for f in admin("GET", f"{BASE}?is_public=None").json["flavors"]]
    assert member("POST", f"{BASE}/secret/action", {"addTenantAccess": {"tenant": "2" * 32}}).status == 403
    assert admin("GET", access).status == 200
    assert admin("POST", f"{BASE}/secret/action", {"removeTenantAccess": {"tenant": "1" * 32}}).status == 200
    assert admin("POST", f"{BASE}/secret/action", {"removeTenantAccess": {"tenant": "1" * 32}}).status == 404
    assert member("GET", f"{BASE}/secret").status == 404
    assert admin("GET", f"{BASE}/42/os-flavor-access").status == 404
    assert admin("POST", f"{BASE}/secret/action", {"paint": {}}).json["badRequest"]["message"] == "There is no such action: paint"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", " "),
        ("name", "x" * 256),
        ("ram", 0),
        ("ram", "many"),
        ("ram", 10**30),
        ("vcpus", -1),
        ("vcpus", 2**31),
        ("disk", None),
        ("swap", "-4"),
        ("id", "a/b"),
        ("rxtx_factor", -1),
        ("os-flavor-access:is_public", "perhaps"),
        ("colour", "red"),
        ("description", "needs 2.55"),
    ],
)
def test_bad_input_is_refused_by_name(admin: Client, field: str, value: Any) -> None:
    answer = admin("POST", BASE, flavor(**{field: value}))
    assert answer.status == 400, answer.body
    assert field in answer.json["badRequest"]["message"]
    assert admin("GET", f"{BASE}?sort_key=colour").status == 400
    assert admin("GET", f"{BASE}?minRam=much").status == 400


def test_only_an_admin_makes_flavors(member: Client) -> None:
    refused = member("POST", BASE, flavor())
    assert refused.json["forbidden"]["message"] == "Policy doesn't allow os_compute_api:os-flavor-manage:create to be performed."
