"""What a process remembers of the hosts, against what others have done meanwhile: nothing is overbooked, and nobody is refused for it."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nacre.cloud.compute import decisions
from nacre.cloud.compute.scheduling import Search
from nacre.cloud.compute.tables import scheduler_decisions
from nacre.cloud.context import internal
from nacre.cloud.hosts import fleet, joining, labels
from nacre.cloud.hosts.operations import claim, register
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.scheduler import NoValidHost, Plan, Ratios, Request
from nacre.cloud.schema import prepare
from nacre.protocol.messages import Capacity, Hello
from nacre.store import Store
from nacre.store.schema import now

RATIOS = Ratios(vcpus=1.0, memory_mb=1.0, disk_gb=1.0)
IDS = tuple(f"{number}0000000-0000-4000-8000-000000000000" for number in range(3))
SIZE = {"vcpus": 1, "memory_mb": 100, "disk_gb": 0}

Story = Callable[[Store, Store], Coroutine[Any, Any, None]]


def place(conn: sa.Connection) -> Plan:
    request = Request(SIZE["vcpus"], SIZE["memory_mb"], SIZE["disk_gb"], frozenset({"container"}))
    return Search(conn, "p", alive=None, ratios=RATIOS, facts=None).place(request, {**SIZE, "id": "s"})


def fill(conn: sa.Connection, host_id: str) -> None:
    claim(conn, host_id, vcpus=4, memory_mb=400, disk_gb=0)


def claimed(conn: sa.Connection) -> dict[str, int]:
    return {row.id: row.claimed_vcpus for row in conn.execute(sa.select(hosts.c.id, hosts.c.claimed_vcpus))}


def told(tmp_path: Path, story: Story) -> None:
    """Two processes, so to speak: two stores over one file, which hear nothing of each other's announcements."""

    async def run() -> None:
        stores = [Store(f"sqlite:///{tmp_path}/nacre.sqlite") for _ in range(2)]
        await prepare(stores[0])
        for number, ident in enumerate(IDS):
            hello = Hello(1, 1, ident, f"host-{number}", "b", Capacity(4, 400, 10), ("container",), "t", {})
            await stores[0].write(register, hello)
        for store in stores:
            store.read_now(fleet.of)
            fleet.follow(store)
        await story(*stores)
        assert max(stores[0].read_now(claimed).values()) <= 4
        for store in stores:
            store.close()

    asyncio.run(run())


def test_what_another_process_has_filled_is_not_filled_again(tmp_path: Path) -> None:
    async def story(one: Store, other: Store) -> None:
        first = (await one.write(place)).best[0].id
        for ident in IDS[1:]:
            await other.write(fill, ident)
        places = [(await one.write(place)).best[0].id for _ in range(3)]
        assert [first, *places] == [IDS[0]] * 4
        with pytest.raises(NoValidHost, match="3 short of vCPUs"):
            await one.write(place)
        # What the other one frees is found at once, announced or not.
        await other.write(lambda conn: claim(conn, IDS[2], vcpus=-1, memory_mb=-100, disk_gb=0, guests=0))
        assert (await one.write(place)).best[0].id == IDS[2]

    told(tmp_path, story)


def test_both_at_once_fill_the_cloud_and_not_a_guest_more(tmp_path: Path) -> None:
    async def story(one: Store, other: Store) -> None:
        done = await asyncio.gather(*(store.write(place) for _ in range(10) for store in (one, other)), return_exceptions=True)
        assert sum(isinstance(each, Plan) for each in done) == 12
        assert {type(each) for each in done} == {Plan, NoValidHost}
        assert one.read_now(claimed) == dict.fromkeys(IDS, 4)

    told(tmp_path, story)


def test_a_claim_that_was_undone_with_its_transaction_leaves_the_room_free(tmp_path: Path) -> None:
    async def story(one: Store, other: Store) -> None:
        def undone(conn: sa.Connection) -> None:
            for _ in range(12):
                place(conn)
            raise ValueError("and then something else failed")

        with pytest.raises(ValueError, match="something else"):
            await one.write(undone)
        for _ in range(12):
            await one.write(place)

    told(tmp_path, story)


def test_a_host_that_another_process_has_cordoned_gets_nothing_any_more(tmp_path: Path) -> None:
    async def story(one: Store, other: Store) -> None:
        await one.write(place)
        for ident in IDS[:2]:
            await other.write(joining.cordon, internal(), ident, cordoned=True)
        await one.write(labels.change, internal(), IDS[2], {"containerslots": "2"})
        places = [(await one.write(place)).best[0].id for _ in range(2)]
        assert places == [IDS[2]] * 2
        with pytest.raises(NoValidHost, match=r"2 disabled by an operator, 1 without an open slot"):
            await one.write(place)

    told(tmp_path, story)


def test_decisions_are_bounded(tmp_path: Path) -> None:
    async def story(one: Store, other: Store) -> None:
        def decide(conn: sa.Connection, server: str, at: float = 0.0) -> None:
            plan, row = place(conn), {"id": server, "project_id": "p", "request_id": "r"}
            decisions.record(conn, row, "create", Request(1, 1, 1, frozenset()), plan)
            if at:
                conn.execute(scheduler_decisions.update().values(created_at=at))

        def kept(conn: sa.Connection) -> list[str]:
            return list(conn.execute(sa.select(scheduler_decisions.c.server_id).order_by(scheduler_decisions.c.id)).scalars())

        await one.write(decide, "a", now() - 100)
        for _ in range(4):
            await one.write(decide, "b")
        await one.write(decisions.trim, per_server=3)
        assert one.read_now(kept) == ["a", "b", "b", "b"]
        await one.write(decisions.trim, kept_s=50)
        assert one.read_now(kept) == ["b", "b", "b"]
        await one.write(decisions.trim, in_all=2)
        assert one.read_now(kept) == ["b", "b"]

    told(tmp_path, story)
