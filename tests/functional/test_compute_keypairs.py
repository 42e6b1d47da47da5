"""Keypairs: imported or generated, each user's own."""

from cryptography.hazmat.primitives import serialization

from tests.support import Client

BASE = "/compute/v2.1/os-keypairs"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl someone@somewhere"
FINGERPRINT = "65:96:2d:fc:e8:d5:a9:11:64:0c:0f:ea:00:6e:5b:bd"


def at(minor: int) -> dict[str, str]:
    return {"OpenStack-API-Version": f"compute 2.{minor}"}


def test_a_generated_key_is_shown_once_and_fits_its_public_half(member: Client) -> None:
    made = member("POST", BASE, {"keypair": {"name": "mine"}})
    assert made.status == 200
    private = serialization.load_pem_private_key(made.json["keypair"]["private_key"].encode(), None)
    public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    assert made.json["keypair"]["public_key"].startswith(public)
    shown = member("GET", f"{BASE}/mine").json["keypair"]
    assert "private_key" not in shown
    assert shown["fingerprint"] == made.json["keypair"]["fingerprint"]
    assert member("DELETE", f"{BASE}/mine").status == 202
    assert member("GET", f"{BASE}/mine").status == 404


def test_an_imported_key_at_the_versions_that_matter(member: Client, other: Client, admin: Client) -> None:
    made = member("POST", BASE, {"keypair": {"name": "k", "public_key": KEY, "type": "ssh"}}, at(2))
    assert (made.status, made.json["keypair"]["fingerprint"], made.json["keypair"]["type"]) == (201, FINGERPRINT, "ssh")
    assert member("POST", BASE, {"keypair": {"name": "k", "public_key": KEY}}).status == 409
    assert other("GET", f"{BASE}/k").status == 404
    assert other("GET", f"{BASE}/k?user_id={'b' * 32}", None, at(10)).status == 403
    assert admin("GET", f"{BASE}/k?user_id={'b' * 32}", None, at(10)).status == 200
    member("POST", BASE, {"keypair": {"name": "j", "public_key": KEY}})
    page = member("GET", f"{BASE}?limit=1", None, at(35)).json
    assert [k["keypair"]["name"] for k in page["keypairs"]] == ["j"]
    following = page["keypairs_links"][0]["href"].removeprefix(member.base_url)
    assert [k["keypair"]["name"] for k in member("GET", following, None, at(35)).json["keypairs"]] == ["k"]
    for name in ("j", "k"):
        assert member("DELETE", f"{BASE}/{name}", None, at(2)).status == 204
    assert member("DELETE", f"{BASE}/k").status == 404


def test_bad_keys_and_names(member: Client) -> None:
    for keypair in (
        {"name": ""},
        {"name": "a/b", "public_key": KEY},
        {"name": "x" * 256, "public_key": KEY},
        {"name": "k", "public_key": "ssh-rsa nonsense"},
        {"name": "k", "public_key": ""},
        {"name": "k", "public_key": KEY, "type": "ssh"},
        {"name": "k", "public_key": KEY, "colour": 1},
        {"public_key": KEY},
        {"name": 7},
    ):
        refused = member("POST", BASE, {"keypair": keypair})
        assert refused.status == 400, keypair
        assert refused.json["badRequest"]["code"] == 400
    assert member("POST", BASE, {"keypair": {"name": "k"}}, at(92)).status == 400
    assert member("POST", BASE, {"keypair": {"name": "k", "public_key": KEY, "type": "x509"}}, at(2)).status == 400


def test_the_quota_of_keypairs(admin: Client, other: Client) -> None:
    admin("PUT", f"/compute/v2.1/os-quota-sets/{'2' * 32}", {"quota_set": {"key_pairs": 1}})
    assert other("POST", BASE, {"keypair": {"name": "one", "public_key": KEY}}).status == 200
    over = other("POST", BASE, {"keypair": {"name": "two", "public_key": KEY}})
    assert (over.status, over.json["forbidden"]["message"]) == (403, "Quota exceeded, too many key pairs.")
