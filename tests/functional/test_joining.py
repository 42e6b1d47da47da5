"""More machines join a cloud, by the commands that people type: simulated hosts over TLS on loopback, each a state directory of its own."""

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import click
import msgspec
import pytest

from nacre.cli import processes
from nacre.cli.client import ApiError, Client, connect, send
from nacre.cli.join import Asked, JoinedHost, check_clock, enrol, fetch_authority, load_node, parse_token, request_for, verifying
from nacre.cli.state import State
from nacre.node.config import NodeConfig
from nacre.protocol import PROTOCOL_MAX, PROTOCOL_MIN, Hello, Refuse, Welcome, decode_from_api, encode
from nacre.protocol.messages import Capacity
from tests.functional.test_up_and_down import await_other, free_port, nacre, running
from tests.processes import wait_for

AT_ONCE = 100


class Site:
    """A cloud with its door for hosts, and a place for the directories of those that join."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.state = State(place / "cloud")
        self.port, self.docker_port = free_port(), free_port()
        nacre(
            *("up", "--state", str(self.state.dir), "--port", str(free_port()), "--simulate", "1", "--detach"),
            *("--nodes", f"127.0.0.1:{self.port}", "--docker-tls", str(self.docker_port)),
        )

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def nacre(self, *arguments: str, code: int = 0) -> str:
        return nacre(*arguments, "--state", str(self.state.dir), code=code)

    def token(self, hosts: int = 1) -> str:
        made = json.loads(self.nacre("host", "token", "--hosts", str(hosts), "-f", "json"))
        assert made["url"] == self.url
        return str(made["token"])

    def join(self, name: str, *arguments: str, token: str = "", code: int = 0, hosts: int = 1) -> tuple[State, str]:
        directory = self.place / name
        given = ("join", self.url, "--token", token or "-", "--simulate", str(hosts), "--name", name)
        typed = "" if token else f"{self.token(hosts)}\n"
        return State(directory), nacre(*given, "--state", str(directory), *arguments, code=code, typed=typed)

    def hosts(self) -> dict[str, dict[str, Any]]:
        return {row["hostname"]: row for row in json.loads(self.nacre("host", "list", "-f", "json"))}

    def admin(self) -> Client:
        client = connect(self.state)
        client.authenticate()
        return client

    def boot(self, client: Client, host: str) -> str:
        image = client.get("image", "/images?name=busybox")["images"][0]["id"]
        flavor = next(f["id"] for f in client.get("compute", "/flavors")["flavors"] if f["name"] == "m1.tiny")
        body = {
            "name": f"on-{host}",
            "imageRef": image,
            "flavorRef": flavor,
            "networks": "none",
            "availability_zone": f"nova:{host}",
        }
        client.endpoints["compute"] = client.url("compute", "")
        headers = {"X-Auth-Token": client.token, "Content-Type": "application/json", "OpenStack-API-Version": "compute 2.90"}
        made = send("POST", client.url("compute", "/servers"), headers, json.dumps({"server": body}).encode()).body
        return str(made["server"]["id"])

    def raw(self, token: str, name: str, keys: Path) -> dict[str, Any]:
        """What enrolment answers, asked as `join` asks."""
        secret, fingerprint = parse_token(token)
        keys.mkdir(exist_ok=True)
        (keys / "authority.pem").write_text(fetch_authority(self.url, fingerprint))
        body = {"secret": secret, "hosts": [{"csr": request_for(keys / "key.pem"), "hostname": name}]}
        headers = {"Content-Type": "application/json"}
        context = verifying(keys / "authority.pem")
        found: dict[str, Any] = send("POST", f"{self.url}/enrol", headers, json.dumps(body).encode(), context=context).body
        (keys / "cert.pem").write_text(found["hosts"][0]["pem"])
        return found


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    place = Path(tempfile.mkdtemp(prefix="nacre-join-", dir="/var/tmp"))
    place.chmod(0o755)
    try:
        yield Site(place)
    finally:
        for directory in sorted(place.iterdir(), key=lambda path: path.name == "cloud"):
            if (directory / "cloud.json").exists():
                nacre("down", "--purge", "--state", str(directory))
        shutil.rmtree(place)


def status_of(client: Client, server_id: str) -> str:
    return str(client.get("compute", f"/servers/{server_id}")["server"]["status"])


def await_status(client: Client, server_id: str, status: str) -> None:
    wait_for(lambda: status_of(client, server_id) == status, f"the server to be {status}")


def console(client: Client, server_id: str) -> str:
    return str(client.post("compute", f"/servers/{server_id}/action", {"os-getConsoleOutput": {}})["output"])


def test_a_joined_host_carries_servers_through_restarts_until_it_leaves(site: Site) -> None:
    joined, said = site.join("far", hosts=2)
    assert "far-0000" in said
    assert {name: row["acceptance"] for name, row in site.hosts().items() if name.startswith("far")} == {
        "far-0000": "accepted",
        "far-0001": "accepted",
    }
    assert "already; nothing to do" in nacre("join", "--state", str(joined.dir))
    assert "is a host of the cloud at" in nacre("status", "--state", str(joined.dir))
    assert "is a host of the cloud at" in nacre("up", "--state", str(joined.dir), "--simulate", "1", code=1)
    assert "type this on that cloud's machine" in nacre("audit", "--state", str(joined.dir), code=1)

    client = site.admin()
    server = site.boot(client, "far-0001")
    await_status(client, server, "ACTIVE")
    shown = client.get("compute", f"/servers/{server}")["server"]
    assert shown["OS-EXT-SRV-ATTR:host"] == "far-0001"
    first = console(client, server)
    assert first

    api = running(site.state, "api")
    assert api is not None
    processes.signal_to(api, signal.SIGKILL)
    await_other(site.state, "api", api)
    wait_for(lambda: answers(site) and site.hosts()["far-0001"]["alive"], "the joined node to come back to the API")
    wait_for(lambda: console_or_none(client, server), "the joined node's console after the API's restart")
    assert status_of(client, server) == "ACTIVE"

    node = running(joined, "node")
    assert node is not None
    processes.signal_to(node, signal.SIGKILL)
    await_other(joined, "node", node)
    wait_for(lambda: console_or_none(client, server), "the joined node to come back")
    await_status(client, server, "ACTIVE")

    assert "has 1 server" in site.nacre("host", "remove", "far-0001", code=1)
    client.request("DELETE", "compute", f"/servers/{server}")
    wait_for(lambda: not client.get("compute", "/servers")["servers"], "the server to go")
    site.nacre("host", "cordon", "far-0001", "--reason", "repair")
    assert site.hosts()["far-0001"]["disabled_reason"] == "repair"
    await_status(client, refused := site.boot(client, "far-0001"), "ERROR")
    client.request("DELETE", "compute", f"/servers/{refused}")
    site.nacre("host", "uncordon", "far-0001")
    assert site.hosts()["far-0001"]["enabled"]

    config = load_node(joined)
    context = verifying(Path(config.authority_file), Path(config.joined[1].certificate), Path(config.joined[1].key))
    own = f"{site.url}/hosts/{config.joined[1].host_id}"
    assert send("GET", own, context=context).body["connected"] is True
    wait_for(lambda: removes(site, "far-0001"), "the host to have nothing left")
    with pytest.raises(ApiError, match="removed from the cloud"):
        send("GET", own, context=context)
    wait_for(lambda: "the API answered 403 to this host" in joined.log_file("node").read_text(), "the next stream to be refused")
    assert "far-0001" not in site.hosts()
    assert site.hosts()["far-0000"]["alive"], "the other host of the same process is not touched"
    assert "refuses this host" in nacre("join", "--state", str(joined.dir), code=1)
    assert json.loads(site.nacre("audit", "-f", "json"))["findings"] == []

    nacre("down", "--purge", "--state", str(joined.dir))
    assert not joined.dir.exists()
    wait_for(lambda: removes(site, "far-0000"), "the purged host to be struck out")


def answers(site: Site) -> bool:
    try:
        return send("GET", f"{site.state.require().url}/healthz").status == 200
    except ApiError:
        return False


def console_or_none(client: Client, server: str) -> str | None:
    try:
        return console(client, server)
    except ApiError:
        return None


def removes(site: Site, name: str) -> bool:
    try:
        client = site.admin()
        send("DELETE", f"{site.state.require().url}/nacre/v1/hosts/{name}", {"X-Auth-Token": client.token})
    except ApiError as error:
        if error.status != 409:
            raise
        return False
    return True


def test_each_certificate_opens_its_own_door_only(site: Site, tmp_path: Path) -> None:
    mine = site.raw(site.token(), "door-1", tmp_path / "one")["hosts"][0]["host_id"]
    theirs = site.raw(site.token(), "door-2", tmp_path / "two")["hosts"][0]["host_id"]
    authority = tmp_path / "one/authority.pem"
    own = verifying(authority, tmp_path / "one/cert.pem", tmp_path / "one/key.pem")
    assert send("GET", f"{site.url}/hosts/{mine}", context=own).body["hostname"] == "door-1"
    digest = f"sha256:{'0' * 64}"
    for path in ("", f"/blobs/{digest}", "/names?port=p&name=n&type=A", "/ports/p/v1/catalog/services", "/guests/g/password"):
        with pytest.raises(ApiError, match="another host's"):
            send("GET", f"{site.url}/hosts/{theirs}{path}", context=own)
    assert asyncio.run(speaks_for(site, own, mine)) == Welcome
    assert asyncio.run(speaks_for(site, own, theirs)) == Refuse
    with pytest.raises(ApiError, match="nobody waits"):
        send("POST", f"{site.url}/streams/guessed", content=b"x", context=own)

    stranger = verifying(authority)
    for path in (f"/hosts/{mine}", f"/hosts/{mine}/blobs/{digest}", "/stream", "/streams/x", "/nowhere"):
        with pytest.raises(ApiError, match="without one it may enrol"):
            send("GET", f"{site.url}{path}", context=stranger)

    certificates = tmp_path / "docker"
    site.nacre("docker", "env", "--project", "demo", "--tls", str(certificates))
    docker = verifying(authority, certificates / "cert.pem", certificates / "key.pem")
    assert send("GET", f"https://127.0.0.1:{site.docker_port}/_ping", context=docker).body == "OK"
    with pytest.raises(ApiError, match="none of a host's"):
        send("GET", f"{site.url}/hosts/{mine}", context=docker)
    with pytest.raises(ApiError) as refused:
        send("GET", f"https://127.0.0.1:{site.docker_port}/containers/json", context=own)
    assert refused.value.status == 401
    for name in ("door-1", "door-2"):
        site.nacre("host", "remove", name)


async def speaks_for(site: Site, context: ssl.SSLContext, host_id: str) -> type[Any]:
    """What a stream's Hello for that host is answered."""
    hello = Hello(PROTOCOL_MIN, PROTOCOL_MAX, host_id, "liar", "boot", Capacity(1, 1, 1), (), "simulated", {})
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{site.url}/stream", ssl=context) as stream:
        await stream.send_bytes(encode(hello))
        return type(decode_from_api((await stream.receive(timeout=60)).data))


