"""OAuth 1.0a: from a consumer to a token that may what its user authorized, and no more. The client's side is signed here by RFC 5849."""

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote

import pytest

from nacre.cloud.identity import oauth
from tests.support import ACTORS, Answer, Client

V3 = "/identity/v3"
MEMBER, OTHER = ACTORS["member"], ACTORS["other"]


@dataclass
class Consumer:
    """A program that acts for a user."""

    client: Client
    key: str
    secret: str
    token: str = ""
    token_secret: str = ""

    def headers(self, path: str, **parameters: str) -> dict[str, str]:
        protocol = {
            "oauth_consumer_key": self.key,
            "oauth_nonce": secrets.token_hex(8),
            "oauth_timestamp": str(int(time.time())),
            "oauth_signature_method": "HMAC-SHA1",
            "oauth_version": "1.0",
            **({"oauth_token": self.token} if self.token else {}),
            **parameters,
        }
        signed = oauth.Signed("POST", self.client.base_url + path, tuple(protocol.items()), "")
        protocol["oauth_signature"] = oauth.signature(signed, self.secret, self.token_secret)
        shown = ", ".join(f'{name}="{quote(value, safe="")}"' for name, value in protocol.items())
        return {"Authorization": f"OAuth {shown}"}

    def post(self, path: str, headers: dict[str, str], body: Any = None) -> Answer:
        return Client(self.client.base_url, "")("POST", path, body, headers)

    def ask(self, project_id: str) -> Answer:
        path = f"{V3}/OS-OAUTH1/request_token"
        return self.post(path, {**self.headers(path, oauth_callback="oob"), "Requested-Project-Id": project_id})

    def exchange(self, verifier: str) -> Answer:
        path = f"{V3}/OS-OAUTH1/access_token"
        return self.post(path, self.headers(path, oauth_verifier=verifier))

    def log_in(self) -> Answer:
        path = f"{V3}/auth/tokens"
        return self.post(path, self.headers(path), {"auth": {"identity": {"methods": ["oauth1"], "oauth1": {}}}})

    def take(self, answer: Answer) -> None:
        assert answer.status == 201, answer.body
        assert answer.headers["Content-Type"].startswith("application/x-www-form-urlencoded")
        found = parse_qs(answer.body.decode())
        self.token, self.token_secret = found["oauth_token"][0], found["oauth_token_secret"][0]


@pytest.fixture
def consumer(admin: Client) -> Iterator[Consumer]:
    made = admin("POST", f"{V3}/OS-OAUTH1/consumers", {"consumer": {"description": "a program"}}).json["consumer"]
    yield Consumer(admin, made["id"], made["secret"])
    admin("DELETE", f"{V3}/OS-OAUTH1/consumers/{made['id']}")


def authorize(client: Client, token: str, *roles: str) -> Answer:
    return client("PUT", f"{V3}/OS-OAUTH1/authorize/{token}", {"roles": [{"name": role} for role in roles]})


def test_a_consumer_acts_with_what_a_user_authorized(consumer: Consumer, member: Client, other: Client) -> None:
    assert consumer.ask("nothing").status == 404
    consumer.take(consumer.ask(MEMBER.project_id))
    assert consumer.exchange("00000000").status == 401, "nobody has authorized it"
    assert authorize(other, consumer.token, "member").status == 403, "a user without that role there"
    assert authorize(member, consumer.token, "admin").status == 403
    assert authorize(member, consumer.token).status == 400
    verifier = authorize(member, consumer.token, "reader").json["token"]["oauth_verifier"]
    assert consumer.exchange("wrong").status == 401
    consumer.take(consumer.exchange(verifier))
    answer = consumer.log_in()
    assert answer.status == 201, answer.body
    token = answer.json["token"]
    assert (token["user"]["id"], token["project"]["id"]) == (MEMBER.user_id, MEMBER.project_id)
    assert [role["name"] for role in token["roles"]] == ["reader"]
    assert token["OS-OAUTH1"] == {"access_token_id": consumer.token, "consumer_id": consumer.key}
    acting = Client(member.base_url, answer.headers["X-Subject-Token"])
    assert acting("GET", "/image/v2/images").status == 200
    assert acting("POST", "/image/v2/images", {"name": "x"}).status == 403
    path = f"{V3}/users/{MEMBER.user_id}/OS-OAUTH1/access_tokens"
    (listed,) = member("GET", path).json["access_tokens"]
    assert (listed["id"], listed["authorizing_user_id"]) == (consumer.token, MEMBER.user_id)
    assert other("GET", path).status == 403
    roles = member("GET", f"{path}/{consumer.token}/roles").json["roles"]
    assert [role["name"] for role in roles] == ["reader"]
    assert member("GET", f"{path}/{consumer.token}/roles/{roles[0]['id']}").status == 200
    assert acting("DELETE", f"{path}/{consumer.token}").status == 403
    assert other("DELETE", f"{path}/{consumer.token}").status == 403
    assert member("DELETE", f"{path}/{consumer.token}").status == 204
    assert acting("GET", "/image/v2/images").status == 401, "its tokens end with it"
    assert consumer.log_in().status == 401


