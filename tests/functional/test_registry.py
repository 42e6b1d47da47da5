"""The registry: by plain HTTP step by step, and by real clients (skopeo, the docker CLI) that push and pull."""

import asyncio
import base64
import contextlib
import fcntl
import http.server
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nacre.cloud.image import audit
from nacre.cloud.image.sources import ImportRules
from nacre.cloud.registry import uploads
from tests import images
from tests.functional.conftest import serving
from tests.processes import WAIT_S, wait_for
from tests.support import ACTORS, Answer, Client, RunningCloud

BASE, TOP = images.layer({"etc/base": "base"}), images.layer({"etc/top": "top"})
CONFIG = images.config(BASE, TOP, Cmd=["sh"])
OCTETS = {"Content-Type": "application/octet-stream"}
MANIFEST = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    """Its operator allows loopback, where the other registries of these tests are."""
    with serving(tmp_path_factory.mktemp("cloud"), imports=ImportRules(allowed_networks=("127.0.0.0/8",))) as running:
        yield running


def basic(actor: str) -> dict[str, str]:
    pair = f"{ACTORS[actor].user_name}:{ACTORS[actor].password}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def put_blob(client: Client, repository: str, data: bytes) -> Answer:
    return client("POST", f"/v2/{repository}/blobs/uploads/?digest={images.digest(data)}", data, OCTETS)


def push(client: Client, repository: str, tag: str, config: bytes = CONFIG, layers: tuple[bytes, ...] = (BASE, TOP)) -> str:
    for blob in (config, *layers):
        assert put_blob(client, repository, blob).status == 201
    manifest = images.manifest(config, *layers)
    answer = client("PUT", f"/v2/{repository}/manifests/{tag}", manifest, MANIFEST)
    assert answer.status == 201, answer.body
    assert answer.headers["Docker-Content-Digest"] == images.digest(manifest)
    return images.digest(manifest)


def code(answer: Answer) -> str:
    return str(answer.json["errors"][0]["code"])


def call(cloud: RunningCloud, work: Any) -> Any:
    """A coroutine in the cloud's own loop."""
    return asyncio.run_coroutine_threadsafe(work, cloud.cloud.store._loop).result(30)  # type: ignore[arg-type]


def test_a_login_is_asked_for_and_given(cloud: RunningCloud) -> None:
    anonymous = Client(cloud.base_url, "")
    asked = anonymous("GET", "/v2/")
    assert asked.status == 401
    assert asked.headers["WWW-Authenticate"].startswith(f'Bearer realm="{cloud.base_url}/v2/token"')
    assert code(asked) == "UNAUTHORIZED"
    token = anonymous("GET", "/v2/token?scope=repository:demo/app:pull,push", headers=basic("member")).json["token"]
    assert anonymous("GET", "/v2/", headers={"Authorization": f"Bearer {token}"}).status == 200
    assert anonymous("GET", "/v2/", headers=basic("member")).status == 200
    wrong = {"Authorization": f"Basic {base64.b64encode(b'demo:wrong').decode()}"}
    assert anonymous("GET", "/v2/token", headers=wrong).status == 401
    assert anonymous("GET", "/v2/", headers=wrong).status == 401


def test_an_application_credential_pushes(cloud: RunningCloud, member: Client) -> None:
    body = {"application_credential": {"name": "ci", "roles": [{"name": "member"}]}}
    path = f"/identity/v3/users/{ACTORS['member'].user_id}/application_credentials"
    made = member("POST", path, body).json["application_credential"]
    pair = base64.b64encode(f"{made['id']}:{made['secret']}".encode()).decode()
    anonymous = Client(cloud.base_url, "")
    answer = anonymous("POST", "/v2/demo/ci/blobs/uploads/", headers={"Authorization": f"Basic {pair}"})
    assert answer.status == 202
    assert member("DELETE", answer.headers["Location"]).status == 204


def test_a_pushed_image_is_docker_s_and_the_image_api_s_at_once(member: Client) -> None:
    digest = push(member, "demo/app", "1")
    assert member("GET", "/docker/images/app:1/json").json["RepoDigests"] == [f"app@{digest}"]
    assert "app:1" in [image["name"] for image in member("GET", "/image/v2/images").json["images"]]
    assert member("GET", f"/docker/images/app@{digest}/json").status == 200
    pulled = member("GET", "/v2/demo/app/manifests/1")
    assert images.digest(pulled.body) == digest == pulled.headers["Docker-Content-Digest"]
    head = member("HEAD", f"/v2/{'1' * 32}/app/manifests/{digest}")
    assert (head.status, int(head.headers["Content-Length"])) == (200, len(pulled.body)), (
        "the project's id is as good as its name"
    )
    part = member("GET", f"/v2/demo/app/blobs/{images.digest(TOP)}", headers={"Range": "bytes=0-9"})
    assert (part.status, part.body) == (206, TOP[:10])
    assert member("DELETE", "/docker/images/app:1").status == 200
    assert code(member("GET", "/v2/demo/app/manifests/1")) == "MANIFEST_UNKNOWN"


