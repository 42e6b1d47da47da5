"""Nova's filters, driven by the unmodified `openstack` client on three simulated hosts; and what `nacre server explain` says of each."""

import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.test_compute_clients import shell
from tests.functional.test_compute_recovery import _image
from tests.functional.test_openstack_cli import Shell
from tests.functional.test_scheduling import nacre
from tests.processes import Processes, wait_for

__all__ = ["shell"]

PLACEMENT = {"OpenStack-API-Version": "placement latest"}


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    running = Processes(tmp_path_factory.mktemp("state"), simulate=3, cloud_id="f17e").up()
    try:
        _image(running.login("admin", "admin"), "system")
        yield running
    finally:
        running.down()


@pytest.fixture
def operator(shell: Shell) -> Shell:
    return shell.admin()


def boot(shell: Shell, name: str, flavor: str = "m1.nano", image: str = "system", *more: str) -> dict[str, Any]:
    """The server once it has a host, or none was found."""
    ident = shell("server", "create", "--flavor", flavor, "--image", image, "--nic", "none", *more, name)["id"]
    found: dict[str, Any] = wait_for(
        lambda: (seen := shell("server", "show", ident))["status"] in ("ACTIVE", "ERROR") and seen, f"{name} to be somewhere"
    )
    return found


def host_of(operator: Shell, server: dict[str, Any]) -> str:
    """Its host; empty where none was found."""
    return str(operator("server", "show", server["id"])["OS-EXT-SRV-ATTR:hypervisor_hostname"] or "")


