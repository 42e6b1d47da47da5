"""Published ports in the store: who has a port of a host keeps it, and gives it back with its container."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nacre.cloud.containers import networks as docker_networks
from nacre.cloud.context import ROLE_IMPLIES, Context
from nacre.cloud.errors import CloudError, OverQuota
from nacre.cloud.hosts import operations as hosts
from nacre.cloud.hosts.compilers import COMPILERS
from nacre.cloud.hosts.desired import since
from nacre.cloud.network import audit, bootstrap, forwards, names, ports, quotas, walls
from nacre.cloud.network.forwards import EPHEMERAL, PortTaken, Wanted
from nacre.protocol import Hello
from nacre.protocol.messages import Capacity
from nacre.protocol.names import NameAnswer
from tests.support import ACTORS, RunningCloud, run_cloud

HOST = "11111111-1111-4111-8111-111111111111"


def context(actor: str) -> Context:
    return Context(ACTORS[actor].user_id, "default", project_id=ACTORS[actor].project_id, roles=ROLE_IMPLIES["member"])


def with_host(story: Callable[[RunningCloud], Awaitable[None]]) -> Callable[[Path], None]:
    """A test that is told a cloud with one host and an outside."""

    def prepare(conn: sa.Connection) -> None:
        capacity = Capacity(vcpus=8, memory_mb=8192, disk_gb=100)
        hello = Hello(1, 1, HOST, "one", "b", capacity, ("container",), "container", {})
        hosts.register(conn, hello)
        ends = {"cidr": "198.51.100.0/24", "gateway": "198.51.100.1", "pool_start": "198.51.100.10", "pool_end": "198.51.100.99"}
        bootstrap.ensure_external(conn, project_id=ACTORS["admin"].project_id, **ends)

    def test(tmp_path: Path) -> None:
        async def run() -> None:
            cloud = await run_cloud(tmp_path)
            try:
                await cloud.cloud.store.write(prepare)
                await story(cloud)
            finally:
                await cloud.close()

        asyncio.run(run())

    test.__name__, test.__doc__, test.__module__ = story.__name__, story.__doc__, story.__module__
    return test


def bound_port(conn: sa.Connection, actor: str) -> str:
    """A port on the project's default network, on the host."""
    network_id = docker_networks.ensure_bridge(conn, context(actor))
    row = ports.create(conn, context(actor), {"network_id": network_id})
    ports.set_groups(conn, row, [walls.ensure_wall(conn, network_id, "bridge")])
    ports.move(conn, row, HOST)
    return str(row["id"])


@with_host
async def test_two_that_publish_the_same_port_at_once_do_not_both_get_it(cloud: RunningCloud) -> None:
    store = cloud.cloud.store
    mine, theirs = await store.write(bound_port, "member"), await store.write(bound_port, "other")

    async def publish(actor: str, port_id: str, *wanted: Wanted) -> Any:
        try:
            return await store.write(forwards.publish, ACTORS[actor].project_id, port_id, list(wanted))
        except PortTaken as error:
            return error.message

    web = Wanted("tcp", 80, "", 8080, 8080)
    answers = await asyncio.gather(publish("member", mine, web), publish("other", theirs, web))
    refused = [answer for answer in answers if isinstance(answer, str)]
    assert refused == ["Bind for 0.0.0.0:8080 failed: port is already allocated"]
    winner = "other" if isinstance(answers[0], str) else "member"
    loser, loser_port = ("member", mine) if winner == "other" else ("other", theirs)
    # One address is a part of all of them; another protocol is another port; a range has room; and without a number there is always one.
    assert "127.0.0.1:8080" in await publish(loser, loser_port, Wanted("tcp", 80, "127.0.0.1", 8080, 8080))
    assert (await publish(loser, loser_port, Wanted("udp", 80, "", 8080, 8080)))[0]["external_port"] == 8080
    assert (await publish(loser, loser_port, Wanted("tcp", 80, "", 8080, 8082)))[0]["external_port"] == 8081
    assert EPHEMERAL[0] <= (await publish(loser, loser_port, Wanted("tcp", 81)))[0]["external_port"] <= EPHEMERAL[1]
    # The router's host is told, and the guest's wall has a door for what is published.
    routers = [item.router for item in store.read_now(since, COMPILERS, HOST, 0).items if item.router]
    assert sorted(forward.external_port for way in routers for forward in way.forwards)[:3] == [8080, 8080, 8081]
    groups = store.read_now(lambda conn: ports.some(conn, sa.text(f"network_ports.id = '{loser_port}'")))[0]["security_groups"]
    assert {walls.door_id("tcp", 80), walls.door_id("udp", 80), walls.door_id("tcp", 81)} < set(groups)
    # Given back, it is anybody's; and a port that goes gives back by itself.
    await store.write(forwards.unpublish, [mine if winner == "member" else theirs])
    assert (await publish(loser, loser_port, web))[0]["external_port"] == 8080
    await store.write(ports.delete, context(loser), loser_port)
    assert (await publish(winner, mine if winner == "member" else theirs, web))[0]["external_port"] == 8080
    assert store.read_now(audit.findings) == []


