"""A cloud over HTTP in the test's own process: the real application, the real store, no nodes."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import Client, RunningCloud, run_cloud

CLOSE_WAIT_S = 120.0


@contextmanager
def serving(state: Path, **settings: Any) -> Iterator[RunningCloud]:
    """A fresh cloud, served on a free port of loopback by a thread of its own. `settings` are those of the cloud that differ."""
    loop = asyncio.new_event_loop()
    running = loop.run_until_complete(run_cloud(state, **settings))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield running
    asyncio.run_coroutine_threadsafe(running.close(), loop).result(CLOSE_WAIT_S)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    """A fresh cloud for a module's tests."""
    with serving(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture
def admin(cloud: RunningCloud) -> Client:
    """A client with an admin's token."""
    return cloud.client("admin")


@pytest.fixture
def member(cloud: RunningCloud) -> Client:
    """A client with a token of a member of an ordinary project."""
    return cloud.client("member")


@pytest.fixture
def other(cloud: RunningCloud) -> Client:
    """A member of another project: what is the first one's must not exist for it."""
    return cloud.client("other")


@pytest.fixture
def reader(cloud: RunningCloud) -> Client:
    """One who may only look at the member's project."""
    return cloud.client("reader")
