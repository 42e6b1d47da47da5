"""Several API processes over one PostgreSQL and one directory of blobs, behind a balancer that sends each request to another one."""

import asyncio
import base64
import hashlib
import itertools
import json
import socket
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nacre.cloud import abandoned
from nacre.cloud.compute import observations as compute
from nacre.cloud.compute.tables import servers
from nacre.cloud.containers import execs
from nacre.cloud.hosts import operations as hosts
from nacre.cloud.identity import totp
from nacre.cloud.image import audit, data
from nacre.cloud.processes import unfinished
from nacre.cloud.processes.tables import api_processes
from nacre.protocol.messages import Capacity, Hello, Observation
from nacre.protocol.streams import Channel, FromClient, Resize, Started
from tests import images
from tests.functional.conftest import serving
from tests.functional.test_docker_images import load
from tests.functional.test_identity_oauth import Consumer
from tests.postgres import shared
from tests.processes import wait_for
from tests.support import ACTORS, Answer, Client, NoHosts, RunningCloud

HOST = "11111111-1111-4111-8111-111111111111"
OCTETS = {"Content-Type": "application/octet-stream"}
IMAGES = "/image/v2/images"
BASE = images.layer({"etc/base": "base"})
CONFIG = images.config(BASE, Cmd=["sh"])


class Stream:
    """An exec's, which goes on until somebody ends it."""

    def __init__(self) -> None:
        self.started, self.exit_code = Started(42), None
        self.ended = asyncio.Event()
        self.code = 0

    async def __aiter__(self) -> AsyncIterator[tuple[Channel, bytes]]:
        yield Channel.STDOUT, b"word"
        await self.ended.wait()
        self.exit_code = self.code  # type: ignore[assignment]

    async def send(self, data: bytes) -> None: ...

    async def control(self, message: FromClient) -> None:
        assert isinstance(message, Resize)

    async def close(self) -> None: ...


class Host(NoHosts):
    """One host, to which every process has a stream."""

    def __init__(self) -> None:
        self.execs: dict[str, tuple[Stream, asyncio.AbstractEventLoop]] = {}
        self.sizes: list[tuple[int, int]] = []
        self.holds = threading.Event()
        """Set: a stream that is asked for does not come (the processes are in several loops)."""

    async def open(self, host_id: str, kind: str, ident: str, params: dict[str, Any]) -> Stream:
        while self.holds.is_set():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)
        stream = Stream()
        if kind == "exec":
            self.execs[params["id"]] = stream, asyncio.get_running_loop()
        return stream

    async def dial(self, host_id: str, kind: str, ident: str, params: dict[str, Any]) -> bytes:
        if kind == "resize":
            self.sizes.append((params["h"], params["w"]))
            return b""
        assert kind == "exec_state"
        known = self.execs.get(params["exec"])
        ended = known is not None and known[0].ended.is_set()
        code = known[0].code if known is not None and ended else None
        return json.dumps({"running": known is not None and not ended, "exit_code": code, "pid": 42}).encode()

    def end(self, exec_id: str, code: int) -> None:
        stream, loop = self.execs[exec_id]
        stream.code = code
        loop.call_soon_threadsafe(stream.ended.set)

    def alive(self) -> frozenset[str]:
        return frozenset({HOST})

    def connected(self) -> frozenset[str]:
        return frozenset({HOST})


