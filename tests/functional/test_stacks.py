"""Stacks over Tutum's API on simulated hosts: states, scaling, redeploys, triggers, placing, and a killed API."""

import base64
import json
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests import images
from tests.processes import Processes, wait_for
from tests.support import Client

HOSTS = 3


def new_image(client: Client, name: str) -> str:
    """An image that simulated hosts take for a container's."""
    image: str = client("POST", "/image/v2/images", {"name": name, "container_format": "docker", "disk_format": "raw"}).json["id"]
    data = client(
        "PUT", f"/image/v2/images/{image}/file", images.layer({"made": image}), {"Content-Type": "application/octet-stream"}
    )
    assert data.status == 204, data.body
    return image


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    state = Path(tempfile.mkdtemp(prefix="nacre-stacks-", dir="/var/tmp"))
    made = Processes(state, simulate=HOSTS, cloud_id="57ac")
    try:
        yield made.up()
    finally:
        made.down()
        print(made.logs())
        shutil.rmtree(state)


@pytest.fixture(scope="module")
def demo(processes: Processes) -> Client:
    client = processes.login("demo", "demo")
    new_image(client, "app")
    return client


class Stack:
    """A stack of one test's; what is left of it is taken down afterwards."""

    def __init__(self, client: Client, name: str, *services: dict[str, Any], start: bool = True) -> None:
        self.client = client
        made = client("POST", "/api/v1/stack/", {"name": name, "services": services})
        assert made.status == 201, made.body
        self.uri: str = made.json["resource_uri"]
        self.by_name = {row["name"]: row["resource_uri"] for row in map(self.get, made.json["services"])}
        if start:
            assert client("POST", f"{self.uri}start/").status == 202

    def get(self, uri: str) -> Any:
        answer = self.client("GET", uri)
        assert answer.status == 200, answer.body
        return answer.json

    def service(self, name: str) -> dict[str, Any]:
        row: dict[str, Any] = self.get(self.by_name[name])
        return row

    def containers(self, name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.get(f"/api/v1/container/?service={self.by_name[name]}&limit=100")["objects"]
        return [row for row in rows if row["state"] != "Terminating"]

    def settles(self, name: str, state: str = "Running", running: int | None = None) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            row = self.service(name)
            met = row["state"] == state and running in (None, row["running_num_containers"])
            return row if met and (running is None or row["current_num_containers"] == running) else None

        found: dict[str, Any] = wait_for(look, f"{name} to be {state}: {self.service(name)}")
        return found

    def down(self) -> None:
        assert self.client("DELETE", self.uri).status == 202
        wait_for(lambda: self.client("GET", self.uri).status == 404, "the stack to be gone")


def uuids(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {row["name"]: row["uuid"] for row in rows}


def service(name: str = "web", **values: Any) -> dict[str, Any]:
    return {"name": name, "image": "app", "run_command": "sleep 1000", **values}


def servers(client: Client) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = client("GET", "/compute/v2.1/servers/detail").json["servers"]
    return rows


def test_a_stack_comes_up_scales_stops_starts_and_leaves_nothing(demo: Client) -> None:
    stack = Stack(demo, "life", service(target_num_containers=2), start=False)
    assert stack.service("web")["state"] == "Not running"
    assert stack.get(stack.uri)["state"] == "Not running"
    assert demo("POST", f"{stack.uri}start/").status == 202
    stack.settles("web", running=2)
    assert stack.get(stack.uri)["state"] == "Running"
    assert sorted(row["name"] for row in servers(demo)) == ["web-1", "web-2"]
    shown = demo("GET", "/docker/containers/json", headers={"Authorization": f"Bearer {demo.token}"}).json
    assert sorted(row["Names"][0] for row in shown) == ["/web-1", "/web-2"]
    assert {row["Labels"]["nacre.service"] for row in shown} == {"web"}
    assert {row["Labels"]["nacre.stack"] for row in shown} == {"life"}
    first = uuids(stack.containers("web"))
    assert demo("PATCH", stack.by_name["web"], {"target_num_containers": 4}).status == 200
    stack.settles("web", running=4)
    assert demo("PATCH", stack.by_name["web"], {"target_num_containers": 1}).status == 200
    stack.settles("web", running=1)
    assert uuids(stack.containers("web")) == {"web-1": first["web-1"]}, "the highest numbers go"
    assert demo("POST", f"{stack.by_name['web']}stop/").status == 202
    assert stack.settles("web", "Stopped")["stopped_num_containers"] == 1
    assert demo("POST", f"{stack.by_name['web']}start/").status == 202
    stack.settles("web", running=1)
    assert uuids(stack.containers("web")) == {"web-1": first["web-1"]}, "the same container"
    stack.down()
    assert servers(demo) == []
    assert demo("GET", stack.by_name["web"]).status == 404


def test_a_redeploy_makes_every_container_anew_under_its_name(demo: Client) -> None:
    stack = Stack(demo, "again", service(target_num_containers=2))
    stack.settles("web", running=2)
    before = uuids(stack.containers("web"))
    assert demo("POST", f"{stack.by_name['web']}redeploy/").json["state"] == "Redeploying"
    stack.settles("web", running=2)
    after = uuids(stack.containers("web"))
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())
    one = next(row for row in stack.containers("web") if row["name"] == "web-2")
    assert demo("POST", f"{one['resource_uri']}redeploy/").status == 202
    wait_for(lambda: uuids(stack.containers("web")).get("web-2") not in (None, after["web-2"]), "one container anew")
    assert uuids(stack.settles("web", running=2) and stack.containers("web"))["web-1"] == after["web-1"]
    stack.down()


def test_what_was_removed_is_replaced_where_autorestart_says_so(demo: Client) -> None:
    stack = Stack(demo, "mend", service("keep", autorestart="ALWAYS"), service("leave"), service("two", target_num_containers=2))
    stack.settles("keep", running=1)
    stack.settles("leave", running=1)
    stack.settles("two", running=2)
    lost = {name: stack.containers(name)[0] for name in ("keep", "leave", "two")}
    for row in lost.values():
        assert demo("DELETE", f"/compute/v2.1/servers/{row['uuid']}").status == 204
    wait_for(lambda: uuids(stack.containers("keep")).get("keep-1") not in (None, lost["keep"]["uuid"]), "another container")
    stack.settles("keep", running=1)
    assert stack.settles("leave", "Terminated")["running_num_containers"] == 0
    assert stack.settles("two", "Partly running")["running_num_containers"] == 1
    stack.down()
    assert servers(demo) == []


def test_of_two_scales_at_once_the_last_one_counts(demo: Client) -> None:
    stack = Stack(demo, "race", service())
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda target: demo("PATCH", stack.by_name["web"], {"target_num_containers": target}), (5, 2, 7, 3, 1, 6, 4, 2)
            )
        )
    target = stack.service("web")["target_num_containers"]
    assert stack.settles("web", running=target)
    assert demo("PATCH", stack.by_name["web"], {"target_num_containers": 3}).status == 200
    stack.settles("web", running=3)
    stack.down()


