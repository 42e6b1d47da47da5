"""Discovery over processes: servers that register themselves, hosts that are lost, and locks while the API is killed."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from nacre.cloud.discovery import names
from nacre.store import Store
from tests.faults.storm import make_network, settled, sound
from tests.faults.test_simulated_kills import upload_image
from tests.processes import Processes, wait_for
from tests.support import Client

KILLS = 12
WORKERS = 4


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    cloud = Processes(tmp_path_factory.mktemp("discovery"), simulate=2).up()
    yield cloud
    cloud.down()
    print(cloud.logs())


@pytest.fixture(scope="module")
def client(cloud: Processes) -> Client:
    return cloud.login()


def instances(client: Client, service: str, query: str = "") -> list[Any]:
    found: list[Any] = client("GET", f"/v1/health/service/{service}{query}").json
    return found


def test_a_server_is_found_while_it_lives(cloud: Processes, client: Client) -> None:
    network, image = make_network(client), upload_image(client)
    settings = {
        "SERVICE_5432_NAME": "pg",
        "SERVICE_TAGS": "primary",
        "SERVICE_REGION": "eu",
        "SERVICE_5432_CHECK_INITIAL_STATUS": "passing",
    }
    server = {"name": "db", "imageRef": image, "flavorRef": "42", "networks": [{"uuid": network}], "metadata": settings}
    ident = client("POST", "/compute/v2.1/servers", {"server": server}).json["server"]["id"]
    (found,) = wait_for(lambda: instances(client, "pg", "?passing"), "the server to be registered")
    address = found["Service"]["Address"]
    assert address.startswith("10.77.")
    assert (found["Service"]["Port"], found["Service"]["Tags"], found["Service"]["Meta"]["region"]) == (5432, ["primary"], "eu")
    assert found["Node"]["Node"].startswith("sim-000")
    other = cloud.login("demo", "demo")
    assert instances(other, "pg") == []
    assert [node["Node"] for node in other("GET", "/v1/catalog/nodes").json] == ["nacre"]
    project = client("GET", "/identity/v3/auth/projects").json["projects"][0]["id"]
    store = Store(f"sqlite:///{cloud.state}/api/nacre.sqlite")

    def resolve(name: str, rtype: str) -> list[str]:
        return [record.data for record in store.read_now(names.lookup, project, name, rtype).records]

    for name in ("pg.service.consul", "primary.pg.service.dc1.consul", "db.admin.nacre"):
        assert resolve(name, "A") == [address]
    (target,) = resolve("_pg._tcp.service.consul", "SRV")
    assert target.startswith("1 1 5432 ")
    assert resolve(target.split()[3].rstrip("."), "A") == [address]
    assert not store.read_now(names.lookup, project, "secondary.pg.service.consul", "A").found

    cloud.kill("node")
    wait_for(lambda: not instances(client, "pg", "?passing"), "the host to be taken for lost")
    assert not store.read_now(names.lookup, project, "pg.service.consul", "A").found
    assert instances(client, "pg")
    cloud.start("node")
    wait_for(lambda: instances(client, "pg", "?passing"), "the host to be back")
    report = wait_for(lambda: sound(client), "nothing to be pending")
    assert report["findings"] == [], report

    index = client("GET", "/v1/health/service/pg").headers["X-Consul-Index"]
    assert client("DELETE", f"/compute/v2.1/servers/{ident}").status == 204
    wait_for(lambda: not instances(client, "pg", f"?index={index}&wait=10s"), "the server to be found no more")
    assert not store.read_now(names.lookup, project, "pg.service.consul", "A").found
    assert [node["Node"] for node in client("GET", "/v1/catalog/nodes").json] == ["nacre"]
    store.close()


def test_servers_of_one_name_are_as_many_services_and_an_id_has_one_holder(client: Client) -> None:
    network, image = make_network(client), upload_image(client)

    def boot(name: str, **metadata: str) -> str:
        server = {"name": name, "imageRef": image, "flavorRef": "42", "networks": [{"uuid": network}], "metadata": metadata}
        return str(client("POST", "/compute/v2.1/servers", {"server": server}).json["server"]["id"])

    def is_sound() -> None:
        report = settled(client)
        assert report["findings"] == [], report

    twins = [boot("twin") for _ in range(6)]
    wait_for(lambda: len(instances(client, "twin")) == 6, "all six to be registered")
    first = boot("one", SERVICE_ID="chosen")
    wait_for(lambda: len(instances(client, "one")) == 1, "the first to have its id")
    host = instances(client, "one")[0]["Node"]["Node"]
    # On the same host, so that they meet under one node.
    zone = {"availability_zone": f"nova:{host}"}
    server = {"name": "two", "imageRef": image, "flavorRef": "42", "networks": [{"uuid": network}], **zone}
    server["metadata"] = {"SERVICE_ID": "chosen"}
    second = client("POST", "/compute/v2.1/servers", {"server": server}).json["server"]["id"]
    is_sound()
    assert [len(instances(client, name)) for name in ("one", "two")] == [1, 0], "who has an id keeps it"
    assert client("DELETE", f"/compute/v2.1/servers/{first}").status == 204
    wait_for(lambda: instances(client, "two"), "the other one to have it now")
    for ident in (*twins, second):
        assert client("DELETE", f"/compute/v2.1/servers/{ident}").status == 204
    wait_for(lambda: not instances(client, "twin") and not instances(client, "two"), "them to be found no more")
    is_sound()


class Worker(threading.Thread):
    """Takes the lock, adds one to a counter by check-and-set, gives the lock back; and counts what it was promised."""

    def __init__(self, client: Client, stopping: threading.Event) -> None:
        super().__init__()
        self.client, self.stopping = client, stopping
        self.session = client("PUT", "/v1/session/create", {"LockDelay": "0s"}).json["ID"]
        self.tried = self.promised = self.last_index = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        while not self.stopping.wait(0.005):
            try:
                if self.client("PUT", f"/v1/kv/lock?acquire={self.session}", b"x").json:
                    self._add_one()
                    self.client("PUT", f"/v1/kv/lock?release={self.session}", b"")
            except OSError:
                self.stopping.wait(0.02)

    def _add_one(self) -> None:
        answer = self.client("GET", "/v1/kv/counter?raw")
        entry = self.client("GET", "/v1/kv/counter")
        index = int(entry.headers["X-Consul-Index"])
        if index < self.last_index:
            self.wrong.append(f"the index fell from {self.last_index} to {index}")
        self.last_index = index
        value = int(answer.body)
        self.tried += 1
        if self.client("PUT", f"/v1/kv/counter?cas={entry.json[0]['ModifyIndex']}", str(value + 1).encode()).json:
            self.promised += 1
        else:
            self.wrong.append("somebody wrote while the lock was held")


def test_locks_hold_while_the_api_is_killed(cloud: Processes, client: Client) -> None:
    assert client("PUT", "/v1/kv/counter", b"0").json is True
    stopping = threading.Event()
    workers = [Worker(client, stopping) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for number in range(KILLS):
        wait_for(lambda at=number: sum(each.promised for each in workers) > 5 * at, "some work to be done")
        cloud.kill("api")
        cloud.start("api")
        wait_for(cloud.is_serving, "the API to come back")
    stopping.set()
    for worker in workers:
        worker.join()
    assert not [wrong for worker in workers for wrong in worker.wrong]
    counted = int(client("GET", "/v1/kv/counter?raw").body)
    assert sum(each.promised for each in workers) <= counted <= sum(each.tried for each in workers)
    for worker in workers:
        assert client("PUT", f"/v1/session/destroy/{worker.session}").json is True
    assert "Session" not in client("GET", "/v1/kv/lock").json[0]
    wait_for(cloud.is_ready, "the hosts to be back")
    report = wait_for(lambda: sound(client), "nothing to be pending")
    assert report["findings"] == [], report
