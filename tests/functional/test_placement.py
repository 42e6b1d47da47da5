"""Placement's reads agree with the scheduler's book."""

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from nacre.cloud.compute.tables import servers
from nacre.cloud.hosts import operations as hosts
from nacre.cloud.hosts.tables import hosts as hosts_table
from nacre.protocol.messages import Capacity, Hello
from nacre.store import Store
from nacre.store.schema import now
from tests.support import Answer, Client, RunningCloud

HOSTS = ("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222")
SERVER = "33333333-3333-4333-8333-333333333333"
LATEST = {"OpenStack-API-Version": "placement latest"}


def _fill(conn: sa.Connection) -> None:
    """Two hosts as they join, and a server with its claim on the first."""
    for number, ident in enumerate(HOSTS):
        hosts.register(
            conn,
            Hello(
                protocol_min=1,
                protocol_max=1,
                host_id=ident,
                hostname=f"host-{number}",
                boot_id="b",
                hypervisor_type="nacre",
                runtimes=("container",),
                capacity=Capacity(vcpus=4, memory_mb=8192, disk_gb=100),
                facts={},
            ),
        )
    conn.execute(hosts_table.update().where(hosts_table.c.id == HOSTS[1]).values(enabled=False))
    hosts.claim(conn, HOSTS[0], vcpus=2, memory_mb=512, disk_gb=0)
    conn.execute(servers.insert().values(_server()))


def _server() -> dict[str, Any]:
    size = {"vcpus": 2, "memory_mb": 512, "disk_gb": 0}
    owner = {"project_id": "1" * 32, "user_id": "b" * 32, "host_id": HOSTS[0]}
    texts = dict.fromkeys(("name", "hostname", "reservation_id", "availability_zone", "action", "request_id"), "x")
    blank = {"flavor": {}, "image": {}, "power": "running", "created_at": now(), "updated_at": now()}
    return {"id": SERVER, **size, **owner, **texts, **blank}


@pytest.fixture(scope="module", autouse=True)
def _filled(cloud: RunningCloud) -> None:
    store = Store(cloud.store_url)
    asyncio.run(store.write(_fill))
    store.close()


def get(client: Client, path: str, version: str = "latest") -> Answer:
    return client("GET", f"/placement{path}", headers={"OpenStack-API-Version": f"placement {version}"})


def test_the_root_needs_no_token(admin: Client) -> None:
    for path in ("/placement", "/placement/"):
        answer = Client(admin.base_url, "")("GET", path)
        assert answer.json["versions"][0] | {"links": []} == {
            "id": "v1.0",
            "status": "CURRENT",
            "min_version": "1.0",
            "max_version": "1.39",
            "links": [],
        }


def test_providers_and_their_books(admin: Client) -> None:
    listed = get(admin, "/resource_providers").json["resource_providers"]
    assert [provider["name"] for provider in listed] == ["host-0", "host-1"]
    assert listed[0]["root_provider_uuid"] == HOSTS[0]
    path = f"/resource_providers/{HOSTS[0]}"
    assert get(admin, path).json == listed[0]
    generation = listed[0]["generation"]
    inventories = get(admin, f"{path}/inventories").json
    assert inventories["resource_provider_generation"] == generation
    assert {name: i["total"] for name, i in inventories["inventories"].items()} == {
        "VCPU": 4,
        "MEMORY_MB": 8192,
        "DISK_GB": 100,
    }
    one = get(admin, f"{path}/inventories/MEMORY_MB").json
    assert (one["total"], one["allocation_ratio"], one["max_unit"]) == (8192, 1.5, 12288)
    assert get(admin, f"{path}/inventories/VGPU").status == 404
    assert get(admin, f"{path}/usages").json["usages"] == {"VCPU": 2, "MEMORY_MB": 512, "DISK_GB": 0}
    allocations = get(admin, f"{path}/allocations").json["allocations"]
    assert allocations == {SERVER: {"resources": {"VCPU": 2, "MEMORY_MB": 512}, "consumer_generation": 1}}
    assert get(admin, f"{path}/aggregates").json == {"aggregates": [], "resource_provider_generation": generation}
    assert get(admin, f"{path}/traits").json["traits"] == ["CUSTOM_RUNTIME_CONTAINER"]
    assert "COMPUTE_STATUS_DISABLED" in get(admin, f"/resource_providers/{HOSTS[1]}/traits").json["traits"]


