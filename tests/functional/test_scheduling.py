"""Servers go where facts and labels say, by Nova's scheduler hints: a cloud of simulated hosts whose facts are set in files."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import consul
import pytest

from nacre.cli.state import FORMAT
from tests.images import config, docker_archive, layer
from tests.processes import Processes, wait_for
from tests.support import Client

FACTS = {
    "sim-0000": "virtual=virtualbox\nsystem_overload_10min=03\nis_virtual=true\n",
    "sim-0001": "virtual=kvm\nsystem_overload_10min=25\nis_virtual=true\n",
    "sim-0002": "virtual=physical\nsystem_overload_10min=77\nis_virtual=false\n",
}


def write_facts(processes: Processes, host: str, content: str) -> None:
    folder = processes.state / "facts.d" / host
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test.txt").write_text(content)


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    state = Path(tempfile.mkdtemp(prefix="nacre-scheduling-", dir="/var/tmp"))
    made = Processes(state, simulate=3, cloud_id="5c4d")
    for host, content in FACTS.items():
        write_facts(made, host, content)
    try:
        yield made.up()
    finally:
        made.down()
        shutil.rmtree(state)


def nacre(processes: Processes, *arguments: str, code: int = 0, **environment: str) -> str:
    """A command of the CLI's on this cloud."""
    auth = {"auth_url": f"{processes.url}/identity/v3", "username": "admin", "password": "admin-secret", "project_name": "admin"}
    cloud = {"auth": {**auth, "user_domain_name": "Default", "project_domain_name": "Default"}, "region_name": "RegionOne"}
    (processes.state / "clouds.yaml").write_text(json.dumps({"clouds": {"nacre-admin": cloud}}))
    known = {"cloud_id": processes.cloud_id, "host_id": "", "port": processes.port, "external_cidr": "", "simulated_hosts": 3}
    (processes.state / "cloud.json").write_text(json.dumps({**known, "user": "", "images": [], "format": FORMAT}))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "NACRE_STATE": str(processes.state), **environment}
    command = [sys.executable, "-m", "nacre.cli", *arguments]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def admin(processes: Processes) -> Client:
    return processes.login()


@pytest.fixture(scope="module")
def image(admin: Client) -> str:
    made = admin(
        "POST",
        "/image/v2/images",
        {"name": "redis:7", "disk_format": "raw", "container_format": "docker", "visibility": "public"},
    ).json
    assert (
        admin("PUT", f"/image/v2/images/{made['id']}/file", b"bytes", {"Content-Type": "application/octet-stream"}).status == 204
    )
    return str(made["id"])


def create(admin: Client, image: str, hints: dict[str, Any], name: str = "s", **more: Any) -> dict[str, Any]:
    """The server as it is once it has a host, or none was found."""
    server = {"name": name, "imageRef": image, "flavorRef": flavor(admin), "networks": "none", **more}
    answer = admin(
        "POST",
        "/compute/v2.1/servers",
        {"server": server, "os:scheduler_hints": hints},
        {"OpenStack-API-Version": "compute 2.90"},
    )
    assert answer.status == 202, answer.body
    path = f"/compute/v2.1/servers/{answer.json['server']['id']}"
    seen: dict[str, Any] = wait_for(
        lambda: (found := admin("GET", path).json["server"])["status"] in ("ACTIVE", "ERROR") and found, "the server"
    )
    return seen


def flavor(admin: Client) -> str:
    return str(min(admin("GET", "/compute/v2.1/flavors/detail").json["flavors"], key=lambda each: each["ram"])["id"])


def host_of(server: dict[str, Any]) -> str:
    assert server["status"] == "ACTIVE", server.get("fault")
    return str(server["OS-EXT-SRV-ATTR:hypervisor_hostname"])


@pytest.mark.parametrize(
    ("hints", "hosts"),
    [
        ({"constraint": "virtual=virtualbox"}, {"sim-0000"}),
        ({"constraint": ["is_virtual==True", "system_overload_10min==/2[0-5]/"]}, {"sim-0001"}),
        ({"constraint": "node!=/sim-000[01]/"}, {"sim-0002"}),
        ({"constraint": ["virtual==~vmware", "system_overload_10min==/[0-2][0-5]/"]}, {"sim-0000", "sim-0001"}),
        ({"whitelist": "node==sim-0002"}, {"sim-0002"}),
        ({"other": "hint"}, {"sim-0000", "sim-0001", "sim-0002"}),
    ],
)
def test_hints_choose_the_host(admin: Client, image: str, hints: dict[str, Any], hosts: set[str]) -> None:
    assert host_of(create(admin, image, hints)) in hosts


def test_affinities_to_names_images_and_servers(admin: Client, image: str) -> None:
    first = create(admin, image, {}, name="MySQL", metadata={"tier": "data"})
    place = host_of(first)
    assert host_of(create(admin, image, {"affinity": "container==MySQL"}, name="beside")) == place
    assert host_of(create(admin, image, {"affinity": "tier==data"}, name="by-label")) == place
    assert host_of(create(admin, image, {"same_host": first["id"]}, name="by-id")) == place
    assert host_of(create(admin, image, {"different_host": [first["id"]]}, name="away")) != place
    assert host_of(create(admin, image, {"affinity": "image==redis"}, name="by-image")) in FACTS