def test_a_killed_api_finishes_what_it_began(processes: Processes, demo: Client) -> None:
    stack = Stack(demo, "killed", service(target_num_containers=12, sequential_deployment=True))
    wait_for(lambda: stack.service("web")["current_num_containers"] >= 3, "some containers")
    processes.kill("api")
    processes.start("api")
    wait_for(processes.is_ready, "the API")
    stack.settles("web", running=12)
    assert sorted(row["name"] for row in servers(demo)) == sorted(f"web-{number}" for number in range(1, 13))
    assert demo("POST", f"{stack.by_name['web']}redeploy/").status == 202
    processes.kill("api")
    processes.start("api")
    wait_for(processes.is_ready, "the API")
    stack.settles("web", running=12)
    assert demo("DELETE", stack.uri).status == 202
    processes.kill("api")
    processes.start("api")
    wait_for(processes.is_ready, "the API")
    wait_for(lambda: demo("GET", stack.uri).status == 404, "the stack to be gone")
    assert servers(demo) == []


def hosts_of(processes: Processes, names: str) -> list[str]:
    rows = processes.login()("GET", "/compute/v2.1/servers/detail?all_tenants=1").json["servers"]
    return sorted(row["OS-EXT-SRV-ATTR:hypervisor_hostname"] for row in rows if row["name"].startswith(names))