@dataclass
class Balanced:
    """A client whose every request comes to another process."""

    clients: list[Client]
    turns: Iterator[Client] = field(init=False)

    def __post_init__(self) -> None:
        self.turns = itertools.cycle(self.clients)

    def __call__(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        return next(self.turns)(method, path, body, headers)


@dataclass
class Processes:
    """Two of them, and a host."""

    one: RunningCloud
    other: RunningCloud
    host: Host

    def client(self, actor: str) -> Any:
        return Balanced([Client(each.base_url, self.one.tokens[actor]) for each in (self.one, self.other)])

    @contextmanager
    def third(self) -> Iterator[RunningCloud]:
        """One more, which some day is not heard of any more."""
        with serving(self.one.cloud.settings.state, beside=self.one) as running:
            running.cloud.hosts = self.host
            yield running


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    state, host = tmp_path_factory.mktemp("cloud"), Host()
    with serving(state, database=shared().database()) as one, serving(state, beside=one) as other:
        one.cloud.hosts = other.cloud.hosts = host
        in_loop(one, one.cloud.store.write(_join))
        yield Processes(one, other, host)


def _join(conn: Any) -> None:
    capacity = Capacity(vcpus=64, memory_mb=65_536, disk_gb=1000)
    named: dict[str, Any] = {"host_id": HOST, "hostname": "h", "boot_id": "b", "hypervisor_type": "nacre"}
    hosts.register(conn, Hello(protocol_min=1, protocol_max=1, runtimes=("container",), capacity=capacity, facts={}, **named))


@pytest.fixture
def member(processes: Processes) -> Any:
    return processes.client("member")


@pytest.fixture
def admin(processes: Processes) -> Any:
    return processes.client("admin")


def in_loop(running: RunningCloud, work: Any) -> Any:
    return asyncio.run_coroutine_threadsafe(work, running.loop).result(60)


def new_image(client: Any, **values: Any) -> str:
    return str(client("POST", IMAGES, {"name": "n", "disk_format": "raw", "container_format": "bare", **values}).json["id"])


# What is begun at one goes on at another


def test_an_image_is_staged_imported_read_and_deleted(processes: Processes, member: Any) -> None:
    content = b"some bytes" * 1000
    image = new_image(member)
    assert member("PUT", f"{IMAGES}/{image}/stage", content, OCTETS).status == 204
    assert member("GET", f"{IMAGES}/{image}").json["status"] == "uploading"
    assert member("POST", f"{IMAGES}/{image}/import", {"method": {"name": "glance-direct"}}).status == 202
    for _ in range(2):
        assert member("GET", f"{IMAGES}/{image}/file").body == content
        assert member("PUT", f"{IMAGES}/{image}/file", content, OCTETS).status == 409
    twin = new_image(member)
    assert member("PUT", f"{IMAGES}/{twin}/file", content, OCTETS).status == 204
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    for ident, remains in ((image, True), (twin, False)):
        assert member("DELETE", f"{IMAGES}/{ident}").status == 204
        assert all((digest in each.cloud.blobs.digests()) is remains for each in (processes.one, processes.other))
    for _ in range(2):
        assert member("GET", f"{IMAGES}/{image}").status == 404
    assert processes.one.cloud.blobs.pinned() == frozenset()


def test_a_push_whose_every_step_comes_to_another_process(processes: Processes, member: Any) -> None:
    begun = member("POST", "/v2/demo/app/blobs/uploads/")
    location, half = begun.headers["Location"], len(BASE) // 2
    for start, part in ((0, BASE[:half]), (half, BASE[half:])):
        ranged = {**OCTETS, "Content-Range": f"{start}-{start + len(part) - 1}"}
        assert member("PATCH", location, part, ranged).status == 202
    assert member("GET", location).headers["Range"] == f"0-{len(BASE) - 1}"
    assert member("PUT", f"{location}?digest={images.digest(BASE)}").status == 201
    assert member("GET", location).status == 404
    assert member("POST", f"/v2/demo/app/blobs/uploads/?digest={images.digest(CONFIG)}", CONFIG, OCTETS).status == 201
    kind = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
    assert member("PUT", "/v2/demo/app/manifests/1", images.manifest(CONFIG, BASE), kind).status == 201
    for _ in range(2):
        assert member("GET", f"/v2/demo/app/blobs/{images.digest(BASE)}").body == BASE
        assert member("GET", "/docker/images/app:1/json").status == 200
    assert processes.client("other")("GET", "/docker/images/app:1/json").status == 404


def half_sent(running: RunningCloud, method: str, path: str, content: bytes, length: int) -> socket.socket:
    """A request of which only the beginning has come."""
    host, port = running.base_url.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)), timeout=60)
    lines = (f"{method} {path} HTTP/1.1", "Host: x", f"X-Auth-Token: {running.tokens['member']}", f"Content-Length: {length}")
    client.sendall("\r\n".join((*lines, "Content-Type: application/octet-stream", "", "")).encode() + content)
    return client