def test_a_hosts_certificate_does_not_make_an_api(site: Site, tmp_path: Path) -> None:
    """A host that has joined cannot stand between another one and the API."""
    site.raw(site.token(), "mitm", tmp_path / "keys")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "keys/cert.pem", tmp_path / "keys/key.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        port, told = listener.getsockname()[1], list[bytes]()

        def serve() -> None:
            plain, _ = listener.accept()
            with plain, contextlib.suppress(OSError):
                told.append(server.wrap_socket(plain, server_side=True).recv(1))

        serving = pool.submit(serve)
        with pytest.raises(ApiError, match=r"unsuitable certificate purpose|unsupported certificate"):
            send("GET", f"https://127.0.0.1:{port}/enrol", context=verifying(tmp_path / "keys/authority.pem"))
        serving.result(30)
    assert told in ([], [b""]), "it told something"
    site.nacre("host", "remove", "mitm")


def test_a_token_is_good_once_and_for_one_key(site: Site, tmp_path: Path) -> None:
    token = site.token()
    first = site.raw(token, "once", tmp_path / "first")
    again = site.raw(token, "once", tmp_path / "first")
    assert again["hosts"] == first["hosts"], "who lost the answer gets the same"
    with pytest.raises(ApiError, match="was used already"):
        site.raw(token, "twice", tmp_path / "second")
    place, said = site.join("late", token=token, code=1)
    assert "was used already" in said
    assert not place.dir.exists()
    assert not {"twice", "late-0000"} & site.hosts().keys()
    with pytest.raises(ApiError, match=r"has a host once already.*--name"):
        site.raw(site.token(), "once", tmp_path / "third")
    site.nacre("host", "remove", "once")
    with pytest.raises(ApiError, match="was removed"):
        site.raw(token, "once", tmp_path / "first")


