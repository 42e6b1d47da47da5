"""A real server, typed into by its serial console, over its unusual days: files, password, metadata, rescue, shelve; then the audit."""

import asyncio
import base64
import ctypes
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from nacre.node.config import load
from nacre.node.purge import purge
from tests.cgroups import cgroups
from tests.functional.test_compute_recovery import Cloud
from tests.functional.test_compute_servers import BASE
from tests.images import config, docker_archive
from tests.node.containers_support import busybox_layer
from tests.processes import Processes, wait_for

pytestmark = pytest.mark.root

TYPED_WAIT_S = 60.0
END = "the-end-of-it"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with tempfile.TemporaryDirectory(prefix="nacre-recovery-", dir="/var/tmp") as directory:
        state = Path(directory)
        state.chmod(0o755)
        processes = Processes(state, simulate=0, cloud_id="4e5d", external="198.18.96").up()
        try:
            yield _site(processes)
        finally:
            processes.down()
            print(processes.logs())
            asyncio.run(purge(load(state / "run/node.json")))
        assert directory not in Path("/proc/self/mountinfo").read_text()
        assert not cgroups("nacre-4e5d*")


def _site(processes: Processes) -> Cloud:
    """An image whose command is a shell on the console, and a network."""
    admin, member = processes.login("admin", "admin"), processes.login("demo", "demo")
    made = {"name": "shell", "disk_format": "raw", "container_format": "docker", "visibility": "public"}
    image = admin("POST", "/image/v2/images", made).json["id"]
    content = busybox_layer()
    data = docker_archive([(["shell:1"], config(content, Cmd=["/bin/sh", "-i"]), [content])])
    sent = admin("PUT", f"/image/v2/images/{image}/file", data, {"Content-Type": "application/octet-stream"})
    assert sent.status == 204, sent.body
    cloud = Cloud(admin, member, image, "")
    cloud.network = member("POST", "/network/v2.0/networks", {"network": {"name": "office"}}).json["network"]["id"]
    subnet = {"network_id": cloud.network, "cidr": "10.80.0.0/16", "ip_version": 4}
    assert member("POST", "/network/v2.0/subnets", {"subnet": subnet}).status == 201
    cloud.processes = processes
    return cloud


def run(cloud: Cloud, ident: str, command: str) -> str:
    """What a command says that is typed into the server's console."""
    console = {"remote_console": {"protocol": "serial", "type": "serial"}}
    answer = cloud.member("POST", f"{BASE}/servers/{ident}/remote-consoles", console, {"OpenStack-API-Version": "compute 2.6"})
    return asyncio.run(_type(answer.json["remote_console"]["url"], command))


async def _type(url: str, command: str) -> str:
    said = b""
    async with aiohttp.ClientSession() as session, session.ws_connect(url, protocols=("binary",)) as console:
        # The word is put together by the shell, so that its echo is not taken for its output.
        await console.send_bytes(f"{command}; echo '{END[:4]}''{END[4:]}'\r".encode())
        while END.encode() not in said:
            said += await console.receive_bytes(timeout=TYPED_WAIT_S)
    return said.decode(errors="replace").partition("\r\n")[2].partition(END)[0]


def matches(line: str, password: str) -> bool:
    """Whether a line of /etc/shadow is of that password."""
    found = line.split(":")[1]
    crypt: Any = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    return bool(crypt(password.encode(), found.encode()).decode() == found)


def test_a_real_servers_unusual_days(cloud: Cloud) -> None:
    motd = {"path": "/etc/motd", "contents": base64.b64encode(b"welcome").decode()}
    ident = cloud.create(adminPass="first-one", personality=[motd], config_drive=True, name="patient")
    assert "welcome" in run(cloud, ident, "cat /etc/motd")
    assert ident in run(cloud, ident, "cat /config-drive/openstack/latest/meta_data.json")
    assert matches(_shadow(cloud, ident), "first-one")
    assert cloud.act(ident, "changePassword", {"adminPass": "second-one"}).status == 202
    cloud.reach(ident, "ACTIVE")
    assert matches(_shadow(cloud, ident), "second-one")
    _tells_its_password(cloud, ident)
    run(cloud, ident, "echo precious >/root/note; echo broken >/etc/state")

    rescued = cloud.act(ident, "rescue", {"adminPass": "of-the-rescue"})
    assert rescued.json == {"adminPass": "of-the-rescue"}
    cloud.reach(ident, "RESCUE")
    assert matches(_shadow(cloud, ident), "of-the-rescue")
    assert "precious" in run(cloud, ident, "cat /rescue/root/note; echo mended >/rescue/etc/state")
    assert cloud.act(ident, "unrescue").status == 202
    cloud.reach(ident, "ACTIVE")
    assert "mended" in run(cloud, ident, "cat /etc/state")

    shown = cloud.admin("GET", f"{BASE}/servers/{ident}/diagnostics", None, {"OpenStack-API-Version": "compute 2.48"}).json
    assert shown["cpu_details"][0]["time"] > 0
    assert (shown["memory_details"]["maximum"], shown["num_nics"], shown["config_drive"]) == (64, 1, True)
    assert shown["nic_details"][0]["rx_packets"] is not None

    assert cloud.act(ident, "shelve").status == 202
    cloud.reach(ident, "SHELVED_OFFLOADED")
    cloud.sound()
    assert cloud.act(ident, "unshelve").status == 202
    cloud.reach(ident, "ACTIVE")
    assert "precious" in run(cloud, ident, "cat /root/note")
    wait_for(lambda: not cloud.images("patient-shelved"), "the image to go")
    cloud.delete(ident)
    cloud.sound()


def _shadow(cloud: Cloud, ident: str) -> str:
    said = run(cloud, ident, "cat /etc/shadow")
    return next(line.strip() for line in said.splitlines() if line.strip().startswith("root:"))


def _tells_its_password(cloud: Cloud, ident: str) -> None:
    """As cloudbase-init does: POST to the metadata service, once."""
    url = "http://169.254.169.254/openstack/latest/password"
    assert "409" in run(cloud, ident, f"wget -q -O - --post-data=c2VjcmV0 {url}; wget -O - --post-data=other {url} 2>&1")
    assert "c2VjcmV0" in run(cloud, ident, f"wget -q -O - {url}")
    path = f"{BASE}/servers/{ident}/os-server-password"
    assert cloud.member("GET", path).json == {"password": "c2VjcmV0"}
    assert cloud.member("DELETE", path).status == 204
    assert cloud.member("GET", path).json == {"password": ""}


def test_a_node_killed_in_the_middle_of_a_rescue_brings_it_about(cloud: Cloud) -> None:
    ident = cloud.create()
    assert cloud.act(ident, "rescue").status == 200
    cloud.processes.kill("node")
    cloud.processes.start("node")
    wait_for(cloud.processes.is_ready, "the node to be back")
    cloud.reach(ident, "RESCUE")
    assert cloud.act(ident, "unrescue").status == 202
    cloud.processes.kill("node")
    cloud.processes.start("node")
    wait_for(cloud.processes.is_ready, "the node to be back")
    cloud.reach(ident, "ACTIVE")
    cloud.delete(ident)
    cloud.sound()
