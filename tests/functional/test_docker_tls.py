"""The Docker pane over TLS: a certificate says who, the store says what it may do by now; with the docker CLI where there is one."""

import asyncio
import os
import shutil
import socket
import ssl
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from nacre.cloud.identity.authority import Authority
from nacre.cloud.identity.authority import request_of as read_request
from nacre.panes.docker.sites import serve_tls
from tests.processes import free_port
from tests.support import ACTORS, Client, RunningCloud

MEMBER, OTHER, READER = ACTORS["member"], ACTORS["other"], ACTORS["reader"]
needs_docker = pytest.mark.skipif(shutil.which("docker") is None, reason="there is no docker client")


def path_of(project_id: str, serial: str = "") -> str:
    return f"/nacre/v1/projects/{project_id}/docker-certificates" + (f"/{serial}" if serial else "")


def request_of(key: Any) -> str:
    """A signing request that claims to be somebody, which must not count."""
    claim = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, ACTORS["admin"].user_id)])
    return pem_of(x509.CertificateSigningRequestBuilder().subject_name(claim).sign(key, hashes.SHA256()))


def pem_of(thing: Any) -> str:
    return str(thing.public_bytes(serialization.Encoding.PEM).decode())


@dataclass
class Holder:
    """Somebody with a certificate in a directory, as DOCKER_CERT_PATH wants it."""

    place: Path
    port: int
    serial: str

    @classmethod
    def make(cls, place: Path, port: int, client: Client, project_id: str, **body: Any) -> "Holder":
        key = ec.generate_private_key(ec.SECP256R1())
        answer = client("POST", path_of(project_id), {"csr": request_of(key), **body})
        assert answer.status == 201, answer.body
        place.mkdir()
        plain = serialization.NoEncryption()
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        (place / "key.pem").write_bytes(private)
        (place / "cert.pem").write_text(answer.json["certificate"]["pem"])
        (place / "ca.pem").write_text(answer.json["ca"])
        return cls(place, port, answer.json["certificate"]["serial"])

    def ask(self, path: str) -> tuple[int, bytes]:
        """A request on a connection of its own."""
        context = ssl.create_default_context(cafile=str(self.place / "ca.pem"))
        context.load_cert_chain(self.place / "cert.pem", self.place / "key.pem")
        return asked(context, self.port, path)

    def docker(self, *arguments: str, **changes: str) -> tuple[int, str]:
        env = {
            "PATH": os.environ["PATH"],
            "DOCKER_CONFIG": str(self.place / "config"),
            "DOCKER_HOST": f"tcp://127.0.0.1:{self.port}",
            "DOCKER_TLS_VERIFY": "1",
            "DOCKER_CERT_PATH": str(self.place),
        } | changes
        done = subprocess.run(["docker", *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr


def asked(context: ssl.SSLContext, port: int, path: str) -> tuple[int, bytes]:
    with socket.create_connection(("127.0.0.1", port), 30) as raw, context.wrap_socket(raw, server_hostname="localhost") as tls:
        tls.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while chunk := tls.recv(65536):
            answer += chunk
    return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]


@pytest.fixture(scope="module")
def port(cloud: RunningCloud) -> int:
    """Where this module's cloud serves TLS."""
    found = free_port()
    asyncio.run_coroutine_threadsafe(serve_tls(cloud.cloud, "127.0.0.1", found), cloud.loop).result(30)
    return found


@pytest.fixture
def holder(tmp_path: Path, port: int, member: Client) -> Holder:
    return Holder.make(tmp_path / "certificates", port, member, MEMBER.project_id)


def test_a_certificate_is_its_user_on_its_project_whatever_the_request_claimed(holder: Holder, cloud: RunningCloud) -> None:
    certificate = x509.load_pem_x509_certificate((holder.place / "cert.pem").read_bytes())
    assert certificate.subject.rfc4514_string() == f"CN={MEMBER.user_id},O={MEMBER.project_id}"
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 90
    key = cloud.cloud.settings.state / "tls" / "ca-key.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE((key.parent / "server.pem").stat().st_mode) == 0o600
    status, body = holder.ask("/v1.50/info")
    assert status == 200
    assert b"ServerVersion" in body
    assert holder.ask("/v1.50/containers/json")[0] == 200


def test_who_may_have_a_certificate_made(port: int, member: Client, other: Client, reader: Client, admin: Client) -> None:
    csr = request_of(ec.generate_private_key(ec.SECP256R1()))
    mine = path_of(MEMBER.project_id)
    assert other("POST", mine, {"csr": csr}).status == 403, "another project's member"
    assert reader("POST", mine, {"csr": csr, "user_id": MEMBER.user_id}).status == 403, "for somebody else"
    assert admin("POST", mine, {"csr": csr, "user_id": OTHER.user_id}).status == 400, "one without a role there"
    assert admin("POST", path_of("f" * 32), {"csr": csr}).status == 404
    for days, status in ((0, 400), (91, 400), (1, 201)):
        assert member("POST", mine, {"csr": csr, "days": days}).status == status
    short = request_of(rsa.generate_private_key(65537, 1024))
    for bad in (short, "no request", csr.replace("M", "N", 1), "-" * 20_000):
        answer = member("POST", mine, {"csr": bad})
        assert (answer.status, answer.json["error"]["field"]) == (400, "csr"), bad


def test_a_delegated_token_makes_none(cloud: RunningCloud, member: Client) -> None:
    made = member(
        "POST",
        f"/identity/v3/users/{MEMBER.user_id}/application_credentials",
        {"application_credential": {"name": "ci", "secret": "secret-of-ci", "unrestricted": True}},
    ).json["application_credential"]
    credential = {"id": made["id"], "secret": "secret-of-ci"}
    body = {"auth": {"identity": {"methods": ["application_credential"], "application_credential": credential}}}
    token = Client(cloud.base_url, "")("POST", "/identity/v3/auth/tokens", body)
    delegated = Client(cloud.base_url, {name.lower(): value for name, value in token.headers.items()}["x-subject-token"])
    csr = request_of(ec.generate_private_key(ec.SECP256R1()))
    assert delegated("POST", path_of(MEMBER.project_id), {"csr": csr}).status == 403


def test_listed_and_revoked(holder: Holder, member: Client, reader: Client, other: Client, admin: Client) -> None:
    listed = {row["serial"]: row for row in member("GET", path_of(MEMBER.project_id)).json["certificates"]}
    assert listed[holder.serial]["user_id"] == MEMBER.user_id
    assert listed[holder.serial]["revoked_at"] is None
    assert holder.serial in {row["serial"] for row in admin("GET", path_of(MEMBER.project_id)).json["certificates"]}
    assert holder.serial not in {row["serial"] for row in reader("GET", path_of(MEMBER.project_id)).json["certificates"]}
    assert reader("DELETE", path_of(MEMBER.project_id, holder.serial)).status == 404
    assert other("DELETE", path_of(MEMBER.project_id, holder.serial)).status == 403
    assert other("DELETE", path_of(OTHER.project_id, holder.serial)).status == 404

    context = ssl.create_default_context(cafile=str(holder.place / "ca.pem"))
    context.load_cert_chain(holder.place / "cert.pem", holder.place / "key.pem")
    with (
        socket.create_connection(("127.0.0.1", holder.port), 30) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as tls,
    ):
        statuses = []
        for _ in range(2):
            tls.sendall(b"GET /v1.50/containers/json HTTP/1.1\r\nHost: localhost\r\n\r\n")
            statuses.append(tls.recv(65536).split()[1])
            assert member("DELETE", path_of(MEMBER.project_id, holder.serial)).status == 204
    assert statuses == [b"200", b"401"], "on the same connection"
    listed = {row["serial"]: row for row in member("GET", path_of(MEMBER.project_id)).json["certificates"]}
    assert listed[holder.serial]["revoked_at"] is not None


def test_roles_users_and_projects_are_looked_up_anew(tmp_path: Path, port: int, admin: Client) -> None:
    role = next(row["id"] for row in admin("GET", "/identity/v3/roles").json["roles"] if row["name"] == "member")
    body = {"user": {"name": "leaver", "password": "secret-of-leaver", "domain_id": "default"}}
    user = admin("POST", "/identity/v3/users", body).json["user"]["id"]
    project = admin("POST", "/identity/v3/projects", {"project": {"name": "left", "domain_id": "default"}}).json["project"]["id"]
    grant = f"/identity/v3/projects/{project}/users/{user}/roles/{role}"
    assert admin("PUT", grant).status == 204
    leaver = Holder.make(tmp_path / "leaver", port, admin, project, user_id=user)

    def status() -> int:
        return leaver.ask("/v1.50/containers/json")[0]

    assert status() == 200
    assert admin("DELETE", grant).status == 204
    assert status() == 403
    admin("PUT", grant)
    assert status() == 200
    for kind, ident in (("user", user), ("project", project)):
        admin("PATCH", f"/identity/v3/{kind}s/{ident}", {kind: {"enabled": False}})
        assert status() == 401, kind
        admin("PATCH", f"/identity/v3/{kind}s/{ident}", {kind: {"enabled": True}})
        assert status() == 200, kind
    admin("DELETE", f"/identity/v3/users/{user}")
    assert status() == 401


def test_a_reader_looks_and_does_not_touch(tmp_path: Path, port: int, reader: Client) -> None:
    eye = Holder.make(tmp_path / "eye", port, reader, READER.project_id)
    assert eye.ask("/v1.50/volumes")[0] == 200
    if shutil.which("docker") is not None:
        code, said = eye.docker("volume", "create", "touched")
        assert code == 1
        assert "Policy doesn't allow" in said


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_no_certificate_and_another_authority_get_nothing(holder: Holder, tmp_path: Path) -> None:
    bare = ssl.create_default_context(cafile=str(holder.place / "ca.pem"))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        asked(bare, holder.port, "/_ping")
    old = ssl.create_default_context(cafile=str(holder.place / "ca.pem"))
    old.load_cert_chain(holder.place / "cert.pem", holder.place / "key.pem")
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        asked(old, holder.port, "/_ping")
    forged = Holder(forge(holder, tmp_path / "forged"), holder.port, holder.serial)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        forged.ask("/_ping")
    with socket.create_connection(("127.0.0.1", holder.port), 30) as plain:
        plain.sendall(b"GET /_ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"OK" not in plain.recv(4096)
    assert holder.ask("/_ping") == (200, b"OK")


def forge(holder: Holder, place: Path) -> Path:
    """The same certificate by another authority of the same name."""
    place.mkdir()
    state = place / "state"
    state.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    fake = Authority(state)
    certificate = fake.sign(read_request(request_of(key)), MEMBER.user_id, MEMBER.project_id, 1)
    plain = serialization.NoEncryption()
    (place / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    (place / "cert.pem").write_text(pem_of(certificate))
    shutil.copy(holder.place / "ca.pem", place / "ca.pem")
    (state / "ca.pem").write_text(fake.pem)
    return place


@needs_docker
def test_the_docker_cli(holder: Holder, tmp_path: Path, port: int, member: Client, other: Client) -> None:
    theirs = Holder.make(tmp_path / "theirs", port, other, OTHER.project_id)
    code, said = holder.docker("version", "--format", "{{.Server.Version}}")
    assert (code, said.strip()) == (0, "28.2.2")
    assert holder.docker("volume", "create", "mine")[0] == 0
    assert "mine" in holder.docker("volume", "ls")[1]
    code, said = theirs.docker("volume", "ls", "--quiet")
    assert (code, said) == (0, "")
    assert theirs.docker("volume", "inspect", "mine")[0] == 1

    forged = Holder(forge(holder, tmp_path / "forged"), port, "")
    code, said = forged.docker("ps")
    assert code == 1, said
    assert "tls" in said, said
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(holder.place / "ca.pem", bare / "ca.pem")
    code, said = holder.docker("--tlscacert", str(bare / "ca.pem"), "ps", DOCKER_CERT_PATH=str(bare))
    assert code == 1, said
    assert "OK" not in said, said
    code, said = holder.docker("--tlscacert", str(forged.place / "state" / "ca.pem"), "ps")
    assert code == 1, said
    assert "x509" in said, said
    assert member("DELETE", path_of(MEMBER.project_id, holder.serial)).status == 204
    code, said = holder.docker("ps")
    assert code == 1
    assert "the certificate was revoked" in said
