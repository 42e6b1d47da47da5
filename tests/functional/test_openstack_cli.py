"""The unmodified `openstack` client and openstacksdk, against a cloud of two processes with a simulated host."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openstack
import pytest

from tests.processes import Processes

COMMAND_WAIT_S = 120.0
IMAGE_BYTES = b"\0" * 65_536


@dataclass
class Shell:
    """Somebody at a terminal with an openrc."""

    environment: dict[str, str]

    def __call__(self, *words: str) -> Any:
        """A command's answer as JSON; None when it says nothing."""
        command = [str(Path(sys.executable).with_name("openstack")), *words]
        if any(verb in words for verb in ("list", "show", "create", "issue")):
            command += ["-f", "json"]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=COMMAND_WAIT_S)
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout) if command[-1] == "json" else None

    def fails(self, *words: str) -> str:
        command = [str(Path(sys.executable).with_name("openstack")), *words]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=COMMAND_WAIT_S)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def admin(self) -> "Shell":
        names = {"OS_USERNAME": "admin", "OS_PASSWORD": "admin-secret", "OS_PROJECT_NAME": "admin"}
        return Shell({**self.environment, **names})


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    running = Processes(tmp_path_factory.mktemp("state"), cloud_id="c11e").up()
    yield running
    running.down()


@pytest.fixture(scope="module")
def shell(processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    openrc = {
        "OS_AUTH_URL": f"{processes.url}/identity/v3",
        "OS_USERNAME": "demo",
        "OS_PASSWORD": "demo-secret",
        "OS_PROJECT_NAME": "demo",
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_DOMAIN_NAME": "Default",
        "OS_REGION_NAME": "RegionOne",
        "OS_IDENTITY_API_VERSION": "3",
        "HOME": str(tmp_path_factory.mktemp("home")),
    }
    return Shell({**kept, **openrc})


@pytest.fixture(scope="module")
def image(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image that everybody may boot."""
    file = tmp_path_factory.mktemp("image") / "image.raw"
    file.write_bytes(IMAGE_BYTES)
    how = ("--public", "--disk-format", "raw", "--container-format", "docker", "--file", str(file))
    made = shell.admin()("image", "create", "tiny", *how)
    shown = shell("image", "show", "tiny")
    assert (made["id"], shown["status"], shown["size"]) == (shown["id"], "active", len(IMAGE_BYTES))
    return str(shown["id"])


def test_from_a_token_to_a_server_and_back(shell: Shell, image: str, tmp_path: Path) -> None:
    assert shell("token", "issue")["id"].startswith("gAAAA")
    shell.admin()("flavor", "create", "--ram", "64", "--vcpus", "1", "--disk", "0", "crumb")
    make_network(shell)
    key = tmp_path / "id.pub"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "id")], check=True)
    assert shell("keypair", "create", "--public-key", str(key), "mine")["name"] == "mine"
    script = tmp_path / "user-data"
    script.write_text("#!/bin/sh\necho hello\n")
    things = ("--flavor", "crumb", "--image", "tiny", "--network", "inner", "--key-name", "mine", "--security-group", "web")
    made = shell("server", "create", *things, "--user-data", str(script), "--property", "a=b", "--wait", "first")
    assert made["status"] == "ACTIVE"
    listed = shell("server", "list")
    assert [(server["Name"], server["Image"], server["Flavor"]) for server in listed] == [("first", "tiny", "crumb")]
    shown = shell("server", "show", "first")
    address = shown["addresses"]["inner"][0]
    assert address.startswith("10.88.0.")
    assert (shown["key_name"], shown["properties"], shown["OS-EXT-STS:power_state"]) == ("mine", {"a": "b"}, 1)
    floating = shell("floating", "ip", "create", "public")["floating_ip_address"]
    shell("server", "add", "floating", "ip", "first", floating)
    assert set(shell("server", "show", "first")["addresses"]["inner"]) == {address, floating}
    take_back(shell, floating)


def make_network(shell: Shell) -> None:
    """A network that reaches the outside, and a security group that lets the web in."""
    assert shell("network", "create", "inner")["status"] == "ACTIVE"
    assert shell("subnet", "create", "--network", "inner", "--subnet-range", "10.88.0.0/24", "inner")["gateway_ip"] == "10.88.0.1"
    shell("router", "create", "way-out")
    shell("router", "set", "--external-gateway", "public", "way-out")
    shell("router", "add", "subnet", "way-out", "inner")
    assert shell("router", "show", "way-out")["external_gateway_info"]["enable_snat"] is True
    shell("security", "group", "create", "web")
    rule = shell("security", "group", "rule", "create", "--protocol", "tcp", "--dst-port", "80", "web")
    assert (rule["protocol"], rule["port_range_min"], rule["port_range_max"]) == ("tcp", 80, 80)


def take_back(shell: Shell, floating: str) -> None:
    assert "in use" in shell.fails("security", "group", "delete", "web").lower()
    shell("server", "delete", "--wait", "first")
    assert shell("server", "list") == []
    assert [ip["Port"] for ip in shell("floating", "ip", "list")] == [None]
    shell("floating", "ip", "delete", floating)
    shell("router", "remove", "subnet", "way-out", "inner")
    shell("router", "delete", "way-out")
    shell("network", "delete", "inner")
    shell("security", "group", "delete", "web")
    shell("keypair", "delete", "mine")
    assert [network["Name"] for network in shell("network", "list")] == ["public"]


def test_what_the_client_says_of_a_wrong_name(shell: Shell, image: str) -> None:
    assert "nothing" in shell.fails("server", "show", "nothing")
    wrong = Shell({**shell.environment, "OS_PASSWORD": "wrong"})
    assert "401" in wrong.fails("token", "issue")
    assert "403" in shell.fails("flavor", "create", "--ram", "64", "forbidden")


def test_openstacksdk_boots_a_server_with_a_floating_ip(processes: Processes, image: str) -> None:
    """`auto_ip` asks for a floating IP and waits for it to be there."""
    conn = openstack.connect(
        auth_url=f"{processes.url}/identity/v3",
        username="demo",
        password="demo-secret",
        project_name="demo",
        user_domain_name="Default",
        project_domain_name="Default",
        region_name="RegionOne",
    )
    network = conn.create_network("sdk")
    subnet = conn.create_subnet(network.id, cidr="10.89.0.0/24", subnet_name="sdk")
    public = conn.get_network("public")
    router = conn.create_router("sdk", ext_gateway_net_id=public.id)
    conn.add_router_interface(router, subnet_id=subnet.id)
    server = conn.create_server("sdk", image="tiny", flavor="m1.nano", network="sdk", wait=True, auto_ip=True, timeout=120)
    assert server.status == "ACTIVE"
    server = conn.get_server("sdk")
    assert server.private_v4.startswith("10.89.0.")
    assert server.public_v4.startswith(f"{processes.external}.")
    assert conn.delete_server("sdk", wait=True, delete_ips=True, timeout=120)
    assert list(conn.network.ips()) == []
    conn.remove_router_interface(router, subnet_id=subnet.id)
    assert conn.delete_router(router.id)
    assert conn.delete_network(network.id)
    conn.close()