def test_two_tenants_push_the_same_name(member: Client, other: Client) -> None:
    push(member, "demo/web", "1")
    theirs = images.config(TOP, Cmd=["true"])
    push(other, "other/web", "1", theirs, (TOP,))
    assert member("GET", "/docker/images/web:1/json").json["Id"] == images.digest(CONFIG)
    assert other("GET", "/docker/images/web:1/json").json["Id"] == images.digest(theirs)


def test_tenant_b_can_neither_see_nor_pull_nor_push_tenant_a_s(member: Client, other: Client, reader: Client) -> None:
    digest = push(member, "demo/secret", "1")
    for path in ("manifests/1", f"manifests/{digest}", f"blobs/{images.digest(BASE)}", "tags/list"):
        assert other("GET", f"/v2/demo/secret/{path}").status == 404, path
    assert "demo/secret" not in other("GET", "/v2/_catalog").json["repositories"]
    refused = other("POST", "/v2/demo/secret/blobs/uploads/")
    assert (refused.status, code(refused)) == (403, "DENIED")
    missing = other("POST", "/v2/nowhere/secret/blobs/uploads/")
    assert (missing.status, code(missing)) == (403, "DENIED"), "whether a project is there is nobody's business"
    # A mount is no way around it: the blob has to be sent.
    mount = f"/v2/other/copy/blobs/uploads/?mount={images.digest(BASE)}&from=demo/secret"
    assert other("POST", mount).status == 202
    assert reader("GET", "/v2/demo/secret/manifests/1").status == 200
    assert reader("POST", "/v2/demo/secret/blobs/uploads/").status == 403


def test_a_public_image_can_be_pulled_by_everybody(member: Client, admin: Client) -> None:
    push(admin, "admin/tools", "1")
    assert member("GET", "/v2/admin/tools/manifests/1").status == 404
    (row,) = [image for image in admin("GET", "/image/v2/images").json["images"] if image["name"] == "tools:1"]
    patch = json.dumps([{"op": "replace", "path": "/visibility", "value": "public"}]).encode()
    kind = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
    assert admin("PATCH", f"/image/v2/images/{row['id']}", patch, kind).status == 200
    assert member("GET", "/v2/admin/tools/manifests/1").status == 200
    assert member("GET", f"/v2/admin/tools/blobs/{images.digest(BASE)}").status == 200
    assert member("GET", "/v2/admin/tools/tags/list").json == {"name": "admin/tools", "tags": ["1"]}
    assert "admin/tools" in member("GET", "/v2/_catalog").json["repositories"]
    assert member("GET", "/docker/images/tools:1/json").status == 200


def test_chunks_come_in_order_are_resumed_and_checked(member: Client) -> None:
    location = member("POST", "/v2/demo/chunks/blobs/uploads/").headers["Location"]
    first = member("PATCH", location, BASE[:100], {**OCTETS, "Content-Range": "0-99"})
    assert (first.status, first.headers["Range"]) == (202, "0-99")
    again = member("PATCH", location, BASE[:100], {**OCTETS, "Content-Range": "0-99"})
    assert (again.status, again.headers["Range"]) == (416, "0-99")
    assert member("GET", location).headers["Range"] == "0-99"
    done = member("PUT", f"{location}?digest={images.digest(BASE)}", BASE[100:], OCTETS)
    assert done.status == 201
    assert member("GET", f"/v2/demo/chunks/blobs/{images.digest(BASE)}").body == BASE

    location = member("POST", "/v2/demo/chunks/blobs/uploads/").headers["Location"]
    wrong = member("PUT", f"{location}?digest={images.digest(TOP)}", BASE, OCTETS)
    assert (wrong.status, code(wrong)) == (400, "DIGEST_INVALID")
    assert code(member("GET", location)) == "BLOB_UPLOAD_UNKNOWN"
    mounted = member("POST", f"/v2/demo/mounted/blobs/uploads/?mount={images.digest(BASE)}&from=demo/chunks")
    assert mounted.status == 201