def test_strategies_and_tags_choose_the_hosts(processes: Processes, demo: Client) -> None:
    admin = processes.login()
    assert admin("PATCH", "/nacre/v1/hosts/sim-0001/labels", {"tags": "web,ssd"}).status == 200
    stack = Stack(
        demo,
        "place",
        service("spread", deployment_strategy="HIGH_AVAILABILITY", target_num_containers=6),
        service("every", deployment_strategy="EVERY_NODE"),
        service("tagged", tags=["ssd", {"name": "web"}], target_num_containers=2),
        service("nowhere", tags=["gpu"]),
    )
    stack.settles("spread", running=6)
    stack.settles("every", running=HOSTS)
    stack.settles("tagged", running=2)
    names = [f"sim-{number:04}" for number in range(HOSTS)]
    assert hosts_of(processes, "spread-") == sorted(names * 2)
    assert hosts_of(processes, "every-") == names
    assert set(hosts_of(processes, "tagged-")) == {"sim-0001"}
    cause = wait_for(lambda: stack.service("nowhere")["cause"], "a cause")
    assert cause == "no host is alive, enabled and has all the tags"
    refused = demo("PATCH", stack.by_name["every"], {"target_num_containers": 9})
    assert (refused.status, refused.json["error"]) == (
        400,
        "target_num_containers: a service on every node is not scaled by hand",
    )
    assert admin("PATCH", "/nacre/v1/hosts/sim-0002/labels", {"gpu": "yes"}).status == 200
    assert stack.settles("nowhere", running=1)["cause"] is None
    stack.down()