def test_two_processes_do_not_write_to_one_upload(processes: Processes, member: Any) -> None:
    location = member("POST", "/v2/demo/both/blobs/uploads/").headers["Location"]
    upload = processes.one.cloud.blobs.uploads / location.rpartition("/")[2]
    with half_sent(processes.one, "PATCH", location, b"x" * 100_000, 200_000) as sending:
        wait_for(lambda: upload.stat().st_size > 0, "the first half")
        other = Client(processes.other.base_url, processes.one.tokens["member"])
        refused = other("PATCH", location, b"y" * 10, OCTETS)
        assert (refused.status, refused.json["errors"][0]["code"]) == (409, "BLOB_UPLOAD_INVALID")
        assert other("DELETE", location).status == 409
        sending.sendall(b"x" * 100_000)
        assert b"202" in sending.recv(4096).splitlines()[0]
    content = b"x" * 200_000 + b"y"
    assert other("PUT", f"{location}?digest={images.digest(content)}", b"y", OCTETS).status == 201


@pytest.fixture(scope="module")
def container(processes: Processes) -> str:
    """The id of one that runs, as its host has said."""
    client = processes.client("member")
    load(client.clients[0], images.docker_archive([(["base:1"], CONFIG, [BASE])]))
    made = client("POST", "/docker/v1.50/containers/create", {"Image": "base:1", "HostConfig": {"NetworkMode": "none"}})
    assert made.status == 201, made.body
    runs(processes, str(made.json["Id"]))
    return str(made.json["Id"])


def server_of(conn: Any, docker_id: str) -> dict[str, Any]:
    rows = conn.execute(servers.select()).mappings().all()
    return next(dict(row) for row in rows if docker_id.startswith(row["id"].replace("-", "")))


def runs(processes: Processes, docker_id: str, state: Any = "running", exit_code: int | None = None) -> None:
    """Started at one, and seen by the other, which has the host's main stream."""

    def seen(conn: Any) -> None:
        row = server_of(conn, docker_id)
        met = {"generation": row["generation"], "boots": row["boots"], "exit_code": exit_code}
        compute.observe(conn, HOST, [Observation("guest", row["id"], state, **met)])

    if state == "running":
        wanted = Client(processes.one.base_url, processes.one.tokens["member"])
        with ThreadPoolExecutor(1) as pool:
            starting = pool.submit(wanted, "POST", f"/docker/v1.50/containers/{docker_id}/start")
            read = processes.other.cloud.store.read
            wait_for(lambda: in_loop(processes.other, read(server_of, docker_id))["power"] == "running", "the intent")
            in_loop(processes.other, processes.other.cloud.store.write(seen))
            assert starting.result(60).status == 204
    else:
        in_loop(processes.other, processes.other.cloud.store.write(seen))