def test_servers_of_one_request_see_each_other(admin: Client, image: str) -> None:
    created = create(admin, image, {"affinity": "container!=alone*"}, name="alone", min_count=3)
    listed = admin("GET", "/compute/v2.1/servers/detail?name=^alone").json["servers"]
    assert created["status"] == "ACTIVE"
    assert {server["OS-EXT-SRV-ATTR:hypervisor_hostname"] for server in listed} == set(FACTS)
    late = create(admin, image, {"affinity": "container!=alone*"}, name="late")
    assert late["fault"]["message"] == "No valid host was found. Of 3 hosts: 3 not satisfying the affinity container!=alone*."


def test_the_fault_names_the_expression(admin: Client, image: str) -> None:
    failed = create(admin, image, {"constraint": ["architecture==x86_64", "virtual==vmware"]})
    assert failed["status"] == "ERROR"
    assert failed["fault"]["code"] == 500
    assert failed["fault"]["message"] == "No valid host was found. Of 3 hosts: 3 not satisfying the constraint virtual==vmware."


@pytest.mark.parametrize(
    ("hints", "words"),
    [
        ({"constraint": "virtual"}, "One of operator ==, != is expected"),
        ({"affinity": ["container==a", "x==b"]}, "Key 'x' is invalid"),
        ({"whitelist": {"node": "a"}}, "It must be a text or a list of texts"),
    ],
)
def test_a_hint_that_cannot_be_read_is_a_bad_request(admin: Client, image: str, hints: dict[str, Any], words: str) -> None:
    server = {"name": "s", "imageRef": image, "flavorRef": flavor(admin), "networks": "none"}
    answer = admin(
        "POST",
        "/compute/v2.1/servers",
        {"server": server, "os:scheduler_hints": hints},
        {"OpenStack-API-Version": "compute 2.90"},
    )
    assert answer.status == 400
    assert words in answer.json["badRequest"]["message"]


def test_a_fact_that_changes_counts_from_then_on(processes: Processes, admin: Client, image: str) -> None:
    assert create(admin, image, {"constraint": "rack==7"})["status"] == "ERROR"
    write_facts(processes, "sim-0002", "rack=7\n")

    def placed() -> dict[str, Any] | None:
        server = create(admin, image, {"constraint": "rack==7"})
        return server if server["status"] == "ACTIVE" else None

    assert host_of(wait_for(placed, "the new fact")) == "sim-0002"


def test_an_operators_labels_are_for_expressions(processes: Processes, admin: Client, image: str) -> None:
    said = nacre(processes, "host", "label", "sim-0001", "storage=ssd", "containerslots=many", "zone=east")
    assert said == "containerslots=many, storage=ssd, zone=east\n"
    assert nacre(processes, "host", "label", "sim-0001", "zone-") == "containerslots=many, storage=ssd\n"
    hosts = {host["hostname"]: host for host in json.loads(nacre(processes, "host", "list", "-f", "json"))}
    assert hosts["sim-0001"]["labels"] == {"containerslots": "many", "storage": "ssd"}
    assert hosts["sim-0000"]["labels"] == {}
    assert host_of(create(admin, image, {"constraint": "storage==ssd"})) == "sim-0001"
    assert "is every host's own" in nacre(processes, "host", "label", "sim-0001", "node=x", code=1)
    assert "Host sim-9 could not be found" in nacre(processes, "host", "label", "sim-9", "rack=x", code=1)
    taken = hosts["sim-0001"]["guests"] + 1
    nacre(processes, "host", "label", "sim-0001", f"containerslots={taken}")
    failed = create(admin, image, {"constraint": "storage==ssd"})
    assert failed["fault"]["message"].endswith("1 without an open slot, 2 not satisfying the constraint storage==ssd.")
    nacre(processes, "host", "label", "sim-0001", "containerslots-", "storage-")


def test_facts_are_listed(processes: Processes) -> None:
    shown = json.loads(nacre(processes, "facts", "-f", "json"))
    assert shown["sim-0001"]["virtual"] == "kvm"
    assert shown["sim-0001"]["architecture"] == "x86_64"
    assert nacre(processes, "facts", "--host", "sim-0000", "--name", "virt*").split() == [
        *("host", "fact", "value"),
        *("sim-0000", "virtual", "virtualbox"),
    ]
    assert "Host nowhere could not be found" in nacre(processes, "facts", "--host", "nowhere", code=1)