def test_consumers_and_projects(admin: Client, member: Client, other: Client) -> None:
    consumer = get(admin, f"/allocations/{SERVER}").json
    assert list(consumer["allocations"]) == [HOSTS[0]]
    assert (consumer["project_id"], consumer["consumer_type"], consumer["consumer_generation"]) == ("1" * 32, "INSTANCE", 1)
    assert set(get(admin, f"/allocations/{SERVER}", "1.0").json) == {"allocations"}
    assert get(admin, f"/allocations/{HOSTS[0]}").json == {"allocations": {}}
    usages = f"/usages?project_id={'1' * 32}"
    assert get(member, usages, "1.9").json == {"usages": {"VCPU": 2, "MEMORY_MB": 512}}
    assert get(member, usages).json["usages"]["INSTANCE"]["consumer_count"] == 1
    assert get(admin, f"{usages}&user_id={'c' * 32}", "1.9").json == {"usages": {}}
    assert get(other, usages).status == 403
    assert get(member, "/usages").status == 400


def test_filters(admin: Client) -> None:
    def names(query: str) -> list[str]:
        return [provider["name"] for provider in get(admin, f"/resource_providers?{query}").json["resource_providers"]]

    assert names("name=host-1") == ["host-1"]
    assert names(f"uuid={HOSTS[0]}") == names(f"in_tree={HOSTS[0]}") == ["host-0"]
    all_of_a_host = get(admin, f"/resource_providers/{HOSTS[0]}/inventories/VCPU").json["max_unit"]
    assert names(f"resources=VCPU:{all_of_a_host},MEMORY_MB:1") == ["host-1"]
    assert names("resources=VGPU:1") == []
    assert names("required=COMPUTE_STATUS_DISABLED") == ["host-1"]
    assert names("required=CUSTOM_RUNTIME_CONTAINER,!COMPUTE_STATUS_DISABLED") == ["host-0"]
    for query in ("uuid=x", "colour=red", "resources=VCPU", "required=x", "name=a&name=b"):
        assert get(admin, f"/resource_providers?{query}").status == 400, query
    assert get(admin, f"/resource_providers?in_tree={HOSTS[0]}", "1.13").status == 400


def test_classes_and_traits(admin: Client) -> None:
    classes = [found["name"] for found in get(admin, "/resource_classes").json["resource_classes"]]
    assert classes == ["VCPU", "MEMORY_MB", "DISK_GB"]
    assert get(admin, "/resource_classes/VCPU").json["name"] == "VCPU"
    assert get(admin, "/resource_classes/NONE").status == 404
    assert get(admin, "/traits?name=startswith:COMPUTE").json["traits"] == ["COMPUTE_STATUS_DISABLED"]
    assert "CUSTOM_RUNTIME_MACHINE" not in get(admin, "/traits?associated=true").json["traits"]
    assert get(admin, "/traits/COMPUTE_STATUS_DISABLED").status == 204
    assert get(admin, "/traits/NONE").status == 404


