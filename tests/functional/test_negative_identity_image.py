"""What nobody should send to Identity and Image: tokens that are none, another tenant's ids, odd texts, bodies of every wrong size and shape."""

import json
import time
from typing import Any

import pytest

from nacre.cloud.identity import scopes
from nacre.panes.edge.call import BODY_BYTES_MAX
from tests.functional.test_identity_tokens import demo, log_in
from tests.support import ACTORS, Client, RunningCloud

V3, V2 = "/identity/v3", "/image/v2"
MEMBER, OTHER = ACTORS["member"], ACTORS["other"]
PROBES = (f"{V3}/auth/projects", f"{V3}/users/{MEMBER.user_id}", f"{V2}/images", f"{V2}/metadefs/namespaces", f"{V2}/info/stores")
ODD = (
    "",
    " ",
    "\x00",
    "\n",
    "é" * 300,
    "\u202e",
    "\U0001d54c",
    "'; DROP TABLE images; --",
    "%00",
    "../../etc",
    "a" * 70_000,
    "\ud800",
)


@pytest.fixture
def expired(cloud: RunningCloud) -> str:
    """A token of ours whose time is over."""
    tokens = cloud.cloud.identity.tokens
    before, tokens._expiration_s = tokens._expiration_s, -1
    try:
        text: str = tokens.issue(MEMBER.user_id, ("password",), scopes.Scope("project", MEMBER.project_id))[0]
    finally:
        tokens._expiration_s = before
    return text


def forgeries(good: str) -> list[str]:
    middle = len(good) // 2
    flipped = good[:middle] + ("A" if good[middle] != "A" else "B") + good[middle + 1 :]
    return [flipped, good[:-4], good + "AAAA", good[::-1], "gAAAAA", "x" * 5000, "null", "e30.e30.", good.swapcase()]


def test_tokens_that_are_none(cloud: RunningCloud, member: Client, expired: str) -> None:
    for text in (*forgeries(member.token), expired, ""):
        for probe in PROBES:
            assert Client(member.base_url, text)("GET", probe).status == 401, (text[:30], probe)
        subject = {"X-Subject-Token": text} if text else {}
        assert member("GET", f"{V3}/auth/tokens", headers=subject).status == 404
        assert log_in(member.base_url, {"methods": ["token"], "token": {"id": text}}).status in (401, 404)


def test_a_revoked_token_is_none(member: Client) -> None:
    token = log_in(member.base_url, demo()).headers["X-Subject-Token"]
    client = Client(member.base_url, token)
    assert client("GET", f"{V2}/images").status == 200
    assert client("DELETE", f"{V3}/auth/tokens", headers={"X-Subject-Token": token}).status == 204
    assert {client("GET", probe).status for probe in PROBES} == {401}


def test_another_tenants_things_do_not_exist(member: Client, other: Client, reader: Client) -> None:
    body = {"name": "secret plan", "visibility": "private", "disk_format": "raw", "container_format": "bare"}
    image = f"{V2}/images/{member('POST', f'{V2}/images', body).json['id']}"
    credential = member("POST", f"{V3}/credentials", {"credential": {"type": "cert", "blob": "secret"}}).json["credential"]
    application = f"{V3}/users/{MEMBER.user_id}/application_credentials"
    made = member("POST", application, {"application_credential": {"name": "hidden"}}).json["application_credential"]
    patch = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
    change = [{"op": "replace", "path": "/name", "value": "taken"}]
    bytes_ = {"Content-Type": "application/octet-stream"}
    tries: tuple[tuple[str, str, Any, dict[str, str]], ...] = (
        ("GET", image, None, {}),
        ("PATCH", image, change, patch),
        ("DELETE", image, None, {}),
        ("GET", f"{image}/file", None, {}),
        ("PUT", f"{image}/file", b"x", bytes_),
        ("PUT", f"{image}/stage", b"x", bytes_),
        ("POST", f"{image}/import", {"method": {"name": "glance-direct"}}, {}),
        ("POST", f"{image}/locations", {"url": "http://name-that-is-nowhere.invalid/"}, {}),
        ("GET", f"{image}/tasks", None, {}),
        ("GET", f"{image}/members", None, {}),
        ("POST", f"{image}/members", {"member": OTHER.project_id}, {}),
        ("PUT", f"{image}/members/{OTHER.project_id}", {"status": "accepted"}, {}),
        ("PUT", f"{image}/tags/t", None, {}),
        ("POST", f"{image}/actions/deactivate", None, {}),
        ("GET", f"{V3}/credentials/{credential['id']}", None, {}),
        ("PATCH", f"{V3}/credentials/{credential['id']}", {"credential": {"blob": "x"}}, {}),
        ("DELETE", f"{V3}/credentials/{credential['id']}", None, {}),
    )
    for method, path, sent, headers in tries:
        answer = other(method, path, sent, headers)
        nothing = other(method, path.replace(image, f"{V2}/images/{'1' * 8}-1111-4111-8111-{'1' * 12}"), sent, headers)
        assert answer.status == 404, (method, path)
        assert b"secret" not in answer.body
        assert nothing.status == 404, "the same as for what never was"
    for method, path in (("GET", application), ("GET", f"{application}/{made['id']}"), ("DELETE", f"{application}/{made['id']}")):
        assert other(method, path).status == 403
        assert reader(method, path).status == 403, "of the same project, and yet another user"
    assert b"secret plan" not in other("GET", f"{V2}/images").body
    assert member("GET", image).json["name"] == "secret plan"


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_odd_texts_everywhere(admin: Client, member: Client, text: str) -> None:
    """They are kept as they are, or refused with a word on the field; and they come back as they were sent."""
    places: tuple[tuple[Client, str, Any], ...] = (
        (admin, f"{V3}/projects", {"project": {"name": text, "description": text}}),
        (admin, f"{V3}/users", {"user": {"name": text, "password": text, "description": text}}),
        (admin, f"{V3}/groups", {"group": {"name": text}}),
        (admin, f"{V3}/roles", {"role": {"name": text}}),
        (
            admin,
            f"{V3}/registered_limits",
            {"registered_limits": [{"resource_name": text, "service_id": text, "default_limit": 1}]},
        ),
        (admin, f"{V3}/OS-EP-FILTER/endpoint_groups", {"endpoint_group": {"name": text, "filters": {"region_id": text}}}),
        (member, f"{V3}/credentials", {"credential": {"type": text, "blob": text}}),
        (member, f"{V3}/users/{MEMBER.user_id}/application_credentials", {"application_credential": {"name": text}}),
        (member, f"{V3}/users/{MEMBER.user_id}/credentials/OS-EC2", {"tenant_id": text}),
        (member, f"{V2}/images", {"name": text, "tags": [text], "os_distro": text}),
        (admin, f"{V2}/metadefs/namespaces", {"namespace": text, "description": text, "tags": [{"name": text}]}),
    )
    for client, path, body in places:
        answer = client("POST", path, json.dumps(body).encode())
        assert answer.status in (201, 400, 403, 404, 409, 413), (path, answer.status, answer.body[:200])
        if answer.status == 201:
            json.loads(answer.body)
    segment = "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))[:3000]
    for path in (f"{V3}/users/{segment}", f"{V2}/images/{segment}", f"{V2}/metadefs/namespaces/{segment}/tags/{segment}"):
        assert admin("GET", path).status in (200, 400, 403, 404, 405)
    assert admin("GET", f"{V3}/users?name={segment}").status in (200, 400)
    assert member("GET", f"{V2}/images?name={segment}&tag={segment}&marker={segment}").status in (200, 400, 404)