def test_an_exec_is_made_started_resized_and_looked_at(processes: Processes, container: str, member: Any) -> None:
    made = member("POST", f"/docker/v1.50/containers/{container}/exec", {"Cmd": ["sh"], "Tty": True, "AttachStdout": True})
    assert made.status == 201, made.body
    path = f"/docker/v1.50/exec/{made.json['Id']}"
    assert member("POST", f"{path}/start", {"Detach": True, "Tty": True}).status == 200
    assert processes.client("other")("GET", f"{path}/json").status == 404
    for size in (10, 20):
        assert member("POST", f"{path}/resize?h={size}&w={size}").status in (200, 201)
    assert len(processes.host.sizes) == 1, "one of them went by the exec's own stream"
    for _ in range(2):
        shown = member("GET", f"{path}/json").json
        assert (shown["Running"], shown["ExitCode"], shown["Pid"]) == (True, None, 42)
        assert member("POST", f"{path}/start", {"Detach": True}).status == 409
    processes.host.end(made.json["Id"], 7)
    for _ in range(2):
        wait_for(lambda: member("GET", f"{path}/json").json["Running"] is False, "the end")
        assert member("GET", f"{path}/json").json["ExitCode"] == 7


def test_an_exec_on_its_way_to_its_host_is_not_taken_for_lost(processes: Processes, container: str, member: Any) -> None:
    """The host has not heard of it yet when the other process asks."""
    made = member("POST", f"/docker/v1.50/containers/{container}/exec", {"Cmd": ["sh"]})
    path = f"/docker/v1.50/exec/{made.json['Id']}"
    one, other = (Client(each.base_url, processes.one.tokens["member"]) for each in (processes.one, processes.other))
    processes.host.holds.set()
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(one, "POST", f"{path}/start", {"Detach": True})
        minded = processes.other.cloud.store.read
        wait_for(lambda: in_loop(processes.other, minded(execs.is_minded, made.json["Id"])), "the claim")
        assert other("GET", f"{path}/json").json["Running"] is True
        processes.host.holds.clear()
        assert starting.result(60).status == 200
    processes.host.end(made.json["Id"], 0)
    wait_for(lambda: other("GET", f"{path}/json").json["ExitCode"] == 0, "the end")


# What is good once, or not any more


def log_in(client: Any, methods: dict[str, Any]) -> int:
    return int(client("POST", "/identity/v3/auth/tokens", {"auth": {"identity": {"methods": [*methods], **methods}}}).status)


def test_a_passcode_is_good_once_at_all_of_them(processes: Processes, admin: Any) -> None:
    user, key = ACTORS["other"].user_id, b"12345678901234567890"
    blob = base64.b32encode(key).decode()
    secret = {"credential": {"type": "totp", "blob": blob, "user_id": user}}
    assert admin("POST", "/identity/v3/credentials", secret).status == 201
    step = int(time.time()) // totp.STEP_S
    for counter, expected in ((step, 201), (step, 401), (step - 1, 401)):
        proof = {"id": user, "passcode": totp.passcode(key, counter)}
        assert log_in(admin, {"totp": {"user": proof}}) == expected, "a step's, or an earlier one's"


def test_a_signed_request_is_good_once_at_all_of_them(processes: Processes, admin: Any) -> None:
    made = admin("POST", "/identity/v3/OS-OAUTH1/consumers", {"consumer": {}}).json["consumer"]
    one, other = (Client(each.base_url, "") for each in (processes.one, processes.other))
    consumer = Consumer(one, made["id"], made["secret"])
    path = "/identity/v3/OS-OAUTH1/request_token"
    signed = {**consumer.headers(path), "Requested-Project-Id": ACTORS["member"].project_id}
    for client, expected in ((other, 201), (one, 401), (other, 401)):
        assert client("POST", path, None, signed).status == expected


def test_a_token_that_is_revoked_at_one_is_worth_nothing_at_the_other(processes: Processes) -> None:
    proof = {"password": {"user": {"id": ACTORS["member"].user_id, "password": ACTORS["member"].password}}}
    one, other = (Client(each.base_url, "") for each in (processes.one, processes.other))
    for here, there in ((one, other), (other, one)):
        body = {"auth": {"identity": {"methods": ["password"], **proof}}}
        token = here("POST", "/identity/v3/auth/tokens", body).headers["X-Subject-Token"]
        asking, revoking = Client(there.base_url, token), Client(here.base_url, token)
        assert asking("GET", IMAGES).status == 200, "it is in the cache from now on"
        assert revoking("DELETE", "/identity/v3/auth/tokens", None, {"X-Subject-Token": token}).status == 204
        assert asking("GET", IMAGES).status == 401


