"""Consul clients of the actors."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import consul

from nacre.cloud.discovery import sweeping
from nacre.cloud.sweepers import Sweeper, sweep_for_ever
from tests.support import RunningCloud


def with_token(cloud: RunningCloud, token: str) -> consul.Consul:
    """py-consul, unmodified, against the cloud's own port."""
    host, _, port = cloud.base_url.removeprefix("http://").partition(":")
    made = consul.Consul(host=host, port=int(port), token=token)
    # Some of its calls (transactions, events) forget the token that it was given.
    made.http.session.headers["X-Consul-Token"] = token
    return made


@contextmanager
def sweeping_of(cloud: RunningCloud) -> Iterator[None]:
    """Leases run out, as in the API process."""
    rows = (Sweeper("discovery", 0.2, sweeping.sweep),)
    task = asyncio.run_coroutine_threadsafe(sweep_for_ever(cloud.cloud, rows), cloud.loop)
    yield
    task.cancel()


def client(cloud: RunningCloud, actor: str) -> consul.Consul:
    return with_token(cloud, cloud.tokens[actor])