def test_facts_are_published_into_a_projects_key_value_store(processes: Processes, admin: Client) -> None:
    publish = ("facts", "publish", "--consul", processes.url, "--prefix", "blog/facts")
    host, _, port = processes.url.removeprefix("http://").partition(":")
    store = consul.Consul(host=host, port=int(port), token=admin.token)
    store.kv.put("blog/facts/sim-9999/virtual", "of a host that is no more")
    store.kv.put("blog/factsheet", "somebody else's")
    assert "3 hosts, " in nacre(processes, *publish, CONSUL_HTTP_TOKEN=admin.token)

    def published(key: str) -> str | None:
        _, entry = store.kv.get(f"blog/facts/{key}")
        return entry["Value"].decode() if entry else None

    assert published("sim-0000/virtual") == "virtualbox"
    assert published("sim-0001/is_virtual") == "true"
    assert published("sim-0001/system_overload_10min") == "25"
    assert published("sim-9999/virtual") is None
    assert store.kv.get("blog/factsheet")[1]["Value"] == b"somebody else's"
    assert "3 hosts, 0 keys changed" in nacre(processes, *publish, CONSUL_HTTP_TOKEN=admin.token)
    refused = nacre(processes, *publish, code=1, CONSUL_HTTP_TOKEN="")
    assert "403" in refused
    assert admin.token not in refused


def test_a_network_of_a_plugin_is_for_hosts_that_have_it_and_the_plugin_is_in_charge(
    processes: Processes, admin: Client, image: str
) -> None:
    docker, v2 = "/docker/v1.50", "/network/v2.0"
    wanted = {"Name": "woven", "Driver": "weave", "Options": {"any": "thing"}, "IPAM": {"Config": [{"Subnet": "10.61.0.0/24"}]}}
    answer = admin("POST", f"{docker}/networks/create", wanted)
    assert (answer.status, answer.json["message"]) == (404, 'plugin "weave" not found')
    (processes.state / "facts.d" / "sim-0001" / "drivers.json").write_text('{"volume_drivers": ["local", "weave"]}')
    wait_for(lambda: admin("POST", f"{docker}/networks/create", wanted).status == 201, "the plugin to be known")
    shown = admin("GET", f"{docker}/networks/woven").json
    assert (shown["Driver"], shown["Options"]) == ("weave", {"any": "thing"})
    demo = processes.login("demo", "demo")
    assert demo("GET", f"{docker}/networks/{shown['Id']}").status == 404

    base = layer({"bin/web": "x"})
    archive = docker_archive([(["web:1"], config(base), [base])])
    assert admin("POST", f"{docker}/images/load?quiet=1", archive, {"Content-Type": "application/x-tar"}).status == 200

    def create_container(*env: str, **host: Any) -> Any:
        body = {"Image": "web:1", "Cmd": ["x"], "Env": list(env), "HostConfig": {"NetworkMode": "woven", **host}}
        return admin("POST", f"{docker}/containers/create", body)

    for _ in range(3):
        made = create_container()
        assert made.status == 201, made.body
        found = admin("GET", f"{docker}/containers/{made.json['Id']}/json").json
        assert found["Node"]["Name"] == "sim-0001"
        assert found["NetworkSettings"]["Networks"]["woven"]["IPAMConfig"] in (None, {})
    refused = create_container("constraint:node==sim-0000")
    assert refused.status == 500
    assert refused.json["message"].endswith("unable to find a node that has the network plugin weave")
    refused = create_container(PortBindings={"80/tcp": [{}]})
    assert (refused.status, "its driver weave is in charge" in refused.json["message"]) == (400, True)

    network = next(each for each in admin("GET", f"{v2}/networks?name=woven").json["networks"])
    ports = admin("GET", f"{v2}/ports?network_id={network['id']}").json["ports"]
    assert [(port["security_groups"], port["port_security_enabled"]) for port in ports] == [([], False)] * 3
    (subnet,) = network["subnets"]
    group = admin("POST", f"{v2}/security-groups", {"security_group": {"name": "g"}}).json["security_group"]["id"]
    router = admin("POST", f"{v2}/routers", {"router": {"name": "r"}}).json["router"]["id"]
    for method, path, body in (
        ("PUT", f"ports/{ports[0]['id']}", {"port": {"security_groups": [group], "port_security_enabled": True}}),
        ("DELETE", f"ports/{ports[0]['id']}", None),
        ("POST", "ports", {"port": {"network_id": network["id"]}}),
        ("PUT", f"networks/{network['id']}", {"network": {"port_security_enabled": True}}),
        ("POST", "subnets", {"subnet": {"network_id": network["id"], "ip_version": 4, "cidr": "10.62.0.0/24"}}),
        ("PUT", f"subnets/{subnet}", {"subnet": {"gateway_ip": None}}),
        ("PUT", f"routers/{router}/add_router_interface", {"subnet_id": subnet}),
    ):
        answer = admin(method, f"{v2}/{path}", body)
        assert answer.status == 409, (method, path, answer.body)
        assert b"its driver weave is in charge of it" in answer.body
    assert admin("PUT", f"{v2}/ports/{ports[0]['id']}", {"port": {"name": "mine"}}).status == 200
    server = {"name": "s", "imageRef": image, "flavorRef": flavor(admin), "networks": [{"uuid": network["id"]}]}
    answer = admin("POST", "/compute/v2.1/servers", {"server": server}, {"OpenStack-API-Version": "compute 2.90"})
    assert (answer.status, b"its driver weave is in charge of it" in answer.body) == (409, True), answer.body
