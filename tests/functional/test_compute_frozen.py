"""Compute v2.0: the same calls as v2.1, without microversions."""

from tests.support import Client


def test_v2_serves_what_v21_does_at_its_first_microversion(admin: Client, member: Client) -> None:
    versions = member("GET", "/compute/").json["versions"]
    assert [version["id"] for version in versions] == ["v2.0", "v2.1"]
    for version in versions:
        href = version["links"][0]["href"]
        shown = member("GET", href.removeprefix(member.base_url)).json["version"]
        assert (shown["id"], shown["links"][0]["href"]) == (version["id"], href)
    flavor = {"name": "frozen", "ram": 64, "vcpus": 1, "disk": 1, "id": "frozen"}
    assert admin("POST", "/compute/v2/flavors", {"flavor": flavor}).status == 200
    newest = {"OpenStack-API-Version": "compute latest"}
    assert "description" not in member("GET", "/compute/v2/flavors/frozen", headers=newest).json["flavor"]
    assert "description" in member("GET", "/compute/v2.1/flavors/frozen", headers=newest).json["flavor"]
    assert member("GET", "/compute/v2/servers/nothing/tags", headers=newest).status == 404, "tags came with 2.26"
    assert member("PUT", "/compute/v2/flavors").status == 405