SHAPES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, "text", [], {}, [[]], [None], {"": None}, 10**30),
    *({"user": None}, {"user": []}, {"user": {"name": {}}}, {"user": {"name": ["x"]}}, {"image": {"name": 1}}),
)
WRITES = (
    ("POST", f"{V3}/auth/tokens"),
    ("POST", f"{V3}/users"),
    ("PATCH", f"{V3}/users/{OTHER.user_id}"),
    ("POST", f"{V3}/users/{MEMBER.user_id}/password"),
    ("POST", f"{V3}/projects"),
    ("PUT", f"{V3}/projects/{OTHER.project_id}/tags"),
    ("POST", f"{V3}/OS-TRUST/trusts"),
    ("POST", f"{V3}/limits"),
    ("POST", f"{V3}/OS-OAUTH1/consumers"),
    ("PUT", f"{V3}/OS-OAUTH1/authorize/nothing"),
    ("POST", f"{V3}/registered_limits"),
    ("POST", f"{V3}/OS-EP-FILTER/endpoint_groups"),
    ("POST", f"{V3}/users/{MEMBER.user_id}/credentials/OS-EC2"),
    ("POST", f"{V2}/metadefs/namespaces"),
    ("POST", f"{V2}/tasks"),
)


@pytest.mark.parametrize(("method", "path"), WRITES, ids=[f"{method} {path}" for method, path in WRITES])
def test_bodies_of_the_wrong_type_size_and_depth(admin: Client, method: str, path: str) -> None:
    for shape in SHAPES:
        assert admin(method, path, json.dumps(shape).encode()).status in (400, 401, 404), shape
    raw = (b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 10_000, b'{"user": {"name": "\\ud800"}}', b"\x00" * 10, b"NaN")
    for data in raw:
        assert admin(method, path, data).status == 400, data[:20]
    huge = b'{"user": {"name": "' + b"x" * BODY_BYTES_MAX + b'"}}'
    assert admin(method, path, huge).status == 413
    assert admin(method, path, b"{}", {"Content-Type": "application/xml"}).status == 415
    assert admin(method, path, b"{}", {"Content-Encoding": "gzip"}).status == 415


def test_a_wrong_password_says_the_same_as_a_wrong_user(member: Client) -> None:
    def proof(name: str, password: str) -> Any:
        user = {"name": name, "domain": {"id": "default"}, "password": password}
        return {"methods": ["password"], "password": {"user": user}}

    said = [log_in(member.base_url, proof(*who)) for who in (("demo", "wrong"), ("nobody", "wrong"), ("demo", ""), ("", ""))]
    assert {answer.status for answer in said} == {401}
    assert len({answer.body for answer in said}) == 1


def test_moments_out_of_every_range(member: Client) -> None:
    path = f"{V3}/users/{MEMBER.user_id}/application_credentials"
    for moment in ("soon", "", "9999999-01-01", "0000-00-00T00:00:00Z", "2000-01-01T00:00:00Z", time.time(), {}, "1" * 5000):
        body = {"application_credential": {"name": "timely", "expires_at": moment}}
        assert member("POST", path, body).status == 400, moment
