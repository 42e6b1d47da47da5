"""Unified limits, EC2 credentials and endpoint filters, from the side of an admin, of their owner and of somebody else."""

from tests.functional.test_identity_tokens import demo, log_in
from tests.support import ACTORS, Client

V3 = "/identity/v3"
MEMBER, OTHER = ACTORS["member"], ACTORS["other"]


def make_service(admin: Client) -> str:
    return str(admin("POST", f"{V3}/services", {"service": {"type": "limited", "name": "limited"}}).json["service"]["id"])


def test_limits_from_registration_to_the_end(admin: Client, member: Client, other: Client) -> None:
    service_id = make_service(admin)
    about = {"service_id": service_id, "region_id": "RegionOne", "resource_name": "cores"}
    body = {
        "registered_limits": [
            {**about, "default_limit": 10, "description": "d"},
            {**about, "resource_name": "gib", "default_limit": 5},
        ]
    }
    assert member("POST", f"{V3}/registered_limits", body).status == 403
    made = admin("POST", f"{V3}/registered_limits", body).json["registered_limits"]
    assert [row["default_limit"] for row in made] == [10, 5]
    assert admin("POST", f"{V3}/registered_limits", body).status == 409
    assert len(admin("GET", f"{V3}/registered_limits?service_id={service_id}").json["registered_limits"]) == 2, "all or none"
    assert len(member("GET", f"{V3}/registered_limits?resource_name=cores").json["registered_limits"]) == 1
    limit = {**about, "project_id": MEMBER.project_id, "resource_limit": 7}
    assert member("POST", f"{V3}/limits", {"limits": [limit]}).status == 403
    kept = admin("POST", f"{V3}/limits", {"limits": [limit]}).json["limits"][0]
    assert (kept["resource_limit"], kept["resource_name"], kept["project_id"]) == (7, "cores", MEMBER.project_id)
    assert admin("POST", f"{V3}/limits", {"limits": [limit]}).status == 409
    path = f"{V3}/limits/{kept['id']}"
    assert [row["id"] for row in member("GET", f"{V3}/limits").json["limits"]] == [kept["id"]]
    assert other("GET", f"{V3}/limits").json["limits"] == []
    assert other("GET", path).status == 404
    assert admin("PATCH", path, {"limit": {"resource_limit": 9}}).json["limit"]["resource_limit"] == 9
    assert member("PATCH", path, {"limit": {"resource_limit": 99}}).status == 403
    registered = f"{V3}/registered_limits/{made[0]['id']}"
    assert admin("DELETE", registered).status == 403, "a limit rests on it"
    assert admin("PATCH", registered, {"registered_limit": {"default_limit": 20}}).json["registered_limit"]["default_limit"] == 20
    assert admin("PATCH", registered, {"registered_limit": {"resource_name": "x"}}).status == 403
    assert admin("DELETE", f"{V3}/services/{service_id}").status == 403
    assert member("DELETE", path).status == 403
    assert admin("DELETE", path).status == 204
    assert [admin("DELETE", f"{V3}/registered_limits/{row['id']}").status for row in made] == [204, 204]
    assert admin("DELETE", f"{V3}/services/{service_id}").status == 204
    assert member("GET", f"{V3}/limits/model").json["model"]["name"] == "flat"


def test_limits_that_make_no_sense(admin: Client) -> None:
    service_id = make_service(admin)
    about = {"service_id": service_id, "resource_name": "cores"}
    assert admin("POST", f"{V3}/registered_limits", {"registered_limits": [{**about, "default_limit": 1}]}).status == 201
    assert admin("POST", f"{V3}/registered_limits", {"registered_limits": [{**about, "default_limit": 1}]}).status == 409
    wrong = (
        ({**about, "resource_limit": 1}, 400),
        ({**about, "resource_limit": 1, "project_id": MEMBER.project_id, "domain_id": "default"}, 400),
        ({**about, "resource_limit": 1, "project_id": "nothing"}, 400),
        ({**about, "resource_limit": 2**40, "project_id": MEMBER.project_id}, 400),
        ({**about, "resource_limit": "1", "project_id": MEMBER.project_id}, 400),
        ({**about, "resource_name": "unknown", "resource_limit": 1, "project_id": MEMBER.project_id}, 403),
    )
    for body, status in wrong:
        assert admin("POST", f"{V3}/limits", {"limits": [body]}).status == status, body
    for body in ({}, {"limits": []}, {"limits": {}}, {"limits": [1]}):
        assert admin("POST", f"{V3}/limits", body).status == 400


def test_ec2_credentials_are_their_owners(admin: Client, member: Client, other: Client) -> None:
    path = f"{V3}/users/{MEMBER.user_id}/credentials/OS-EC2"
    assert other("POST", path, {"tenant_id": OTHER.project_id}).status == 403
    assert member("POST", path, {"tenant_id": OTHER.project_id}).status == 403, "no role there"
    assert member("POST", path, {"tenant_id": 1}).status == 400
    made = member("POST", path, {"tenant_id": MEMBER.project_id}).json["credential"]
    assert (made["user_id"], made["tenant_id"]) == (MEMBER.user_id, MEMBER.project_id)
    assert made["access"] != made["secret"]
    shown = member("GET", f"{path}/{made['access']}").json["credential"]
    assert shown == made
    assert [row["access"] for row in member("GET", path).json["credentials"]] == [made["access"]]
    assert other("GET", path).status == 403
    assert other("GET", f"{V3}/users/{OTHER.user_id}/credentials/OS-EC2/{made['access']}").status == 404
    general = member("GET", f"{V3}/credentials?type=ec2").json["credentials"]
    assert made["access"] in general[0]["blob"]
    assert admin("GET", f"{path}/{made['access']}").status == 200
    assert member("DELETE", f"{path}/{made['access']}").status == 204
    assert member("GET", f"{path}/{made['access']}").status == 404
    assert member("GET", f"{V3}/credentials?type=ec2").json["credentials"] == []