@with_host
async def test_a_node_asks_for_the_names_of_its_own_ports_projects_only(cloud: RunningCloud) -> None:
    store = cloud.cloud.store
    mine = await store.write(bound_port, "member")
    assert store.read_now(names.lookup, HOST, mine, "nobody.service.consul", "A") == NameAnswer(found=False)
    assert store.read_now(names.lookup, HOST, mine, "consul", "SOA").found  # type: ignore[union-attr]
    assert store.read_now(names.lookup, "another-host", mine, "consul", "SOA") is None


@with_host
async def test_what_no_router_leads_out_of_cannot_be_published(cloud: RunningCloud) -> None:
    store = cloud.cloud.store

    def inner(conn: sa.Connection) -> str:
        spec = docker_networks.NetworkSpec(name="inner", internal=True)
        view = docker_networks.create(conn, context("member"), spec)
        return str(ports.create(conn, context("member"), {"network_id": view.id})["id"])

    port_id = await store.write(inner)
    with pytest.raises(CloudError, match="no router leads"):
        await store.write(forwards.publish, ACTORS["member"].project_id, port_id, [Wanted("tcp", 80)])


@with_host
async def test_a_container_that_publishes_on_a_floating_ip_has_it_until_it_goes(cloud: RunningCloud) -> None:
    store, project = cloud.cloud.store, ACTORS["member"].project_id
    mine, second = await store.write(bound_port, "member"), await store.write(bound_port, "member")
    web = Wanted("tcp", 80, "", 80, 80)

    async def address(port_id: str) -> str:
        (row,) = await store.write(forwards.publish, project, port_id, [web], floating=True)
        assert row["external_port"] == 80
        return str(row["external_address"])

    first = await address(mine)
    # The same port is no obstacle to another container, whose address is its own; and what the host has is something else.
    assert first != await address(second)
    (on_host,) = await store.write(forwards.publish, ACTORS["other"].project_id, await store.write(bound_port, "other"), [web])
    assert on_host["external_address"] == ""
    with pytest.raises(PortTaken, match=f"Bind for {first}:80 failed"):
        await store.write(forwards.publish, project, mine, [web], floating=True)

    async def client(*request: Any) -> Any:
        return await asyncio.to_thread(cloud.client("member"), *request)

    shown = (await client("GET", "/network/v2.0/floatingips")).json["floatingips"]
    found = {row["floating_ip_address"]: row for row in shown}
    assert (found[first]["port_id"], found[first]["fixed_ip_address"], found[first]["status"]) == (mine, None, "ACTIVE")
    assert store.read_now(quotas.details, context("member"), project)["floatingip"]["used"] == 2
    way = next(item.router for item in store.read_now(since, COMPILERS, HOST, 0).items if item.router and item.router.forwards)
    assert {each.external_address for each in way.forwards} >= {first}
    assert way.floating_ips == ()
    # It is the container's: nobody takes it away, or makes all of the container's ports its own.
    path = f"/network/v2.0/floatingips/{found[first]['id']}"
    assert (await client("DELETE", path)).status == 409
    for body in ({"port_id": None}, {"port_id": second}, {"port_id": mine}):
        assert (await client("PUT", path, {"floatingip": body})).status == 409
    # A stop gives back the port and not the address; the port's end gives back both.
    await store.write(forwards.unpublish, [mine])
    assert store.read_now(forwards.of_ports, [mine]) == {}
    assert await address(mine) == first
    await store.write(ports.delete, context("member"), mine)
    await store.write(ports.release_published, [second])
    assert (await client("GET", "/network/v2.0/floatingips")).json["floatingips"] == []
    await store.write(quotas.set_limits, context("admin"), project, {"floatingip": 0})
    with pytest.raises(OverQuota, match="floatingip"):
        await address(second)
    assert store.read_now(forwards.of_ports, [second]) == {}
    assert store.read_now(audit.findings) == []