def test_a_console_s_token_and_a_registry_s_login_are_good_everywhere(processes: Processes, container: str, admin: Any) -> None:
    ident = in_loop(processes.one, processes.one.cloud.store.read(server_of, container))["id"]
    versioned = {"OpenStack-API-Version": "compute 2.31"}
    asked = {"remote_console": {"protocol": "serial", "type": "serial"}}
    for _ in range(2):
        made = admin("POST", f"/compute/v2.1/servers/{ident}/remote-consoles", asked, versioned)
        token = made.json["remote_console"]["url"].rpartition("token=")[2]
        assert admin("GET", f"/compute/v2.1/os-console-auth-tokens/{token}", None, versioned).status == 200
        basic = base64.b64encode(f"{ACTORS['member'].user_name}:{ACTORS['member'].password}".encode()).decode()
        anonymous = Balanced([Client(each.base_url, "") for each in (processes.one, processes.other)])
        given = anonymous("GET", "/v2/token?scope=repository:demo/app:pull", None, {"Authorization": f"Basic {basic}"})
        bearer = {"Authorization": f"Bearer {given.json['token']}"}
        assert [anonymous("GET", "/v2/", None, bearer).status for _ in range(2)] == [200, 200]


# Who waits at one is woken by the other


def test_a_consul_query_is_woken_by_the_other_process(processes: Processes, member: Any) -> None:
    assert member("PUT", "/v1/kv/key", b"old").json is True
    one, other = (Client(each.base_url, processes.one.tokens["member"]) for each in (processes.one, processes.other))
    for waiting, writing, value in ((one, other, b"first"), (other, one, b"second")):
        index = waiting("GET", "/v1/kv/key").headers["X-Consul-Index"]
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(waiting, "GET", f"/v1/kv/key?index={index}&wait=55s")
            assert writing("PUT", "/v1/kv/key", value).json is True
            (entry,) = found.result(50).json
            assert base64.b64decode(entry["Value"]) == value


def test_docker_s_events_and_wait_are_woken_by_the_other_process(processes: Processes, container: str) -> None:
    one, other = (Client(each.base_url, processes.one.tokens["member"]) for each in (processes.one, processes.other))
    asked = urllib.request.Request(f"{one.base_url}/docker/v1.50/events", headers={"X-Auth-Token": one.token})
    with urllib.request.urlopen(asked, timeout=60) as told, ThreadPoolExecutor(1) as pool:
        waited = pool.submit(one, "POST", f"/docker/v1.50/containers/{container}/wait")
        assert other("POST", "/docker/v1.50/networks/create", {"Name": "told"}).status == 201
        event = json.loads(told.readline())
        assert (event["Type"], event["Action"], event["Actor"]["Attributes"]["name"]) == ("network", "create", "told")
        runs(processes, container, "stopped", 3)
        assert waited.result(50).json["StatusCode"] == 3


# One is gone


def strike_out(running: RunningCloud, gone: RunningCloud) -> None:
    """As the leader does with a process that is silent."""
    row = api_processes.c.id == gone.cloud.process_id
    in_loop(running, running.cloud.store.write(lambda conn: conn.execute(api_processes.delete().where(row)) and None))


def left_of(running: RunningCloud, process_id: str) -> list[Path]:
    return list(running.cloud.blobs.spool.parent.parent.glob(f"{process_id}.*"))


async def _words(*words: bytes) -> AsyncIterator[bytes]:
    for word in words:
        yield word