def test_a_manifest_must_be_whole_and_what_it_says(member: Client) -> None:
    manifest = images.manifest(CONFIG, BASE, images.layer({"never": "sent"}))
    for blob in (CONFIG, BASE):
        put_blob(member, "demo/parts", blob)
    missing = member("PUT", "/v2/demo/parts/manifests/1", manifest, MANIFEST)
    assert (missing.status, code(missing)) == (404, "MANIFEST_BLOB_UNKNOWN")
    for body in (b"{", b"[]", b'{"schemaVersion":1}', b'{"config":{"digest":"x","size":-1}}'):
        assert code(member("PUT", "/v2/demo/parts/manifests/1", body, MANIFEST)) == "MANIFEST_INVALID"
    wrong = member("PUT", f"/v2/demo/parts/manifests/{images.digest(BASE)}", images.manifest(CONFIG, BASE), MANIFEST)
    assert code(wrong) == "DIGEST_INVALID"
    assert code(member("GET", "/v2/demo/parts/manifests/1")) in ("MANIFEST_UNKNOWN", "NAME_UNKNOWN")


def test_tags_are_listed_page_by_page_and_deleted(member: Client) -> None:
    digests = {push(member, "demo/tags", tag) for tag in ("a", "b", "c")}
    assert len(digests) == 1
    page = member("GET", "/v2/demo/tags/tags/list?n=2")
    assert page.json["tags"] == ["a", "b"]
    assert page.headers["Link"] == '</v2/demo/tags/tags/list?n=2&last=b>; rel="next"'
    assert member("GET", "/v2/demo/tags/tags/list?n=2&last=b").json["tags"] == ["c"]
    assert member("DELETE", "/v2/demo/tags/manifests/a").status == 202
    assert member("GET", "/v2/demo/tags/tags/list").json["tags"] == ["b", "c"]
    assert member("DELETE", f"/v2/demo/tags/manifests/{digests.pop()}").status == 202
    assert code(member("GET", "/v2/demo/tags/tags/list")) == "NAME_UNKNOWN"


def test_an_index_is_the_image_of_this_platform_and_an_artifact_none(member: Client) -> None:
    digest = push(member, "demo/multi", "amd64")
    size = len(images.manifest(CONFIG, BASE, TOP))
    entry = {"mediaType": MANIFEST["Content-Type"], "digest": digest, "size": size}
    kind = "application/vnd.oci.image.index.v1+json"
    platform = {"architecture": "amd64", "os": "linux"}
    index = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [{**entry, "platform": platform}]}).encode()
    assert member("PUT", "/v2/demo/multi/manifests/all", index, {"Content-Type": kind}).status == 201
    assert member("GET", "/docker/images/multi:all/json").json["Id"] == images.digest(CONFIG)
    put_blob(member, "demo/multi", b"{}")
    signature = json.loads(images.manifest(b"{}"))
    signature["config"]["mediaType"] = "application/vnd.oci.empty.v1+json"
    signature |= {"artifactType": "application/x-signature", "subject": entry, "annotations": {"a": "b"}}
    answer = member("PUT", "/v2/demo/multi/manifests/signed", json.dumps(signature).encode(), MANIFEST)
    assert (answer.status, answer.headers["OCI-Subject"]) == (201, digest)
    (found,) = member("GET", f"/v2/demo/multi/referrers/{digest}").json["manifests"]
    assert (found["artifactType"], found["annotations"]) == ("application/x-signature", {"a": "b"})
    assert member("GET", "/docker/images/multi:signed/json").status == 404


def nobody_writes(upload: Path) -> bool:
    with upload.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_killed_in_the_middle_of_a_push_nothing_is_left_after_the_sweep(cloud: RunningCloud, member: Client) -> None:
    before = set(cloud.cloud.blobs.digests())
    lonely = images.layer({"lonely": "blob"})
    assert put_blob(member, "demo/killed", lonely).status == 201
    location = member("POST", "/v2/demo/killed/blobs/uploads/").headers["Location"]
    host, port = cloud.base_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {member.token}\r\nContent-Length: 1000000\r\n\r\n"
        client.sendall(head.encode() + b"x" * 5000)
    folder = cloud.cloud.blobs.uploads
    assert list(folder.iterdir())
    assert call(cloud, uploads.sweep(cloud.cloud)) == 0, "what is young may still go on"
    wait_for(lambda: nobody_writes(folder / location.rpartition("/")[2]), "the server to see that the client is gone")
    assert call(cloud, uploads.sweep(cloud.cloud, idle_s_max=-1, unnamed_s_max=-1)) >= 2
    assert list(folder.iterdir()) == []
    assert images.digest(lonely) not in set(cloud.cloud.blobs.digests())
    assert before - {images.digest(BASE)} <= set(cloud.cloud.blobs.digests()) | {images.digest(b"{}")}
    assert code(member("GET", location)) == "BLOB_UPLOAD_UNKNOWN"


