"""Quotas and limits, at the versions that change them."""

from tests.support import Client

BASE = "/compute/v2.1"
PROJECT = "1" * 32


def at(minor: int) -> dict[str, str]:
    return {"OpenStack-API-Version": f"compute 2.{minor}"}


def test_a_projects_quotas_from_default_to_its_own_and_back(admin: Client, member: Client) -> None:
    path = f"{BASE}/os-quota-sets/{PROJECT}"
    first = member("GET", path).json["quota_set"]
    assert first["id"] == PROJECT
    assert {"fixed_ips", "injected_files", "cores"} <= first.keys()
    assert "fixed_ips" not in member("GET", path, None, at(36)).json["quota_set"]
    assert "injected_files" not in member("GET", path, None, at(57)).json["quota_set"]
    changed = admin("PUT", path, {"quota_set": {"cores": 7, "ram": "1000"}}).json["quota_set"]
    assert (changed["cores"], changed["ram"]) == (7, 1000)
    assert member("GET", f"{path}/detail").json["quota_set"]["cores"] == {"limit": 7, "in_use": 0, "reserved": 0}
    assert member("GET", f"{path}/defaults").json["quota_set"]["cores"] == first["cores"]
    assert member("GET", f"{BASE}/limits").json["limits"]["absolute"]["maxTotalCores"] == 7
    assert admin("DELETE", path).status == 202
    assert member("GET", path).json["quota_set"] == first


def test_the_default_class_is_everybodys_default(admin: Client, member: Client) -> None:
    path = f"{BASE}/os-quota-class-sets/default"
    before = admin("GET", path).json["quota_class_set"]
    assert admin("PUT", path, {"quota_class_set": {"instances": 33}}).json["quota_class_set"]["instances"] == 33
    assert member("GET", f"{BASE}/limits").json["limits"]["absolute"]["maxTotalInstances"] == 33
    admin("PUT", path, {"quota_class_set": {"instances": before["instances"]}})
    assert admin("PUT", f"{BASE}/os-quota-class-sets/gold", {"quota_class_set": {"instances": 1}}).status == 404


def test_limits_lose_names_with_the_versions(member: Client) -> None:
    def names(minor: int) -> set[str]:
        return set(member("GET", f"{BASE}/limits", None, at(minor)).json["limits"]["absolute"])

    assert "maxTotalFloatingIps" in names(35) - names(36)
    assert "maxImageMeta" in names(38) - names(39)
    assert "maxPersonality" in names(56) - names(57)


def test_what_is_refused(admin: Client, member: Client, other: Client) -> None:
    path = f"{BASE}/os-quota-sets/{PROJECT}"
    for quota_set in ({"cores": -2}, {"cores": "many"}, {"cores": 10**40}, {"cores": None}, {"wishes": 3}, {"force": "perhaps"}):
        refused = admin("PUT", path, {"quota_set": quota_set})
        assert refused.status == 400, quota_set
        assert next(iter(quota_set)) in refused.json["badRequest"]["message"]
    assert admin("PUT", path, {"quota_set": {"fixed_ips": 3}}, at(36)).status == 400
    assert admin("PUT", path, {"quotas": {}}).status == 400
    assert admin("PUT", f"{path}?user_id=u", {"quota_set": {"cores": 10**6}}).status == 400
    assert admin("PUT", f"{path}?user_id=u", {"quota_set": {"cores": -1}}).status == 400
    assert member("PUT", f"{path}?user_id=u", {"quota_set": {"cores": 1}}).status == 403
    assert member("PUT", path, {"quota_set": {"cores": 1}}).status == 403
    assert other("GET", path).status == 403