def test_an_ec2_blob_is_what_it_says(member: Client) -> None:
    body = {"type": "ec2", "project_id": MEMBER.project_id}
    for blob in ("", "x", "[]", '{"access": "a"}', '{"access": 1, "secret": "s"}', "[" * 5000):
        assert member("POST", f"{V3}/credentials", {"credential": {**body, "blob": blob}}).status == 400, blob[:20]
    good = '{"access": "mine", "secret": "s"}'
    made = member("POST", f"{V3}/credentials", {"credential": {**body, "blob": good}}).json["credential"]
    path = f"{V3}/credentials/{made['id']}"
    assert member("GET", f"{V3}/users/{MEMBER.user_id}/credentials/OS-EC2/mine").json["credential"]["secret"] == "s"
    assert member("POST", f"{V3}/credentials", {"credential": {**body, "blob": good}}).status == 409
    wider = '{"access": "mine", "secret": "s", "trust_id": "t"}'
    assert member("PATCH", path, {"credential": {"blob": wider}}).status == 400, "what limits it stays"
    assert member("PATCH", path, {"credential": {"blob": '{"access": "other", "secret": "t"}'}}).status == 200
    own = f"{V3}/users/{MEMBER.user_id}/credentials/OS-EC2"
    assert [member("GET", f"{own}/{access}").status for access in ("mine", "other")] == [404, 200]
    assert member("DELETE", path).status == 204


def types_of_catalog(client: Client) -> set[str]:
    return {each["type"] for each in log_in(client.base_url, demo()).json["token"]["catalog"] if each["endpoints"]}


def test_a_filtered_project_sees_its_endpoints_only(admin: Client, member: Client) -> None:
    image = admin("GET", f"{V3}/services?type=image").json["services"][0]["id"]
    body = {"endpoint_group": {"name": "images", "filters": {"service_id": image, "interface": "public"}}}
    assert member("POST", f"{V3}/OS-EP-FILTER/endpoint_groups", body).status == 403
    group = admin("POST", f"{V3}/OS-EP-FILTER/endpoint_groups", body).json["endpoint_group"]
    path = f"{V3}/OS-EP-FILTER/endpoint_groups/{group['id']}"
    endpoints = admin("GET", f"{path}/endpoints").json["endpoints"]
    assert [(each["service_id"], each["interface"]) for each in endpoints] == [(image, "public")]
    assert len(types_of_catalog(admin)) > 3
    link = f"{path}/projects/{MEMBER.project_id}"
    assert admin("GET", link).status == 404
    assert admin("PUT", link).status == 204
    assert admin("PUT", link).status == 409
    assert types_of_catalog(admin) == {"image"}
    identity = admin("GET", f"{V3}/services?type=identity").json["services"][0]["id"]
    endpoint = admin("GET", f"{V3}/endpoints?service_id={identity}&interface=public").json["endpoints"][0]["id"]
    direct = f"{V3}/OS-EP-FILTER/projects/{MEMBER.project_id}/endpoints"
    assert admin("PUT", f"{direct}/{endpoint}").status == 204
    assert types_of_catalog(admin) == {"image", "identity"}
    assert {each["id"] for each in admin("GET", direct).json["endpoints"]} == {endpoint, endpoints[0]["id"]}
    assert [each["id"] for each in admin("GET", f"{path}/projects").json["projects"]] == [MEMBER.project_id]
    groups = admin("GET", f"{V3}/OS-EP-FILTER/projects/{MEMBER.project_id}/endpoint_groups").json["endpoint_groups"]
    assert [each["id"] for each in groups] == [group["id"]]
    assert admin("DELETE", f"{direct}/{endpoint}").status == 204
    changed = admin("PATCH", path, {"endpoint_group": {"filters": {"service_id": identity}}}).json["endpoint_group"]
    assert changed["filters"] == {"service_id": identity}
    assert types_of_catalog(admin) == {"identity"}
    assert admin("DELETE", path).status == 204
    assert len(types_of_catalog(admin)) > 3
    for filters in ({"service_id": "nothing"}, {"colour": "red"}, [], {"interface": "x"}):
        assert (
            admin("POST", f"{V3}/OS-EP-FILTER/endpoint_groups", {"endpoint_group": {"name": "x", "filters": filters}}).status
            == 400
        )


def test_what_is_not_served_is_not_found(admin: Client) -> None:
    for path in ("OS-FEDERATION/identity_providers", "OS-FEDERATION/mappings", "ec2tokens", "s3tokens"):
        assert admin("GET", f"{V3}/{path}").status == 404
    assert admin("PUT", f"{V3}/domains/default/config", {"config": {"ldap": {"url": "ldap://x"}}}).status == 404