def test_odd_names_are_refused_in_the_dialect(member: Client) -> None:
    for path in (
        "/v2/Demo/App/tags/list",
        "/v2/demo/tags/list",
        "/v2/demo/a..b/tags/list",
        "/v2/demo/" + "a" * 300 + "/tags/list",
    ):
        answer = member("GET", path)
        assert answer.status in (400, 404)
        assert code(answer) in ("NAME_INVALID", "NAME_UNKNOWN")
    assert code(member("GET", "/v2/demo/app/blobs/sha512:00")) == "DIGEST_INVALID"
    assert code(member("PUT", "/v2/demo/app/manifests/bad%20tag", images.manifest(CONFIG), MANIFEST)) == "UNSUPPORTED"


# Real clients


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "image.tar"
    path.write_bytes(images.docker_archive([(["src:1"], CONFIG, [BASE, TOP])]))
    return path


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, **options)


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_skopeo_pushes_copies_and_pulls(cloud: RunningCloud, member: Client, archive: Path, tmp_path: Path) -> None:
    where = cloud.base_url.replace("http://", "docker://")
    skopeo = ("skopeo", "--insecure-policy")
    creds = ("--dest-tls-verify=false", "--dest-creds", "demo:demo-secret")
    pushed = run(*skopeo, "copy", *creds, f"docker-archive:{archive}", f"{where}/demo/skopeo:1")
    assert pushed.returncode == 0, pushed.stderr
    source = ("--src-tls-verify=false", "--src-creds", "demo:demo-secret")
    copied = run(*skopeo, "copy", *source, *creds, f"{where}/demo/skopeo:1", f"{where}/demo/team/copy:2")
    assert copied.returncode == 0, copied.stderr
    pulled = run(*skopeo, "copy", *source, f"{where}/demo/team/copy:2", f"oci:{tmp_path}/layout:2")
    assert pulled.returncode == 0, pulled.stderr
    assert member("GET", "/docker/images/team/copy:2/json").json["Id"] == images.digest(CONFIG)
    denied = run(*skopeo, "inspect", "--tls-verify=false", "--creds", "oth:oth-secret", f"{where}/demo/skopeo:1")
    assert denied.returncode != 0
    assert "unknown" in denied.stderr


@pytest.mark.skipif(shutil.which("docker") is None or shutil.which("skopeo") is None, reason="docker or skopeo is not installed")
def test_the_docker_cli_through_the_pane_to_a_registry_and_back(cloud: RunningCloud, archive: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"HttpHeaders": {"X-Auth-Token": cloud.tokens["member"]}}))
    where = cloud.base_url.removeprefix("http://")
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "DOCKER_HOST": f"tcp://{where}/docker", "DOCKER_CONFIG": str(tmp_path)}

    def docker(*command: str, fails: bool = False, **options: Any) -> str:
        done = run("docker", *command, env=environment, **options)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "Loaded image: src:1" in docker("load", "-i", str(archive))
    assert "Login Succeeded" in docker("login", where, "-u", "demo", "--password-stdin", input="demo-secret")
    docker("tag", "src:1", f"{where}/demo/there:1")
    assert "digest: sha256:" in docker("push", f"{where}/demo/there:1")
    docker("rmi", "src:1", f"{where}/demo/there:1")
    said = docker("pull", f"{where}/demo/there:1")
    assert "Pull complete" in said
    assert f"Status: Downloaded newer image for {where}/demo/there:1" in said
    assert "Image is up to date" in docker("pull", f"{where}/demo/there:1")
    docker("save", "-o", str(tmp_path / "out.tar"), f"{where}/demo/there:1")
    assert "not found: manifest unknown" in docker("pull", f"{where}/demo/missing:1", fails=True)
    assert "connection refused" in docker("pull", "localhost:1/x", fails=True)
    assert "No such image: missing:latest" in docker("rmi", "missing", fails=True)