def post(url: str, body: bytes = b"") -> int:
    """Without any authentication."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body, method="POST"), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            body = json.load(error)
        assert set(body) == {"error"}
        return error.code


def test_triggers_are_capabilities(processes: Processes, demo: Client) -> None:
    stack = Stack(demo, "pull", service(), service("other"))
    stack.settles("web", running=1)
    made = demo("POST", f"{stack.by_name['web']}trigger/", {"name": "hook"})
    assert (made.status, made.json["operation"]) == (201, "REDEPLOY")
    more = demo("POST", f"{stack.by_name['web']}trigger/", {"operation": "SCALEUP"}).json
    url = processes.url + made.json["url"]
    before = uuids(stack.containers("web"))
    assert post(url, b'{"build": 7}') == 202
    wait_for(lambda: uuids(stack.containers("web")).get("web-1") not in (None, before["web-1"]), "a new container")
    (row,) = stack.settles("web", running=1) and stack.containers("web")
    assert {"key": "TUTUM_TRIGGER_BODY", "value": '{"build": 7}'} in row["container_envvars"]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(post, [processes.url + more["url"]] * 2)) == [202, 202]
    stack.settles("web", running=3)
    wrong = url.replace(made.json["url"].split("/")[-3], "0" * 64)
    assert post(wrong) == 404
    assert post(url.replace(stack.by_name["web"], stack.by_name["other"])) == 404, "a trigger is one service's"
    assert post(url, b"\xff") == 400
    assert post(url, b"x" * 40_000) == 413
    assert len(demo("GET", f"{stack.by_name['web']}trigger/").json["objects"]) == 2
    assert demo("DELETE", made.json["resource_uri"]).status == 204
    assert post(url) == 404
    secret = more["url"].split("/")[-3]
    assert secret not in processes.logs()
    stack.down()
    assert post(processes.url + more["url"]) == 404


def test_an_image_that_its_name_means_anew_redeploys_who_wants_that(demo: Client) -> None:
    first = new_image(demo, "roll")
    stack = Stack(demo, "roll", service("auto", image="roll", autoredeploy=True), service("still", image="roll"))
    before = {name: stack.settles(name, running=1) and uuids(stack.containers(name)) for name in ("auto", "still")}
    assert new_image(demo, "roll") != first
    wait_for(lambda: uuids(stack.containers("auto")).get("auto-1") not in (None, before["auto"]["auto-1"]), "a redeploy")
    stack.settles("auto", running=1)
    assert uuids(stack.containers("still")) == before["still"]
    stack.down()


def test_links_bring_names_and_variables(demo: Client) -> None:
    stack = Stack(
        demo,
        "link",
        service(linked_to_service=[{"to_service": "db", "name": "store"}], container_envvars=[{"key": "A", "value": "b"}]),
        service("db", container_ports=[{"inner_port": 6379}], container_envvars=[{"key": "PASS", "value": "p"}]),
        start=False,
    )
    demo("POST", f"{stack.by_name['db']}start/")
    (db,) = stack.settles("db", running=1) and stack.containers("db")
    demo("POST", f"{stack.by_name['web']}start/")
    (web,) = stack.settles("web", running=1) and stack.containers("web")
    env = {each["key"]: each["value"] for each in web["container_envvars"]}
    address = db["private_ip"]
    assert env["STORE_1_PORT"] == env["STORE_1_PORT_6379_TCP"] == f"tcp://{address}:6379"
    assert (env["STORE_1_PORT_6379_TCP_ADDR"], env["STORE_1_PORT_6379_TCP_PORT"]) == (address, "6379")
    assert (env["STORE_1_ENV_PASS"], env["A"]) == ("p", "b")
    assert env["TUTUM_SERVICE_API_URI"] == stack.by_name["web"]
    assert env["TUTUM_CONTAINER_API_URI"] == web["resource_uri"]
    exported = demo("GET", f"{stack.uri}export/").json
    assert exported["web"]["links"] == ["db:store"]
    assert exported["db"]["expose"] == ["6379"]
    stack.down()


def basic(processes: Processes, user: str, secret: str, path: str) -> tuple[int, Any]:
    proof = base64.b64encode(f"{user}:{secret}".encode()).decode()
    answer = Client(processes.url, "")("GET", path, headers={"Authorization": f"Basic {proof}"})
    return answer.status, answer.json


def test_who_may_ask(processes: Processes, demo: Client) -> None:
    stack = Stack(demo, "mine", service(roles=["global"]))
    (row,) = stack.settles("web", running=1) and stack.containers("web")
    for path in ("/api/v1/stack/", "/api/app/v1/stack/", "/api/app/v1/demo/stack/"):
        status, body = basic(processes, "demo", "demo-secret", path if "demo/" in path else path.replace("v1/", "v1/demo/"))
        assert (status, [each["name"] for each in body["objects"]]) == (200, ["mine"]), path
    assert basic(processes, "demo", "wrong", "/api/v1/demo/stack/")[0] == 401
    assert basic(processes, "demo", "demo-secret", "/api/v1/admin/stack/")[0] == 401
    assert processes.login()("GET", stack.uri).status == 404, "another project's"
    auth = next(each["value"] for each in row["container_envvars"] if each["key"] == "TUTUM_AUTH")
    own = Client(processes.url, "")
    assert own("GET", stack.by_name["web"], headers={"Authorization": auth}).json["name"] == "web"
    assert own("PATCH", stack.by_name["web"], {"target_num_containers": 2}, {"Authorization": auth}).status == 200
    stack.settles("web", running=2)
    stack.down()
    assert own("GET", "/api/v1/stack/", headers={"Authorization": auth}).status == 401, "the credential goes with its service"


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"image": "nothing"}, "No such image: nothing:latest"),
        ({"deployment_strategy": "SOMEWHERE"}, "deployment_strategy"),
        ({"target_num_containers": -1}, "target_num_containers"),
        ({"linked_to_service": [{"to_service": "ghost"}]}, "Service ghost was not found"),
        ({"run_command": "'"}, "run_command: No closing quotation"),
        ({"name": "a_b"}, "name: letters"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_a_bad_service_is_refused_by_name(demo: Client, values: dict[str, Any], error: str) -> None:
    answer = demo("POST", "/api/v1/service/", service(**values))
    assert answer.status in (400, 404), answer.body
    assert error in answer.json["error"]
    assert demo("GET", "/api/v1/service/").json["objects"] == []