def test_an_operator_makes_traits_and_gives_them_to_a_host(admin: Client, member: Client) -> None:
    latest = {"OpenStack-API-Version": "placement latest"}
    path = f"/placement/resource_providers/{HOSTS[0]}"
    assert member("PUT", "/placement/traits/CUSTOM_GOLD", None, latest).status == 403
    assert admin("PUT", "/placement/traits/GOLD", None, latest).status == 400
    assert [admin("PUT", "/placement/traits/CUSTOM_GOLD", None, latest).status for _ in range(2)] == [201, 204]
    generation = admin("GET", path, headers=latest).json["generation"]
    body = {"resource_provider_generation": generation, "traits": ["CUSTOM_GOLD", "CUSTOM_RUNTIME_CONTAINER"]}
    assert member("PUT", f"{path}/traits", body, latest).status == 403
    unknown = admin("PUT", f"{path}/traits", {**body, "traits": ["CUSTOM_TIN"]}, latest)
    assert (unknown.status, "CUSTOM_TIN" in unknown.json["errors"][0]["detail"]) == (400, True)
    given = admin("PUT", f"{path}/traits", body, latest).json
    assert given == {"traits": ["CUSTOM_GOLD", "CUSTOM_RUNTIME_CONTAINER"], "resource_provider_generation": generation + 1}
    late = admin("PUT", f"{path}/traits", body, latest)
    assert (late.status, late.json["errors"][0]["code"]) == (409, "placement.concurrent_update")
    listed = get(admin, "/resource_providers?required=CUSTOM_GOLD").json["resource_providers"]
    assert [provider["uuid"] for provider in listed] == [HOSTS[0]]
    assert admin("DELETE", "/placement/traits/CUSTOM_GOLD", headers=latest).status == 409
    assert admin("DELETE", "/placement/traits/COMPUTE_STATUS_DISABLED", headers=latest).status == 400
    assert admin("DELETE", f"{path}/traits", headers=latest).status == 204
    assert get(admin, f"/resource_providers/{HOSTS[0]}/traits").json["traits"] == ["CUSTOM_RUNTIME_CONTAINER"]
    assert admin("DELETE", "/placement/traits/CUSTOM_GOLD", headers=latest).status == 204
    assert admin("DELETE", "/placement/traits/CUSTOM_GOLD", headers=latest).status == 404


def test_aggregates_and_their_ratios_show(admin: Client) -> None:
    made = admin("POST", "/compute/v2.1/os-aggregates", {"aggregate": {"name": "thrifty"}}).json["aggregate"]
    path = f"/compute/v2.1/os-aggregates/{made['id']}"
    assert admin("POST", f"{path}/action", {"add_host": {"host": "host-1"}}).status == 200
    metadata = {"cpu_allocation_ratio": "2.0", "ram_allocation_ratio": "none"}
    assert admin("POST", f"{path}/action", {"set_metadata": {"metadata": metadata}}).status == 200
    provider = f"/resource_providers/{HOSTS[1]}"
    assert len(get(admin, f"{provider}/aggregates").json["aggregates"]) == 1
    inventories = get(admin, f"{provider}/inventories").json["inventories"]
    assert [inventories[name]["allocation_ratio"] for name in ("VCPU", "MEMORY_MB")] == [2.0, 1.5]
    admin("POST", f"{path}/action", {"remove_host": {"host": "host-1"}})
    assert admin("DELETE", path).status == 200
    assert get(admin, f"{provider}/inventories/VCPU").json["allocation_ratio"] == 512.0


def test_versions_hide_what_came_later(admin: Client) -> None:
    path = f"/resource_providers/{HOSTS[0]}"
    assert get(admin, f"{path}/traits", "1.5").status == 404
    assert "root_provider_uuid" not in get(admin, path, "1.13").json
    assert get(admin, f"{path}/aggregates", "1.18").json == {"aggregates": []}
    assert "Last-Modified" not in get(admin, path, "1.14").headers
    assert get(admin, path, "1.15").headers["Cache-Control"] == "no-cache"
    assert get(admin, path, "1.40").status == 406
    assert get(admin, path).headers["OpenStack-API-Version"] == "placement 1.39"


def test_who_may_and_that_nobody_writes(admin: Client, member: Client) -> None:
    refused = get(member, "/resource_providers")
    assert refused.status == 403
    error = refused.json["errors"][0]
    assert (error["status"], error["title"]) == (403, "Forbidden")
    assert error["request_id"].startswith("req-")
    assert admin("POST", "/placement/resource_providers", {"name": "x"}, LATEST).status == 405
    assert admin("PUT", f"/placement/allocations/{SERVER}", {}, LATEST).json["errors"][0]["status"] == 405
    assert admin("DELETE", f"/placement/resource_providers/{HOSTS[0]}", headers=LATEST).status == 405
    missing = get(admin, f"/resource_providers/{SERVER}")
    assert missing.json["errors"][0]["code"] == "placement.resource_provider.not_found"