class Faulty:
    """A registry that gives half of each layer; then it breaks off, or sends nothing more until it `goes_on`. Its manifest is in order."""

    def __init__(self, *, waits: bool) -> None:
        manifest, faulty = images.manifest(CONFIG, BASE, TOP), self
        self.goes_on = threading.Event()
        self.asked = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = b"{}"
                if "/manifests/" in self.path:
                    body = manifest
                for blob in (CONFIG, BASE, TOP):
                    if images.digest(blob) in self.path:
                        body = blob
                self.send_response(200)
                self.send_header("Content-Type", MANIFEST["Content-Type"])
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                half = len(body) // 2 if body in (BASE, TOP) else len(body)
                self.wfile.write(body[:half])
                faulty.asked.set() if half < len(body) else None
                if waits and half < len(body):
                    faulty.goes_on.wait(WAIT_S)
                    with contextlib.suppress(OSError):
                        self.wfile.write(body[half:])

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.place = f"127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> "Faulty":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.goes_on.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def truncating() -> Iterator[str]:
    with Faulty(waits=False) as registry:
        yield registry.place


def helpers(cloud: RunningCloud) -> list[str]:
    """The processes that bring something into this cloud's spool."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found += [line] if line.startswith(f"{shutil.which('skopeo')} ") and str(cloud.cloud.settings.state) in line else []
    return found


@pytest.mark.skipif(shutil.which("docker") is None or shutil.which("skopeo") is None, reason="docker or skopeo is not installed")
def test_a_client_killed_in_the_middle_of_a_pull_leaves_nothing(cloud: RunningCloud, member: Client, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"HttpHeaders": {"X-Auth-Token": cloud.tokens["member"]}}))
    where = cloud.base_url.removeprefix("http://")
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "DOCKER_HOST": f"tcp://{where}/docker", "DOCKER_CONFIG": str(tmp_path)}
    spool, before = cloud.cloud.blobs.spool, set(cloud.cloud.blobs.digests())
    with Faulty(waits=True) as registry:
        client = subprocess.Popen(["docker", "pull", f"{registry.place}/x:1"], env=environment, stdout=subprocess.DEVNULL)
        try:
            assert registry.asked.wait(WAIT_S)
            wait_for(lambda: helpers(cloud) and list(spool.iterdir()), "the pull to be under way")
        finally:
            client.kill()
            client.wait()
        wait_for(lambda: not helpers(cloud), "the transfer to be given up, while the registry still holds it")
        wait_for(lambda: not list(spool.iterdir()), "what had come to be gone")
        assert set(cloud.cloud.blobs.digests()) == before
        assert call(cloud, audit.findings(cloud.cloud)) == []
        registry.goes_on.set()
        answer = member("POST", f"/docker/images/create?fromImage={registry.place}/x&tag=1")
        assert b"Downloaded newer image" in answer.body, "nothing stands in the way of the next one"


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_a_registry_that_truncates_gives_a_clear_error_and_leaves_nothing(
    cloud: RunningCloud, member: Client, truncating: str
) -> None:
    before = set(cloud.cloud.blobs.digests())
    answer = member("POST", f"/docker/images/create?fromImage={truncating}/x&tag=1")
    last = json.loads(answer.body.splitlines()[-1])
    text = last.get("error") or last.get("message")
    assert "EOF" in text, answer.body
    assert set(cloud.cloud.blobs.digests()) == before
    assert list(cloud.cloud.blobs.spool.iterdir()) == []
    assert member("GET", f"/docker/images/{truncating}/x:1/json").status == 404


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_loopback_is_not_asked_for_tenants_but_for_the_clouds_own_registry(tmp_path: Path) -> None:
    with serving(tmp_path) as running, Faulty(waits=False) as registry:
        member = running.client("member")
        port = registry.place.rpartition(":")[2]
        for place in (registry.place, f"localhost:{port}", f"[::1]:{port}"):
            answer = member("POST", f"/docker/images/create?fromImage={place}/x&tag=1")
            assert f"{place} may not be asked" in answer.body.decode(), answer.body
            assert "image_import.allowed_networks" in answer.body.decode()
            assert member("GET", f"/docker/distribution/{place}/x:1/json").status == 403
            login = {"username": "u", "password": "p", "serveraddress": place}
            assert member("POST", "/docker/auth", login).status == 403
        assert not registry.asked.is_set()
        push(member, "demo/app", "1")
        own = running.base_url.removeprefix("http://")
        secret = base64.urlsafe_b64encode(json.dumps({"username": "demo", "password": "demo-secret"}).encode()).decode()
        pulled = member("POST", f"/docker/images/create?fromImage={own}/demo/app&tag=1", headers={"X-Registry-Auth": secret})
        assert b"Downloaded newer image" in pulled.body
