"""What the README promises, with the unmodified `openstack` client, from the image to the page that a server serves, and then no trace."""

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import free_port, wait_for

pytestmark = pytest.mark.root

CLONE = Path(__file__).resolve().parents[2]
PAGE = "a page of its own"
USER_DATA = f"#!/bin/sh\nmkdir -p /var/www && echo '{PAGE}' > /var/www/index.html\nhttpd -p 80 -h /var/www\n"
COMMAND_S = 180


class Cloud:
    """A cloud by `nacre up`, and the client that is pointed at it."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "cloud"
        self.env = {**os.environ, "PYTHONPATH": f"{CLONE / 'src'}"}

    def nacre(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "nacre.cli", arguments[0], "--state", str(self.state), *arguments[1:]]
        return self._run(command, self.env)

    def openstack(self, *arguments: str, cloud: str = "nacre-admin") -> Any:
        env = {**self.env, "OS_CLIENT_CONFIG_FILE": str(self.state / "clouds.yaml"), "OS_CLOUD": cloud}
        client = Path(sys.executable).parent / "openstack"
        shows = arguments[-1] == "json"
        output = self._run([str(client), *arguments], env)
        return json.loads(output) if shows else output

    def _run(self, command: list[str], env: dict[str, str]) -> str:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=COMMAND_S, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with tempfile.TemporaryDirectory(prefix="nacre-first-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        cloud = Cloud(Path(directory))
        before = traces()
        cloud.nacre("up", "--detach", "--port", str(free_port()))
        try:
            yield cloud
        finally:
            cloud.nacre("down", "--purge")
        assert not cloud.state.exists()
        assert traces() - before == set()
        assert directory not in Path("/proc/self/mountinfo").read_text()


def traces() -> set[str]:
    """Links, namespaces, tables and cgroups: what a cloud could leave on a machine."""
    links = {f"link {path.name}" for path in Path("/sys/class/net").iterdir()}
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout.splitlines()
    groups = {f"cgroup {path.parent.name}/{path.name}" for path in Path("/sys/fs/cgroup").glob("*/nacre-*")}
    return links | set(tables) | groups


def fetch(address: str) -> str:
    try:
        with urllib.request.urlopen(f"http://{address}/", timeout=5) as page:
            return str(page.read().decode())
    except OSError:
        return ""


def test_from_an_image_to_a_page_and_back(cloud: Cloud, tmp_path: Path) -> None:
    openstack = cloud.openstack
    assert openstack("token", "issue", "-f", "json")["id"]
    image = tmp_path / "busybox.tar"
    from nacre.cli.busybox import write_tar

    with image.open("wb") as file:
        write_tar(file)
    made = ("image", "create", "mine", "--file", str(image), "--container-format", "docker", "--disk-format", "raw", "-f", "json")
    assert openstack(*made)["name"] == "mine"
    openstack("network", "create", "web")
    openstack("subnet", "create", "web", "--network", "web", "--subnet-range", "10.1.0.0/24")
    openstack("router", "create", "web", "--external-gateway", "public")
    openstack("router", "add", "subnet", "web", "web")
    openstack("security", "group", "create", "web")
    openstack("security", "group", "rule", "create", "web", "--protocol", "tcp", "--dst-port", "80")
    openstack("keypair", "create", "mine", "--private-key", str(tmp_path / "key"))
    openstack("flavor", "create", "small", "--ram", "64", "--vcpus", "1", "--disk", "1")
    script = tmp_path / "page.sh"
    script.write_text(USER_DATA)
    create = ["server", "create", "web", "--image", "mine", "--flavor", "small", "--network", "web", "--security-group", "web"]
    server = openstack(*create, "--key-name", "mine", "--user-data", str(script), "--wait", "-f", "json")
    assert server["status"] == "ACTIVE"
    address = openstack("floating", "ip", "create", "public", "-f", "json")["floating_ip_address"]
    openstack("server", "add", "floating", "ip", "web", address)
    assert PAGE in wait_for(lambda: fetch(address), "the page by the floating IP")
    assert wait_for(lambda: openstack("console", "log", "show", "web").strip(), "something on the console")
    events = openstack("server", "event", "list", "web", "-f", "json")
    assert {event["Action"] for event in events} >= {"create"}
    cloud.nacre("audit")
    openstack("server", "delete", "web", "--wait")
    openstack("floating", "ip", "delete", address)
    cloud.nacre("audit")


def test_the_sdk_makes_a_server_with_a_floating_ip(cloud: Cloud) -> None:
    """openstacksdk's create_server(wait=True, auto_ip=True), as CI suites call it."""
    story = (
        "import openstack\n"
        "conn = openstack.connect()\n"
        "network = conn.create_network('sdk')\n"
        "subnet = conn.create_subnet('sdk', cidr='10.2.0.0/24', subnet_name='sdk')\n"
        "public = conn.get_network('public')\n"
        "router = conn.create_router(name='sdk', ext_gateway_net_id=public.id)\n"
        "conn.add_router_interface(router, subnet_id=subnet.id)\n"
        "server = conn.create_server('sdk', image='busybox', flavor='m1.nano', network='sdk', wait=True, auto_ip=True)\n"
        "assert server.status == 'ACTIVE', server\n"
        "floating = [a['addr'] for a in server.addresses['sdk'] if a['OS-EXT-IPS:type'] == 'floating']\n"
        "assert len(floating) == 1, server\n"
        "assert conn.delete_server('sdk', wait=True, delete_ips=True)\n"
    )
    env = {**cloud.env, "OS_CLIENT_CONFIG_FILE": str(cloud.state / "clouds.yaml"), "OS_CLOUD": "nacre-admin"}
    done = subprocess.run([sys.executable, "-c", story], env=env, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