def test_signatures_that_are_none(consumer: Consumer) -> None:
    path = f"{V3}/OS-OAUTH1/request_token"
    project = {"Requested-Project-Id": MEMBER.project_id}
    good = consumer.headers(path)
    assert consumer.post(path, {**good, **project}).status == 201
    assert consumer.post(path, {**good, **project}).status == 401, "a nonce is good once"
    old = consumer.headers(path, oauth_timestamp=str(int(time.time()) - 10_000))
    assert consumer.post(path, {**old, **project}).status == 401
    assert consumer.post(f"{path}?a=b", {**consumer.headers(path), **project}).status == 401, "the query is signed too"
    assert consumer.post(path, project).status == 401
    for name in ("oauth_consumer_key", "oauth_nonce", "oauth_timestamp", "oauth_signature_method"):
        lacking = ",".join(part for part in consumer.headers(path)["Authorization"].split(",") if name not in part)
        assert consumer.post(path, {"Authorization": lacking, **project}).status in (400, 401), name
    plain = consumer.headers(path, oauth_signature_method="PLAINTEXT")
    assert consumer.post(path, {**plain, **project}).status == 400
    for text in ("OAuth", "OAuth x", "Basic abc", 'OAuth a="b", a="c"', 'OAuth oauth_consumer_key="\u00fc"'):
        assert consumer.post(path, {"Authorization": text.encode().decode("latin-1"), **project}).status in (400, 401)
    thief = Consumer(consumer.client, consumer.key, "wrong")
    assert thief.ask(MEMBER.project_id).status == 401
    assert Consumer(consumer.client, "nobody", "x").ask(MEMBER.project_id).status == 401


def test_what_nobody_signed_uses_up_no_nonce(consumer: Consumer) -> None:
    """Else whoever likes fills the memory of nonces, and what is in it is forgotten and good a second time."""
    path, nonce = f"{V3}/OS-OAUTH1/request_token", secrets.token_hex(8)
    project = {"Requested-Project-Id": MEMBER.project_id}
    moment = str(int(time.time()))
    thief = Consumer(consumer.client, consumer.key, "wrong")
    forged = thief.headers(path, oauth_nonce=nonce, oauth_timestamp=moment)
    assert consumer.post(path, {**forged, **project}).status == 401
    good = consumer.headers(path, oauth_nonce=nonce, oauth_timestamp=moment)
    assert consumer.post(path, {**good, **project}).status == 201
    assert consumer.post(path, {**good, **project}).status == 401


def test_consumers_from_create_to_delete(admin: Client, member: Client) -> None:
    path = f"{V3}/OS-OAUTH1/consumers"
    assert member("POST", path, {"consumer": {}}).status == 403
    made = admin("POST", path, {"consumer": {"description": "d"}}).json["consumer"]
    assert made["secret"]
    assert admin("POST", path, {"consumer": {"secret": "mine"}}).status == 400
    shown = admin("GET", f"{path}/{made['id']}").json["consumer"]
    assert (shown["description"], "secret" in shown) == ("d", False)
    assert admin("PATCH", f"{path}/{made['id']}", {"consumer": {"description": "e"}}).json["consumer"]["description"] == "e"
    assert admin("PATCH", f"{path}/{made['id']}", {"consumer": {"secret": "mine"}}).status == 400
    assert made["id"] in [each["id"] for each in admin("GET", path).json["consumers"]]
    assert admin("DELETE", f"{path}/{made['id']}").status == 204
    assert admin("GET", f"{path}/{made['id']}").status == 404


def test_the_signature_of_the_rfc() -> None:
    """RFC 5849, 1.2: the request for the printer's photos."""
    parameters = (
        ("file", "vacation.jpg"),
        ("size", "original"),
        ("oauth_consumer_key", "dpf43f3p2l4k3l03"),
        ("oauth_token", "nnch734d00sl2jdk"),
        ("oauth_signature_method", "HMAC-SHA1"),
        ("oauth_timestamp", "137131202"),
        ("oauth_nonce", "chapoH"),
    )
    request = oauth.Signed("GET", "http://photos.example.net/photos", parameters, "")
    assert oauth.signature(request, "kd94hf93k423kf44", "pfkkdhi9sl3r4s00") == "MdpQcU8iPSUjWoN%2FUDMsK2sui9I%3D".replace(
        "%2F", "/"
    ).replace("%3D", "=")