def test_a_join_whose_answer_was_lost_goes_on_with_the_same_command(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token is spent by then: only the key that was signed gets the certificate."""
    token, place = site.token(), State(site.place / "lost")
    place.dir.mkdir()

    def lose(method: str, *words: Any, **more: Any) -> Any:
        answer = send(method, *words, **more)
        if method == "POST":
            raise ApiError(0, "the connection was cut")
        return answer

    monkeypatch.setattr("nacre.cli.join.send", lose)
    with pytest.raises(click.ClickException, match="Nothing is lost"):
        enrol(place, Asked(site.url, token, None, 1, "lost"))
    assert site.hosts()["lost-0000"]["acceptance"] == "waiting"
    assert "repeat the command" in nacre("status", "--state", str(place.dir), code=1)
    joined, said = site.join("lost", token=token)
    assert "and up" in said
    assert site.hosts()["lost-0000"]["acceptance"] == "accepted"
    nacre("down", "--purge", "--state", str(joined.dir))
    wait_for(lambda: removes(site, "lost-0000"), "the host to be struck out")


def test_of_many_at_once_with_one_token_one_joins(site: Site, tmp_path: Path) -> None:
    token = site.token()

    def attempt(number: int) -> str:
        try:
            site.raw(token, f"race-{number}", tmp_path / str(number))
        except ApiError as error:
            if error.status != 409:
                raise
            return ""
        return f"race-{number}"

    with ThreadPoolExecutor(8) as pool:
        won = [name for name in pool.map(attempt, range(8)) if name]
    assert [name for name in site.hosts() if name.startswith("race-")] == won
    assert len(won) == 1
    site.nacre("host", "remove", won[0])


def test_a_hundred_enrol_at_once(site: Site, tmp_path: Path) -> None:
    """Each by a token of its own; then a hundred more by one, in one process, and each of those takes work."""
    client = site.admin()
    url, headers = f"{site.state.require().url}/nacre/v1/host-tokens", {"X-Auth-Token": client.token}
    tokens = [send("POST", url, headers, b"{}").body["token"] for _ in range(AT_ONCE)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda each: site.raw(each[1], f"crowd-{each[0]}", tmp_path / f"c{each[0]}"), enumerate(tokens)))
    assert len({answer["hosts"][0]["host_id"] for answer in found}) == AT_ONCE
    rows = {name: row for name, row in site.hosts().items() if name.startswith("crowd-")}
    assert len(rows) == AT_ONCE
    assert {row["acceptance"] for row in rows.values()} == {"waiting"}
    for name in rows:
        send("DELETE", f"{site.state.require().url}/nacre/v1/hosts/{name}", headers)

    joined, _ = site.join("many", hosts=AT_ONCE)
    accepted = [row for name, row in site.hosts().items() if name.startswith("many-")]
    assert [row["acceptance"] for row in accepted] == ["accepted"] * AT_ONCE
    nacre("down", "--purge", "--state", str(joined.dir))
    for row in accepted:
        wait_for(lambda name=row["hostname"]: removes(site, name), "the host to be struck out")


def test_a_token_for_one_is_not_for_three(site: Site) -> None:
    place, said = site.join("three", "--simulate", "3", token=site.token(), code=1)
    assert "for 1 host, not for 3" in said
    assert not place.dir.exists()


def test_an_expired_token_and_a_strange_one_are_refused(site: Site, tmp_path: Path) -> None:
    token = site.token()
    with sqlite3.connect(site.state.api / "nacre.sqlite", timeout=30) as books:
        books.execute("UPDATE host_tokens SET expires_at = expires_at - 7200 WHERE used_at IS NULL")
    books.close()
    with pytest.raises(ApiError, match="has expired"):
        site.raw(token, "late", tmp_path / "late")
    secret, fingerprint = parse_token(token)
    with pytest.raises(ApiError, match="does not know the token"):
        site.raw(f"{secret[::-1]}.{fingerprint}", "strange", tmp_path / "strange")
    body = {"secret": secret[::-1], "hosts": [{"csr": "none", "hostname": "strange"}]}
    headers, context = {"Content-Type": "application/json"}, verifying(tmp_path / "strange" / "authority.pem")
    with pytest.raises(ApiError, match="does not know the token"):  # Before anything is made of its requests.
        send("POST", f"{site.url}/enrol", headers, json.dumps(body).encode(), context=context)
    for ttl in ("59s", "8d", "x"):
        assert site.nacre("host", "token", "--ttl", ttl, code=2 if ttl == "x" else 1)


def test_nothing_is_told_to_a_cloud_with_another_fingerprint(site: Site) -> None:
    token = site.token()
    secret, fingerprint = parse_token(token)
    place, said = site.join("pinned", token=f"{secret}.{fingerprint[::-1]}", code=1)
    assert "Nothing was sent to it" in said
    assert not place.dir.exists()
    joined, _ = site.join("pinned", token=token)
    nacre("down", "--purge", "--state", str(joined.dir))
    wait_for(lambda: removes(site, "pinned-0000"), "the host to be struck out")


def test_a_clock_that_is_off_by_an_hour_is_named() -> None:
    check_clock(1_000_000.0, 1_000_100.0)
    for ours, word in ((1_003_600.0, "60 minutes ahead of"), (996_400.0, "60 minutes behind")):
        with pytest.raises(Exception, match=word):
            check_clock(1_000_000.0, ours)


def test_a_host_that_its_node_finds_unfit_gets_no_servers(site: Site, tmp_path: Path) -> None:
    issued = site.raw(site.token(), "unfit", tmp_path / "keys")["hosts"][0]
    facts = tmp_path / "facts"
    facts.mkdir()
    (facts / "unfit.json").write_text(json.dumps({"simulated_unfit": "container runtime: crun is not installed"}))
    keys = tmp_path / "keys"
    config = NodeConfig(
        host_id=issued["host_id"],
        cloud_id="beef",
        state_dir=str(tmp_path),
        simulated_hosts=1,
        joined=(JoinedHost(issued["host_id"], "unfit", str(keys / "cert.pem"), str(keys / "key.pem")),),
        gateway_url=site.url,
        authority_file=str(keys / "authority.pem"),
        facts=(str(facts),),
    )
    (tmp_path / "node.json").write_bytes(msgspec.json.encode(config))

    with node(tmp_path):
        wait_for(lambda: site.hosts()["unfit"]["acceptance"] == "failed", "the examination to fail")
        assert "crun is not installed" in site.nacre("host", "list")
        client = site.admin()
        server = site.boot(client, "unfit")
        await_status(client, server, "ERROR")
        fault = client.get("compute", f"/servers/{server}")["server"]["fault"]["message"]
        assert "not accepted" in fault, fault
        client.request("DELETE", "compute", f"/servers/{server}")
    (facts / "unfit.json").unlink()
    with node(tmp_path):
        wait_for(lambda: site.hosts()["unfit"]["acceptance"] == "accepted", "the examination to pass")
        server = site.boot(client, "unfit")
        await_status(client, server, "ACTIVE")
        client.request("DELETE", "compute", f"/servers/{server}")
        wait_for(lambda: removes(site, "unfit"), "the host to be struck out")


class node:
    """A node process over a configuration of the test's."""

    def __init__(self, place: Path) -> None:
        self._command = [sys.executable, "-m", "nacre.node", "--config", str(place / "node.json")]

    def __enter__(self) -> None:
        self._process = subprocess.Popen(self._command)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)


def test_only_an_administrator_lets_hosts_in(site: Site) -> None:
    client = connect(site.state, "nacre")
    client.authenticate()
    base = f"{site.state.require().url}/nacre/v1"
    for method, path in (
        ("POST", "/host-tokens"),
        ("GET", "/hosts"),
        ("GET", "/hosts/sim-0000"),
        ("PUT", "/hosts/sim-0000/cordon"),
        ("DELETE", "/hosts/sim-0000/cordon"),
        ("PUT", "/hosts/sim-0000/drain"),
        ("DELETE", "/hosts/sim-0000"),
    ):
        with pytest.raises(ApiError) as refused:
            send(method, f"{base}{path}", {"X-Auth-Token": client.token}, b"{}")
        assert refused.value.status == 403, (method, path)
    assert "own machine" in site.nacre("host", "remove", "sim-0000", code=1)
