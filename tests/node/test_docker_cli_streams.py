"""The docker CLI and docker-py at the streams of a real cloud's containers."""

import asyncio
import json
import os
import socket
import struct
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import docker
import pytest

from nacre.node.config import load
from nacre.node.purge import purge
from tests.cgroups import cgroups
from tests.node.containers_support import busybox_layer, oci_archive
from tests.node.dockercli import site
from tests.processes import Processes, wait_for
from tests.support import Client

pytestmark = pytest.mark.root
BYTES = {"Content-Type": "application/octet-stream"}
TALKER = "echo ready; while read line; do echo heard $line; done"


class Cloud:
    """A cloud of one real host, and docker-py pointed at it."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.client: Client = processes.login("demo", "demo")
        self.engine = docker.APIClient(base_url=f"{processes.url}/docker", version="1.45", timeout=60)
        self.engine.headers["X-Auth-Token"] = self.client.token

    def server(self, name: str, *command: str) -> str:
        """A server of busybox with the command, up and running; its id."""
        body = {"name": name, "disk_format": "raw", "container_format": "docker"}
        image = self.client("POST", "/image/v2/images", body).json["id"]
        data = oci_archive([busybox_layer()], {"Cmd": list(command)})
        assert self.client("PUT", f"/image/v2/images/{image}/file", data, BYTES).status == 204
        server = {"name": name, "imageRef": image, "flavorRef": self.flavor(), "networks": "none"}
        headers = {"OpenStack-API-Version": "compute 2.37"}
        made = self.client("POST", "/compute/v2.1/servers", {"server": server}, headers)
        assert made.status == 202, made.body
        ident: str = made.json["server"]["id"]
        wait_for(lambda: self.status(ident) == "ACTIVE", "the server to run")
        return ident

    def flavor(self) -> str:
        found = self.client("GET", "/compute/v2.1/flavors").json["flavors"]
        return str(found[0]["id"])

    def status(self, ident: str) -> str:
        shown = self.client("GET", f"/compute/v2.1/servers/{ident}").json["server"]
        assert shown["status"] != "ERROR", shown
        return str(shown["status"])


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with tempfile.TemporaryDirectory(prefix="nacre-streams-", dir="/var/tmp") as directory:
        state = Path(directory)
        state.chmod(0o755)
        processes = Processes(state, simulate=0, cloud_id="57ea", external="198.18.87").up()
        try:
            yield Cloud(processes)
        finally:
            processes.down()
            print(processes.logs())
            asyncio.run(purge(load(state / "run/node.json")))
        assert directory not in Path("/proc/self/mountinfo").read_text()
        assert not cgroups("nacre-57ea*")


@pytest.fixture(scope="module")
def server(cloud: Cloud) -> str:
    return cloud.server("talker", "sh", "-c", TALKER)


def test_exec_by_docker_py(cloud: Cloud, server: str) -> None:
    engine = cloud.engine
    made = engine.exec_create("talker", ["sh", "-c", "echo out; echo err >&2; exit 5"], environment={"A": "b"}, workdir="/tmp")[
        "Id"
    ]
    before = engine.exec_inspect(made)
    assert (before["Running"], before["ExitCode"], before["ProcessConfig"]["entrypoint"]) == (False, None, "sh")
    assert before["ContainerID"].startswith(server.replace("-", ""))
    assert engine.exec_start(made, demux=True) == (b"out\n", b"err\n")
    after = engine.exec_inspect(made)
    assert (after["Running"], after["ExitCode"]) == (False, 5)
    with pytest.raises(docker.errors.APIError, match="already run") as refused:
        engine.exec_start(made)
    assert refused.value.status_code == 409

    made = engine.exec_create(server, "true")["Id"]
    stranger = cloud.processes.login("admin", "admin")
    for method, what, body in (("GET", "json", None), ("POST", "start", {}), ("POST", "resize?h=1&w=1", None)):
        hidden = stranger(method, f"/docker/exec/{made}/{what}", body)
        assert (hidden.status, hidden.json["message"]) == (404, f"No such exec instance: {made}"), what
    engine.exec_start(made)
    assert engine.exec_inspect(made)["ExitCode"] == 0

    made = engine.exec_create(server, "nope")["Id"]
    text = b'OCI runtime exec failed: exec failed: unable to start container process: exec: "nope": executable file not found in $PATH'
    assert engine.exec_start(made).startswith(text)
    assert engine.exec_inspect(made)["ExitCode"] == 127

    made = engine.exec_create("talker", ["sh", "-c", "sleep 0.3; exit 9"])["Id"]
    engine.exec_start(made, detach=True)
    assert engine.exec_inspect(made)["Running"]
    wait_for(lambda: engine.exec_inspect(made)["ExitCode"] == 9, "the end of what runs by itself")

    for ref in ("nothing-here", "0" * 64):
        with pytest.raises(docker.errors.NotFound, match=f"No such container: {ref}"):
            engine.exec_create(ref, "true")
    with pytest.raises(docker.errors.NotFound, match="No such exec instance: nope"):
        engine.exec_inspect("nope")


def test_a_terminal_by_docker_py(cloud: Cloud, server: str) -> None:
    engine = cloud.engine
    made = engine.exec_create(server, "sh", tty=True, stdin=True)["Id"]
    way = _raw(engine.exec_start(made, tty=True, socket=True))
    engine.exec_resize(made, height=33, width=99)
    way.sendall(b"stty size; exit 4\n")
    assert b"33 99" in _read_to_end(way)
    wait_for(lambda: engine.exec_inspect(made)["ExitCode"] == 4, "the exit status")

    made = engine.exec_create(server, "cat", tty=True, stdin=True)["Id"]
    way = _raw(engine.exec_start(made, tty=True, socket=True))
    way.sendall(b"\x10\x11")
    assert _read_to_end(way) == b"", "the keys of old detach the client"
    assert engine.exec_inspect(made)["Running"]


def test_a_half_closed_stdin(cloud: Cloud, server: str) -> None:
    engine = cloud.engine
    made = engine.exec_create(server, ["sh", "-c", "cat; echo; echo over"], stdin=True)["Id"]
    way = _raw(engine.exec_start(made, socket=True))
    data = os.urandom(3 << 20)
    thread = threading.Thread(target=_send_and_close, args=(way, data))
    thread.start()
    frames = _read_to_end(way)
    thread.join()
    assert _payload(frames) == data + b"\nover\n"


def test_attach_and_logs_by_docker_py(cloud: Cloud, server: str) -> None:
    engine = cloud.engine
    follow = engine.logs("talker", stream=True, follow=True)
    way = _raw(engine.attach_socket("talker", params={"stdin": 1, "stdout": 1, "stream": 1}))
    way.sendall(b"hello\n")
    wait_for(lambda: b"heard hello" in engine.logs("talker"), "what was typed")
    seen = b""
    while b"heard hello" not in seen:
        seen += way.recv(1000)
    way.close()  # It vanishes.
    seen = b""
    while b"heard hello" not in seen:
        seen += next(follow)
    row = engine.logs("talker", tail=1, timestamps=True)
    assert row.split()[1:] == [b"heard", b"hello"]
    assert engine.logs("talker", since=int(time.time()) + 100) == b""
    with pytest.raises(docker.errors.APIError, match="at least one stream"):
        engine.logs("talker", stdout=False, stderr=False)
    engine.resize("talker", 20, 60)


def test_attach_by_a_websocket(cloud: Cloud, server: str) -> None:
    asyncio.run(_by_websocket(cloud))


async def _by_websocket(cloud: Cloud) -> None:
    headers = {"X-Auth-Token": cloud.client.token}
    async with aiohttp.ClientSession(cloud.processes.url, headers=headers, timeout=aiohttp.ClientTimeout(60)) as session:
        for version, kind in (("v1.50", aiohttp.WSMsgType.BINARY), ("v1.24", aiohttp.WSMsgType.TEXT)):
            path = f"/docker/{version}/containers/talker/attach/ws?stream=1&stdin=1&stdout=1&stderr=1"
            async with session.ws_connect(path) as way:
                await way.send_str(f"text {version}\n")
                await way.send_bytes(b"bytes\n")
                seen = b""
                while b"heard bytes" not in seen:
                    message = await way.receive(60)
                    assert message.type is kind, message
                    seen += message.data if isinstance(message.data, bytes) else message.data.encode()
                assert f"heard text {version}".encode() in seen
        path = "/docker/v1.50/containers/talker/attach/ws?logs=1&stdout=1"
        async with session.ws_connect(path) as way:
            earlier = b"".join([message.data async for message in way])
        assert b"heard text v1.24" in earlier
        assert way.close_code == 1000
        async with session.get(path) as refused:
            assert (refused.status, "handshake" in (await refused.json())["message"]) == (400, True)
        with pytest.raises(aiohttp.WSServerHandshakeError) as missing:
            await session.ws_connect("/docker/v1.50/containers/nobody/attach/ws?stream=1")
        assert missing.value.status == 404
    other = cloud.processes.login("admin", "admin")
    async with aiohttp.ClientSession(cloud.processes.url, headers={"X-Auth-Token": other.token}) as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as hidden:
            await session.ws_connect("/docker/v1.50/containers/talker/attach/ws?stream=1&stdout=1")
        assert hidden.value.status == 404


def _raw(made: Any) -> socket.socket:
    found: socket.socket = getattr(made, "_sock", made)
    found.settimeout(60)
    return found


def _read_to_end(way: socket.socket) -> bytes:
    found = b""
    while data := way.recv(1 << 20):
        found += data
    return found


def _send_and_close(way: socket.socket, data: bytes) -> None:
    way.sendall(data)
    way.shutdown(socket.SHUT_WR)


def _payload(frames: bytes) -> bytes:
    parts, at = [], 0
    while at < len(frames):
        size = struct.unpack_from(">xxxxI", frames, at)[0]
        parts.append(frames[at + 8 : at + 8 + size])
        at += 8 + size
    return b"".join(parts)


def test_files_figures_and_processes_by_the_cli() -> None:
    with site("nacre-files-") as cloud:
        cloud.say(
            "run", "-d", "--name", "box", "-v", "kept:/data", "busybox", "sh", "-c", "echo hi > /data/a; echo up; exec sleep 1000"
        )
        wait_for(lambda: cloud.say("logs", "box") == "up", "its word")
        folder = cloud.state.parent / "files"
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "one").write_text("one\n")
        cloud.say("cp", str(folder / "sub"), "box:/root/")
        assert cloud.say("exec", "box", "cat", "/root/sub/one") == "one"
        cloud.say("cp", "box:/data/a", str(folder / "back"))
        assert (folder / "back").read_text() == "hi\n"
        assert "Could not find the file /nope in container box" in cloud.docker("cp", "box:/nope", str(folder)).err
        assert {"A /root/sub", "A /root/sub/one"} <= set(cloud.say("diff", "box").splitlines())
        assert "sleep 1000" in cloud.say("top", "box")
        assert "sleep" in cloud.say("top", "box", "-o", "pid,comm")
        shown = json.loads(cloud.say("stats", "--no-stream", "--format", "json", "box"))
        assert (shown["Name"], shown["PIDs"]) == ("box", "1")
        assert "virtual" in cloud.say("ps", "--size", "--format", "{{.Size}}")
        assert cloud.say("inspect", "--size", "--format", "{{.SizeRw}}", "box") == "4"
        cloud.say("export", "box", "-o", str(folder / "all.tar"))
        with tarfile.open(folder / "all.tar") as tar:
            assert "root/sub/one" in tar.getnames()
        cloud.say("commit", "box", "mine:1")
        assert cloud.say("run", "--rm", "mine:1", "cat", "/root/sub/one") == "one"
        cloud.say("stop", "-t", "1", "box")
        cloud.say("cp", "box:/root/sub/one", str(folder / "again"))
        assert (folder / "again").read_text() == "one\n"
        cloud.say("cp", str(folder / "sub"), "box:/data/")
        cloud.say("cp", "box:/data", str(folder / "data"))
        assert {path.name for path in (folder / "data").iterdir()} == {"a", "sub"}
        assert cloud.say("run", "--rm", "-v", "kept:/there", "busybox", "cat", "/there/sub/one") == "one"
        assert json.loads(cloud.say("stats", "--no-stream", "--format", "json", "box"))["PIDs"] == "0"
