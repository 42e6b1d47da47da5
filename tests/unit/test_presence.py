"""What API processes tell each other through the store, with two of them over one store in this process."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from nacre.cloud import leases, schema
from nacre.cloud.core import Cloud, Settings
from nacre.cloud.hosts import liveness
from nacre.cloud.processes import operations, presence, sweeping
from nacre.cloud.processes.operations import Process
from nacre.cloud.processes.presence import LEASE_S, Presence
from nacre.store import Store, StoreError
from tests.support import NoHosts

LEASE_OF_HOSTS_S = 15.0


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Hosts(NoHosts):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.renewed: list[str] = []
        self.told: dict[str, int] = {}
        self.peers = 0

    def renew(self, host_ids: Iterable[str]) -> None:
        self.renewed += sorted(host_ids)

    def recorded(self, beats: Mapping[str, int]) -> None:
        self.told.update(beats)

    def tell_peers(self) -> None:
        self.peers += 1


class One:
    """An API process."""

    def __init__(self, store: Store, ident: str) -> None:
        self.hosts, self.ended = Hosts(), False
        self.cloud = Cloud(
            Settings("http://cloud", "7e57", Path(), lease_s=LEASE_OF_HOSTS_S), store, _nobody, self.hosts, process_id=ident
        )
        self.presence = self.cloud.presence = Presence(self.cloud, self._end)

    def _end(self) -> None:
        self.ended = True


def _nobody(token: str, request_id: str) -> Any:
    raise AssertionError("nobody asks")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (leases, presence):
        monkeypatch.setattr(module, "boottime_s", clock)
    return clock


def told(tmp_path: Path, story: Callable[[One, One], Awaitable[None]]) -> None:
    async def run() -> None:
        store = Store(f"sqlite:///{tmp_path}/store.sqlite")
        await schema.prepare(store)
        pair = One(store, "one"), One(store, "other")
        for process in pair:
            row = Process(process.cloud.process_id, "vm", "127.0.0.1:1", "", "0")
            await store.write(operations.register, row, alone=False)
        for process in pair * 2:
            await process.presence.turn()
        await story(*pair)
        store.close()

    asyncio.run(run())


def test_a_lease_is_renewed_once_the_other_process_can_know_of_it(tmp_path: Path, clock: Clock) -> None:
    async def story(one: One, other: One) -> None:
        assert [process.id for process in other.presence.processes] == ["one", "other"]
        one.presence.note("h1", 7)
        assert one.hosts.told == {}
        await one.presence.turn()
        assert one.hosts.told == {"h1": 7}
        assert other.hosts.renewed == []
        await other.presence.turn()
        assert other.hosts.renewed == ["h1"]
        await other.presence.turn()
        assert other.hosts.renewed == ["h1"], "the same beat counts once"
        one.presence.note("h1", 8)
        await one.presence.turn()
        await other.presence.turn()
        assert other.hosts.renewed == ["h1", "h1"]

    told(tmp_path, story)


def test_who_stands_still_is_struck_out_and_ends(tmp_path: Path, clock: Clock) -> None:
    async def story(one: One, other: One) -> None:
        for _ in range(int(LEASE_S) + 1):
            clock.now_s += 1
            await one.presence.turn()
        assert [process.id for process in one.presence.processes] == ["one"]
        await sweeping.sweep(one.cloud)
        assert [process.id for process in one.cloud.store.read_now(operations.listed)] == ["one"]
        await other.presence.turn()
        assert (one.ended, other.ended) == (False, True)

    told(tmp_path, story)


def test_who_has_said_something_since_is_not_struck_out(tmp_path: Path, clock: Clock) -> None:
    async def story(one: One, other: One) -> None:
        for _ in range(int(LEASE_S) + 1):
            clock.now_s += 1
            await one.presence.turn()
        await other.presence.turn()
        await sweeping.sweep(one.cloud)
        assert len(one.cloud.store.read_now(operations.listed)) == 2
        assert not other.ended

    told(tmp_path, story)


def test_time_stands_still_while_the_store_is_away(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(one: One, other: One) -> None:
        async def away(*_: Any, **__: Any) -> Any:
            raise StoreError("the database cannot be reached")

        with monkeypatch.context() as patch:
            patch.setattr(one.cloud.store, "write", away)
            clock.now_s += 60
            with pytest.raises(StoreError):
                await one.presence.turn()
        assert not one.presence.reaches_store
        assert one.presence.moment_s == clock.now_s - 60 + LEASE_OF_HOSTS_S / 3
        assert liveness.lost(one.cloud) == frozenset()
        await one.presence.turn()
        assert one.presence.reaches_store
        assert one.presence.moment_s == clock.now_s
        assert [each.id for each in one.presence.processes] == ["one", "other"]
        assert one.presence.silent == [], "a process that may have been kept from the store as well is not taken for dead"

    told(tmp_path, story)
