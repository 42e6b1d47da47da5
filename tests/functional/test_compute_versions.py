"""Version documents, microversions and the shape of errors."""

from tests.support import Client

HEADER = "OpenStack-API-Version"


def test_the_version_documents_need_no_token(member: Client) -> None:
    nobody = Client(member.base_url, "")
    for path in ("/compute", "/compute/"):
        old, version = nobody("GET", path).json["versions"]
        assert (old["id"], old["version"]) == ("v2.0", "")
        assert (version["id"], version["min_version"], version["version"]) == ("v2.1", "2.1", "2.104")
    for path in ("/compute/v2.1", "/compute/v2.1/"):
        document = nobody("GET", path).json["version"]
        assert document["links"][0]["href"].endswith("/compute/v2.1/")


def test_a_version_is_asked_for_answered_and_refused(member: Client) -> None:
    path = "/compute/v2.1/flavors"
    assert member("GET", path).headers[HEADER] == "compute 2.1"
    assert member("GET", path, None, {HEADER: "compute latest"}).headers[HEADER] == "compute 2.104"
    old = member("GET", path, None, {"X-OpenStack-Nova-API-Version": "2.11"})
    assert old.headers["X-OpenStack-Nova-API-Version"] == "2.11"
    assert member("GET", path, None, {HEADER: "compute 2.105"}).status == 406
    assert member("GET", path, None, {HEADER: "compute two"}).status == 400
    assert member("GET", path, None, {HEADER: "volume 3.1"}).headers[HEADER] == "compute 2.1"


def test_errors_bear_novas_names(member: Client) -> None:
    assert member("GET", "/compute/v2.1/nothing").json["itemNotFound"]["code"] == 404
    assert member("DELETE", "/compute/v2.1/limits").json["badMethod"]["code"] == 405
    assert Client(member.base_url, "forged")("GET", "/compute/v2.1/limits").json["unauthorized"]["code"] == 401
    assert member("POST", "/compute/v2.1/servers", b"{").json["badRequest"]["code"] == 400
    assert member("POST", "/compute/v2.1/servers", b"[]").json["badRequest"]["code"] == 400
    assert member("POST", "/compute/v2.1/servers", b"").json["badRequest"]["code"] == 400


def test_what_only_passed_on_to_other_services_ends_with_2_35(member: Client) -> None:
    for path in ("/compute/v2.1/images", "/compute/v2.1/images/detail", "/compute/v2.1/os-security-groups"):
        assert member("GET", path, None, {HEADER: "compute 2.35"}).status == 200, path
        assert member("GET", path, None, {HEADER: "compute 2.36"}).status == 404, path