def test_what_a_gone_process_was_at_is_undone_and_what_a_living_one_is_at_is_not(
    processes: Processes, container: str, member: Any
) -> None:
    leader = processes.one
    runs(processes, container)
    ident = in_loop(leader, leader.cloud.store.read(server_of, container))["id"]
    image, kept = new_image(member), new_image(member)
    with processes.third() as gone:
        client = Client(gone.base_url, leader.tokens["member"])
        gone.tokens = leader.tokens
        sending = half_sent(gone, "PUT", f"{IMAGES}/{image}/file", b"x" * 1000, 2000)
        living = half_sent(processes.other, "PUT", f"{IMAGES}/{kept}/file", b"y" * 1000, 2000)
        for each in (image, kept):
            wait_for(lambda each=each: member("GET", f"{IMAGES}/{each}").json["status"] == "saving", "the upload")
        pinned = in_loop(gone, gone.cloud.blobs.write(_words(b"a layer ", b"of a pull"), 100)).digest
        processes.host.holds.set()
        asked = client("POST", f"/compute/v2.1/servers/{ident}/action", {"createImage": {"name": "half"}})
        assert asked.status == 202, asked.body
        half = asked.headers["Location"].rpartition("/")[2]
        before = sorted(in_loop(leader, leader.cloud.store.read(unfinished.of_process, gone.cloud.process_id)))
        assert [kind for kind, _ in before] == ["snapshot", "upload"]

        in_loop(leader, abandoned.sweep(leader.cloud))
        assert not in_loop(leader, _call(lambda: data.drop(leader.cloud, pinned))), "its row may come yet"
        assert sorted(in_loop(leader, leader.cloud.store.read(unfinished.of_process, gone.cloud.process_id))) == before

        strike_out(leader, gone)
        in_loop(leader, abandoned.sweep(leader.cloud))
        assert member("GET", f"{IMAGES}/{image}").json["status"] == "queued"
        assert member("GET", f"{IMAGES}/{half}").status == 404
        assert pinned not in set(leader.cloud.blobs.digests())
        assert left_of(leader, gone.cloud.process_id) == []
        assert member("GET", f"{IMAGES}/{kept}").json["status"] == "saving", "a living one is at it"

        # It wakes up, and goes on with what was undone.
        processes.host.holds.clear()
        sending.sendall(b"x" * 1000)
        assert int(sending.recv(4096).split()[1]) >= 500
        refused = client("POST", IMAGES, {"name": "late", "disk_format": "raw", "container_format": "bare"})
        assert (refused.status, b"took this one for dead" in refused.body) == (503, True)
        living.sendall(b"y" * 1000)
        assert int(living.recv(4096).split()[1]) == 204
        sending.close()
        living.close()
    for _ in range(2):
        assert member("GET", f"{IMAGES}/{image}").json["status"] == "queued"
        assert member("GET", f"{IMAGES}/{kept}").json["status"] == "active"
        assert member("GET", f"{IMAGES}/{half}").status == 404
    assert in_loop(leader, audit.findings(leader.cloud)) == []
    assert member("PUT", f"{IMAGES}/{image}/file", b"once more", OCTETS).status == 204


async def _call(work: Callable[[], Any]) -> Any:
    return work()


def test_a_process_that_starts_again_undoes_its_own_and_nobody_else_s(processes: Processes, member: Any) -> None:
    mine, others = new_image(member), new_image(member)
    one, other = processes.one.cloud, processes.other.cloud
    ctx = other.authenticate(processes.one.tokens["member"], "req-1")
    for cloud, image in ((one, mine), (other, others)):
        running = processes.one if cloud is one else processes.other
        in_loop(running, cloud.store.write(data.begin, ctx, image, image, False, cloud.process_id))
    in_loop(processes.one, abandoned.recover(one))
    for _ in range(2):
        assert member("GET", f"{IMAGES}/{mine}").json["status"] == "queued"
        assert member("GET", f"{IMAGES}/{others}").json["status"] == "saving"
    in_loop(processes.other, other.store.write(data.abandon, others))
