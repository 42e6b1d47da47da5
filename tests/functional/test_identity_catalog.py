"""How clients find the services: version documents, services, endpoints, the catalog."""

import urllib.error
import urllib.request

import pytest

from tests.support import Client

V3 = "/identity/v3"


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: object) -> None:
        return None


@pytest.mark.parametrize("path", ["/identity", "/identity/"])
def test_the_versions_of_the_api(admin: Client, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.build_opener(_Stay).open(admin.base_url + path)
    with caught.value as answer:
        assert answer.code == 300
        assert answer.headers["Location"] == f"{admin.base_url}/identity/v3/"
    client = Client(admin.base_url, "")
    for version in (f"{V3}", f"{V3}/"):
        document = client("GET", version).json["version"]
        assert (document["id"], document["status"]) == ("v3.14", "stable")
        assert document["links"] == [{"rel": "self", "href": f"{admin.base_url}/identity/v3/"}]
        assert document["media-types"][0]["base"] == "application/json"


def test_a_service_in_the_catalog_of_who_it_concerns(admin: Client, member: Client) -> None:
    service = admin("POST", f"{V3}/services", {"service": {"type": "volumev3", "name": "cinder"}}).json["service"]
    url = "http://volumes/v3/$(project_id)s"
    body = {"service_id": service["id"], "interface": "public", "url": url, "region_id": "RegionOne"}
    endpoint = admin("POST", f"{V3}/endpoints", {"endpoint": body}).json["endpoint"]
    assert endpoint["region"] == endpoint["region_id"] == "RegionOne"

    def shown() -> list[str]:
        catalog = member("GET", f"{V3}/auth/catalog").json["catalog"]
        return [each["url"] for entry in catalog if entry["type"] == "volumev3" for each in entry["endpoints"]]

    assert shown() == [f"http://volumes/v3/{'1' * 32}"]
    subject = {"X-Subject-Token": member.token}
    token = member("GET", f"{V3}/auth/tokens", headers=subject).json["token"]
    assert "volumev3" in [entry["type"] for entry in token["catalog"]]
    assert admin("PATCH", f"{V3}/endpoints/{endpoint['id']}", {"endpoint": {"enabled": False}}).status == 200
    assert shown() == []
    found = admin("GET", f"{V3}/endpoints?service_id={service['id']}&interface=public").json["endpoints"]
    assert [each["id"] for each in found] == [endpoint["id"]]
    assert admin("GET", f"{V3}/endpoints?service_id={service['id']}&interface=internal").json["endpoints"] == []
    assert admin("DELETE", f"{V3}/services/{service['id']}").status == 204
    assert admin("GET", f"{V3}/endpoints/{endpoint['id']}").status == 404
    token = member("GET", f"{V3}/auth/tokens", headers=subject).json["token"]
    assert "volumev3" not in [entry["type"] for entry in token["catalog"]]


def test_what_an_endpoint_must_have(admin: Client) -> None:
    service_id = admin("GET", f"{V3}/services?type=compute").json["services"][0]["id"]
    good = {"service_id": service_id, "interface": "public", "url": "http://x", "region_id": "RegionOne"}
    for field, value in (("service_id", "none"), ("region_id", "none"), ("interface", "sideways"), ("url", 7), ("url", "no url")):
        answer = admin("POST", f"{V3}/endpoints", {"endpoint": {**good, field: value}})
        assert answer.status == 400, (field, value)
        assert field in answer.json["error"]["message"]
    for field in ("service_id", "interface", "url"):
        answer = admin("POST", f"{V3}/endpoints", {"endpoint": {name: good[name] for name in good if name != field}})
        assert answer.status == 400
        assert field in answer.json["error"]["message"]


def test_policies_are_kept_as_they_are(admin: Client, member: Client) -> None:
    policy = admin("POST", f"{V3}/policies", {"policy": {"type": "application/json", "blob": "{}"}}).json["policy"]
    path = f"{V3}/policies/{policy['id']}"
    assert admin("PATCH", path, {"policy": {"blob": "[]"}}).json["policy"]["blob"] == "[]"
    assert member("GET", path).status == 403
    assert admin("DELETE", path).status == 204
    assert admin("GET", path).status == 404