def explained(processes: Processes, server: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(nacre(processes, "server", "explain", server["id"], "-f", "json"))
    return found


def dropped(decision: dict[str, Any]) -> dict[str, int]:
    return {each["filter"]: each["count"] for each in decision["dropped"]}


def test_aggregates_choose_by_extra_specs_and_keep_hosts_for_tenants(processes: Processes, shell: Shell, operator: Shell) -> None:
    operator("aggregate", "create", "--property", "disk=ssd", "fast")
    operator("aggregate", "add", "host", "fast", "sim-0001")
    operator("flavor", "create", "--ram", "64", "--vcpus", "1", "--disk", "0", "fast")
    operator("flavor", "set", "--property", "aggregate_instance_extra_specs:disk=<or> nvme <or> ssd", "fast")
    fast = boot(shell, "fast", "fast")
    assert host_of(operator, fast) == "sim-0001"
    (decision,) = explained(processes, fast)
    assert (decision["action"], decision["hostname"], decision["hosts"]) == ("create", "sim-0001", 3)
    assert dropped(decision) == {"aggregate_extra_specs": 2}
    assert sorted(decision["dropped"][0]["hosts"]) == ["sim-0000", "sim-0002"]
    assert [each["hostname"] for each in decision["best"]] == ["sim-0001"]

    # The hosts of an aggregate for another project are none for this one, and that project has them beside all others.
    admin_project = operator("project", "show", "admin")["id"]
    operator("aggregate", "set", "--property", f"filter_tenant_id={admin_project}", "fast")
    refused = boot(shell, "refused", "fast")
    assert refused["status"] == "ERROR"
    assert "1 kept for other projects" in refused["fault"]["message"]
    (failed,) = explained(processes, refused)
    assert (failed["hostname"], dropped(failed)) == (None, {"aggregate_extra_specs": 2, "tenancy": 1})
    assert host_of(operator, boot(operator, "theirs", "fast")) == "sim-0001"
    operator("aggregate", "unset", "--property", "filter_tenant_id", "fast")
    for name in ("fast", "refused"):
        shell("server", "delete", "--wait", name)
    operator("server", "delete", "--wait", "theirs")


def test_a_strategy_and_ratios_of_an_aggregate_hold_for_its_hosts(processes: Processes, shell: Shell, operator: Shell) -> None:
    """Its two hosts are packed: the first is filled to what the aggregate promises of it, and then the other one."""
    operator("aggregate", "create", "--property", "scheduler_strategy=binpack", "--property", "kind=packed", "packed")
    for name in ("sim-0000", "sim-0002"):
        operator("aggregate", "add", "host", "packed", name)
    operator("flavor", "create", "--ram", "64", "--vcpus", "2", "--disk", "0", "packed")
    operator("flavor", "set", "--property", "aggregate_instance_extra_specs:kind=packed", "packed")
    vcpus = _vcpus(processes)
    operator("aggregate", "set", "--property", f"cpu_allocation_ratio={4.5 / vcpus}", "packed")
    servers = [boot(shell, f"p{number}", "packed") for number in range(5)]
    places = [host_of(operator, server) for server in servers]
    first, second = places[0], places[2]
    assert places == [first, first, second, second, ""]
    assert {first, second} == {"sim-0000", "sim-0002"}
    (last,) = explained(processes, servers[4])
    assert dropped(last) == {"aggregate_extra_specs": 1, "vcpus": 2}
    (second_of_first,) = explained(processes, servers[1])
    best = second_of_first["best"]
    assert [each["hostname"] for each in best] == [first, second]
    assert best[0]["weight"] > best[1]["weight"]
    assert {each["strategy"] for each in best} == {"binpack"}
    assert best[0]["used"]["vcpus"] == 2
    shell("server", "delete", "--wait", *(f"p{number}" for number in range(5)))


def _vcpus(processes: Processes) -> int:
    admin = processes.login("admin", "admin")
    (provider,) = admin("GET", "/placement/resource_providers?name=sim-0000", headers=PLACEMENT).json["resource_providers"]
    path = f"/placement/resource_providers/{provider['uuid']}/inventories/VCPU"
    return int(admin("GET", path, headers=PLACEMENT).json["total"])


def test_traits_are_required_and_forbidden_by_flavors_and_images(processes: Processes, shell: Shell, operator: Shell) -> None:
    admin = processes.login("admin", "admin")
    (provider,) = admin("GET", "/placement/resource_providers?name=sim-0002", headers=PLACEMENT).json["resource_providers"]
    assert admin("PUT", "/placement/traits/CUSTOM_GPU", None, PLACEMENT).status == 201
    body = {"resource_provider_generation": provider["generation"], "traits": ["CUSTOM_GPU"]}
    assert admin("PUT", f"/placement/resource_providers/{provider['uuid']}/traits", body, PLACEMENT).status == 200
    operator("flavor", "create", "--ram", "64", "--vcpus", "1", "--disk", "0", "--property", "trait:CUSTOM_GPU=required", "gpu")
    operator(
        "flavor", "create", "--ram", "64", "--vcpus", "1", "--disk", "0", "--property", "trait:CUSTOM_GPU=forbidden", "plain"
    )
    operator("flavor", "create", "--ram", "64", "--vcpus", "1", "--disk", "0", "--property", "resources:CUSTOM_FPGA=1", "fpga")
    assert host_of(operator, boot(shell, "gpu", "gpu")) == "sim-0002"
    assert all(host_of(operator, boot(shell, f"plain{number}", "plain")) != "sim-0002" for number in range(3))
    fpga = boot(shell, "fpga", "fpga")
    assert (fpga["status"], "3 without a resource class" in fpga["fault"]["message"]) == ("ERROR", True)
    operator("image", "set", "--property", "trait:CUSTOM_GPU=required", "system")
    assert host_of(operator, boot(shell, "by-image")) == "sim-0002"
    nowhere = boot(shell, "nowhere", "plain")
    assert dropped(explained(processes, nowhere)[0]) == {"traits": 3}
    operator("image", "unset", "--property", "trait:CUSTOM_GPU", "system")
    shell("server", "delete", "--wait", "gpu", "plain0", "plain1", "plain2", "fpga", "by-image", "nowhere")


def test_capabilities_and_image_properties(processes: Processes, shell: Shell, operator: Shell) -> None:
    operator("flavor", "create", "--ram", "64", "--vcpus", "1", "--disk", "0", "able")
    operator("flavor", "set", "--property", "capabilities:hypervisor_hostname=s== sim-0001", "able")
    operator("flavor", "set", "--property", f"capabilities:cpu_info:arch={platform.machine()}", "able")
    assert host_of(operator, boot(shell, "able", "able")) == "sim-0001"
    operator("flavor", "set", "--property", "capabilities:num_instances=<= 0", "able")
    operator("flavor", "set", "--property", "capabilities:os.name=Plan9", "able")
    unable = boot(shell, "unable", "able")
    assert dropped(explained(processes, unable)[0]) == {"capabilities": 3}
    operator("image", "set", "--property", f"hw_architecture={platform.machine()}", "system")
    assert boot(shell, "same")["status"] == "ACTIVE"
    operator("image", "set", "--property", "hw_architecture=ppc64le", "system")
    foreign = boot(shell, "foreign")
    assert (foreign["status"], "3 not of the image's architecture" in foreign["fault"]["message"]) == ("ERROR", True)
    operator("image", "unset", "--property", "hw_architecture", "system")
    operator("image", "set", "--property", "img_hv_type=hyperv", "system")
    assert boot(shell, "hyperv")["status"] == "ERROR"
    operator("image", "unset", "--property", "img_hv_type", "system")
    shell("server", "delete", "--wait", "able", "unable", "same", "foreign", "hyperv")


def test_an_owner_sees_why_without_other_hosts_names_and_nobody_else_sees_anything(
    processes: Processes, shell: Shell, operator: Shell
) -> None:
    server = boot(shell, "mine")
    host = host_of(operator, server)
    path = f"/nacre/v1/servers/{server['id']}/decisions"
    mine = processes.login("demo", "demo")("GET", path).json["decisions"]
    assert mine[0]["host_id"] == server["hostId"]
    assert "sim-" not in json.dumps(mine)
    assert set(mine[0]["best"][0]) == {"weight", "strategy"}
    stranger = _stranger(operator, processes)
    assert stranger("GET", path).status == 404
    assert stranger("GET", "/nacre/v1/servers/11111111-1111-4111-8111-111111111111/decisions").status == 404

    # A move is explained as well, and what was decided outlives the server.
    shell("server", "shelve", "--wait", "mine")
    wait_for(lambda: shell("server", "show", "mine")["status"] == "SHELVED_OFFLOADED", "it to be offloaded")
    operator("compute", "service", "set", "--disable", host, "nova-compute")
    shell("server", "unshelve", "--wait", "mine")
    text = nacre(processes, "server", "explain", server["id"])
    operator("compute", "service", "set", "--enable", host, "nova-compute")
    moved = host_of(operator, server)
    assert moved != host
    assert f"unshelve: placed on {moved}" in text
    assert f"create: placed on {host}" in text
    assert [line.split() for line in text.splitlines() if "disabled by an operator" in line] == [
        ["1", "disabled", "by", "an", "operator", host]
    ]
    shell("server", "delete", "--wait", "mine")
    assert [each["action"] for each in explained(processes, server)] == ["unshelve", "create"]
    assert processes.login("demo", "demo")("GET", path).status == 200
    assert stranger("GET", path).status == 404
    assert "is no server's id" in nacre(processes, "server", "explain", "mine", code=2)


def _stranger(operator: Shell, processes: Processes) -> Any:
    operator("project", "create", "strangers")
    operator("user", "create", "--password", "stranger-secret", "stranger")
    operator("role", "add", "--project", "strangers", "--user", "stranger", "member")
    return processes.login("stranger", "strangers")


def test_a_container_is_explained_by_its_docker_id(processes: Processes, tmp_path: Path) -> None:
    from tests.images import config, docker_archive, layer

    admin = processes.login("admin", "admin")
    base = layer({"bin/web": "x"})
    archive = docker_archive([(["web:1"], config(base), [base])])
    assert admin("POST", "/docker/images/load?quiet=1", archive, {"Content-Type": "application/x-tar"}).status == 200
    body = {"Image": "web:1", "Cmd": ["x"], "Env": ["constraint:node!=sim-0000"], "HostConfig": {"NetworkMode": "none"}}
    ident = admin("POST", "/docker/v1.50/containers/create", body).json["Id"]
    told = nacre(processes, "server", "explain", ident)
    assert "constraints=node!=sim-0000" in told
    assert "1      not satisfying the constraint node!=sim-0000" in told
    assert admin("DELETE", f"/docker/v1.50/containers/{ident}?force=1").status == 204
