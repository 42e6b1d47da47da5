"""The store's promises, on SQLite and on PostgreSQL."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nacre.store import Criterion, Listing, Prepared, Query, Store, StoreError, announce, elements, greatest, insert, texts
from nacre.store.listing import columns_of
from nacre.store.prepared import among
from tests.postgres import Cluster, shared
from tests.processes import wait_for

META = sa.MetaData()
COUNTERS = sa.Table(
    "counters", META, sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.BigInteger, nullable=False)
)
THINGS = sa.Table(
    "things",
    META,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("note", sa.Text, nullable=True),
    sa.Column("spec", sa.JSON(none_as_null=True), nullable=True),
    sa.Column("ready", sa.Boolean, default=False, nullable=False),
)
PATIENCE_S = 60.0


class EndOfStory(Exception):
    """What was written goes again."""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return shared().database() if request.param == "postgresql" else f"sqlite:///{tmp_path}/store.sqlite"


@pytest.fixture
def server() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.close()


def told(story: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(story(), PATIENCE_S))


async def made(url: str) -> Store:
    store = Store(url)
    await store.write(lambda conn: META.create_all(conn))
    return store


def raised(conn: sa.Connection, name: str = "n") -> int:
    """Read, think, write: sound only where nobody else writes meanwhile."""
    value = conn.execute(sa.select(COUNTERS.c.value).where(COUNTERS.c.name == name)).scalar()
    if value is None:
        conn.execute(COUNTERS.insert().values(name=name, value=1))
        return 1
    conn.execute(COUNTERS.update().where(COUNTERS.c.name == name).values(value=value + 1))
    return int(value) + 1


def test_writers_of_several_processes_take_turns(url: str) -> None:
    async def story() -> None:
        stores = [await made(url)]
        if url.startswith("postgresql"):
            stores += [Store(url), Store(url)]
        values = await asyncio.gather(*(store.write(raised) for _ in range(100) for store in stores))
        assert sorted(values) == list(range(1, len(values) + 1))
        for store in stores:
            assert await store.read(raised_so_far) == len(values)
            store.close()

    told(story)


def raised_so_far(conn: sa.Connection) -> int:
    return int(conn.execute(sa.select(COUNTERS.c.value)).scalar_one())


def test_a_job_that_fails_leaves_nothing_and_takes_nobody_with_it(url: str) -> None:
    heard: list[object] = []

    def fails(conn: sa.Connection) -> None:
        raised(conn, "broken")
        announce(conn, "topic", "never")
        raise ValueError("no")

    def twice(conn: sa.Connection) -> None:
        conn.execute(COUNTERS.insert().values(name="n", value=0))
        conn.execute(COUNTERS.insert().values(name="n", value=0))

    async def story() -> None:
        store = await made(url)
        store.watch("topic", lambda topic, value: heard.append(value))
        jobs = [store.write(raised), store.write(fails), store.write(twice), store.write(raised)]
        done = await asyncio.gather(*jobs, return_exceptions=True)
        assert done[0] == 1
        assert isinstance(done[1], ValueError)
        assert isinstance(done[2], sa.exc.IntegrityError)
        assert done[3] == 2
        with pytest.raises(ValueError, match="no"):
            await store.write(fails)
        assert await store.read(lambda conn: conn.execute(sa.select(COUNTERS.c.name)).scalars().all()) == ["n"]
        assert "never" not in heard
        store.close()

    told(story)


def test_what_is_remembered_is_as_of_the_last_commit_of_any_process(url: str) -> None:
    async def story() -> None:
        one = await made(url)
        other = Store(url) if url.startswith("postgresql") else one
        await one.write(raised)
        for number in range(1, 20):
            assert one.remember("key", raised_so_far) == number
            await other.write(raised)
            assert one.remember("key", raised_so_far) == number + 1
            assert one.remember("key", raised_so_far) == number + 1
        for store in {one, other}:
            store.close()

    told(story)


def hears(store: Store) -> bool:
    """Whether what other processes announce comes in."""
    return bool(store._engine._listener.pid)  # type: ignore[attr-defined]


def test_announcements_reach_other_processes_whole_or_as_a_hint() -> None:
    heard: asyncio.Queue[tuple[str, object]] = asyncio.Queue()

    async def story() -> None:
        url = shared().database()
        one, other = await made(url), Store(url)
        for topic in ("a", "b"):
            other.watch(topic, lambda topic, value: heard.put_nowait((topic, value)))
        await until(lambda: hears(other))
        # The hint of its first listening may still be under way.
        await one.write(lambda conn: announce(conn, "a", "begin"))
        while await heard.get() != ("a", "begin"):
            pass

        def many(conn: sa.Connection) -> None:
            for number in range(3000):
                announce(conn, "a", {"number": number, "text": "ü'\"\\"})
            announce(conn, "b", "x" * 9000)

        await one.write(many)
        values = [await heard.get() for _ in range(3001)]
        assert values == [*(("a", {"number": number, "text": "ü'\"\\"}) for number in range(3000)), ("b", None)]
        one.close()
        other.close()

    told(story)


def reached(store: Store) -> bool:
    try:
        return asyncio.run(asyncio.wait_for(store.read(raised_so_far), PATIENCE_S)) == 1
    except StoreError:
        return False


async def until(condition: Callable[[], Any]) -> None:
    await asyncio.to_thread(wait_for, condition, "the store")


def test_a_lost_listener_makes_everything_look_changed(server: Cluster) -> None:
    heard: asyncio.Queue[object] = asyncio.Queue()

    async def story() -> None:
        store = await made(server.database())
        await until(lambda: hears(store))
        store.watch("a", lambda topic, value: heard.put_nowait(value))
        while not heard.empty():
            heard.get_nowait()
        server.kill_backends()
        assert await heard.get() is None
        assert hears(store)
        await store.write(raised)
        assert store.read_now(raised_so_far) == 1
        store.close()

    told(story)


def test_a_database_that_goes_and_comes_back(server: Cluster) -> None:
    async def story() -> None:
        store = await made(server.database())
        assert await store.write(raised) == 1
        await asyncio.to_thread(server.stop, "immediate")
        for work in (store.write(raised), store.read(raised_so_far)):
            with pytest.raises(StoreError):
                await work
        with pytest.raises(StoreError):
            store.read_now(raised_so_far)
        assert not hears(store)
        await asyncio.to_thread(server.start)
        await until(lambda: hears(store))
        # Whoever was told a moment ago that there is none does not try again at once.
        await until(lambda: reached(store))
        assert await store.write(raised) == 2
        assert store.read_now(raised_so_far) == 2
        store.close()

    told(story)


def test_what_was_answered_is_there_and_what_was_refused_is_not_however_connections_are_lost(server: Cluster) -> None:
    """Each write adds a row of its own; connections are ended all the time, in the middle of transactions and of commits."""

    async def story() -> None:
        store = await made(server.database())
        answered, refused = set(), set()
        ended = asyncio.Event()

        async def one(name: str) -> None:
            try:
                await store.write(raised, name)
                answered.add(name)
            except StoreError:
                refused.add(name)

        async def disturb() -> None:
            for _ in range(25):
                await asyncio.to_thread(server.kill_backends)
                await asyncio.sleep(0.03)
            ended.set()

        async def work(worker: int) -> None:
            number = 0
            while not ended.is_set():
                number += 1
                await one(f"{worker}-{number}")

        await asyncio.gather(disturb(), *(work(worker) for worker in range(8)))
        there = set(await store.read(lambda conn: conn.execute(sa.select(COUNTERS.c.name)).scalars().all()))
        assert answered
        assert answered <= there
        assert not refused & there
        assert await store.read(lambda conn: conn.execute(sa.select(sa.func.max(COUNTERS.c.value))).scalar()) == 1
        store.close()

    told(story)


def test_statements_mean_the_same(url: str) -> None:
    rows = [
        {"id": "a", "note": "x", "spec": {"parts": [{"name": "one"}, {"name": "two"}], "tags": ["red"]}},
        {"id": "B", "note": None, "spec": {"other": 1}},
        {"id": "c", "note": "y", "spec": None},
    ]
    add, named = Prepared(THINGS.insert()), Prepared(sa.select(THINGS).where(among(THINGS.c.id)).order_by(THINGS.c.id))

    def story_in(conn: sa.Connection) -> None:
        add.run_all(conn, rows)
        each = elements(THINGS.c.spec, "parts")
        parts = sa.select(THINGS.c.id, each.c.value["name"].as_string()).select_from(sa.join(THINGS, each, sa.true()))
        assert [tuple(row) for row in conn.execute(parts)] == [("a", "one"), ("a", "two")]
        tag = texts(THINGS.c.spec["tags"])
        tagged = sa.select(THINGS.c.id).where(sa.exists(sa.select(1).select_from(tag).where(tag.c.value == "red")))
        assert conn.execute(tagged).scalars().all() == ["a"]
        assert [(row["id"], row["ready"], row["spec"]) for row in named.rows(conn, ids=["c", "B"])] == [
            ("B", False, {"other": 1}),
            ("c", False, None),
        ]
        upsert = insert(COUNTERS)
        upsert = upsert.on_conflict_do_update(
            index_elements=["name"], set_={"value": greatest(COUNTERS.c.value, upsert.excluded.value)}
        )
        for value in (5, 3, 9):
            conn.execute(upsert, {"name": "n", "value": value})
        total = conn.execute(sa.select(sa.func.sum(COUNTERS.c.value))).scalar_one()
        assert (total, type(total)) == (9, int)
        listing = Listing(sa.select(THINGS), columns_of(THINGS), THINGS.c.id)
        orders = {
            direction: [row["id"] for row in listing.run(conn, Query(sort=(("note", direction),))).rows]  # type: ignore[arg-type]
            for direction in ("asc", "desc")
        }
        assert orders == {"asc": ["B", "a", "c"], "desc": ["c", "a", "B"]}
        paged = listing.run(conn, Query((Criterion("id", "regex", "^[a-cB]$"),), (("note", "asc"),), limit=1, marker="B"))
        assert [row["id"] for row in paged.rows] == ["a"]
        with pytest.raises(sa.exc.IntegrityError):
            add.run(conn, id="a", note=None, spec=None)

    async def story() -> None:
        store = await made(url)
        with pytest.raises(EndOfStory):
            await store.write(_undone, story_in)
        assert await store.read(lambda conn: conn.execute(sa.select(THINGS.c.id)).all()) == []
        store.close()

    told(story)


def _undone(conn: sa.Connection, story_in: Callable[[sa.Connection], None]) -> None:
    story_in(conn)
    raise EndOfStory


def test_a_store_that_is_none_says_so() -> None:
    with pytest.raises(StoreError, match="is not supported"):
        Store("mysql://there/db")
    with pytest.raises(StoreError, match="cannot be reached"):
        Store("postgresql://nacre@127.0.0.1:1/nacre")


def test_one_process_at_a_time_leads_and_another_takes_over(server: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    from nacre.store import listening

    monkeypatch.setattr(listening, "LISTEN_TURN_S", 0.05)

    async def story() -> None:
        url = server.database()
        leads, leading = {"one": False, "other": False}, asyncio.Event()

        def told_one(now: bool) -> None:
            leads["one"] = now
            leading.set()

        one, other = await made(url), Store(url)
        one.lead(told_one)
        await leading.wait()
        other.lead(lambda now: leads.update(other=now))
        await asyncio.sleep(0.3)
        assert leads == {"one": True, "other": False}
        # Both lose their connections; sooner or later the second is the first to be back, and the first one knows.
        while not leads["other"]:
            await asyncio.to_thread(server.kill_backends)
            await asyncio.sleep(1.0)
        assert leads == {"one": False, "other": True}
        leading.clear()
        other.close()
        await leading.wait()
        assert leads["one"]
        one.close()

    told(story)


def test_sqlite_has_one_process_which_leads_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        store = Store(f"sqlite:///{tmp_path}/store.sqlite")
        leads: asyncio.Queue[bool] = asyncio.Queue()
        store.lead(leads.put_nowait)
        assert (await leads.get(), store.shared) == (True, False)
        store.close()

    asyncio.run(story())


def test_who_keeps_to_sqlite_imports_nothing_of_postgresql() -> None:
    code = "import sys, nacre.api.__main__, nacre.cli.up; sys.exit('psycopg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
