"""What the unmodified `openstack` client and openstacksdk do with servers beyond their usual life, on two simulated hosts."""

import os
from collections.abc import Iterator

import openstack
import pytest

from tests.functional.test_compute_recovery import _image
from tests.functional.test_openstack_cli import Shell
from tests.processes import Processes, wait_for


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    running = Processes(tmp_path_factory.mktemp("state"), simulate=2, cloud_id="c1e2").up()
    try:
        _image(running.login("admin", "admin"), "system")
        member = running.login("demo", "demo")
        network = member("POST", "/network/v2.0/networks", {"network": {"name": "office"}}).json["network"]["id"]
        subnet = {"network_id": network, "cidr": "10.79.0.0/16", "ip_version": 4}
        assert member("POST", "/network/v2.0/subnets", {"subnet": subnet}).status == 201
        yield running
    finally:
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
        "OS_COMPUTE_API_VERSION": "2.96",
        "HOME": str(tmp_path_factory.mktemp("home")),
    }
    return Shell({**kept, **openrc})


def reach(shell: Shell, name: str, status: str) -> None:
    wait_for(lambda: shell("server", "show", name)["status"] == status, f"{name} to be {status}")


def test_the_openstack_client_at_a_servers_unusual_days(shell: Shell) -> None:
    admin = shell.admin()
    things = ("--flavor", "m1.nano", "--image", "system", "--network", "office", "--config-drive", "True")
    made = shell("server", "create", *things, "--wait", "one")
    assert (made["status"], made["config_drive"]) == ("ACTIVE", "True")
    shell("server", "rescue", "--image", "system", "--password", "known", "one")
    reach(shell, "one", "RESCUE")
    shell("server", "unrescue", "one")
    reach(shell, "one", "ACTIVE")
    shell("server", "set", "--password", "another", "one")
    reach(shell, "one", "ACTIVE")
    shell("server", "shelve", "--wait", "one")
    reach(shell, "one", "SHELVED_OFFLOADED")
    assert [image["Name"] for image in shell("image", "list", "--name", "one-shelved")] == ["one-shelved"]
    shell("server", "unshelve", "--wait", "one")
    reach(shell, "one", "ACTIVE")
    assert shell("console", "url", "show", "--serial", "one")["url"].startswith("ws://")
    assert "Unavailable console type novnc" in shell.fails("console", "url", "show", "--novnc", "one")
    assert shell("server", "volume", "list", "one") == []
    shell("server", "lock", "--reason", "inventory", "one")
    assert shell("server", "show", "one")["locked_reason"] == "inventory"
    shell("server", "unlock", "one")
    host = admin("server", "show", made["id"])["OS-EXT-SRV-ATTR:host"]
    admin("compute", "service", "set", "--down", host, "nova-compute")
    # Not with --wait: this client looks for ACTIVE in capitals among statuses that it has made small.
    admin("--os-compute-api-version", "2.94", "server", "evacuate", made["id"])
    reach(shell, "one", "ACTIVE")
    admin("compute", "service", "set", "--up", host, "nova-compute")
    assert admin("server", "show", made["id"])["OS-EXT-SRV-ATTR:host"] != host
    away = admin("server", "show", made["id"])["OS-EXT-SRV-ATTR:host"]
    admin("server", "migrate", made["id"])
    reach(shell, "one", "VERIFY_RESIZE")
    assert admin("server", "show", made["id"])["OS-EXT-SRV-ATTR:host"] != away
    admin("server", "migration", "confirm", made["id"])
    reach(shell, "one", "ACTIVE")
    shell("server", "delete", "--wait", "one")


def test_openstacksdk_at_a_servers_unusual_days(processes: Processes) -> None:
    def connect(name: str) -> openstack.connection.Connection:
        return openstack.connect(
            auth_url=f"{processes.url}/identity/v3",
            username=name,
            password=f"{name}-secret",
            project_name=name,
            user_domain_name="Default",
            project_domain_name="Default",
            region_name="RegionOne",
            compute_default_microversion="2.96",
        )

    member, admin = connect("demo"), connect("admin")
    server = member.create_server(
        "two", image="system", flavor="m1.nano", network="office", wait=True, auto_ip=False, timeout=120
    )
    compute = member.compute
    compute.rescue_server(server.id)
    compute.wait_for_server(compute.get_server(server.id), status="RESCUE")
    compute.unrescue_server(server.id)
    compute.wait_for_server(compute.get_server(server.id))
    compute.change_server_password(server.id, "another")
    compute.wait_for_server(compute.get_server(server.id))
    compute.shelve_server(server.id)
    compute.wait_for_server(compute.get_server(server.id), status="SHELVED_OFFLOADED")
    compute.unshelve_server(server.id)
    compute.wait_for_server(compute.get_server(server.id))
    console = compute.create_server_remote_console(server.id, protocol="serial", type="serial")
    assert console.url.startswith("ws://")
    assert "simulated boot" in compute.get_server_console_output(server.id)["output"]
    assert admin.compute.get_server_diagnostics(server.id).memory_details["maximum"] == 64
    assert compute.fetch_server_security_groups(compute.get_server(server.id)).security_groups
    assert list(compute.volume_attachments(server.id)) == []
    assert list(admin.compute.server_migrations(server.id)) == []
    member.delete_server(server.id, wait=True)


def test_the_client_says_what_a_shelved_server_cannot(shell: Shell) -> None:
    things = ("--flavor", "m1.nano", "--image", "system", "--network", "office")
    shell("server", "create", *things, "--wait", "three")
    shell("server", "shelve", "--wait", "three")
    reach(shell, "three", "SHELVED_OFFLOADED")
    assert "vm_state shelved_offloaded" in shell.fails("server", "start", "three")
    shell("server", "delete", "--wait", "three")
    wait_for(lambda: shell("image", "list", "--name", "three-shelved") == [], "the image to go")
